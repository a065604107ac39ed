//! Manifests of the wrong type, and manifests that change.

use std::time::Duration;

use qyvol_remote::RemoteError;
use qyvol_store::{CopyError, Fetch, MemoryStore, StoreError};
use qyvol_types::{Digest, Reference, media_type};

use crate::server::{Framing, Head, Reaction, Response, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);

fn spoilt(image: &Image, act: impl Fn(&Head) -> Reaction + Send + Sync + 'static) -> (RemoteError, usize) {
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", "/manifests/") {
        true => act(head),
        false => Reaction::Serve,
    });
    let store = MemoryStore::new();
    let failure = within(LIMIT, || pull(&server, &store).unwrap_err());
    assert!(store.fetch_unverified(image.layer()).is_err());
    assert_eq!(server.count("GET", "/blobs/"), 0);
    match failure {
        Failure::Remote(error) => (error, server.count("GET", "/manifests/")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn manifest_of_another_type_is_refused() {
    for kind in [
        "text/html",
        "",
        media_type::IMAGE_INDEX,
        "application/vnd.docker.distribution.manifest.v2+json",
    ] {
        let (error, asked) = spoilt(&Image::new(10), move |_| {
            Reaction::edit(move |answer| answer.with("content-type", kind))
        });
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
        assert!(!error.is_temporary());
        assert_eq!(asked, 1);
    }
}

#[test]
fn case_and_parameters_of_the_media_type_do_not_matter() {
    let image = Image::new(10);
    let server = Server::faulty(image.registry(), |head| match head.is("GET", "/manifests/") {
        true => Reaction::edit(|answer| {
            let kind = format!(
                "{} ; charset=utf-8",
                media_type::IMAGE_MANIFEST.replace("image", "Image")
            );
            answer.with("content-type", kind)
        }),
        false => Reaction::Serve,
    });
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
}

#[test]
fn endless_manifest_is_refused() {
    let (error, asked) = spoilt(&Image::new(10), |_| {
        Reaction::edit(|answer| answer.framed(Framing::Endless))
    });
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    assert!(!error.is_temporary());
    assert_eq!(asked, 1);
}

#[test]
fn slow_manifest_times_out() {
    let (error, asked) = spoilt(&Image::new(10), |_| {
        Reaction::edit(|answer| answer.framed(Framing::Drip(Duration::from_millis(20))))
    });
    assert!(matches!(error, RemoteError::TimedOut { .. }), "{error:?}");
    assert!(error.is_temporary());
    assert_eq!(asked, 1 + RETRIES as usize);
}

#[test]
fn manifest_that_broke_off_is_read_again() {
    let image = Image::new(10);
    let server = Server::faulty(image.registry(), |head| {
        match head.is("GET", "/manifests/") && head.nth == 1 {
            true => Reaction::edit(|answer| answer.framed(Framing::Cut(50))),
            false => Reaction::Serve,
        }
    });
    let store = MemoryStore::new();
    pull(&server, &store).unwrap();
    assert!(image.is_in(&store));
}

#[test]
fn false_stated_digest_is_refused() {
    let (error, asked) = spoilt(&Image::new(10), |_| {
        Reaction::edit(|answer| answer.with("docker-content-digest", Digest::of(b"other").to_string()))
    });
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    assert!(!error.is_temporary());
    assert_eq!(asked, 1);
}

#[test]
fn manifest_that_is_an_index_as_well_is_refused() {
    let image = Image::new(10);
    let text = String::from_utf8(image.manifest.raw().to_vec()).unwrap();
    let text = text.replacen('{', "{\"manifests\":[],", 1);
    let mut registry = image.registry();
    registry.put_manifest("app", "1", media_type::IMAGE_MANIFEST, text.as_bytes());
    let server = Server::new(registry);
    let failure = pull(&server, &MemoryStore::new()).unwrap_err();
    let Failure::Copy(CopyError::Source { source, .. }) = failure else {
        panic!("{failure:?}");
    };
    assert!(matches!(*source, StoreError::Manifest { .. }), "{source:?}");
    assert_eq!(server.count("GET", "/blobs/"), 0);
}

#[test]
fn tag_is_resolved_once() {
    let (one, two) = (Image::new(1000), Image::new(2000));
    let mut registry = one.registry();
    registry.put_blob("app", &two.layer);
    let other = two.manifest.raw().to_vec();
    let server = Server::faulty(registry, move |head| {
        match head.is("GET", "/manifests/1") && head.nth % 2 == 0 {
            true => {
                let other = other.clone();
                Reaction::edit(move |answer| {
                    let digest = Digest::of(&other).to_string();
                    answer.with("docker-content-digest", digest).body(other)
                })
            }
            false => Reaction::Serve,
        }
    });
    for image in [&one, &two] {
        let store = MemoryStore::new();
        pull(&server, &store).unwrap();
        assert!(image.is_in(&store));
    }
    assert_eq!(server.count("GET", "/manifests/1"), 2);
    // The tag is not resolved again.
    assert_eq!(server.count("GET", "/manifests/sha256"), 0);
}

#[test]
fn another_manifest_than_the_digest_asked_for_is_refused() {
    let (one, two) = (Image::new(1000), Image::new(2000));
    let mut registry = one.registry();
    let key = ("app".to_string(), one.manifest.digest().to_string());
    registry.manifests.get_mut(&key).unwrap().1 = two.manifest.raw().to_vec();
    let server = Server::faulty(registry, |_| {
        Reaction::edit(|mut answer| {
            answer.headers.retain(|(name, _)| name != "docker-content-digest");
            answer
        })
    });
    let repository = repository(&client(), &server);
    let by_digest: Reference = format!("{}/app@{}", server.host(), one.manifest.digest())
        .parse()
        .unwrap();
    let error = repository.resolve(&by_digest).unwrap_err();
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    let error = repository.fetch_bytes(&one.descriptor(), 1 << 20).unwrap_err();
    assert!(error.is_content_error(), "{error:?}");
}

#[test]
fn missing_tag_resolves_to_none() {
    let server = Server::new(Image::new(10).registry());
    let repository = repository(&client(), &server);
    assert!(repository.resolve(&name(&server, "app:2")).unwrap().is_none());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn false_stated_digest_of_a_pushed_manifest_is_refused() {
    let image = Image::new(1000);
    let server = Server::faulty(Default::default(), |head| match head.is("PUT", "/manifests/") {
        true => Reaction::Response(Response::new(201).with("docker-content-digest", Digest::of(b"x").to_string())),
        false => Reaction::Serve,
    });
    let failure = push(&client(), &server, &image).unwrap_err();
    assert!(matches!(failure.remote(), RemoteError::Protocol { .. }), "{failure:?}");
    // Nothing was tagged.
    assert_eq!(server.count("PUT", "/manifests/1"), 0);
}
