//! Content on its way to a server that does not take it, or takes it for the next run.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

use qyvol_netfs::{ErrorKind, FlushError};

use crate::server::{Reaction, Response, Server};
use crate::site::Site;
use crate::support::Setup;

fn server() -> Server {
    Server::new(Site::default())
}

fn failed(result: Result<(), FlushError>) -> ErrorKind {
    result.unwrap_err().failures[0].error.kind()
}

#[test]
fn server_that_does_not_take_the_content_ends_by_its_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/data", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        // Answers what is short, and then reads no more.
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 1024];
            let n = stream.read(&mut head).unwrap();
            if head[..n].starts_with(b"HEAD") {
                stream
                    .write_all(b"HTTP/1.1 404 X\r\nconnection: close\r\n\r\n")
                    .unwrap();
            } else {
                open.push(stream);
            }
        }
    });
    let setup = Setup::new(qyvol_netfs::Protocol::Http, &url).impatient();
    let guest = setup.mount();
    guest.write("big", &"x".repeat(32 << 20)).unwrap();
    assert_eq!(failed(guest.fs.flush()), ErrorKind::TimedOut);
}

#[test]
fn large_file_that_is_refused_at_once_is_a_refusal() {
    let server = server();
    server.fault(|request, _| match request.method.as_str() {
        "PUT" => Reaction::Answer(Response::new(413).with("connection", "close")),
        _ => Reaction::Serve,
    });
    let guest = Setup::http(&server).mount();
    guest.write("big", &"x".repeat(8 << 20)).unwrap();
    assert_eq!(failed(guest.fs.flush()), ErrorKind::TooLarge);
}

#[test]
fn file_over_the_limit_is_not_sent() {
    let server = server();
    let guest = Setup::http(&server).limits(|limits| limits.file_bytes = 10).mount();
    guest.write("big", "more than ten").unwrap();
    assert_eq!(failed(guest.fs.flush()), ErrorKind::TooLarge);
}

#[test]
fn unreachable_server_leaves_what_was_written_in_the_cache_directory() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    let guest = setup.mount();
    guest.write("new", "1").unwrap();
    drop(server);
    let error = guest.fs.flush().unwrap_err();
    assert_eq!(error.failures[0].error.kind(), ErrorKind::Unreachable);
    assert_eq!(
        fs::read_to_string(error.failures[0].kept.as_ref().unwrap()).unwrap(),
        "1"
    );
}

#[test]
fn what_was_written_is_cached_for_the_next_run() {
    let (server, cache) = (server(), tempfile::tempdir().unwrap());
    let setup = Setup::http(&server).cache(cache.path());
    let guest = setup.mount();
    guest.write("new", "1").unwrap();
    guest.fs.flush().unwrap();
    server.log();
    assert_eq!(setup.mount().read("new").unwrap(), "1");
    assert!(server.seen()[0].header("if-none-match").is_some());
    drop(server);
    assert_eq!(setup.mount().read("new").unwrap(), "1");
}
