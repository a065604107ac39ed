//! WebDAV: what a guest finds, and what is asked for it.

use qyvol_netfs::{ErrorKind, Intent};

use crate::server::{Reaction, Response, Server};
use crate::site::Site;
use crate::support::{Setup, kind};

fn server() -> Server {
    let server = Server::new(Site::of(&[
        ("/data/a/b c.txt", "hello"),
        ("/data/f", "x"),
        ("/data/100%", "!"),
    ]));
    server.site(|site| site.make_directory("/data/empty"));
    server
}

#[test]
fn directories_are_listed_with_placeholders() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    assert_eq!(guest.list("").unwrap(), ["100%", "a", "empty", "f"]);
    assert_eq!(guest.stat("f").unwrap(), Some(1));
    assert_eq!(guest.stat("a").unwrap(), None);
    assert_eq!(server.log(), ["PROPFIND /data/"]);
    assert_eq!(guest.list("a").unwrap(), ["b c.txt"]);
    assert_eq!(guest.list("empty").unwrap(), Vec::<String>::new());
    assert_eq!(guest.read("a/b c.txt").unwrap(), "hello");
    assert_eq!(guest.read("100%").unwrap(), "!");
    assert_eq!(
        server.log(),
        [
            "PROPFIND /data/a/",
            "PROPFIND /data/empty/",
            "GET /data/a/b%20c.txt",
            "GET /data/100%25"
        ]
    );
    // What a listing doesn't have is not there.
    assert_eq!(kind(guest.stat("none")), ErrorKind::NotFound);
    assert!(server.log().is_empty());
}

#[test]
fn path_is_found_without_a_listing() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    assert_eq!(guest.read("a/b c.txt").unwrap(), "hello");
    assert_eq!(server.log(), ["PROPFIND /data/a/b%20c.txt", "GET /data/a/b%20c.txt"]);
    guest.fs.ensure("a", Intent::Directory).unwrap();
    assert!(server.log().is_empty());
    assert_eq!(kind(guest.fs.ensure("f", Intent::Directory)), ErrorKind::NotADirectory);
    assert_eq!(kind(guest.fs.ensure("f/x", Intent::Stat)), ErrorKind::NotADirectory);
    assert_eq!(kind(guest.fs.ensure("none", Intent::List)), ErrorKind::NotFound);
    assert_eq!(kind(guest.fs.ensure("none/x", Intent::Read)), ErrorKind::NotFound);
}

#[test]
fn listing_follows_the_server() {
    let server = server();
    let guest = Setup::webdav(&server).always_asking().mount();
    guest.list("a").unwrap();
    guest.read("a/b c.txt").unwrap();
    guest.write("a/mine", "1").unwrap();
    server.site(|site| {
        site.remove("/data/a/b c.txt");
        site.put("/data/a/new", b"1234");
        site.remove("/data/f");
        site.put("/data/f/in", b"1");
    });
    assert_eq!(guest.list("a").unwrap(), ["mine", "new"]);
    assert_eq!(guest.stat("a/new").unwrap(), Some(4));
    assert_eq!(guest.list("").unwrap(), ["100%", "a", "empty", "f"]);
    assert_eq!(guest.stat("f").unwrap(), None);
    server.site(|site| {
        site.remove("/data/f/in");
        site.put("/data/f", b"a file again");
    });
    assert_eq!(guest.stat("f").unwrap(), Some(12));
}

#[test]
fn directory_that_is_gone_from_the_server_stays_with_what_the_guest_made_in_it() {
    let server = server();
    let guest = Setup::webdav(&server).always_asking().mount();
    guest.list("a").unwrap();
    guest.write("a/mine", "1").unwrap();
    server.site(|site| {
        site.remove("/data/a/b c.txt");
        site.make_directory("/data");
    });
    assert_eq!(guest.stat("a").unwrap(), None);
    assert_eq!(guest.list("a").unwrap(), ["mine"]);
    assert_eq!(guest.list("").unwrap(), ["100%", "a", "empty", "f"]);
    guest.fs.flush().unwrap();
    assert_eq!(server.site(|site| site.get("/data/a/mine")).as_deref(), Some("1"));
    assert_eq!(server.log().iter().filter(|line| *line == "MKCOL /data/a/").count(), 1);
}

#[test]
fn server_that_does_not_speak_webdav_is_recognised() {
    let server = server();
    for status in [200, 405, 501] {
        server.fault(move |_, _| Reaction::status(status));
        let error = Setup::webdav(&server).mount().list("").unwrap_err();
        assert!(error.to_string().contains("WebDAV"), "{error}");
    }
    server.fault(|_, _| Reaction::Answer(Response::new(207).body("<html>hello</html>")));
    let error = Setup::webdav(&server).mount().list("").unwrap_err();
    assert!(error.to_string().contains("multistatus"), "{error}");
}

#[test]
fn listing_over_the_limit_is_refused_and_leaves_nothing() {
    let server = server();
    let guest = Setup::webdav(&server).limits(|limits| limits.entries = 3).mount();
    assert_eq!(kind(guest.list("")), ErrorKind::TooLarge);
    assert_eq!(std::fs::read_dir(guest.place("")).unwrap().count(), 0);
    assert_eq!(guest.list("a").unwrap(), ["b c.txt"]);
}

#[test]
fn collection_is_requested_where_a_redirect_leads() {
    let server = server();
    server.fault(|request, _| match (request.method.as_str(), request.path()) {
        ("PROPFIND", "/data/a") => Reaction::Answer(Response::new(301).with("location", "/data/a/")),
        _ => Reaction::Serve,
    });
    let guest = Setup::webdav(&server).mount();
    assert_eq!(guest.stat("a").unwrap(), None);
}

#[test]
fn root_of_the_origin_can_be_the_tree() {
    let server = Server::new(Site::of(&[("/f", "x"), ("/a/g", "y")]));
    let mut setup = Setup::webdav(&server);
    setup.config.url = server.url("");
    let guest = setup.mount();
    assert_eq!(guest.list("").unwrap(), ["a", "f"]);
    assert_eq!(guest.read("a/g").unwrap(), "y");
}
