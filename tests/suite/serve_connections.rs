//! `qyv serve`: what its connections tell its clients, and it of them.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;

use crate::serve_log::lines;
use crate::service::{Server, VERSIONS, service_of};
use crate::support::User;

// [SERVE-006]
#[test]
fn response_of_http_1_0_that_is_cut_off_does_not_look_complete() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &["--request-timeout", "5s"], &app);
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.0\r\nContent-Length: 6\r\n\r\none");
        let (status, head) = client.head().unwrap();
        assert!(status == 200 && !head.contains("content-length"), "{head}");
        let mut body = Vec::new();
        let ended = client.stream.read_to_end(&mut body);
        assert!(
            ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset),
            "{body:?}"
        );
        // One that is whole ends.
        let mut client = server.connect();
        client.send("POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\none");
        client.head().unwrap();
        let mut body = String::new();
        client.stream.read_to_string(&mut body).unwrap();
        assert_eq!(body, "one");
        server.end();
    }
}

// [SERVE-005]
#[test]
fn client_that_leaves_ends_its_guest_though_its_body_is_not_read() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let options = ["--access-log", "log", "--request-timeout", "1h", "--max-requests", "2"];
        let server = Server::start(&user, &options, &app);
        let leaving = [Shutdown::Both, Shutdown::Write].map(|side| {
            let mut client = server.connect();
            client.send("POST /sleep HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
            client.stream.get_ref().shutdown(side).unwrap();
            client
        });
        let ended = lines(&user.path("log"), leaving.len());
        assert!(ended.iter().all(|line| line["status"] == 499), "{ended:?}");
        // Their places are freed.
        assert_eq!(server.get_in_turn("/hello").body, "hello\n");
        server.end();
    }
}
