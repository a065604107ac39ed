//! What becomes of the guest's changes where some of them fail, and of what it only
//! was about to change.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use qyvol_netfs::{ErrorKind, Intent, Limits};

use crate::server::{Framing, Reaction, Server};
use crate::site::Site;
use crate::support::{Setup, kind, noise};

fn server() -> Server {
    let server = Server::new(Site::of(&[
        ("/data/f", "hello"),
        ("/data/d/g", "world"),
        ("/data/d/h", "!"),
    ]));
    server.site(|site| {
        site.make_directory("/data");
        site.make_directory("/data/d");
    });
    server
}

fn get(server: &Server, path: &str) -> Option<String> {
    server.site(|site| site.get(path))
}

fn deletes(server: &Server) -> Vec<String> {
    let is_delete = |line: &String| line.starts_with("DELETE");
    server.log().into_iter().filter(is_delete).collect()
}

/// The contents of what was kept.
fn kept(cache: &Path) -> Vec<String> {
    let entries = fs::read_dir(cache.join("v1/kept")).unwrap();
    let mut all: Vec<String> = entries
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    all.sort();
    all
}

#[test]
fn nothing_is_removed_if_some_content_is_unreadable() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    guest.rename("f", "moved").unwrap().unwrap();
    // What can't be read holds removals back, as what can't be looked at does.
    fs::remove_file(guest.place("moved")).unwrap();
    symlink("elsewhere", guest.place("moved")).unwrap();
    server.log();
    assert_eq!(guest.fs.flush().unwrap_err().failures.len(), 2);
    assert_eq!(deletes(&server), Vec::<String>::new());
    if rustix::process::geteuid().is_root() {
        return;
    }
    let guest = Setup::webdav(&server).mount();
    guest.make_directory("new").unwrap().unwrap();
    guest.rename("f", "new/f").unwrap().unwrap();
    let allow = |mode| fs::set_permissions(guest.place("new"), fs::Permissions::from_mode(mode)).unwrap();
    allow(0o000);
    assert_eq!(guest.fs.flush().unwrap_err().failures.len(), 2);
    assert_eq!(deletes(&server), Vec::<String>::new());
    allow(0o700);
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/new/f").as_deref(), Some("hello"));
}

#[test]
fn entry_in_the_way_is_removed_only_after_what_was_moved_from_it_is_sent() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    guest.rename("d/g", "g2").unwrap().unwrap();
    guest.rename("d/h", "h2").unwrap().unwrap();
    guest.remove("d").unwrap().unwrap();
    guest.write("d", "file").unwrap();
    server.log();
    server.fault(|request, _| match request.method.as_str() {
        "PUT" => Reaction::status(507),
        _ => Reaction::Serve,
    });
    guest.fs.flush().unwrap_err();
    assert_eq!(deletes(&server), Vec::<String>::new());
    server.heal();
    guest.fs.flush().unwrap();
    let all = server.site(|site| site.paths().join(" "));
    assert_eq!(all, "/data/d /data/f /data/g2 /data/h2");
    guest.fs.flush().unwrap();
}

#[test]
fn file_whose_path_is_occupied_on_the_server_is_kept() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let guest = Setup::webdav(&server).cache(cache.path()).mount();
    for path in ["d/g", "d/h", "d"] {
        guest.remove(path).unwrap().unwrap();
    }
    guest.rename("f", "d").unwrap().unwrap();
    server.site(|site| site.put("/data/d/late", b"x"));
    let error = guest.fs.flush().unwrap_err();
    let failure = error.failures.iter().find(|failure| failure.path == "d").unwrap();
    assert_eq!(fs::read_to_string(failure.kept.as_ref().unwrap()).unwrap(), "hello");
    // Its old place is left to it.
    assert_eq!(get(&server, "/data/f").as_deref(), Some("hello"));
}

#[test]
fn file_over_the_limit_is_kept() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    let guest = setup.limits(|limits| limits.file_bytes = 10).mount();
    guest.write("big", "a long result").unwrap();
    let failure = guest.fs.flush().unwrap_err().failures.remove(0);
    assert_eq!(failure.error.kind(), ErrorKind::TooLarge);
    assert_eq!(fs::read_to_string(failure.kept.unwrap()).unwrap(), "a long result");
}

#[test]
fn content_over_the_limit_of_all_files_is_not_kept_and_that_is_reported() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    let limits = |limits: &mut Limits| (limits.file_bytes, limits.bytes) = (10, 20);
    let guest = setup.limits(limits).mount();
    guest.write("big", "").unwrap();
    let file = fs::File::options().write(true).open(guest.place("big")).unwrap();
    file.set_len(1 << 40).unwrap();
    let failure = guest.fs.flush().unwrap_err().failures.remove(0);
    assert_eq!((failure.error.kind(), failure.kept), (ErrorKind::TooLarge, None));
    assert!(failure.error.to_string().contains("kept"), "{}", failure.error);
    assert_eq!(kept(cache.path()), Vec::<String>::new());
}

#[test]
fn newest_content_that_could_not_be_sent_is_the_only_one_that_is_kept() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let guest = Setup::http(&server).cache(cache.path()).mount();
    server.fault(|request, _| match request.method.as_str() {
        "PUT" => Reaction::status(403),
        _ => Reaction::Serve,
    });
    for _ in 0..5 {
        guest.append("log", "x").unwrap();
        guest.fs.flush().unwrap_err();
    }
    assert_eq!(kept(cache.path()), ["xxxxx"]);
    // Another run's are its own.
    let other = Setup::http(&server).cache(cache.path()).mount();
    other.write("log", "other").unwrap();
    other.fs.flush().unwrap_err();
    assert_eq!(kept(cache.path()), ["other", "xxxxx"]);
    server.heal();
    guest.append("log", "y").unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(kept(cache.path()), ["other"]);
}

#[test]
fn change_that_leaves_the_times_of_a_file_alone_is_sent() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.append("f", "!").unwrap();
    let times = fs::metadata(guest.place("f")).unwrap().modified().unwrap();
    guest.fs.flush().unwrap();
    guest.fs.ensure("f", Intent::Write).unwrap();
    fs::write(guest.place("f"), "HELLO?").unwrap();
    let file = fs::File::options().write(true).open(guest.place("f")).unwrap();
    file.set_modified(times).unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/f").as_deref(), Some("HELLO?"));
}

#[test]
fn file_that_was_only_read_is_never_sent() {
    for make in [Setup::http, Setup::webdav] {
        let server = server();
        let guest = make(&server).mount();
        // The kernel refuses to make it: it is there.
        guest.fs.ensure("f", Intent::Create).unwrap();
        assert!(fs::File::create_new(guest.place("f")).is_err());
        // Its inode changes, and its content does not.
        guest.fs.ensure("f", Intent::Stat).unwrap();
        fs::set_permissions(guest.place("f"), fs::Permissions::from_mode(0o640)).unwrap();
        server.log();
        guest.fs.flush().unwrap();
        assert!(!server.log().iter().any(|line| line.starts_with("PUT")));
        assert_eq!(guest.read("f").unwrap(), "hello");
        guest.fs.flush().unwrap();
        assert_eq!(get(&server, "/data/f").as_deref(), Some("hello"));
    }
}

#[test]
fn file_that_the_kernel_did_not_make_and_the_server_lost_is_not_there() {
    for make in [Setup::http, Setup::webdav] {
        let server = server();
        let guest = make(&server).mount();
        guest.fs.ensure("f", Intent::Create).unwrap();
        assert!(fs::File::create_new(guest.place("f")).is_err());
        server.site(|site| site.remove("/data/f"));
        assert_eq!(kind(guest.read("f")), ErrorKind::NotFound);
        assert!(!guest.place("f").exists());
        guest.write("f", "mine").unwrap();
        guest.fs.flush().unwrap();
        assert_eq!(get(&server, "/data/f").as_deref(), Some("mine"));
    }
}

#[test]
fn short_lived_names_use_up_no_limit() {
    let server = server();
    let guest = Setup::http(&server).limits(|limits| limits.files = 10).mount();
    for n in 0..50 {
        let name = format!("f.{n}");
        guest.write(&name, &name).unwrap();
        guest.rename(&name, "f").unwrap().unwrap();
        guest.fs.flush().unwrap();
    }
    assert_eq!(get(&server, "/data/f").as_deref(), Some("f.49"));
}

#[test]
fn flush_asks_a_server_that_was_away() {
    let server = server();
    let setup = Setup::http(&server).limits(|limits| limits.outage = Duration::from_secs(3600));
    let guest = setup.mount();
    guest.write("result", "of ten hours").unwrap();
    server.fault(|_, _| Reaction::status(503));
    assert_eq!(kind(guest.read("f")), ErrorKind::Unreachable);
    server.heal();
    // It is taken for away still.
    server.log();
    assert_eq!(kind(guest.read("f")), ErrorKind::Unreachable);
    assert_eq!(server.log(), Vec::<String>::new());
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/result").as_deref(), Some("of ten hours"));
}

#[test]
fn failure_of_one_path_does_not_prevent_requests_for_others() {
    let setup = |server: &Server| Setup::http(server).limits(|limits| limits.outage = Duration::from_secs(3600));
    for status in [408, 425, 429, 500] {
        let server = server();
        server.fault(move |request, _| match request.path() {
            "/data/bad" => Reaction::status(status),
            _ => Reaction::Serve,
        });
        let guest = setup(&server).mount();
        assert_eq!(kind(guest.read("bad")), ErrorKind::Unreachable, "{status}");
        assert_eq!(guest.read("f").unwrap(), "hello", "{status}");
    }
    let server = server();
    server.fault(|request, _| match request.path() {
        "/data/d/g" => Reaction::edit(|response| response.framed(Framing::Cut(0))),
        _ => Reaction::Serve,
    });
    let guest = setup(&server).mount();
    guest.read("d/g").unwrap_err();
    assert_eq!(guest.read("f").unwrap(), "hello");
}

#[test]
fn durations_of_any_length_are_fine() {
    let server = server();
    let limits: [fn(&mut Limits); 4] = [
        |limits| limits.timeout = Duration::MAX,
        |limits| limits.outage = Duration::MAX,
        |limits| limits.refresh = Duration::MAX,
        |limits| (limits.retry.backoff, limits.retry.max_wait) = (Duration::MAX, Duration::MAX),
    ];
    for change in limits {
        server.heal();
        let guest = Setup::http(&server).limits(change).mount();
        assert_eq!(guest.read("f").unwrap(), "hello");
        guest.write("new", &noise(100_000)).unwrap();
        guest.fs.flush().unwrap();
        server.fault(|_, _| Reaction::status(503));
        assert_eq!(kind(guest.read("d/g")), ErrorKind::Unreachable);
        server.site(|site| site.remove("/data/new"));
    }
}

#[test]
fn directory_that_the_guest_removed_stays_removed_where_directories_are_granted() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.fs.ensure("e", Intent::Directory).unwrap();
    guest.remove("e").unwrap().unwrap();
    for _ in 0..3 {
        assert_eq!(kind(guest.fs.ensure("e", Intent::Directory)), ErrorKind::NotFound);
        guest.fs.flush().unwrap();
    }
    guest.write("e", "a file").unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/e").as_deref(), Some("a file"));
}
