//! The end of `qyv serve`, and what becomes of requests that are under way.

use std::io::{BufRead, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::service::{Client, Server, service};
use crate::support::User;

// [SERVE-009]
#[test]
fn end_answers_what_has_arrived() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    let mut held = server.connect();
    held.hold();
    server.signal(Signal::TERM);
    server.refuses();
    held.send("5\r\nstill\r\n");
    assert_eq!(held.chunk().as_deref(), Some("still"));
    held.release();
    let (status, _, err) = server.wait();
    assert_eq!(status.code(), Some(0), "{err}");
}

// [SERVE-009]
#[test]
fn clients_that_wait_to_be_accepted_at_the_end_are_answered() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    // The system lets them in while the server stands still.
    server.signal(Signal::STOP);
    let mut waiting: Vec<Client> = (0..16).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for client in &mut waiting {
        assert_eq!(client.answer().body, "hello\n");
    }
    let (status, _, err) = server.wait();
    assert_eq!(status.code(), Some(0), "{err}");
}

// [SERVE-009]
#[test]
fn end_under_load_loses_no_request() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for n in 0..8 {
            let (server, ends) = (&server, &ends);
            // Half of them keep their connections.
            scope.spawn(move || while load(server, n % 2 == 0, ends) {});
        }
        for _ in 0..50 {
            assert_eq!(server.get("/hello").status, 200);
        }
        ends.store(true, Ordering::SeqCst);
        server.signal(Signal::INT);
    });
    let (status, _, err) = server.wait();
    assert_eq!(status.code(), Some(0), "{err}");
}

/// Sends requests on a new connection for as long as it may. False if there is none.
fn load(server: &Server, keeps: bool, ends: &AtomicBool) -> bool {
    let Ok(stream) = TcpStream::connect(server.address) else {
        return false;
    };
    let mut client = Client::new(stream);
    let mut is_kept = false;
    loop {
        let request = b"GET /count HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = client.stream.get_mut().write_all(request).is_ok();
        let is_closed = client.stream.fill_buf().is_ok_and(<[u8]>::is_empty);
        if is_closed && is_kept && ends.load(Ordering::SeqCst) {
            // A server may close a connection that it has kept before the next request of it
            // has arrived: whoever keeps one has to expect that.
            return true;
        }
        let answer = client.try_answer().filter(|_| sent).expect("a request was lost");
        assert_eq!((answer.status, answer.body.as_str()), (200, "1\n"));
        if answer.head.contains("connection: close") || !keeps {
            return true;
        }
        is_kept = true;
    }
}

// [SERVE-009]
#[test]
fn second_signal_ends_at_once() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    let mut held = server.connect();
    held.hold();
    server.signal(Signal::TERM);
    server.refuses();
    server.signal(Signal::TERM);
    let (status, _, err) = server.wait();
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()), "{err}");
}
