//! Servers that say little of what they have: nothing that the guest has not seen is
//! overwritten, removed or restored.

use qyvol_netfs::{ErrorKind, FlushError, Intent};

use crate::server::{Framing, Reaction, Request, Response, Server};
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

fn kinds(result: Result<(), FlushError>) -> Vec<ErrorKind> {
    let failures = result.unwrap_err().failures;
    failures.iter().map(|failure| failure.error.kind()).collect()
}

/// The answer of a server that knows no conditions and tells no versions apart.
fn careless(request: &Request, site: &mut Site) -> Response {
    let mut request = request.clone();
    request.headers.retain(|name, _| !name.starts_with("if-"));
    site.answer(&request).without("etag").without("last-modified")
}

#[test]
fn content_is_compared_where_nothing_distinguishes_versions() {
    for has_length in [true, false] {
        let server = server();
        server.fault(move |request, site| {
            let answer = careless(request, site);
            Reaction::Answer(match (request.method.as_str(), answer.status) {
                ("HEAD", 200) if !has_length => answer.framed(Framing::Bare),
                ("GET", 200) if !has_length => answer.framed(Framing::Chunked),
                _ => answer,
            })
        });
        let guest = Setup::http(&server).mount();
        let other = Setup::http(&server).mount();
        guest.append("f", " mine").unwrap();
        guest.append("d/g", " mine").unwrap();
        other.append("d/h", " mine").unwrap();
        other.remove("d/h").unwrap().unwrap();
        // Of the same length.
        server.site(|site| {
            site.put("/data/f", b"other");
            site.put("/data/d/h", b"?");
        });
        assert_eq!(kinds(guest.fs.flush()), [ErrorKind::Conflict]);
        assert_eq!(kinds(other.fs.flush()), [ErrorKind::Conflict]);
        assert_eq!(get(&server, "/data/f").as_deref(), Some("other"));
        assert_eq!(get(&server, "/data/d/g").as_deref(), Some("world mine"));
        assert_eq!(get(&server, "/data/d/h").as_deref(), Some("?"));
        // What is the guest's own can be changed again.
        guest.append("d/g", "!").unwrap();
        guest.fs.flush().unwrap_err();
        assert_eq!(get(&server, "/data/d/g").as_deref(), Some("world mine!"));
    }
}

#[test]
fn tag_of_another_writer_is_not_mistaken_for_the_own() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    let guest = setup.mount();
    guest.write("f", "mine1").unwrap();
    server.fault(|request, site| match (request.method.as_str(), request.nth) {
        ("PUT", 1) => {
            let answer = site.answer(request).without("etag");
            site.put("/data/f", b"their");
            Reaction::Answer(answer)
        }
        _ => Reaction::Serve,
    });
    guest.fs.flush().unwrap();
    assert_eq!(setup.mount().read("f").unwrap(), "their");
    guest.write("f", "mine2").unwrap();
    assert_eq!(kinds(guest.fs.flush()), [ErrorKind::Conflict]);
    assert_eq!(get(&server, "/data/f").as_deref(), Some("their"));
}

#[test]
fn file_that_was_sent_without_a_tag_can_be_sent_again() {
    for make in [Setup::http, Setup::webdav] {
        let server = server();
        server.fault(|request, _| match request.method.as_str() {
            "PUT" => Reaction::edit(|response| response.without("etag")),
            _ => Reaction::Serve,
        });
        let guest = make(&server).mount();
        for content in ["1", "12", "123"] {
            guest.write("f", content).unwrap();
            guest.fs.flush().unwrap();
            assert_eq!(get(&server, "/data/f").as_deref(), Some(content));
        }
        guest.remove("f").unwrap().unwrap();
        guest.fs.flush().unwrap();
        assert_eq!(get(&server, "/data/f"), None);
    }
}

#[test]
fn directory_with_an_unreadable_member_is_not_empty() {
    let server = server();
    let answer = "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/data/d/</D:href><D:propstat><D:prop>\
                  <D:resourcetype><D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status>\
                  </D:propstat></D:response><D:response><D:href>/data/d/secret</D:href>\
                  <D:status>HTTP/1.1 403 Forbidden</D:status></D:response></D:multistatus>";
    let guest = Setup::webdav(&server).mount();
    for path in ["d/g", "d/h", "d"] {
        guest.remove(path).unwrap().unwrap();
    }
    server.fault(move |request, _| match request.header("depth") {
        Some("1") => Reaction::Answer(Response::new(207).body(answer)),
        _ => Reaction::Serve,
    });
    server.log();
    assert_eq!(kinds(guest.fs.flush()), [ErrorKind::Conflict]);
    assert!(!server.log().contains(&"DELETE /data/d/".to_string()));
}

#[test]
fn answer_that_says_nothing_of_a_directory_does_not_make_it_empty() {
    let server = server();
    let guest = Setup::webdav(&server).mount();
    for path in ["d/g", "d/h", "d"] {
        guest.remove(path).unwrap().unwrap();
    }
    server.fault(|request, _| match request.header("depth") {
        Some("1") => Reaction::Answer(Response::new(207).body("<D:multistatus xmlns:D=\"DAV:\"/>")),
        _ => Reaction::Serve,
    });
    server.log();
    assert_eq!(kinds(guest.fs.flush()), [ErrorKind::Io]);
    assert!(!server.log().contains(&"DELETE /data/d/".to_string()));
}

#[test]
fn mark_of_a_directory_overwrites_nothing() {
    let server = Server::new(Site::of(&[("/b/data/x", "1")]));
    let guest = Setup::s3(&server, "data").mount();
    for name in ["new", "other"] {
        guest.make_directory(name).unwrap().unwrap();
    }
    server.site(|site| site.put("/b/data/new/", b"their content"));
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/b/data/new/").as_deref(), Some("their content"));
    assert_eq!(get(&server, "/b/data/other/").as_deref(), Some(""));
}

#[test]
fn listing_of_empty_pages_is_given_up() {
    let server = Server::new(Site::of(&[("/b/data/f", "x")]));
    server.fault(|request, _| match request.query().contains("list-type") {
        true => Reaction::Answer(Response::new(200).body(format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>\
             </ListBucketResult>",
            request.nth
        ))),
        false => Reaction::Serve,
    });
    let guest = Setup::s3(&server, "data").mount();
    assert_eq!(kind(guest.list("")), ErrorKind::Io);
    assert!(server.log().len() < 200);
}

#[test]
fn what_the_guest_removed_does_not_come_back_while_the_server_is_away() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    server.site(|site| site.put("/data/d/sub/z", b"old"));
    let setup = Setup::webdav(&server).cache(cache.path());
    setup.mount().read("d/sub/z").unwrap();
    server.site(|site| site.remove("/data/d/sub/z"));
    let guest = setup.always_asking().mount();
    guest.list("d").unwrap();
    guest.stat("f").unwrap();
    for path in ["d/g", "d/h", "d"] {
        guest.remove(path).unwrap().unwrap();
    }
    server.fault(|_, _| Reaction::status(503));
    assert_eq!(guest.list("").unwrap(), ["f"]);
    server.heal();
    guest.fs.flush().unwrap();
    assert!(!server.site(|site| site.is_directory("/data/d")));
}

#[test]
fn removal_whose_answer_was_lost_is_done() {
    let server = server();
    let guest = Setup::http(&server).mount();
    guest.remove("f").unwrap().unwrap();
    server.fault(|request, _| match (request.method.as_str(), request.nth) {
        ("DELETE", 1) => Reaction::edit(|response| response.framed(Framing::Lost)),
        _ => Reaction::Serve,
    });
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/f"), None);
}

#[test]
fn file_over_the_limit_is_not_made_longer() {
    let server = server();
    let guest = Setup::http(&server).limits(|limits| limits.file_bytes = 10).mount();
    guest.write("big", "more than ten").unwrap();
    assert_eq!(kind(guest.fs.ensure("big", Intent::Write)), ErrorKind::TooLarge);
    guest.write("big", "emptied").unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(get(&server, "/data/big").as_deref(), Some("emptied"));
}

#[test]
fn new_file_overwrites_nothing_where_only_content_shows_what_is_there() {
    let server = server();
    server.fault(|request, site| match request.method.as_str() {
        "HEAD" => Reaction::status(405),
        _ => Reaction::Answer(careless(request, site)),
    });
    let guest = Setup::http(&server).mount();
    for (name, content) in [("new", "mine"), ("big", "mine"), ("free", "mine")] {
        guest.write(name, content).unwrap();
    }
    server.site(|site| {
        site.put("/data/new", b"their");
        site.put("/data/big", &[b'x'; 100_000]);
    });
    assert_eq!(kinds(guest.fs.flush()), [ErrorKind::Conflict, ErrorKind::Conflict]);
    assert_eq!(get(&server, "/data/new").as_deref(), Some("their"));
    assert_eq!(get(&server, "/data/free").as_deref(), Some("mine"));
}
