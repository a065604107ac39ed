//! `qyv serve`: where requests of HTTP/1 begin and end, whatever their clients send.

use std::io::{Read, Write};

use crate::service::{Client, Server, VERSIONS, service, service_of};
use crate::support::User;

/// A request whose answer tells that it was taken for one, and ends the connection.
const NEXT: &[u8] = b"GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Fields of a head that is refused, and what follows it.
const FIELDS: &[(&str, &str)] = &[
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: five", "0\r\n\r\n"),
    ("Content-Length: 5\r\nContent-Length: 5", "12345"),
    ("Content-Length: 5\r\nContent-Length: 0", "12345"),
    ("Content-Length: 5, 5", "12345"),
    ("Content-Length: 5 5", "12345"),
    ("Content-Length: +5", "12345"),
    ("Content-Length: -5", "12345"),
    ("Content-Length: 0x5", "12345"),
    ("Content-Length: 5.0", "12345"),
    ("Content-Length:", ""),
    ("Content-Length: 18446744073709551621", "12345"),
    ("Content-Length : 5", "12345"),
    ("Content-Length: 5\r\n 5", "12345"),
    ("Content-Length:\r\n 5", "12345"),
    ("Content-Length: 5\rX: y", "12345"),
    ("Content-Length: 5\0", "12345"),
    ("X: y\nContent-Length: 5", "12345"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: identity", "0\r\n\r\n"),
    ("Transfer-Encoding: identity, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, chunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity", "0\r\n\r\n"),
    ("Transfer-Encoding: xchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: \"chunked\"", "0\r\n\r\n"),
    ("Transfer-Encoding: \x0bchunked", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n"),
    ("Transfer-Encoding:", "0\r\n\r\n"),
    ("Transfer-Encoding : chunked", "0\r\n\r\n"),
    ("Transfer-Encoding\t: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
    (" Transfer-Encoding: chunked", "0\r\n\r\n"),
    ("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n"),
    ("Transfer-Encoding", "0\r\n\r\n"),
];

/// Whole heads that are refused.
const HEADS: &[&str] = &[
    "GET /hello HTTP/1.1\nHost: a\n\n",
    "GET /hello HTTP/1.1\r\nHost: a\r\n\n",
    "\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET\t/hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hel lo HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hel\0lo HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hello#a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hello?a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://a/hello# HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /hello http/1.1\r\nHost: a\r\n\r\n",
    "GET /hello HTTP/1.2\r\nHost: a\r\n\r\n",
    "GET /hello\r\nHost: a\r\n\r\n",
    "G(T /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /length HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
];

/// Bodies in chunks whose end can't be known.
const CHUNKS: &[&str] = &[
    "g\r\n",
    "-5\r\n12345\r\n0\r\n\r\n",
    "0x5\r\n12345\r\n0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "10000000000000005\r\n12345\r\n0\r\n\r\n",
    "5\n12345\n0\n\n",
    "5;a\nb\r\n12345\r\n0\r\n\r\n",
    "5\r12345\r\n0\r\n\r\n",
    "5 5\r\n12345\r\n0\r\n\r\n",
    "4\r\n12345\r\n0\r\n\r\n",
    "6\r\n12345\r\n0\r\n\r\n",
    "5\r\n12345\n0\r\n\r\n",
    "5\r\n123450\r\n\r\n",
];

/// Requests with one reading.
const CLEAR: &[&str] = &[
    "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
    "POST /length HTTP/1.1\r\nHost: a\r\ncontent-length:\t0005 \r\n\r\n12345",
    "GET /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345",
    "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 22\r\n\r\nGET / HTTP/1.1\r\nX: y\r\n",
    "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: cHuNkEd\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
    "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n005 ;a=\"b\"\r\n1\r\n45\r\n00\r\nX: y\r\n\r\n",
    // No field that says where a request ends.
    "GET /hello HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\n\r\n",
    "GET /hello HTTP/1.1\r\nHost: a\r\nX: Content-Length: 5\r\n\r\n",
];

/// Sends all of it at once. Returns the statuses that come back until the connection is
/// closed, and all that was received.
fn exchanged(server: &Server, sent: &[u8]) -> (Vec<u16>, String) {
    let mut stream = server.connect().stream.into_inner();
    stream.write_all(sent).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    let received = String::from_utf8(received).unwrap();
    let statuses = received.split("HTTP/1.").skip(1);
    let statuses = statuses.map(|status| status.split(' ').nth(1).unwrap().parse().unwrap());
    (statuses.collect(), received)
}

// [SERVE-018]
#[test]
fn ambiguous_request_is_refused_and_nothing_after_it_is_answered() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    let heads = FIELDS
        .iter()
        .map(|(fields, body)| format!("POST /length HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}"));
    for head in heads.chain(HEADS.iter().map(ToString::to_string)) {
        let first = [head.as_bytes(), NEXT].concat();
        let (statuses, received) = exchanged(&server, &first);
        assert_eq!(statuses, [400], "{head:?}: {received}");
        assert!(
            received.to_lowercase().contains("connection: close\r\n"),
            "{head:?}: {received}"
        );
        // After a request that is answered.
        let second = [CLEAR[2].as_bytes(), &first].concat();
        assert_eq!(exchanged(&server, &second).0, [200, 400], "{head:?}");
    }
    for body in CHUNKS {
        let head = "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (statuses, received) = exchanged(&server, &[head.as_bytes(), body.as_bytes(), NEXT].concat());
        assert_eq!(statuses, [200], "{body:?}: {received}");
        assert!(received.ends_with("\r\n\r\nfailed\n"), "{body:?}: {received}");
    }
    // A chunk that holds a request, whose size has more zeros than any client needs, and then
    // a request of two lengths.
    let hidden = format!(
        "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}1e\r\n\r\nGET /a HTTP/1.1\r\nHost: \
         a\r\n\r\n\r\n0\r\n\r\nPOST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: \
         chunked\r\n\r\n0\r\n\r\n",
        "0".repeat(128)
    );
    let (statuses, received) = exchanged(&server, &[hidden.as_bytes(), NEXT].concat());
    assert_eq!(statuses, [200, 400], "{received}");
    for request in CLEAR {
        let (statuses, received) = exchanged(&server, &[request.as_bytes(), NEXT].concat());
        assert_eq!(statuses, [200, 200], "{request:?}: {received}");
    }
    server.end();
}

// [SERVE-018]
#[test]
fn requests_that_are_sent_at_once_are_answered_in_their_order() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        let mut sent = String::new();
        for n in 0..20 {
            let body = "x".repeat(n);
            sent.push_str(&match n % 4 {
                0 => format!("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{body}"),
                1 => format!(
                    "POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{n:x}\r\n{body}\r\n0\r\n\r\n"
                ),
                2 => "GET /trap HTTP/1.1\r\nHost: a\r\n\r\n".to_string(),
                _ => "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n".to_string(),
            });
        }
        let mut client = server.connect();
        client.send(&sent);
        for n in 0..20 {
            match n % 4 {
                0 | 1 => assert_eq!(client.answer().body, format!("{n}\n")),
                2 => assert_eq!(client.answer().status, 500),
                _ => assert_eq!(client.head().unwrap().0, 200),
            }
        }
        server.end();
    }
}

/// A request whose client waits until its body is asked for.
fn expecting(client: &mut Client, path: &str, length: usize, expected: &str) {
    client.send(&format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: {expected}\r\n\r\n"
    ));
}

// [SERVE-019]
#[test]
fn client_that_waits_to_be_asked_for_its_body_is_asked_if_the_guest_may_read_it() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &[], &app);
        let mut client = server.connect();
        // Read before the guest answers, and after that.
        for (path, answered) in [("/length", "3\n"), ("/echo", "one"), ("/length", "3\n")] {
            expecting(&mut client, path, 3, "100-Continue");
            assert_eq!(client.head().unwrap().0, 100, "{path}");
            client.send("one");
            let answer = client.answer();
            assert_eq!((answer.status, answer.body.as_str()), (200, answered), "{path}");
        }
        // It need not wait.
        expecting(&mut client, "/echo", 3, "100-continue");
        client.send("two");
        let (mut status, mut head) = client.head().unwrap();
        while status == 100 {
            (status, head) = client.head().unwrap();
        }
        assert!(status == 200 && !head.contains("connection: close"), "{head}");
        assert_eq!(client.chunk().as_deref(), Some("two"));
        assert_eq!(client.chunk().as_deref(), Some(""));
        server.end();
    }
}

// [SERVE-019]
#[test]
fn client_whose_body_is_not_wanted_is_answered_and_its_connection_closed() {
    for version in VERSIONS {
        let user = User::new();
        let app = service_of(&user, version, "app", "");
        let server = Server::start(&user, &["--max-body", "1KiB"], &app);
        for (path, length, expected, status) in [
            ("/hello", 3, "100-continue", 200),
            ("/trap", 3, "100-continue", 500),
            ("/length", 2000, "100-continue", 413),
            ("/length", 3, "100-continue, more", 417),
            ("/length", 3, "something", 417),
        ] {
            let mut client = server.connect();
            expecting(&mut client, path, length, expected);
            let answer = client.answer();
            assert_eq!(answer.status, status, "{path}");
            assert!(answer.head.contains("connection: close\n"), "{path}: {answer:?}");
            assert!(client.try_answer().is_none(), "{path}");
        }
        // Without a body there is nothing to wait for.
        let mut client = server.connect();
        for _ in 0..2 {
            expecting(&mut client, "/hello", 0, "100-continue");
            assert_eq!(client.answer().body, "hello\n");
        }
        server.end();
    }
}
