//! Servers that want more than to be read, and guests that leave traps.

use std::fs;
use std::os::unix::fs::symlink;

use qyvol_netfs::{ErrorKind, Intent};

use crate::server::{Framing, Reaction, Response, Server};
use crate::site::{Site, response_element};
use crate::support::{Guest, Setup, kind};

fn dav(members: &str) -> String {
    format!("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">{members}</D:multistatus>")
}

fn file(href: &str, length: &str) -> String {
    response_element(href, &format!("<D:getcontentlength>{length}</D:getcontentlength>"))
}

/// A mount over a server that always answers this.
fn answered(status: u16, body: impl Into<Vec<u8>>) -> (Server, Guest) {
    let server = Server::new(Site::default());
    let response = Response::new(status).body(body);
    server.fault(move |_, _| Reaction::Answer(response.clone()));
    let guest = Setup::webdav(&server).mount();
    (server, guest)
}

/// Everything that was made, beside the two directories.
fn traces(guest: &Guest) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for directory in ["", "root", "staging"] {
        let entries = fs::read_dir(guest.outside().join(directory)).unwrap();
        names.extend(entries.map(|entry| format!("{directory}/{}", entry.unwrap().file_name().display())));
    }
    names.retain(|name| name != "/root" && name != "/staging");
    names.sort();
    names
}

#[test]
fn names_that_lead_elsewhere_are_left_out() {
    let members: String = [
        "/data/..",
        "/data/%2e%2e",
        "/data/%2e%2e%2fescaped",
        "/data/x%2fy",
        "/data/x%00",
        "/escaped",
        "/data/sub/deep",
        "..",
        "http://other.example/data/f",
        "/data/%ff",
        "/data/%2E",
        "",
    ]
    .iter()
    .map(|href| file(href, "1"))
    .chain([file("/data/good", "1"), file("/data/\u{202e}odd%1b", "1")])
    .collect();
    let (_server, guest) = answered(207, dav(&members));
    let mut due = vec!["good".to_string(), "\u{202e}odd\u{1b}".to_string()];
    due.sort();
    assert_eq!(guest.list("").unwrap(), due);
    let notices = guest.notices();
    assert!(
        notices.len() == 1 && notices[0].starts_with("12 entries"),
        "{notices:?}"
    );
    assert_eq!(traces(&guest).len(), 2);
}

#[test]
fn lengths_that_no_file_has_are_left_out_or_refused() {
    let lengths = ["-1", "18446744073709551616", "9223372036854775808", "1e3", "", "nan"];
    let members: String = lengths
        .iter()
        .enumerate()
        .map(|(n, length)| file(&format!("/data/f{n}"), length))
        .collect();
    let (_server, guest) = answered(207, dav(&members));
    // They are there, of no known length; one that is opened shows it.
    assert_eq!(guest.list("").unwrap().len(), 6);
    let (_server, guest) = answered(207, dav(&file("/data/huge", "9223372036854775807")));
    let _ = guest.list("");
    assert!(traces(&guest).len() <= 1);
}

#[test]
fn hostile_xml_ends_in_an_error() {
    let bomb = "<!DOCTYPE a [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>".to_string();
    let outside = "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>".to_string();
    let named = |prefix: &str, entity: &str| format!("{prefix}{}", dav(&file(&format!("/data/{entity}"), "1")));
    let deep = dav(&format!("{}{}", "<D:x>".repeat(10_000), "</D:x>".repeat(10_000)));
    let wide = dav(&format!("<D:response>{}</D:response>", "<D:x/>".repeat(100_000)));
    for body in [
        named(&bomb, "&b;"),
        named(&outside, "&x;"),
        named("", "&b;"),
        deep,
        wide,
        dav("<D:response>"),
        dav("<D:response></D:propstat>"),
        "<".repeat(100_000),
        "\u{0}".to_string(),
        String::new(),
    ] {
        let (_server, guest) = answered(207, body.clone());
        assert_eq!(
            kind(guest.list("")),
            ErrorKind::Io,
            "{}",
            body.get(..80).unwrap_or(&body)
        );
        assert!(traces(&guest).is_empty());
    }
    let (_server, guest) = answered(207, b"\xff\xfe".to_vec());
    assert_eq!(kind(guest.list("")), ErrorKind::Io);
}

#[test]
fn endless_listing_ends_at_its_limit() {
    let server = Server::new(Site::default());
    let start = dav("").replace("</D:multistatus>", "");
    let response = Response::new(207)
        .body(format!("{start}{}", file("/data/f", "1").repeat(100)))
        .framed(Framing::Endless);
    server.fault(move |_, _| Reaction::Answer(response.clone()));
    let guest = Setup::webdav(&server).limits(|limits| limits.entries = 100).mount();
    assert_eq!(kind(guest.list("")), ErrorKind::TooLarge);
    assert_eq!(server.log().len(), 1);
}

#[test]
fn huge_headers_and_what_is_no_http_end_in_an_error() {
    let huge = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(10 << 20)).into_bytes();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(100_000)).into_bytes();
    for raw in [
        huge,
        many,
        b"SSH-2.0-OpenSSH\r\n".to_vec(),
        b"HTTP/1.1 xyz\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nhello".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".to_vec(),
        Vec::new(),
    ] {
        let server = Server::new(Site::default());
        let bytes = raw.clone();
        server.fault(move |_, _| Reaction::Raw(bytes.clone()));
        let guest = Setup::http(&server).mount();
        let error = guest.read("f").unwrap_err();
        assert!(error.to_string().len() < 2000);
        assert!(
            traces(&guest).is_empty(),
            "{}",
            String::from_utf8_lossy(raw.get(..60).unwrap_or(&raw))
        );
    }
}

#[test]
fn words_of_the_server_can_not_move_a_cursor() {
    let (_server, guest) = answered(400, "\u{1b}[2J\u{202e}");
    let error = guest.list("").unwrap_err().to_string();
    assert!(!error.contains(['\u{1b}', '\u{202e}']), "{error}");
}

#[test]
fn link_of_the_guest_is_not_followed() {
    let server = Server::new(Site::of(&[("/data/d/f", "hello"), ("/data/g", "world")]));
    let guest = Setup::webdav(&server).mount();
    let outside = guest.outside().join("outside");
    fs::create_dir(&outside).unwrap();
    guest.list("").unwrap();
    guest.list("d").unwrap();
    // The guest puts links where directories and files were, and says nothing of it.
    fs::remove_file(guest.place("d/f")).unwrap();
    fs::remove_dir(guest.place("d")).unwrap();
    symlink(&outside, guest.place("d")).unwrap();
    fs::write(outside.join("g"), "as it was").unwrap();
    fs::remove_file(guest.place("g")).unwrap();
    symlink(outside.join("g"), guest.place("g")).unwrap();
    guest.fs.ensure("d/f", Intent::Read).unwrap_err();
    // A file that is fetched takes the place of the link.
    guest.fs.ensure("g", Intent::Read).unwrap();
    assert_eq!(fs::read_to_string(outside.join("g")).unwrap(), "as it was");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    // One that the guest made in its own right is one.
    guest.fs.ensure("link", Intent::Create).unwrap();
    symlink("g", guest.place("link")).unwrap();
    for intent in [Intent::Read, Intent::Stat, Intent::Write] {
        assert_eq!(kind(guest.fs.ensure("link", intent)), ErrorKind::Link);
        assert_eq!(kind(guest.fs.ensure("link/x", intent)), ErrorKind::Link);
    }
    let error = guest.fs.flush().unwrap_err();
    assert!(error.failures.iter().any(|failure| failure.path == "link"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn path_that_is_none_is_refused_before_anything_is_asked() {
    let server = Server::new(Site::of(&[("/data/f", "hello")]));
    let guest = Setup::http(&server).mount();
    for path in ["..", "a/../b", "/f", "f/", "a//b", "a\0b"] {
        assert_eq!(kind(guest.fs.ensure(path, Intent::Read)), ErrorKind::InvalidPath);
        guest.fs.removed(path);
        guest.fs.renamed(path, path);
        guest.fs.made_directory(path);
    }
    guest.fs.flush().unwrap();
    assert!(server.log().is_empty());
}

#[test]
fn threads_of_a_guest_get_on() {
    let server = Server::new(Site::of(&[("/data/d/f", "hello"), ("/data/g", "world")]));
    let guest = Setup::webdav(&server).always_asking().mount();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let guest = &guest;
            scope.spawn(move || {
                for _ in 0..20 {
                    guest.fs.ensure("d/f", Intent::Read).unwrap();
                    assert_eq!(fs::read_to_string(guest.place("d/f")).unwrap(), "hello");
                    guest.fs.ensure("", Intent::List).unwrap();
                    guest.write(&format!("own{n}"), "x").unwrap();
                }
                guest.fs.flush().unwrap();
            });
        }
    });
}
