//! Plain HTTP: what a guest finds, and what is asked for it.

use std::os::unix::fs::MetadataExt;
use std::{fs, io};

use qyvol_netfs::{ErrorKind, Intent};

use crate::server::{Framing, Reaction, Response, Server};
use crate::site::{MODIFIED_UNIX, Site};
use crate::support::{Setup, basic, kind};

fn server() -> Server {
    Server::new(Site::of(&[
        ("/data/a/b.json", "{}"),
        ("/data/c d.txt", "hello"),
        ("/data/empty", ""),
    ]))
}

#[test]
fn file_after_stat_has_its_length_and_time_but_no_content() {
    let server = server();
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.stat("c d.txt").unwrap(), Some(5));
    let metadata = fs::metadata(guest.place("c d.txt")).unwrap();
    assert_eq!((metadata.mtime(), metadata.blocks()), (MODIFIED_UNIX, 0));
    assert_eq!(server.log(), ["HEAD /data/c%20d.txt"]);
}

#[test]
fn file_is_fetched_once_when_it_is_read() {
    let server = server();
    let guest = Setup::http(&server).mount();
    for _ in 0..3 {
        assert_eq!(guest.read("c d.txt").unwrap(), "hello");
        assert_eq!(guest.stat("c d.txt").unwrap(), Some(5));
    }
    assert_eq!(server.log(), ["GET /data/c%20d.txt"]);
    assert_eq!(guest.read("empty").unwrap(), "");
}

#[test]
fn file_in_a_directory_is_found_by_its_whole_path_and_step_by_step() {
    let server = server();
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.read("a/b.json").unwrap(), "{}");
    assert_eq!(server.log(), ["GET /data/a/b.json"]);
    assert_eq!(guest.stat("a").unwrap(), None);
    assert_eq!(guest.list("a").unwrap(), ["b.json"]);

    let guest = Setup::http(&server).mount();
    guest.fs.ensure("a", Intent::Directory).unwrap();
    assert!(guest.place("a").is_dir());
    assert_eq!(guest.list("a").unwrap(), Vec::<String>::new());
    assert_eq!(guest.read("a/b.json").unwrap(), "{}");
    assert_eq!(guest.list("a").unwrap(), ["b.json"]);
    assert_eq!(server.log(), ["GET /data/a/b.json"]);
}

#[test]
fn stat_of_a_path_returns_what_the_server_says() {
    let server = server();
    server.fault(|request, _| match request.path() {
        "/data/dir" => Reaction::Answer(Response::new(301).with("location", "/data/dir/")),
        "/data/dir/" => Reaction::Answer(Response::new(200).body("an index")),
        "/data/shut" => Reaction::Answer(Response::new(301).with("location", "/data/shut/")),
        "/data/shut/" => Reaction::status(403),
        _ => Reaction::Serve,
    });
    for first in [Intent::Stat, Intent::Read] {
        let guest = Setup::http(&server).mount();
        for path in ["dir", "shut"] {
            guest.fs.ensure(path, first).unwrap();
            assert!(guest.place(path).is_dir(), "{path} {first:?}");
        }
        assert_eq!(kind(guest.stat("a")), ErrorKind::NotFound);
        // Opened as a directory, it is one all the same.
        guest.fs.ensure("a", Intent::Directory).unwrap();
        assert_eq!(guest.stat("a").unwrap(), None);
    }
}

#[test]
fn what_is_not_there_is_asked_for_once_and_leaves_nothing() {
    let server = server();
    let guest = Setup::http(&server).mount();
    for _ in 0..2 {
        assert_eq!(kind(guest.read("x/y/none")), ErrorKind::NotFound);
        assert_eq!(kind(guest.stat("x/y/none")), ErrorKind::NotFound);
    }
    assert_eq!(server.log(), ["GET /data/x/y/none"]);
    assert_eq!(fs::read_dir(guest.place("")).unwrap().count(), 0);
}

#[test]
fn file_is_no_directory() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.read("c d.txt").unwrap();
    server.log();
    for intent in [Intent::Read, Intent::Stat, Intent::Create, Intent::Directory] {
        assert_eq!(kind(guest.fs.ensure("c d.txt/x", intent)), ErrorKind::NotADirectory);
    }
    assert_eq!(
        kind(guest.fs.ensure("c d.txt", Intent::Directory)),
        ErrorKind::NotADirectory
    );
    assert!(server.log().is_empty());
}

#[test]
fn changed_file_is_fetched_anew_and_an_open_one_is_read_to_its_end() {
    let server = server();
    let guest = Setup::http(&server).always_asking().mount();
    assert_eq!(guest.read("c d.txt").unwrap(), "hello");
    let open = fs::File::open(guest.place("c d.txt")).unwrap();
    assert_eq!(guest.read("c d.txt").unwrap(), "hello");
    // Unchanged: one look, no content.
    assert_eq!(server.log(), ["GET /data/c%20d.txt", "HEAD /data/c%20d.txt"]);
    server.site(|site| site.put("/data/c d.txt", b"other words"));
    assert_eq!(guest.read("c d.txt").unwrap(), "other words");
    assert_eq!(io::read_to_string(open).unwrap(), "hello");
    server.site(|site| site.remove("/data/c d.txt"));
    assert_eq!(kind(guest.read("c d.txt")), ErrorKind::NotFound);
    assert!(!guest.place("c d.txt").exists());
}

#[test]
fn server_without_head_or_lengths_is_read_by_get() {
    let server = server();
    server.fault(|request, _| match (request.method.as_str(), request.path()) {
        ("HEAD", "/data/empty") => Reaction::status(501),
        ("HEAD", "/data/a/b.json") => Reaction::edit(|response| response.framed(Framing::Bare)),
        ("HEAD", _) => Reaction::status(405),
        ("GET", "/data/a/b.json") => Reaction::edit(|response| response.framed(Framing::Bare)),
        _ => Reaction::edit(|response| response.framed(Framing::Chunked)),
    });
    let guest = Setup::http(&server).mount();
    assert_eq!(guest.stat("c d.txt").unwrap(), Some(5));
    assert_eq!(guest.stat("a/b.json").unwrap(), Some(2));
    assert_eq!(guest.stat("empty").unwrap(), Some(0));
    assert_eq!(kind(guest.stat("none")), ErrorKind::NotFound);
    server.log();
    assert_eq!(guest.read("c d.txt").unwrap(), "hello");
    assert!(server.log().is_empty());
}

#[test]
fn refusal_of_the_server_is_one_of_access() {
    let server = server();
    let guest = Setup::http(&server).mount();
    for status in [401, 403] {
        server.fault(move |_, _| Reaction::status(status));
        let error = guest.read(&format!("x{status}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Access);
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
}

#[test]
fn credentials_are_sent_and_are_in_no_message() {
    let server = server();
    server.fault(|request, _| match request.header("authorization") {
        Some("Basic YW5hOnMzY3JldC13b3Jk") => Reaction::Serve,
        _ => Reaction::status(401),
    });
    let setup = Setup {
        credentials: basic(),
        ..Setup::http(&server)
    };
    let guest = setup.mount();
    assert_eq!(guest.read("c d.txt").unwrap(), "hello");
    let error = Setup::http(&server).mount().read("c d.txt").unwrap_err();
    assert!(error.to_string().contains("credentials"), "{error}");
    assert!(!format!("{guest:?}", guest = guest.fs).contains(crate::support::PASSWORD));
}

#[test]
fn limits_of_the_mount_apply() {
    let server = server();
    server.site(|site| {
        for n in 0..5 {
            site.put(&format!("/data/f{n}"), &[b'x'; 100]);
        }
    });
    let guest = Setup::http(&server).limits(|limits| limits.file_bytes = 99).mount();
    assert_eq!(kind(guest.read("f0")), ErrorKind::TooLarge);
    assert_eq!(guest.stat("f0").unwrap(), Some(100));
    let guest = Setup::http(&server).limits(|limits| limits.bytes = 250).mount();
    guest.read("f0").unwrap();
    guest.read("f1").unwrap();
    assert_eq!(kind(guest.read("f2")), ErrorKind::NoSpace);
    let guest = Setup::http(&server).limits(|limits| limits.files = 3).mount();
    guest.read("f0").unwrap();
    // What is not there takes no room for long.
    for n in 0..5 {
        assert_eq!(kind(guest.read(&format!("none{n}"))), ErrorKind::NotFound);
    }
    guest.read("f1").unwrap();
    assert_eq!(kind(guest.read("f2")), ErrorKind::NoSpace);
}

#[test]
fn read_only_mount_refuses_every_change() {
    let server = server();
    let mut setup = Setup::http(&server);
    setup.config.writable = false;
    let guest = setup.mount();
    for intent in [Intent::Write, Intent::Create, Intent::Remove, Intent::Rename] {
        assert_eq!(kind(guest.fs.ensure("c d.txt", intent)), ErrorKind::ReadOnly);
    }
    assert!(server.log().is_empty());
    assert_eq!(guest.read("c d.txt").unwrap(), "hello");
    guest.fs.flush().unwrap();
}
