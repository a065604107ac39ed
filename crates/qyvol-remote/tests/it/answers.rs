//! Servers that refuse, stall, or speak something else.

use std::net::TcpListener;
use std::time::Duration;

use qyvol_remote::{Access, Anonymous, Client, Options, RemoteError, Repository, TlsFailure};
use qyvol_store::{Exists, MemoryStore};

use crate::server::{Framing, Head, Reaction, Response, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 1 + RETRIES as usize;

/// The outcome of resolving `app:1` if each answer is this, and the number of requests.
fn resolve(act: impl Fn(&Head) -> Reaction + Send + Sync + 'static) -> (Result<bool, RemoteError>, usize) {
    let image = Image::new(1000);
    let server = Server::faulty(image.registry(), act);
    let repository = repository(&client(), &server);
    let found = within(LIMIT, || repository.resolve(&name(&server, "app:1")));
    let right = found.map(|d| d.is_some_and(|d| d.digest == image.manifest.digest()));
    (right, server.count("GET", "/manifests/"))
}

#[test]
fn request_is_retried_after_a_temporary_status() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (found, asked) = resolve(move |head| match head.nth {
            1 => Reaction::Response(Response::new(status)),
            _ => Reaction::Serve,
        });
        assert!(found.unwrap(), "{status}");
        assert_eq!(asked, 2);
    }
}

#[test]
fn retries_end_with_the_policy() {
    let (found, asked) = resolve(|_| Reaction::Response(Response::new(503).body("<html>sorry</html>")));
    let error = found.unwrap_err();
    assert!(matches!(error, RemoteError::Status { status: 503, .. }), "{error:?}");
    assert!(error.is_temporary());
    assert_eq!(asked, ATTEMPTS);
}

#[test]
fn retries_of_a_blob_do_not_multiply() {
    let image = Image::new(1000);
    for act in [|| Reaction::Response(Response::new(503)), || Reaction::Close] {
        let server = Server::faulty(image.registry(), move |head| match head.is("GET", "/blobs/") {
            true => act(),
            false => Reaction::Serve,
        });
        let error = within(LIMIT, || {
            read_layer(&repository(&client(), &server), &image).unwrap_err()
        });
        assert!(of(&error).is_temporary());
        assert_eq!(server.count("GET", "/blobs/"), ATTEMPTS);
    }
}

#[test]
fn permanent_status_is_not_retried() {
    for status in [400, 405, 409, 418, 501, 505] {
        let (found, asked) = resolve(move |_| Reaction::Response(Response::new(status)));
        let error = found.unwrap_err();
        assert!(matches!(error, RemoteError::Status { .. }), "{error:?}");
        assert!(!error.is_temporary(), "{status}");
        assert_eq!(asked, 1);
    }
}

#[test]
fn retry_after_is_honoured() {
    let begin = std::time::Instant::now();
    let (found, asked) = resolve(|head| match head.nth {
        1 => Reaction::Response(Response::new(429).with("retry-after", "1")),
        _ => Reaction::Serve,
    });
    assert!(found.unwrap());
    assert_eq!(asked, 2);
    assert!(begin.elapsed() >= Duration::from_secs(1));
}

#[test]
fn retry_after_that_is_no_number_of_seconds_is_ignored() {
    for value in ["Fri, 31 Dec 2199 23:59:59 GMT", "soon", "-1", "1.5", ""] {
        let (found, asked) = resolve(move |head| match head.nth {
            1 => Reaction::Response(Response::new(429).with("retry-after", value)),
            _ => Reaction::Serve,
        });
        assert!(found.unwrap(), "{value}");
        assert_eq!(asked, 2);
    }
}

#[test]
fn retry_after_beyond_the_limit_ends_the_operation() {
    for value in ["3600", "18446744073709551615", "99999999999999999999999999"] {
        let (found, asked) = resolve(move |_| Reaction::Response(Response::new(429).with("retry-after", value)));
        let error = found.unwrap_err();
        assert!(matches!(error, RemoteError::Busy { .. }), "{value} {error:?}");
        assert!(error.is_temporary());
        assert_eq!(asked, 1);
    }
}

#[test]
fn silent_server_times_out() {
    let (found, asked) = resolve(|_| Reaction::Silent);
    let error = found.unwrap_err();
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error:?}");
    assert!(error.is_temporary());
    assert_eq!(asked, ATTEMPTS);
}

#[test]
fn request_is_retried_on_a_closed_connection() {
    let (found, asked) = resolve(|head| match head.nth {
        1 => Reaction::Close,
        _ => Reaction::Serve,
    });
    assert!(found.unwrap());
    assert_eq!(asked, 2);
    let (found, asked) = resolve(|_| Reaction::Close);
    let error = found.unwrap_err();
    assert!(
        matches!(error, RemoteError::Unreachable { temporary: true, .. }),
        "{error:?}"
    );
    assert_eq!(asked, ATTEMPTS);
}

#[test]
fn idle_connection_that_was_closed_is_replaced() {
    let image = Image::new(1000);
    let server = Server::faulty(image.registry(), |head| match head.nth {
        // Announces keep-alive, and closes.
        1 => Reaction::edit(|answer| answer.framed(Framing::Cut(usize::MAX))),
        _ => Reaction::Serve,
    });
    let repository = repository(&client(), &server);
    for _ in 0..5 {
        assert!(repository.resolve(&name(&server, "app:1")).unwrap().is_some());
    }
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
}

#[test]
fn answer_that_is_not_http_is_not_retried() {
    for raw in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"\0\0\0\0\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
    ] {
        let (found, asked) = resolve(move |_| Reaction::Raw(raw.to_vec()));
        let error = found.unwrap_err();
        assert!(matches!(error, RemoteError::NotHttp { .. }), "{error:?}");
        assert!(!error.is_temporary());
        assert_eq!(asked, 1);
    }
}

#[test]
fn head_of_an_answer_is_bounded() {
    let (found, asked) = resolve(|_| {
        let mut raw = b"HTTP/1.1 200 OK\r\n".to_vec();
        for i in 0..100_000 {
            raw.extend_from_slice(format!("x-{i}: {i}\r\n").as_bytes());
        }
        Reaction::Raw(raw)
    });
    let error = found.unwrap_err();
    assert!(!error.is_temporary(), "{error:?}");
    assert_eq!(asked, 1);
}

#[test]
fn body_of_an_error_is_bounded_in_size_and_time() {
    let (found, asked) =
        resolve(|_| Reaction::Response(Response::new(400).body([b'x'; 4096]).framed(Framing::Endless)));
    assert!(
        matches!(found, Err(RemoteError::Status { status: 400, .. })),
        "{found:?}"
    );
    assert_eq!(asked, 1);
    let drip = Framing::Drip(Duration::from_millis(20));
    let (found, asked) = resolve(move |_| Reaction::Response(Response::new(400).body([b'x'; 4096]).framed(drip)));
    assert!(
        matches!(found, Err(RemoteError::Status { status: 400, .. })),
        "{found:?}"
    );
    assert_eq!(asked, 1);
}

#[test]
fn messages_of_a_registry_are_escaped() {
    let body = "{\"errors\":[{\"code\":\"X\\u001b[2J\",\"message\":\"a\\r\\nb\\u202e\"}]}";
    let (found, _) = resolve(move |_| Reaction::Response(Response::new(400).body(body)));
    let text = found.unwrap_err().to_string();
    assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'), "{text:?}");
}

#[test]
fn refused_connection_is_called_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = within(LIMIT, || client().ping(&host).unwrap_err());
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error:?}");
}

#[test]
fn client_connects_when_it_is_first_used() {
    let server = Server::new(Image::new(10).registry());
    let repository = repository(&client(), &server);
    let _ = repository.registry().len() + repository.name().len();
    assert_eq!(server.connections(), 0);
    assert!(repository.exists(&Image::new(10).descriptor()).unwrap());
    assert_eq!(server.connections(), 1);
}

fn secure(server: &str, ca: Option<Vec<u8>>) -> std::sync::Arc<Client> {
    let options = Options {
        tls: vec![server.to_string()],
        ca,
        ..options()
    };
    Client::new(options, Box::new(Anonymous), Box::new(|_| {}))
}

#[test]
fn plain_text_in_place_of_tls_is_named_and_not_retried() {
    let image = Image::new(10);
    let server = Server::new(image.registry());
    let client = secure(&server.host(), None);
    let repository = Repository::new(&client, &name(&server, "app:1"), Access::Pull).unwrap();
    let error = within(LIMIT, || repository.resolve(&name(&server, "app:1")).unwrap_err());
    assert!(!error.is_temporary(), "{error:?}");
    assert!(
        matches!(
            error,
            RemoteError::Tls {
                failure: TlsFailure::NotTls,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(server.connections(), 1);
    assert!(server.seen().iter().all(|s| !s.head.target.contains("/v2/")));
}

#[test]
fn unreadable_ca_file_is_refused() {
    for ca in ["", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"] {
        let error = secure("localhost:1", Some(ca.as_bytes().to_vec()))
            .ping("localhost:1")
            .unwrap_err();
        assert!(matches!(error, RemoteError::Setup(_)), "{error:?}");
        assert!(!error.is_temporary());
    }
}
