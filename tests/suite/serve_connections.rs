//! `qyv serve`: what its connections tell its clients, and it of them.

use std::io::{ErrorKind, Read};

use crate::service::{Server, VERSIONS, service_of};
use crate::support::User;

// [SERVE-006]
#[test]
fn response_of_http_1_0_that_is_cut_off_does_not_look_complete() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &["--request-timeout", "2s"], &app);
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
