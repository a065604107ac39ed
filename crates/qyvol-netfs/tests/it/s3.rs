//! S3: what a guest finds, and what is asked for it.

use qyvol_netfs::{Credentials, ErrorKind, Intent, Secret};

use crate::server::{Reaction, Response, Server};
use crate::site::Site;
use crate::support::{PASSWORD, Setup, kind};

fn server() -> Server {
    Server::new(Site::of(&[
        ("/b/data/a/b c.txt", "hello"),
        ("/b/data/a.txt", "x"),
        ("/b/data/a-b", "y"),
        ("/b/data/empty/", ""),
        ("/b/data/100%", "!"),
        ("/b/other", "not in the tree"),
    ]))
}

#[test]
fn keys_are_seen_as_directories_and_files() {
    let server = server();
    let guest = Setup::s3(&server, "data").mount();
    assert_eq!(guest.list("").unwrap(), ["100%", "a", "a-b", "a.txt", "empty"]);
    assert_eq!(guest.list("a").unwrap(), ["b c.txt"]);
    assert_eq!(guest.list("empty").unwrap(), Vec::<String>::new());
    assert_eq!(guest.stat("a.txt").unwrap(), Some(1));
    assert_eq!(guest.read("a/b c.txt").unwrap(), "hello");
    assert_eq!(guest.read("100%").unwrap(), "!");
    assert_eq!(
        server.log(),
        [
            "GET /b",
            "GET /b",
            "GET /b",
            "GET /b/data/a/b%20c.txt",
            "GET /b/data/100%25"
        ]
    );
}

#[test]
fn path_is_found_without_a_listing() {
    let server = server();
    let guest = Setup::s3(&server, "data").mount();
    assert_eq!(guest.read("a/b c.txt").unwrap(), "hello");
    assert_eq!(server.log(), ["HEAD /b/data/a/b%20c.txt", "GET /b/data/a/b%20c.txt"]);
    guest.fs.ensure("empty", Intent::Directory).unwrap();
    assert_eq!(guest.stat("empty").unwrap(), None);
    assert_eq!(kind(guest.stat("none")), ErrorKind::NotFound);
    assert_eq!(kind(guest.list("none")), ErrorKind::NotFound);
    assert_eq!(kind(guest.stat("a.txt/x")), ErrorKind::NotFound);
    let whole = Setup::s3(&server, "").mount();
    assert_eq!(whole.list("").unwrap(), ["data", "other"]);
}

#[test]
fn long_listing_is_read_page_by_page() {
    let server = server();
    server.site(|site| {
        for n in 0..50 {
            site.put(&format!("/b/data/many/{n:02}"), b"x");
        }
        site.page = 7;
    });
    let guest = Setup::s3(&server, "data").mount();
    assert_eq!(guest.list("many").unwrap().len(), 50);
    let guest = Setup::s3(&server, "data").limits(|limits| limits.entries = 20).mount();
    server.log();
    assert_eq!(kind(guest.list("many")), ErrorKind::TooLarge);
    assert!(server.log().len() < 6);
}

#[test]
fn listing_without_an_end_is_given_up() {
    let server = server();
    for page in [
        "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>",
        "<IsTruncated>true</IsTruncated>",
        "<Contents><Key>data/x</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>\
         <NextContinuationToken>again</NextContinuationToken>",
    ] {
        server.log();
        let body = format!("<ListBucketResult>{page}</ListBucketResult>");
        server.fault(move |_, _| Reaction::Answer(Response::new(200).body(body.as_str())));
        assert_eq!(
            kind(Setup::s3(&server, "data").mount().list("")),
            ErrorKind::Io,
            "{page}"
        );
        assert!(server.log().len() <= 3);
    }
}

#[test]
fn object_hides_what_is_below_a_key_of_its_name() {
    let server = server();
    server.site(|site| site.put("/b/data/a.txt/below", b"z"));
    let guest = Setup::s3(&server, "data").mount();
    guest.list("").unwrap();
    assert_eq!(guest.stat("a.txt").unwrap(), Some(1));
}

#[test]
fn requests_are_signed_and_the_secret_is_not_in_them() {
    let server = server();
    let mut setup = Setup::s3(&server, "data");
    setup.credentials = Credentials::S3 {
        access_key: "AKIDEXAMPLE".to_string(),
        secret_key: Secret::new(PASSWORD),
        session_token: Some(Secret::new("t0ken")),
    };
    let guest = setup.mount();
    guest.list("").unwrap();
    guest.write("new", "1").unwrap();
    guest.make_directory("dir").unwrap().unwrap();
    guest.fs.flush().unwrap();
    for request in server.seen() {
        let signed = request.header("authorization").unwrap();
        assert!(
            signed.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
            "{signed}"
        );
        assert!(
            signed.contains("host;") && signed.contains("x-amz-content-sha256;x-amz-date;x-amz-security-token"),
            "{signed}"
        );
        assert_eq!(request.header("x-amz-security-token"), Some("t0ken"));
        let body = qyvol_types::Digest::of(&request.body).hex();
        assert_eq!(request.header("x-amz-content-sha256"), Some(body.as_str()));
        assert!(!format!("{request:?}").contains(PASSWORD));
    }
}

#[test]
fn anonymous_requests_are_not_signed() {
    let server = server();
    let setup = Setup {
        credentials: Credentials::None,
        ..Setup::s3(&server, "data")
    };
    setup.mount().list("").unwrap();
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[test]
fn words_of_the_store_are_in_the_error() {
    let server = server();
    let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-west-1'</Message></Error>";
    server.fault(move |_, _| Reaction::Answer(Response::new(400).body(body)));
    let error = Setup::s3(&server, "data").mount().list("").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("AuthorizationHeaderMalformed: expecting 'eu-west-1'"),
        "{error}"
    );
    server.fault(|_, _| Reaction::Answer(Response::new(307).with("location", "https://b.s3.eu-west-1.amazonaws.com/")));
    let error = Setup::s3(&server, "data").mount().list("").unwrap_err();
    assert!(error.to_string().contains("region"), "{error}");
}

#[test]
fn store_without_conditional_writes_is_compared_with_before_a_write() {
    let server = server();
    server.fault(|request, _| {
        let is_conditional = request.header("if-match").or(request.header("if-none-match")).is_some();
        match request.method.as_str() {
            "PUT" | "DELETE" if is_conditional => Reaction::status(501),
            _ => Reaction::Serve,
        }
    });
    let guest = Setup::s3(&server, "data").mount();
    guest.write("new", "1").unwrap();
    guest.append("a.txt", "2").unwrap();
    guest.remove("a-b").unwrap().unwrap();
    guest.write("100%", "3").unwrap();
    server.site(|site| site.put("/b/data/100%", b"meanwhile"));
    let error = guest.fs.flush().unwrap_err();
    assert_eq!(
        error.failures.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
        ["100%", "a-b"]
    );
    let get = |path: &str| server.site(|site| site.get(path));
    assert_eq!(get("/b/data/new").as_deref(), Some("1"));
    assert_eq!(get("/b/data/a.txt").as_deref(), Some("x2"));
    assert_eq!(get("/b/data/100%").as_deref(), Some("meanwhile"));
}

#[test]
fn answers_of_a_store_to_a_lost_race_are_conflicts() {
    let server = server();
    for status in [404, 409, 412] {
        server.fault(move |request, _| match request.method.as_str() {
            "PUT" => Reaction::status(status),
            _ => Reaction::Serve,
        });
        let guest = Setup::s3(&server, "data").mount();
        guest.append("a.txt", "2").unwrap();
        let error = guest.fs.flush().unwrap_err();
        assert_eq!(error.failures[0].error.kind(), ErrorKind::Conflict, "{status}");
    }
}

#[test]
fn made_directory_stays_by_its_mark() {
    let server = server();
    let guest = Setup::s3(&server, "data").mount();
    guest.make_directory("new").unwrap().unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(server.site(|site| site.get("/b/data/new/")).as_deref(), Some(""));
    let guest = Setup::s3(&server, "data").mount();
    assert_eq!(guest.list("new").unwrap(), Vec::<String>::new());
    guest.remove("new").unwrap().unwrap();
    guest.fs.flush().unwrap();
    assert_eq!(server.site(|site| site.get("/b/data/new/")), None);
}
