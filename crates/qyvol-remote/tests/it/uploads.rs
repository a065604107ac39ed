//! Uploads to a registry that breaks off, forgets, or requires chunks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use qyvol_remote::{Access, RemoteError, Repository};
use qyvol_store::{MemoryStore, NoopReporter, copy};

use crate::registry::Registry;
use crate::server::{Framing, Head, Reaction, Response, Seen, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 1 + RETRIES as usize;

/// Larger than a chunk.
const LARGE: usize = (4 << 20) + 300_000;

fn whole(server: &Server, image: &Image) -> bool {
    let store = MemoryStore::new();
    pull(server, &store).unwrap();
    image.is_in(&store)
}

fn of_method(server: &Server, method: &str, part: &str) -> Vec<Seen> {
    server.seen().into_iter().filter(|s| s.head.is(method, part)).collect()
}

/// A registry that reacts in this way to each large request.
fn with_large(registry: Registry, act: impl Fn(&Head, usize) -> Reaction + Send + Sync + 'static) -> Server {
    let count = AtomicUsize::new(0);
    Server::faulty(registry, move |head| {
        let length = head.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        match head.target.contains("/uploads/") && length > 1000 {
            true => act(head, count.fetch_add(1, Ordering::SeqCst) + 1),
            false => Reaction::Serve,
        }
    })
}

#[test]
fn blob_is_sent_in_one_piece_by_default() {
    let image = Image::new(LARGE);
    let server = Server::new(Registry::default());
    push(&client(), &server, &image).unwrap();
    assert!(whole(&server, &image));
    let sent = of_method(&server, "PUT", "/uploads/");
    assert_eq!((sent.len(), server.count("PATCH", "/")), (2, 0));
    assert!(sent.iter().any(|s| s.body == LARGE));
}

#[test]
fn blob_is_sent_in_chunks_where_one_piece_is_too_large() {
    let image = Image::new(LARGE);
    let registry = Registry {
        largest: 4 << 20,
        ..Registry::default()
    };
    let server = Server::new(registry);
    push(&client(), &server, &image).unwrap();
    assert!(whole(&server, &image));
    let ranges: Vec<_> = of_method(&server, "PATCH", "/uploads/")
        .iter()
        .map(|s| s.head.header("content-range").unwrap().to_string())
        .collect();
    let last = LARGE - 1;
    let chunk = 4 << 20;
    assert_eq!(ranges, [format!("0-{}", chunk - 1), format!("{chunk}-{last}")]);
}

#[test]
fn upload_resumes_where_it_broke_off() {
    let image = Image::new(3_000_000);
    let server = with_large(Registry::default(), |_, nth| match nth {
        1 => Reaction::Break(2_000_000),
        _ => Reaction::Serve,
    });
    push(&client(), &server, &image).unwrap();
    assert!(whole(&server, &image));
    assert_eq!(server.count("GET", "/uploads/"), 1);
    let sent: usize = of_method(&server, "PATCH", "/uploads/").iter().map(|s| s.body).sum();
    assert_eq!(sent, 1_000_000);
}

#[test]
fn blob_whose_last_answer_was_lost_is_found() {
    let image = Image::new(300_000);
    let server = with_large(Registry::default(), |_, nth| match nth {
        1 => Reaction::edit(|answer| answer.framed(Framing::Lost)),
        _ => Reaction::Serve,
    });
    // Like a registry that forgets an upload when it is complete.
    let forgetful = Server::faulty(Registry::default(), {
        let broken = AtomicUsize::new(0);
        move |head| {
            let large = head.header("content-length").is_some_and(|v| v.len() > 4);
            match head.method.as_str() {
                "PUT" if large && broken.fetch_add(1, Ordering::SeqCst) == 0 => {
                    Reaction::edit(|answer| answer.framed(Framing::Lost))
                }
                "GET" if head.target.contains("/uploads/") => Reaction::Response(Response::new(404)),
                _ => Reaction::Serve,
            }
        }
    });
    for server in [server, forgetful] {
        push(&client(), &server, &image).unwrap();
        assert!(whole(&server, &image));
        let sent = server.seen().iter().filter(|s| s.body == 300_000).count();
        assert_eq!(sent, 1);
    }
}

#[test]
fn upload_resumes_after_the_answer_to_a_chunk_was_lost() {
    let image = Image::new(LARGE);
    let registry = Registry {
        largest: 4 << 20,
        ..Registry::default()
    };
    // All of the chunk came, and the answer did not.
    let server = with_large(registry, |head, nth| match head.method == "PATCH" && nth == 2 {
        true => Reaction::Break(4 << 20),
        false => Reaction::Serve,
    });
    push(&client(), &server, &image).unwrap();
    assert!(whole(&server, &image));
    let sent: usize = of_method(&server, "PATCH", "/uploads/").iter().map(|s| s.body).sum();
    assert_eq!(sent, LARGE);
}

#[test]
fn invalid_upload_offset_restarts_the_upload() {
    for range in [
        "",
        "0-",
        "bytes",
        "7-9",
        "0-99999999999",
        "0--1",
        "0-18446744073709551615",
    ] {
        let image = Image::new(300_000);
        let count = AtomicUsize::new(0);
        let server = Server::faulty(Registry::default(), move |head| {
            let large = head.header("content-length").is_some_and(|v| v.len() > 3);
            if head.is("PUT", "/uploads/") && large && count.fetch_add(1, Ordering::SeqCst) == 0 {
                return Reaction::Break(100_000);
            }
            match head.is("GET", "/uploads/") {
                true => Reaction::edit(move |answer| answer.with("range", range)),
                false => Reaction::Serve,
            }
        });
        push(&client(), &server, &image).unwrap();
        assert!(whole(&server, &image), "{range}");
    }
}

#[test]
fn wrong_upload_offset_restarts_the_upload() {
    let image = Image::new(300_000);
    let count = AtomicUsize::new(0);
    let server = Server::faulty(Registry::default(), move |head| {
        let large = head.header("content-length").is_some_and(|v| v.len() > 3);
        if head.is("PUT", "/uploads/") && large && count.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reaction::Break(100_000);
        }
        match head.is("GET", "/uploads/") {
            true => Reaction::edit(|answer| answer.with("range", "0-199999")),
            false => Reaction::Serve,
        }
    });
    within(LIMIT, || push(&client(), &server, &image).unwrap());
    assert!(whole(&server, &image));
}

#[test]
fn forgotten_upload_session_is_replaced_once() {
    let image = Image::new(300_000);
    let server = with_large(Registry::default(), |_, nth| match nth {
        1 => Reaction::Response(Response::new(404)),
        _ => Reaction::Serve,
    });
    push(&client(), &server, &image).unwrap();
    assert!(whole(&server, &image));
    // Not for ever, though.
    let server = with_large(Registry::default(), |_, _| Reaction::Response(Response::new(404)));
    let failure = within(LIMIT, || push(&client(), &server, &image).unwrap_err());
    assert!(!failure.remote().is_temporary(), "{failure:?}");
    assert!(server.registry(|registry| registry.manifests.is_empty()));
}

#[test]
fn upload_gives_up_when_sessions_keep_expiring() {
    let image = Image::new(3_000_000);
    let asked = AtomicUsize::new(0);
    let server = Server::faulty(Registry::default(), move |head| {
        let large = head.header("content-length").is_some_and(|v| v.len() > 3);
        match (head.method.as_str(), large) {
            ("PUT" | "PATCH", true) if head.target.contains("/uploads/") => Reaction::Response(Response::new(500)),
            // Some bytes are there, then none, then some.
            ("GET", _) if head.target.contains("/uploads/") => match asked.fetch_add(1, Ordering::SeqCst) % 2 {
                0 => Reaction::edit(|answer| answer.with("range", "0-1999")),
                _ => Reaction::Response(Response::new(404)),
            },
            _ => Reaction::Serve,
        }
    });
    let failure = within(LIMIT, || push(&client(), &server, &image).unwrap_err());
    assert!(failure.remote().is_temporary(), "{failure:?}");
    assert!(server.count("PUT", "/uploads/") + server.count("PATCH", "/uploads/") <= ATTEMPTS + 1);
    assert!(server.registry(|registry| registry.manifests.is_empty()));
}

#[test]
fn retries_of_an_upload_do_not_multiply() {
    let image = Image::new(1000);
    for method in ["POST", "PUT"] {
        let server = Server::faulty(Registry::default(), move |head| match head.is(method, "/uploads/") {
            true => Reaction::Response(Response::new(503)),
            false => Reaction::Serve,
        });
        let failure = within(LIMIT, || push(&client(), &server, &image).unwrap_err());
        assert!(failure.remote().is_temporary(), "{failure:?}");
        // Two blobs, in parallel.
        assert!(server.count(method, "/uploads/") <= 2 * ATTEMPTS);
        assert!(server.registry(|registry| registry.manifests.is_empty()));
    }
}

#[test]
fn retry_after_is_honoured_during_an_upload() {
    let image = Image::new(50_000);
    let server = with_large(Registry::default(), |_, nth| match nth {
        1 => Reaction::Response(Response::new(429).with("retry-after", "1")),
        _ => Reaction::Serve,
    });
    let begin = Instant::now();
    push(&client(), &server, &image).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(whole(&server, &image));
    let server = with_large(Registry::default(), |_, _| {
        Reaction::Response(Response::new(429).with("retry-after", "3600"))
    });
    let failure = within(LIMIT, || push(&client(), &server, &image).unwrap_err());
    assert!(
        matches!(failure.remote(), RemoteError::Busy { seconds: 3600, .. }),
        "{failure:?}"
    );
    assert_eq!(
        of_method(&server, "PUT", "/uploads/")
            .iter()
            .filter(|s| s.body > 1000)
            .count(),
        1
    );
}

#[test]
fn silent_registry_is_given_up() {
    let image = Image::new(50_000);
    let server = with_large(Registry::default(), |_, _| Reaction::Silent);
    let failure = within(LIMIT, || push(&client(), &server, &image).unwrap_err());
    assert!(failure.remote().is_temporary(), "{failure:?}");
    assert!(server.registry(|registry| registry.manifests.is_empty()));
}

#[test]
fn registry_that_reads_nothing_is_given_up() {
    let image = Image::new(LARGE);
    let server = with_large(Registry::default(), |_, _| Reaction::Deaf(Duration::from_secs(8)));
    let failure = within(LIMIT, || push(&client(), &server, &image).unwrap_err());
    assert!(matches!(failure.remote(), RemoteError::TimedOut { .. }), "{failure:?}");
    assert!(failure.remote().is_temporary());
}

#[test]
fn stated_minimum_of_chunks_is_honoured() {
    let image = Image::new(LARGE);
    let least = (5 << 20).to_string();
    let broken = AtomicUsize::new(0);
    let server = Server::faulty(Registry::default(), move |head| {
        let large = head.header("content-length").is_some_and(|v| v.len() > 4);
        let least = least.clone();
        match head.method.as_str() {
            "POST" => Reaction::edit(move |answer| answer.with("oci-chunk-min-length", least)),
            "PUT" if large && broken.fetch_add(1, Ordering::SeqCst) == 0 => Reaction::Break(1000),
            _ => Reaction::Serve,
        }
    });
    push(&client(), &server, &image).unwrap();
    assert!(whole(&server, &image));
    assert_eq!(server.count("PATCH", "/uploads/"), 1);
}

#[test]
fn upload_without_a_location_is_refused() {
    let image = Image::new(50_000);
    let server = Server::faulty(Registry::default(), |head| match head.is("POST", "/uploads/") {
        true => Reaction::Response(Response::new(202)),
        false => Reaction::Serve,
    });
    let failure = push(&client(), &server, &image).unwrap_err();
    assert!(matches!(failure.remote(), RemoteError::Protocol { .. }), "{failure:?}");
    assert_eq!(server.count("PUT", "/"), 0);
}

#[test]
fn unreadable_content_is_a_source_error() {
    let image = Image::new(50_000);
    let store = image.store();
    let mut wrong = image.layer().clone();
    wrong.size += 1;
    let manifest = qyvol_types::ImageManifest::image(image.manifest.config().clone(), vec![wrong.clone()]).unwrap();
    qyvol_store::Push::push(&store, &manifest.descriptor(), &mut manifest.raw()).unwrap();
    let server = Server::new(Registry::default());
    let to = repository(&client(), &server);
    let error = copy(&store, &to, &manifest.descriptor(), &|_| true, &NoopReporter).unwrap_err();
    assert!(matches!(error, qyvol_store::CopyError::Source { .. }), "{error:?}");
    assert!(error.store_error().is_content_error());
    assert!(server.registry(|registry| registry.manifests.is_empty()));
    assert!(!server.registry(|registry| registry.blobs.values().any(|bytes| bytes.len() > 1000)));
}

/// Pushes the image where `lib` on the same registry has its layer.
fn mounting(image: &Image, mounts: bool) -> Server {
    let mut registry = Registry {
        mounts,
        ..Registry::default()
    };
    registry.put_blob("lib", &image.layer);
    let server = Server::new(registry);
    let from = HashMap::from([(image.layer().digest, "lib".to_string())]);
    let to = Repository::with_mounts(&client(), &name(&server, "app:1"), Access::Push, from).unwrap();
    copy(&image.store(), &to, &image.descriptor(), &|_| true, &NoopReporter).unwrap();
    to.tag("1", &image.manifest).unwrap();
    assert!(whole(&server, image));
    assert_eq!(server.count("POST", "mount=sha256%3A"), 1);
    server
}

#[test]
fn blob_of_another_repository_is_mounted() {
    let image = Image::new(50_000);
    let server = mounting(&image, true);
    assert!(server.seen().iter().all(|s| s.body < 50_000));
}

#[test]
fn blob_is_uploaded_when_the_mount_is_refused() {
    for status in [401, 403] {
        let image = Image::new(50_000);
        let server = Server::faulty(Registry::default(), move |head| match head.is("POST", "mount=") {
            true if status == 401 => {
                let challenge = "Basic realm=\"r\"";
                Reaction::Response(Response::new(401).with("www-authenticate", challenge))
            }
            true => Reaction::Response(Response::new(status)),
            false => Reaction::Serve,
        });
        let from = HashMap::from([(image.layer().digest, "lib".to_string())]);
        let client = client_as(ana(&server));
        let to = Repository::with_mounts(&client, &name(&server, "app:1"), Access::Push, from).unwrap();
        copy(&image.store(), &to, &image.descriptor(), &|_| true, &NoopReporter).unwrap();
        to.tag("1", &image.manifest).unwrap();
        assert!(whole(&server, &image));
    }
}

#[test]
fn location_given_instead_of_a_mount_is_used() {
    let image = Image::new(50_000);
    let server = mounting(&image, false);
    // One upload for each of the two blobs.
    assert_eq!(server.count("POST", "/uploads/"), 2);
}

#[test]
fn existing_blob_is_not_uploaded() {
    let image = Image::new(50_000);
    let mut registry = Registry::default();
    registry.put_blob("app", &image.layer);
    let server = Server::new(registry);
    push(&client(), &server, &image).unwrap();
    assert_eq!(server.count("POST", "/uploads/"), 1);
    assert!(server.seen().iter().all(|s| s.body < 50_000));
}

#[test]
fn pushing_an_existing_image_takes_few_requests() {
    let image = Image::new(50_000);
    let server = Server::new(image.registry());
    push(&client(), &server, &image).unwrap();
    assert_eq!((server.count("POST", "/"), server.count("GET", "/blobs/")), (0, 0));
    assert!(server.seen().len() <= 3, "{:?}", server.seen());
}

// [REG-025]
#[test]
fn answer_that_comes_before_the_end_of_the_body_is_reported() {
    // More than the buffers of a connection hold.
    let image = Image::new(LARGE);
    let server = with_large(Registry::default(), |_, _| {
        Reaction::Reject(Response::new(507).body(r#"{"errors":[{"code":"UNKNOWN","message":"no space left"}]}"#))
    });
    let failure = push(&client(), &server, &image).unwrap_err();
    match failure.remote() {
        RemoteError::Status { status: 507, why, .. } => assert!(why.contains("no space left"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(server.registry(|registry| registry.manifests.is_empty()));
}
