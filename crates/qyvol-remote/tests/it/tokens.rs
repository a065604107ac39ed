//! Access tokens and credentials: where they are sent, and what happens when they are refused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use qyvol_remote::{Client, Credential, RemoteError, Secret, StaticCredential};
use qyvol_store::MemoryStore;

use crate::registry::{Auth, Registry};
use crate::server::{Framing, Head, Reaction, Response, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 1 + RETRIES as usize;

fn guarded(image: &Image, auth: Auth) -> Registry {
    let mut registry = image.registry();
    registry.auth = auth;
    registry
}

fn bearer() -> Auth {
    Auth::Bearer(BASIC.to_string())
}

/// Checks that an error doesn't reveal the password, plain or encoded.
fn keeps_quiet(error: &RemoteError) {
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(!text.contains(PASSWORD) && !text.contains("czNjcmV0"), "{text}");
        assert!(!text.contains("YW5hOnMzY3JldC13b3Jk"), "{text}");
    }
}

/// The outcome of a pull if the token server does this.
fn token_server(act: impl Fn(&Head) -> Reaction + Send + Sync + 'static) -> (RemoteError, Server) {
    let image = Image::new(10);
    let server = Server::faulty(guarded(&image, bearer()), move |head| match head.path() {
        "/token" => act(head),
        _ => Reaction::Serve,
    });
    let store = MemoryStore::new();
    let failure = within(LIMIT, || {
        pull_with(&client_as(ana(&server)), &server, &store).unwrap_err()
    });
    let Failure::Remote(error) = failure else {
        panic!("{failure:?}");
    };
    keeps_quiet(&error);
    (error, server)
}

#[test]
fn credentials_are_sent_to_the_registry_or_its_token_server() {
    for auth in [Auth::Basic(BASIC.to_string()), bearer()] {
        let image = Image::new(1000);
        let server = Server::new(guarded(&image, auth));
        let store = MemoryStore::new();
        pull_with(&client_as(ana(&server)), &server, &store).unwrap();
        assert!(image.is_in(&store));
        client_as(ana(&server)).ping(&server.host()).unwrap();
    }
}

#[test]
fn token_is_fetched_once_for_many_requests() {
    let image = Image::new(1000);
    let server = Server::new(guarded(&image, bearer()));
    pull_with(&client_as(ana(&server)), &server, &MemoryStore::new()).unwrap();
    assert_eq!(server.count("GET", "/token"), 1);
    // The password itself is sent to the token server only.
    let shown = server
        .seen()
        .into_iter()
        .filter(|s| s.head.header("authorization") == Some(BASIC));
    assert!(shown.into_iter().all(|s| s.head.path() == "/token"));
    assert_eq!(server.count("GET", "scope=repository%3Aapp%3Apull"), 1);
}

#[test]
fn token_is_fetched_once_for_many_threads() {
    let image = Image::new(1000);
    let server = Server::new(guarded(&image, bearer()));
    let repository = repository(&client_as(ana(&server)), &server);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(read_layer(&repository, &image).unwrap() == image.layer));
        }
    });
    assert_eq!(server.count("GET", "/token"), 1);
}

#[test]
fn concurrent_waits_for_a_token_do_not_accumulate() {
    let image = Image::new(1000);
    let server = Server::faulty(guarded(&image, bearer()), |head| match head.path() {
        "/token" => Reaction::Silent,
        _ => Reaction::Serve,
    });
    let repository = repository(&client_as(ana(&server)), &server);
    within(LIMIT, || {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let error = read_layer(&repository, &image).unwrap_err();
                    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
                });
            }
        });
    });
    assert!(
        server.count("GET", "/token") <= ATTEMPTS + 3,
        "{}",
        server.count("GET", "/token")
    );
}

#[test]
fn anonymous_token_is_fetched_for_public_content() {
    let image = Image::new(1000);
    let server = Server::new(guarded(&image, Auth::Bearer(String::new())));
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
}

#[test]
fn refused_token_is_fetched_once() {
    let image = Image::new(10);
    let server = Server::faulty(guarded(&image, bearer()), |head| match head.path() {
        "/token" => Reaction::Response(Response::new(200).body(r#"{"token":"never-good"}"#)),
        _ => Reaction::Serve,
    });
    let client = client_as(ana(&server));
    let failure = within(LIMIT, || pull_with(&client, &server, &MemoryStore::new()).unwrap_err());
    let error = failure.remote();
    assert!(
        matches!(
            error,
            RemoteError::Denied {
                authenticated: true,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!error.is_temporary());
    keeps_quiet(error);
    assert_eq!((server.count("GET", "/token"), server.count("GET", "/v2/")), (1, 2));
    // Nor the second time.
    pull_with(&client, &server, &MemoryStore::new()).unwrap_err();
    assert!(server.seen().len() <= 6, "{}", server.seen().len());
}

#[test]
fn refused_password_is_sent_once() {
    let image = Image::new(10);
    let server = Server::new(guarded(&image, Auth::Basic("Basic b3RoZXI=".to_string())));
    let client = client_as(ana(&server));
    for _ in 0..2 {
        let failure = pull_with(&client, &server, &MemoryStore::new()).unwrap_err();
        let error = failure.remote();
        assert!(
            matches!(
                error,
                RemoteError::Denied {
                    authenticated: true,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(!error.is_temporary());
        keeps_quiet(error);
    }
    assert_eq!(server.seen().len(), 3);
}

#[test]
fn denial_says_whether_credentials_were_sent() {
    for auth in [Auth::Basic(BASIC.to_string()), bearer()] {
        let server = Server::new(guarded(&Image::new(10), auth));
        let failure = pull(&server, &MemoryStore::new()).unwrap_err();
        assert!(
            matches!(
                failure.remote(),
                RemoteError::Denied {
                    authenticated: false,
                    ..
                }
            ),
            "{failure:?}"
        );
        assert!(server.seen().len() <= 2);
    }
}

#[test]
fn token_that_expires_during_a_pull_is_replaced() {
    let image = Image::new(1000);
    let server = Server::new(guarded(&image, bearer()));
    let client = client_as(ana(&server));
    let repository = repository(&client, &server);
    repository.resolve(&name(&server, "app:1")).unwrap();
    // As if it had expired: another one is valid now.
    server.registry(|registry| registry.tokens += 1);
    assert!(read_layer(&repository, &image).unwrap() == image.layer);
    assert_eq!(server.count("GET", "/token"), 2);
    assert_eq!(server.count("GET", "/blobs/"), 2);
}

#[test]
fn token_that_expires_during_a_push_is_replaced() {
    let image = Image::new(100_000);
    let registry = Registry {
        auth: bearer(),
        ..Registry::default()
    };
    let once = AtomicBool::new(true);
    let server = Server::faulty(registry, move |head| {
        match head.is("PUT", "/uploads/") && once.swap(false, Ordering::SeqCst) {
            true => {
                let realm = format!("Bearer realm=\"http://{}/token\"", head.header("host").unwrap());
                Reaction::Response(Response::new(401).with("www-authenticate", realm))
            }
            false => Reaction::Serve,
        }
    });
    push(&client_as(ana(&server)), &server, &image).unwrap();
    let store = MemoryStore::new();
    pull_with(&client_as(ana(&server)), &server, &store).unwrap();
    assert!(image.is_in(&store));
}

#[test]
fn identity_token_is_exchanged_in_the_body_of_a_request() {
    let image = Image::new(1000);
    let server = Server::new(guarded(&image, bearer()));
    let identity = StaticCredential {
        registry: server.host(),
        credential: Credential::Identity(Secret::new("idt&=secret")),
    };
    let store = MemoryStore::new();
    pull_with(&client_as(identity), &server, &store).unwrap();
    assert!(image.is_in(&store));
    let seen = server.seen();
    let asked: Vec<_> = seen.iter().filter(|s| s.head.path() == "/token").collect();
    assert_eq!((asked.len(), asked[0].head.method.as_str()), (1, "POST"));
    assert!(asked[0].body > 0 && !asked[0].head.target.contains("idt"));
    assert!(asked[0].head.header("authorization").is_none());
    let text = String::from_utf8(asked[0].start.clone()).unwrap();
    assert!(
        text.contains("grant_type=refresh_token") && text.contains("refresh_token=idt%26%3Dsecret"),
        "{text}"
    );
}

#[test]
fn answer_of_a_token_server_is_bounded_in_size_and_time() {
    let (error, server) =
        token_server(|_| Reaction::Response(Response::new(200).body([b' '; 4096]).framed(Framing::Endless)));
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    assert!(!error.is_temporary());
    assert_eq!(server.count("GET", "/token"), 1);
    let drip = Framing::Drip(Duration::from_millis(20));
    let (error, server) = token_server(move |_| Reaction::Response(Response::new(200).body([b' '; 4096]).framed(drip)));
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error:?}");
    assert_eq!(server.count("GET", "/token"), ATTEMPTS);
}

#[test]
fn unusable_token_is_refused() {
    for body in ["", "{}", "<html>", r#"{"token":"a\r\nx: y"}"#, r#"{"token":["a"]}"#] {
        let (error, server) = token_server(move |_| Reaction::Response(Response::new(200).body(body)));
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
        assert!(!error.is_temporary());
        assert_eq!(server.count("GET", "/token"), 1);
    }
}

#[test]
fn retries_of_a_token_do_not_multiply() {
    for act in [|| Reaction::Response(Response::new(503)), || Reaction::Close] {
        let (error, server) = token_server(move |_| act());
        assert!(error.is_temporary(), "{error:?}");
        assert_eq!(server.count("GET", "/token"), ATTEMPTS);
    }
    let (error, server) = token_server(|_| Reaction::Response(Response::new(429).with("retry-after", "3600")));
    assert!(matches!(error, RemoteError::Busy { seconds: 3600, .. }), "{error:?}");
    assert_eq!(server.count("GET", "/token"), 1);
}

#[test]
fn redirect_of_a_token_server_is_not_followed() {
    let other = Server::new(Registry::default());
    let place = format!("http://{}/token", other.host());
    let (error, server) = token_server(move |_| Reaction::Response(Response::new(307).with("location", place.clone())));
    assert!(!error.is_temporary(), "{error:?}");
    assert_eq!((server.count("GET", "/token"), other.seen().len()), (1, 0));
}

#[test]
fn messages_never_contain_credentials() {
    let notes = Arc::new(Mutex::new(String::new()));
    let image = Image::new(10);
    let server = Server::faulty(guarded(&image, bearer()), |head| match head.nth {
        1 => Reaction::Serve,
        _ => Reaction::Response(Response::new(503)),
    });
    let sink = notes.clone();
    let client = Client::new(
        options(),
        Box::new(ana(&server)),
        Box::new(move |text| sink.lock().unwrap().push_str(text)),
    );
    let failure = pull_with(&client, &server, &MemoryStore::new()).unwrap_err();
    keeps_quiet(failure.remote());
    let notes = notes.lock().unwrap();
    assert!(notes.contains("retrying") && !notes.contains("token-1"), "{notes}");
}

#[test]
fn credentials_are_not_sent_to_another_registry() {
    let image = Image::new(10);
    let server = Server::new(guarded(&image, Auth::Basic(BASIC.to_string())));
    let other = Server::new(guarded(&image, Auth::Basic(BASIC.to_string())));
    let failure = pull_with(&client_as(ana(&server)), &other, &MemoryStore::new()).unwrap_err();
    assert!(matches!(failure.remote(), RemoteError::Denied { .. }), "{failure:?}");
    assert!(other.seen().iter().all(|s| s.head.header("authorization").is_none()));
}
