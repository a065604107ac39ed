//! Answers that lead elsewhere: nobody but the registry sees credentials.

use std::time::Duration;

use qyvol_remote::RemoteError;
use qyvol_store::{Exists, MemoryStore};

use crate::registry::{Auth, Registry};
use crate::server::{Reaction, Response, Server};
use crate::support::*;

const LIMIT: Duration = Duration::from_secs(30);

const BLOBS: &[&str] = &["/blobs/sha256:"];

/// A registry that requires a password and redirects reads of one of these paths to a server
/// that requires none.
fn elsewhere(image: &Image, status: u16, places: &'static [&'static str]) -> (Server, Server) {
    let cdn = Server::new(image.registry());
    let host = cdn.host();
    let mut registry = image.registry();
    registry.auth = Auth::Basic(BASIC.to_string());
    let server = Server::faulty(registry, move |head| {
        let known = head.header("authorization").is_some();
        let reads = |place: &&str| head.is("GET", place) || head.is("HEAD", place);
        match known && places.iter().any(reads) {
            true => Reaction::Response(Response::new(status).with("location", format!("http://{host}{}", head.target))),
            false => Reaction::Serve,
        }
    });
    (server, cdn)
}

#[test]
fn credentials_are_not_sent_to_a_blob_redirect_host() {
    for status in [301, 302, 303, 307, 308] {
        let image = Image::new(20_000);
        let (server, cdn) = elsewhere(&image, status, BLOBS);
        let client = client_as(ana(&server));
        let store = MemoryStore::new();
        pull_with(&client, &server, &store).unwrap();
        assert!(image.is_in(&store));
        assert!(repository(&client, &server).exists(image.layer()).unwrap());
        assert_eq!(cdn.count("GET", "/blobs/"), 2);
        assert_eq!(cdn.count("HEAD", "/blobs/"), 1);
        assert!(cdn.seen().iter().all(|s| s.head.header("authorization").is_none()));
    }
}

#[test]
fn redirects_of_manifests_and_tags_are_followed_without_credentials() {
    let image = Image::new(1000);
    let (server, cdn) = elsewhere(&image, 307, &["/manifests/", "/tags/"]);
    let client = client_as(ana(&server));
    let store = MemoryStore::new();
    pull_with(&client, &server, &store).unwrap();
    assert!(image.is_in(&store));
    assert_eq!(tags(&repository(&client, &server)).unwrap(), ["1"]);
    assert!(cdn.count("GET", "/manifests/") > 0 && cdn.count("GET", "/tags/") == 1);
    assert!(cdn.seen().iter().all(|s| s.head.header("authorization").is_none()));
}

#[test]
fn redirect_host_that_asks_for_credentials_gets_none() {
    let image = Image::new(1000);
    let (server, cdn) = elsewhere(&image, 307, BLOBS);
    cdn.registry(|registry| registry.auth = Auth::Basic(BASIC.to_string()));
    let error = read_layer(&repository(&client_as(ana(&server)), &server), &image).unwrap_err();
    assert!(matches!(of(&error), RemoteError::Denied { .. }), "{error:?}");
    assert!(!of(&error).is_temporary());
    assert_eq!(cdn.seen().len(), 1);
    assert!(cdn.seen().iter().all(|s| s.head.header("authorization").is_none()));
}

#[test]
fn redirects_are_bounded() {
    let image = Image::new(1000);
    let server = Server::faulty(image.registry(), |head| match head.target.contains("/blobs/") {
        true => Reaction::Response(Response::new(307).with("location", head.target.clone())),
        false => Reaction::Serve,
    });
    let repository = repository(&client(), &server);
    let error = within(LIMIT, || read_layer(&repository, &image).unwrap_err());
    assert!(matches!(of(&error), RemoteError::Protocol { .. }), "{error:?}");
    assert!(!of(&error).is_temporary());
    assert_eq!(server.count("GET", "/blobs/"), 6);
    let error = repository.exists(image.layer()).unwrap_err();
    assert!(!of(&error).is_temporary());
    assert_eq!(server.count("HEAD", "/blobs/"), 6);
}

#[test]
fn redirect_that_leads_nowhere_is_not_retried() {
    for location in [
        None,
        Some("gopher://x/"),
        Some("http://"),
        Some("http://u:p@x/"),
        Some("/a b"),
    ] {
        let image = Image::new(1000);
        let server = Server::faulty(image.registry(), move |head| {
            match (head.is("GET", "/blobs/"), location) {
                (true, Some(location)) => Reaction::Response(Response::new(307).with("location", location)),
                (true, None) => Reaction::Response(Response::new(307)),
                _ => Reaction::Serve,
            }
        });
        let error = read_layer(&repository(&client(), &server), &image).unwrap_err();
        assert!(
            matches!(of(&error), RemoteError::Protocol { .. }),
            "{location:?} {error:?}"
        );
        assert!(!of(&error).is_temporary());
        assert_eq!(server.count("GET", "/blobs/"), 1);
    }
}

#[test]
fn redirected_download_resumes_by_way_of_the_registry() {
    let image = Image::new(400_000);
    let cdn = Server::faulty(image.registry(), |head| match head.nth {
        1 => Reaction::edit(|answer| answer.framed(crate::server::Framing::Cut(300_000))),
        _ => Reaction::Serve,
    });
    let host = cdn.host();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", "/blobs/") {
        true => Reaction::Response(Response::new(307).with("location", format!("http://{host}{}", head.target))),
        false => Reaction::Serve,
    });
    assert!(read_layer(&repository(&client(), &server), &image).unwrap() == image.layer);
    // The address may be valid once only: the registry is asked again.
    assert_eq!(server.count("GET", "/blobs/"), 2);
    assert!(cdn.seen()[1].head.header("range").is_some());
}

#[test]
fn credentials_are_not_sent_to_an_upload_location_elsewhere() {
    let image = Image::new(1000);
    let cdn = Server::new(Registry::default());
    let host = cdn.host();
    let registry = Registry {
        auth: Auth::Basic(BASIC.to_string()),
        ..Registry::default()
    };
    let server = Server::faulty(registry, move |head| {
        match head.is("POST", "/uploads/") && head.header("authorization").is_some() {
            true => Reaction::Response(Response::new(202).with("location", format!("http://{host}/put/here?x=1"))),
            false => Reaction::Serve,
        }
    });
    let failure = push(&client_as(ana(&server)), &server, &image).unwrap_err();
    assert!(!failure.remote().is_temporary(), "{failure:?}");
    assert!(cdn.count("PUT", "/put/here?x=1&digest=sha256%3A") > 0);
    assert!(cdn.seen().iter().all(|s| s.head.header("authorization").is_none()));
    assert!(server.registry(|registry| registry.manifests.is_empty()));
}
