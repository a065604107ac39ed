//! What the guest changes, and what becomes of it on the server.

use std::fs;

use qyvol_netfs::{Change, ErrorKind, FlushError, Intent};

use crate::server::{Framing, Reaction, Server};
use crate::site::Site;
use crate::support::{Setup, kind};

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

fn writes(server: &Server) -> Vec<String> {
    let is_write = |line: &String| ["PUT", "DELETE", "MKCOL"].iter().any(|method| line.starts_with(method));
    server.log().into_iter().filter(is_write).collect()
}

fn failure(result: Result<(), FlushError>) -> (String, Change, ErrorKind) {
    let failure = result.unwrap_err().failures.remove(0);
    (failure.path, failure.change, failure.error.kind())
}

/// Each of the protocols that the same must hold for.
fn each(mut test: impl FnMut(&Server, &Setup)) {
    for make in [Setup::http, Setup::webdav, |server: &Server| Setup::s3(server, "data")] {
        let server = server();
        let setup = make(&server);
        // S3's tree is in a bucket.
        if setup.config.url.ends_with("/b/data") {
            server.site(|site| {
                *site = Site::of(&[("/b/data/f", "hello"), ("/b/data/d/g", "world"), ("/b/data/d/h", "!")])
            });
        }
        test(&server, &setup);
    }
}

fn root(setup: &Setup) -> String {
    let path = setup.config.url.splitn(4, '/').nth(3).unwrap();
    format!("/{path}")
}

// [RUN-075]
#[test]
fn name_that_something_is_mounted_over_is_listed_and_never_the_servers() {
    each(|server, setup| {
        let covered = format!("{}/assets", root(setup));
        server.site(|site| site.put(&covered, b"the server's"));
        let mut guest = setup.mount();
        guest.fs = guest.fs.covered("assets").unwrap();
        assert!(guest.list("").unwrap().contains(&"assets".to_string()));
        assert_eq!(guest.stat("assets").unwrap(), None);
        assert_eq!(guest.list("assets").unwrap(), Vec::<String>::new());
        for intent in [Intent::Create, Intent::Write, Intent::Remove, Intent::Rename] {
            for path in ["assets", "assets/f"] {
                assert_eq!(kind(guest.fs.ensure(path, intent)), ErrorKind::ReadOnly, "{path}");
            }
        }
        guest.write("new", "content").unwrap();
        guest.fs.flush().unwrap();
        assert_eq!(writes(server).len(), 1);
        assert_eq!(get(server, &covered).as_deref(), Some("the server's"));
    });
}

#[test]
fn new_changed_and_removed_files_are_sent() {
    each(|server, setup| {
        let at = |path: &str| get(server, &format!("{}/{path}", root(setup)));
        let guest = setup.mount();
        guest.write("new file", "1").unwrap();
        guest.write("f", "2").unwrap();
        guest.append("d/g", "3").unwrap();
        guest.remove("d/h").unwrap().unwrap();
        server.log();
        guest.fs.flush().unwrap();
        assert_eq!(
            (at("new file"), at("f"), at("d/g"), at("d/h")),
            (
                Some("1".to_string()),
                Some("2".to_string()),
                Some("world3".to_string()),
                None
            )
        );
        // All is in step: nothing more is sent.
        server.log();
        guest.fs.flush().unwrap();
        assert_eq!(writes(server), Vec::<String>::new());
        guest.append("f", "4").unwrap();
        guest.fs.flush().unwrap();
        assert_eq!(at("f").as_deref(), Some("24"));
    });
}

#[test]
fn nothing_is_sent_for_what_did_not_change() {
    each(|server, setup| {
        let guest = setup.mount();
        guest.read("f").unwrap();
        guest.stat("d/g").unwrap();
        // Opened, and left alone.
        for (path, intent) in [
            ("f", Intent::Write),
            ("d/h", Intent::Create),
            ("d/none", Intent::Create),
        ] {
            guest.fs.ensure(path, intent).unwrap();
        }
        guest.write("made", "x").unwrap();
        guest.remove("made").unwrap().unwrap();
        fs::write(guest.place("f"), "hello").unwrap();
        guest.fs.flush().unwrap();
        assert_eq!(writes(server), Vec::<String>::new());
        // Its content is fetched all the same when it is read.
        assert_eq!(guest.read("d/h").unwrap(), "!");
    });
}

#[test]
fn guest_reads_what_it_wrote() {
    each(|_, setup| {
        let guest = setup.mount();
        guest.write("f", "mine").unwrap();
        assert_eq!(guest.read("f").unwrap(), "mine");
        guest.append("f", "!").unwrap();
        assert_eq!(guest.read("f").unwrap(), "mine!");
        guest.remove("f").unwrap().unwrap();
        guest.write("f", "anew").unwrap();
        assert_eq!(guest.read("f").unwrap(), "anew");
        guest.fs.flush().unwrap();
        assert_eq!(guest.read("f").unwrap(), "anew");
    });
}

#[test]
fn emptied_file_is_sent_empty() {
    each(|server, setup| {
        let guest = setup.mount();
        guest.write("f", "").unwrap();
        guest.fs.flush().unwrap();
        assert_eq!(get(server, &format!("{}/f", root(setup))).as_deref(), Some(""));
    });
}

#[test]
fn write_is_conditional_on_what_the_guest_saw() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.write("f", "2").unwrap();
    guest.write("new", "1").unwrap();
    guest.remove("d/g").unwrap().unwrap();
    guest.fs.flush().unwrap();
    let seen = server.seen();
    let of = |method: &str, path: &str| {
        let request = seen.iter().find(|request| request.is(method, path)).unwrap();
        (
            request.header("if-match").map(str::to_string),
            request.header("if-none-match").map(str::to_string),
        )
    };
    assert_eq!(of("PUT", "/data/f"), (Some("\"v1\"".to_string()), None));
    assert_eq!(of("PUT", "/data/new"), (None, Some("*".to_string())));
    assert_eq!(of("DELETE", "/data/d/g"), (Some("\"v2\"".to_string()), None));
}

#[test]
fn what_was_changed_meanwhile_is_not_overwritten_and_the_local_version_is_kept() {
    each(|server, setup| {
        let cache = tempfile::tempdir().unwrap();
        let guest = setup.clone().cache(cache.path()).mount();
        let path = |name: &str| format!("{}/{name}", root(setup));
        guest.append("f", " from here").unwrap();
        guest.write("new", "mine").unwrap();
        server.site(|site| {
            site.put(&path("f"), b"from there");
            site.put(&path("new"), b"theirs");
        });
        let error = guest.fs.flush().unwrap_err();
        assert_eq!(error.failures.len(), 2);
        for (failure, (name, content)) in error.failures.iter().zip([("f", "hello from here"), ("new", "mine")]) {
            assert_eq!((failure.path.as_str(), failure.change), (name, Change::Write));
            assert_eq!(failure.error.kind(), ErrorKind::Conflict);
            let kept = failure.kept.as_ref().unwrap();
            assert!(failure.to_string().contains(kept.to_str().unwrap()), "{failure}");
            assert_eq!(fs::read_to_string(kept).unwrap(), content);
        }
        assert_eq!(get(server, &path("f")).as_deref(), Some("from there"));
        assert_eq!(get(server, &path("new")).as_deref(), Some("theirs"));
        // A second time it is the same.
        assert_eq!(guest.fs.flush().unwrap_err().failures.len(), 2);
    });
}

#[test]
fn server_that_ignores_conditions_overwrites_nothing_either() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.append("f", " from here").unwrap();
    guest.remove("d/g").unwrap().unwrap();
    server.site(|site| {
        site.put("/data/f", b"from there");
        site.put("/data/d/g", b"from there");
    });
    server.fault(|request, site| {
        let mut careless = request.clone();
        careless.headers.retain(|name, _| !name.starts_with("if-"));
        Reaction::Answer(site.answer(&careless))
    });
    guest.fs.flush().unwrap_err();
    assert_eq!(writes(&server), Vec::<String>::new());
}

#[test]
fn change_between_the_stat_and_the_write_is_a_conflict() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.append("f", " from here").unwrap();
    server.fault(|request, site| {
        if request.method == "PUT" {
            site.put("/data/f", b"from there");
        }
        Reaction::Serve
    });
    assert_eq!(
        failure(guest.fs.flush()),
        ("f".to_string(), Change::Write, ErrorKind::Conflict)
    );
    assert_eq!(get(&server, "/data/f").as_deref(), Some("from there"));
}

#[test]
fn write_whose_answer_was_lost_is_no_conflict() {
    for name in ["new", "f"] {
        let server = server();
        let guest = Setup::http(&server).mount();
        guest.write(name, "mine").unwrap();
        server.fault(|request, _| match (request.method.as_str(), request.nth) {
            // It is taken, and the answer doesn't come.
            ("PUT", 1) => Reaction::edit(|response| response.framed(Framing::Lost)),
            _ => Reaction::Serve,
        });
        guest.fs.flush().unwrap();
        assert_eq!(get(&server, &format!("/data/{name}")).as_deref(), Some("mine"));
    }
}

#[test]
fn removal_is_of_what_the_guest_saw() {
    each(|server, setup| {
        let guest = setup.mount();
        guest.remove("f").unwrap().unwrap();
        guest.remove("d/h").unwrap().unwrap();
        let path = |name: &str| format!("{}/{name}", root(setup));
        server.site(|site| {
            site.put(&path("f"), b"from there");
            site.remove(&path("d/h"));
        });
        assert_eq!(kind(guest.read("f")), ErrorKind::NotFound);
        assert_eq!(
            failure(guest.fs.flush()),
            ("f".to_string(), Change::Remove, ErrorKind::Conflict)
        );
        assert_eq!(get(server, &path("f")).as_deref(), Some("from there"));
    });
}

#[test]
fn renamed_file_is_sent_before_the_old_one_is_removed() {
    each(|server, setup| {
        let guest = setup.mount();
        guest.rename("f", "d/moved").unwrap().unwrap();
        guest.rename("d/g", "d/h").unwrap().unwrap();
        assert_eq!(kind(guest.read("f")), ErrorKind::NotFound);
        assert_eq!(guest.read("d/moved").unwrap(), "hello");
        server.log();
        guest.fs.flush().unwrap();
        let at = |path: &str| get(server, &format!("{}/{path}", root(setup)));
        assert_eq!((at("f"), at("d/g")), (None, None));
        assert_eq!(
            (at("d/moved").as_deref(), at("d/h").as_deref()),
            (Some("hello"), Some("world"))
        );
        let methods: Vec<String> = writes(server)
            .iter()
            .map(|line| line.split(' ').next().unwrap().to_string())
            .collect();
        assert_eq!(methods, ["PUT", "PUT", "DELETE", "DELETE"]);
    });
}

#[test]
fn nothing_is_removed_if_some_content_was_not_sent() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let guest = Setup::http(&server).cache(cache.path()).mount();
    guest.rename("f", "moved").unwrap().unwrap();
    server.fault(|request, _| match request.method.as_str() {
        "PUT" => Reaction::status(507),
        _ => Reaction::Serve,
    });
    let error = guest.fs.flush().unwrap_err();
    let shown: Vec<_> = error
        .failures
        .iter()
        .map(|f| (f.path.as_str(), f.change, f.error.kind()))
        .collect();
    assert_eq!(
        shown,
        [
            ("f", Change::Remove, ErrorKind::Io),
            ("moved", Change::Write, ErrorKind::NoSpace)
        ]
    );
    assert_eq!(get(&server, "/data/f").as_deref(), Some("hello"));
    assert!(!server.log().iter().any(|line| line.starts_with("DELETE")));
    let kept = error.failures[1].kept.clone().unwrap();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "hello");
    // There is room again: all of it is made good, and nothing is kept any more.
    server.heal();
    guest.fs.flush().unwrap();
    assert_eq!(
        (get(&server, "/data/f"), get(&server, "/data/moved").as_deref()),
        (None, Some("hello"))
    );
    assert!(!kept.exists());
}

#[test]
fn directory_of_the_server_is_not_renamed_and_one_of_the_guest_is() {
    for make in [Setup::webdav, |server: &Server| Setup::s3(server, "data")] {
        let server = server();
        server.site(|site| {
            site.put("/b/data/d/g", b"world");
        });
        let guest = make(&server).mount();
        assert_eq!(kind(guest.rename("d", "e")), ErrorKind::CrossDevice);
        guest.make_directory("new").unwrap().unwrap();
        guest.write("new/x", "1").unwrap();
        guest.rename("new", "newer").unwrap().unwrap();
        assert_eq!(kind(guest.read("new/x")), ErrorKind::NotFound);
        guest.fs.flush().unwrap();
        assert_eq!(guest.read("newer/x").unwrap(), "1");
        let paths = server.site(|site| site.paths().join(" "));
        assert!(paths.contains("newer/x") && !paths.contains("new/x"), "{paths}");
    }
}

#[test]
fn directories_are_made_and_removed() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    guest.make_directory("new").unwrap().unwrap();
    guest.make_directory("new/er").unwrap().unwrap();
    guest.write("new/er/x", "1").unwrap();
    assert!(guest.make_directory("d").unwrap().is_err());
    // The kernel sees what is in it.
    assert!(guest.remove("d").unwrap().is_err());
    guest.remove("d/g").unwrap().unwrap();
    guest.remove("d/h").unwrap().unwrap();
    guest.remove("d").unwrap().unwrap();
    assert_eq!(kind(guest.stat("d")), ErrorKind::NotFound);
    assert_eq!(kind(guest.fs.ensure("d/g", Intent::Read)), ErrorKind::NotFound);
    assert_eq!(guest.list("").unwrap(), ["f", "new"]);
    server.log();
    guest.fs.flush().unwrap();
    assert_eq!(
        writes(&server),
        [
            "MKCOL /data/new/",
            "MKCOL /data/new/er/",
            "PUT /data/new/er/x",
            "DELETE /data/d/h",
            "DELETE /data/d/g",
            "DELETE /data/d/"
        ]
    );
    assert_eq!(get(&server, "/data/new/er/x").as_deref(), Some("1"));
}

#[test]
fn directory_that_was_filled_meanwhile_is_not_removed() {
    each(|server, setup| {
        if root(setup) == "/data" && setup.config.protocol == qyvol_netfs::Protocol::Http {
            return;
        }
        let guest = setup.mount();
        for path in ["d/g", "d/h", "d"] {
            guest.remove(path).unwrap().unwrap();
        }
        let late = format!("{}/d/late", root(setup));
        server.site(|site| site.put(&late, b"x"));
        assert_eq!(
            failure(guest.fs.flush()),
            ("d".to_string(), Change::Remove, ErrorKind::Conflict)
        );
        assert_eq!(get(server, &late).as_deref(), Some("x"));
    });
}

#[test]
fn file_and_directory_change_places() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    guest.remove("f").unwrap().unwrap();
    guest.make_directory("f").unwrap().unwrap();
    guest.write("f/in", "1").unwrap();
    for path in ["d/g", "d/h", "d"] {
        guest.remove(path).unwrap().unwrap();
    }
    guest.write("d", "a file").unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/f/in").as_deref(), Some("1"));
    assert_eq!(get(&server, "/data/d").as_deref(), Some("a file"));
}

#[test]
fn new_file_needs_its_directory_where_there_are_directories() {
    for make in [Setup::webdav, |server: &Server| Setup::s3(server, "data")] {
        let server = server();
        let guest = make(&server).mount();
        assert_eq!(kind(guest.write("none/x", "1")), ErrorKind::NotFound);
    }
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.write("any/where/x", "1").unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/any/where/x").as_deref(), Some("1"));
}

#[test]
fn file_that_the_guest_has_changed_is_its_own_for_the_rest_of_the_run() {
    let server = server();
    let guest = Setup::http(&server).always_asking().mount();
    guest.append("f", "!").unwrap();
    server.site(|site| site.put("/data/f", b"other"));
    assert_eq!(guest.read("f").unwrap(), "hello!");
    guest.write("new", "1").unwrap();
    assert_eq!(guest.stat("new").unwrap(), Some(1));
}
