//! Faults of registries and of the network on the path through `oci-distribution`.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use qyvol_remote::{Access, Client, RemoteError, Repository};

use crate::foreign::{ATTEMPTS, LIMIT, failing, fault, read};
use crate::needs::lacks;
use crate::server::{Framing, Reaction, Response, Server};
use crate::support::*;

// [REG-028]
#[test]
fn fragmented_error_response_is_retried() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(1000);
    let (error, asked) = fault(&image, |_, _| {
        Response::new(503)
            .body(vec![b'x'; 300])
            .framed(Framing::Drip(Duration::from_millis(1)))
    });
    assert!(of(&error).is_temporary(), "{error:?}");
    assert_eq!(asked, ATTEMPTS);
}

// [REG-028]
#[test]
fn connection_error_after_a_redirect_mentions_the_redirect() {
    if lacks(&["certificates"]) {
        return;
    }
    // Nothing listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let image = Image::new(1000);
    let part = image.layer().digest.to_string();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        true => Reaction::Response(Response::new(307).with("location", format!("http://{gone}/x?secret"))),
        false => Reaction::Serve,
    });
    let error = within(LIMIT, || failing(read(&client(), &server, &image)));
    assert!(
        matches!(of(&error), RemoteError::Unreachable { temporary: true, .. }),
        "{error:?}"
    );
    assert!(of(&error).to_string().contains("or where it redirects to"), "{error:?}");
    assert!(!of(&error).to_string().contains("secret"));
}

// [REG-033]
#[test]
fn signatures_of_a_source_are_asked_for_once() {
    let image = Image::new(10);
    let server = Server::faulty(image.registry(), |head| {
        match head.is("GET", ".sig") || head.is("GET", "/referrers/") {
            true => Reaction::Response(Response::new(503).with("retry-after", "60")),
            false => Reaction::Serve,
        }
    });
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let notes = warnings.clone();
    let notify = Box::new(move |note: &str| notes.lock().unwrap().push(note.to_string()));
    let client = Client::new(options(), Box::new(qyvol_remote::Anonymous), notify);
    let repository = Repository::new(&client, &name(&server, "app:1"), Access::Pull).unwrap();
    let error = within(LIMIT, || repository.foreign_signatures(&image.manifest.digest())).unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(server.count("GET", "/v2/"), 1);
    assert!(warnings.lock().unwrap().is_empty());
}

// [REG-028]
#[test]
fn foreign_blob_times_out_on_silent_and_slow_servers() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(400_000);
    let (error, asked) = fault(&image, |_, answer| {
        answer.framed(Framing::Drip(Duration::from_millis(20)))
    });
    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
    assert_eq!(asked, ATTEMPTS);
    let part = image.layer().digest.to_string();
    let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        true => Reaction::Silent,
        false => Reaction::Serve,
    });
    let error = within(LIMIT, || failing(read(&client(), &server, &image)));
    assert!(matches!(of(&error), RemoteError::TimedOut { .. }), "{error:?}");
}

// [REG-028]
#[test]
fn body_of_an_error_is_bounded_on_the_foreign_path() {
    if lacks(&["certificates"]) {
        return;
    }
    for status in [500, 404, 400] {
        let image = Image::new(1000);
        let (error, asked) = fault(&image, move |_, _| {
            Response::new(status).body(vec![b'x'; 1 << 20]).framed(Framing::Endless)
        });
        let error = of(&error);
        assert!(matches!(error, RemoteError::TimedOut { .. }), "{error:?}");
        assert!(error.to_string().contains("too many pieces"), "{error}");
        assert_eq!(asked, ATTEMPTS);
    }
}

// [REG-028]
#[test]
fn redirects_without_end_are_refused_on_the_foreign_path() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(10);
    let (error, asked) = fault(&image, |head, _| {
        Response::new(307).with("location", head.target.clone())
    });
    assert!(matches!(of(&error), RemoteError::Protocol { .. }), "{error:?}");
    assert!(asked <= 12, "{asked}");
}
