//! Blobs that don't match their descriptors, or arrive incomplete.

use std::time::Duration;

use qyvol_remote::RemoteError;
use qyvol_store::{CopyError, Fetch, MemoryStore, NoopReporter, StoreError, copy};

use crate::registry::Registry;
use crate::server::{Framing, Head, Reaction, Response, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn image_goes_to_a_registry_and_back() {
    let image = Image::new(300_000);
    let server = Server::new(image.registry());
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
    let other = Server::new(Registry::default());
    push(&client(), &other, &image).unwrap();
    let store = MemoryStore::new();
    pull(&other, &store).unwrap();
    assert!(image.is_in(&store));
}

/// Pulls an image with a faulty layer into a store in memory and one on disk; returns the error
/// and how often the layer was requested.
fn spoilt(
    image: &Image,
    spoil: impl Fn(&Head, Response) -> Response + Copy + Send + Sync + 'static,
) -> (StoreError, usize) {
    let digest = image.layer().digest.to_string();
    let part = digest.clone();
    let server = Server::faulty(image.registry(), move |head| {
        if !head.is("GET", &part) {
            return Reaction::Serve;
        }
        let head = head.clone();
        Reaction::edit(move |answer| spoil(&head, answer))
    });
    let target = Empty::new();
    let repository = repository(&client(), &server);
    let root = repository.resolve(&name(&server, "app:1")).unwrap().unwrap();
    let into = target.store.begin().unwrap();
    let error = within(LIMIT, || {
        copy(&repository, &into, &root, &|_| true, &NoopReporter).unwrap_err()
    });
    drop(into);
    assert!(target.is_empty());
    assert!(matches!(error, CopyError::Source { .. }), "{error:?}");
    let asked = server.count("GET", &digest);

    let store = MemoryStore::new();
    let failure = within(LIMIT, || pull(&server, &store).unwrap_err());
    assert!(
        matches!(failure, Failure::Copy(CopyError::Source { .. })),
        "{failure:?}"
    );
    assert!(store.fetch_unverified(&image.descriptor()).is_err());
    assert!(store.fetch_unverified(image.layer()).is_err());
    (error.into_store_error(), asked)
}

#[test]
fn blob_of_another_digest_is_refused() {
    let (error, asked) = spoilt(&Image::new(50_000), |_, mut answer| {
        answer.body[40_000] ^= 1;
        answer
    });
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error:?}");
    assert_eq!(asked, 1);
}

#[test]
fn longer_blob_is_refused_unread() {
    let (error, asked) = spoilt(&Image::new(50_000), |_, mut answer| {
        answer.body.push(0);
        answer
    });
    assert!(matches!(error, StoreError::WrongSize { got: 50_001, .. }), "{error:?}");
    assert_eq!(asked, 1);
}

#[test]
fn false_content_length_is_refused() {
    for claim in [50_001, 49_999, 0, u64::MAX] {
        let (error, asked) = spoilt(&Image::new(50_000), move |_, answer| {
            answer.framed(Framing::Claim(claim))
        });
        assert!(matches!(error, StoreError::WrongSize { .. }), "{claim} {error:?}");
        assert_eq!(asked, 1);
    }
}

#[test]
fn longer_chunked_blob_is_refused() {
    let (error, asked) = spoilt(&Image::new(50_000), |_, mut answer| {
        answer.body.push(0);
        answer.framed(Framing::Chunked)
    });
    assert!(matches!(error, StoreError::WrongSize { .. }), "{error:?}");
    assert_eq!(asked, 1);
}

#[test]
fn endless_blob_is_refused_at_its_size() {
    let (error, asked) = spoilt(&Image::new(50_000), |_, answer| answer.framed(Framing::Endless));
    assert!(matches!(error, StoreError::WrongSize { .. }), "{error:?}");
    assert_eq!(asked, 1);
}

#[test]
fn shorter_blob_is_refused() {
    let (error, asked) = spoilt(&Image::new(50_000), |_, mut answer| {
        answer.body.truncate(40_000);
        answer
    });
    assert!(matches!(error, StoreError::WrongSize { got: 40_000, .. }), "{error:?}");
    assert_eq!(asked, 1);
}

#[test]
fn shorter_chunked_blob_is_refused_after_one_more_request() {
    // A registry that has less, with ranges and without.
    for ranges in [true, false] {
        let image = Image::new(50_000);
        let digest = image.layer().digest.to_string();
        let mut registry = image.registry();
        registry.ranges = ranges;
        let key = ("app".to_string(), digest.clone());
        registry.blobs.get_mut(&key).unwrap().truncate(40_000);
        let part = digest.clone();
        let server = Server::faulty(registry, move |head| match head.is("GET", &part) {
            true => Reaction::edit(|answer| answer.framed(Framing::Chunked)),
            false => Reaction::Serve,
        });
        let error = read_layer(&repository(&client(), &server), &image).unwrap_err();
        assert!(matches!(error, StoreError::WrongSize { got: 40_000, .. }), "{error:?}");
        assert!(server.count("GET", &digest) <= 2);
    }
}

/// A server that breaks off the layer once, after this many bytes.
fn cut(image: &Image, after: usize, ranges: bool) -> Server {
    let part = image.layer().digest.to_string();
    let mut registry = image.registry();
    registry.ranges = ranges;
    Server::faulty(registry, move |head| match head.is("GET", &part) && head.nth == 1 {
        true => Reaction::edit(move |answer| answer.framed(Framing::Cut(after))),
        false => Reaction::Serve,
    })
}

#[test]
fn download_resumes_where_it_broke_off() {
    let image = Image::new(400_000);
    let server = cut(&image, 360_000, true);
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
    let digest = image.layer().digest.to_string();
    let asked: Vec<_> = server
        .seen()
        .into_iter()
        .filter(|s| s.head.is("GET", &digest))
        .collect();
    assert_eq!(asked.len(), 2);
    let range = asked[1].head.header("range").unwrap();
    let from: usize = range
        .strip_prefix("bytes=")
        .unwrap()
        .strip_suffix('-')
        .unwrap()
        .parse()
        .unwrap();
    // The bytes of the first answer were kept: at most 15 % is sent again.
    assert!(from <= 360_000 && 400_000 - from <= 40_000 + 60_000, "{range}");
}

#[test]
fn download_resumes_where_ranges_are_ignored() {
    let image = Image::new(400_000);
    let server = cut(&image, 250_000, false);
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
    assert_eq!(server.count("GET", &image.layer().digest.to_string()), 2);
}

#[test]
fn another_range_than_the_one_asked_for_is_refused() {
    let image = Image::new(400_000);
    let part = image.layer().digest.to_string();
    let server = Server::faulty(image.registry(), move |head| match (head.is("GET", &part), head.nth) {
        (true, 1) => Reaction::edit(|answer| answer.framed(Framing::Cut(200_000))),
        (true, _) => Reaction::edit(|answer| answer.with("content-range", "bytes 0-399999/400000")),
        _ => Reaction::Serve,
    });
    let store = MemoryStore::new();
    let failure = pull(&server, &store).unwrap_err();
    let error = failure.remote();
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    assert!(!error.is_temporary());
    assert_eq!(server.count("GET", &image.layer().digest.to_string()), 2);
    assert!(store.fetch_unverified(image.layer()).is_err());
}

#[test]
fn download_that_always_breaks_off_is_given_up() {
    let image = Image::new(400_000);
    let digest = image.layer().digest.to_string();
    for ranges in [true, false] {
        let part = digest.clone();
        let mut registry = image.registry();
        registry.ranges = ranges;
        let server = Server::faulty(registry, move |head| match head.is("GET", &part) {
            true => Reaction::edit(|answer| answer.framed(Framing::Cut(1000))),
            false => Reaction::Serve,
        });
        let error = within(LIMIT, || {
            read_layer(&repository(&client(), &server), &image).unwrap_err()
        });
        let remote = of(&error);
        assert!(matches!(remote, RemoteError::Unreachable { .. }), "{error:?}");
        assert!(remote.is_temporary());
        assert_eq!(server.count("GET", &digest), 1 + RETRIES as usize);
    }
}

#[test]
fn complete_blob_counts_without_the_end_of_its_chunks() {
    let image = Image::new(20_000);
    let part = image.layer().digest.to_string();
    let layer = image.layer.clone();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        true => {
            let mut raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4e20\r\n".to_vec();
            raw.extend_from_slice(&layer);
            raw.extend_from_slice(b"\r\n");
            Reaction::Raw(raw)
        }
        false => Reaction::Serve,
    });
    let bytes = read_layer(&repository(&client(), &server), &image).unwrap();
    assert!(bytes == image.layer);
}

#[test]
fn slow_blob_times_out() {
    let image = Image::new(400_000);
    let digest = image.layer().digest.to_string();
    let part = digest.clone();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        true => Reaction::edit(|answer| answer.framed(Framing::Drip(Duration::from_millis(20)))),
        false => Reaction::Serve,
    });
    let error = within(LIMIT, || {
        read_layer(&repository(&client(), &server), &image).unwrap_err()
    });
    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
    assert!(of(&error).is_temporary());
    assert_eq!(server.count("GET", &digest), 1 + RETRIES as usize);
}

#[test]
fn slow_discarded_bytes_time_out() {
    let image = Image::new(400_000);
    let digest = image.layer().digest.to_string();
    let part = digest.clone();
    let mut registry = image.registry();
    registry.ranges = false;
    let server = Server::faulty(registry, move |head| match (head.is("GET", &part), head.nth) {
        (true, 1) => Reaction::edit(|answer| answer.framed(Framing::Cut(300_000))),
        (true, _) => Reaction::edit(|answer| answer.framed(Framing::Drip(Duration::from_millis(20)))),
        _ => Reaction::Serve,
    });
    let error = within(LIMIT, || {
        read_layer(&repository(&client(), &server), &image).unwrap_err()
    });
    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
    assert_eq!(server.count("GET", &digest), 1 + RETRIES as usize);
}

#[test]
fn slow_response_head_times_out() {
    let image = Image::new(1000);
    let part = image.layer().digest.to_string();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        true => Reaction::edit(|answer| {
            let long = "x".repeat(4000);
            answer
                .with("x-long", long)
                .framed(Framing::DripHead(Duration::from_millis(20)))
        }),
        false => Reaction::Serve,
    });
    let error = within(LIMIT, || {
        read_layer(&repository(&client(), &server), &image).unwrap_err()
    });
    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
    assert!(of(&error).is_temporary());
    assert_eq!(server.count("GET", "/blobs/"), 1 + RETRIES as usize);
}

#[test]
fn stalled_blob_times_out() {
    let image = Image::new(400_000);
    let part = image.layer().digest.to_string();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        // One byte, and then nothing.
        true => Reaction::edit(|answer| answer.framed(Framing::Drip(Duration::from_secs(5)))),
        false => Reaction::Serve,
    });
    let error = within(LIMIT, || {
        read_layer(&repository(&client(), &server), &image).unwrap_err()
    });
    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
}

#[test]
fn missing_blob_is_requested_once() {
    let image = Image::new(1000);
    let mut registry = image.registry();
    registry.blobs.clear();
    let server = Server::new(registry);
    let error = read_layer(&repository(&client(), &server), &image).unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    assert_eq!(server.count("GET", "/blobs/"), 1);
}

#[test]
fn encoded_blob_is_refused() {
    let (error, asked) = spoilt(&Image::new(1000), |_, answer| answer.with("content-encoding", "gzip"));
    assert!(matches!(of(&error), RemoteError::Protocol { .. }), "{error:?}");
    assert_eq!(asked, 1);
}
