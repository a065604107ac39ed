//! The same faults on the path through `oci-distribution`, with the same outcomes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol_remote::{HostOptions, Options, RemoteError};
use qyvol_store::{StoreError, VerifyReader};
use qyvol_types::foreign::ForeignManifest;
use qyvol_types::{Digest, media_type};

use crate::needs::lacks;
use crate::network::certificate;
use crate::registry::{Auth, Registry};
use crate::server::{Framing, Head, Reaction, Response, Server};
use crate::support::*;

pub(crate) const LIMIT: Duration = Duration::from_secs(30);
pub(crate) const ATTEMPTS: usize = 1 + RETRIES as usize;

/// Reads the layer of `app` through the other client, against its descriptor.
pub(crate) fn read(client: &Arc<qyvol_remote::Client>, server: &Server, image: &Image) -> Result<Vec<u8>, StoreError> {
    let name = name(server, "app:1");
    let repository = qyvol_remote::Repository::new(client, &name, qyvol_remote::Access::Pull).unwrap();
    read_from(&repository, image)
}

fn read_from(repository: &qyvol_remote::Repository, image: &Image) -> Result<Vec<u8>, StoreError> {
    let layer = image.layer();
    let mut bytes = Vec::new();
    VerifyReader::new(repository.foreign_blob(layer), layer)
        .read_to_end(&mut bytes)
        .map_err(|error| StoreError::from_io(error).unwrap_or_else(|error| panic!("{error:?}")))?;
    Ok(bytes)
}

/// The error; without the bytes if there is none.
#[track_caller]
pub(crate) fn failing(read: Result<Vec<u8>, StoreError>) -> StoreError {
    read.map(|bytes| bytes.len()).unwrap_err()
}

/// A registry that does this with each `GET` of the layer.
fn spoilt(image: &Image, spoil: impl Fn(&Head, Response) -> Response + Copy + Send + Sync + 'static) -> Server {
    let part = image.layer().digest.to_string();
    Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
        true => {
            let head = head.clone();
            Reaction::edit(move |answer| spoil(&head, answer))
        }
        false => Reaction::Serve,
    })
}

/// The error of reading such a layer, and how often it was requested.
pub(crate) fn fault(
    image: &Image,
    spoil: impl Fn(&Head, Response) -> Response + Copy + Send + Sync + 'static,
) -> (StoreError, usize) {
    let server = spoilt(image, spoil);
    let error = within(LIMIT, || failing(read(&client(), &server, image)));
    (error, server.count("GET", "/blobs/"))
}

// [REG-028]
#[test]
fn only_layers_are_fetched_through_the_foreign_client() {
    if lacks(&["certificates"]) {
        return;
    }
    for length in [0, 1, 300_000] {
        let image = Image::new(length);
        let server = Server::new(image.registry());
        let name = name(&server, "app:1");
        let repository = qyvol_remote::Repository::new(&client(), &name, qyvol_remote::Access::Pull).unwrap();
        let found = repository.resolve_foreign(&name).unwrap().unwrap();
        assert_eq!(found.digest, image.manifest.digest());
        assert!(read_from(&repository, &image).unwrap() == image.layer);
        let seen: Vec<_> = server
            .seen()
            .into_iter()
            .map(|s| (s.head.method, s.head.target))
            .collect();
        let blob = format!("/v2/app/blobs/{}", image.layer().digest);
        let expected = [
            ("GET", "/v2/app/manifests/1".to_string()),
            ("HEAD", blob.clone()),
            ("GET", blob),
        ];
        assert_eq!(seen, expected.map(|(method, target)| (method.to_string(), target)));
    }
}

// [REG-028]
#[test]
fn corrupt_foreign_layer_is_refused() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(50_000);
    let (error, asked) = fault(&image, |_, mut answer| {
        answer.body[40_000] ^= 1;
        answer
    });
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error:?}");
    assert_eq!(asked, 1);
    // Stated or not, longer or shorter.
    for claim in [50_001, 49_999, 0, 1 << 62] {
        let (error, asked) = fault(&image, move |_, answer| answer.framed(Framing::Claim(claim)));
        assert!(matches!(error, StoreError::WrongSize { .. }), "{claim} {error:?}");
        assert_eq!(asked, 1);
    }
    let (error, asked) = fault(&image, |_, mut answer| {
        answer.body.push(0);
        answer.framed(Framing::Chunked)
    });
    assert!(matches!(error, StoreError::WrongSize { more: true, .. }), "{error:?}");
    assert_eq!(asked, 1);
    let (error, asked) = fault(&image, |_, answer| answer.framed(Framing::Endless));
    assert!(matches!(error, StoreError::WrongSize { more: true, .. }), "{error:?}");
    assert_eq!(asked, 1);
    // Complete in itself, and too short: nothing is behind it.
    let (error, asked) = fault(&image, |head, mut answer| {
        if head.header("range").is_some() {
            return Response::new(416);
        }
        answer.body.truncate(40_000);
        answer.framed(Framing::Chunked)
    });
    assert!(matches!(error, StoreError::WrongSize { got: 40_000, .. }), "{error:?}");
    assert_eq!(asked, 2);
    // What a registry states of the digest decides nothing.
    for stated in ["zzz", "sha256:", "md5:00", "\u{e9}", &Digest::of(b"x").to_string()] {
        let stated = stated.to_string();
        let part = image.layer().digest.to_string();
        let server = Server::faulty(image.registry(), move |head| match head.is("GET", &part) {
            true => {
                let stated = stated.clone();
                Reaction::edit(move |answer| answer.with("docker-content-digest", stated))
            }
            false => Reaction::Serve,
        });
        match read(&client(), &server, &image) {
            Ok(bytes) => assert!(bytes == image.layer),
            Err(error) => assert!(matches!(of(&error), RemoteError::Protocol { .. }), "{error:?}"),
        }
    }
}

// [REG-028]
#[test]
fn download_through_the_other_client_resumes_where_it_broke_off() {
    if lacks(&["certificates"]) {
        return;
    }
    for ranges in [true, false] {
        let image = Image::new(400_000);
        let part = image.layer().digest.to_string();
        let mut registry = image.registry();
        registry.ranges = ranges;
        let server = Server::faulty(registry, move |head| match head.is("GET", &part) && head.nth == 1 {
            true => Reaction::edit(|answer| answer.framed(Framing::Cut(250_000))),
            false => Reaction::Serve,
        });
        assert!(read(&client(), &server, &image).unwrap() == image.layer, "{ranges}");
        let seen = server.seen();
        let asked: Vec<_> = seen.iter().filter(|s| s.head.is("GET", "/blobs/")).collect();
        assert_eq!(asked.len(), 2);
        assert!(asked[1].head.header("range").is_some());
    }
}

// [REG-028]
#[test]
fn another_range_than_the_one_asked_for_fails_the_digest() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(400_000);
    let server = spoilt(&image, |head, answer| match head.nth {
        1 => answer.framed(Framing::Cut(200_000)),
        _ => {
            let mut answer = answer;
            answer.body.rotate_left(1);
            answer
        }
    });
    let error = failing(read(&client(), &server, &image));
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error:?}");
}

// [REG-028]
#[test]
fn foreign_blob_errors_match_native_errors() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(1000);
    let (error, asked) = fault(&image, |_, _| Response::new(503));
    assert!(
        matches!(of(&error), RemoteError::Status { status: 503, .. }),
        "{error:?}"
    );
    assert_eq!(asked, ATTEMPTS);
    let (error, asked) = fault(&image, |_, _| Response::new(404));
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    assert_eq!(asked, 1);
    let (error, asked) = fault(&image, |_, _| Response::new(403));
    assert!(matches!(of(&error), RemoteError::Denied { .. }), "{error:?}");
    assert_eq!(asked, 1);
    let (error, asked) = fault(&image, |_, answer| answer.framed(Framing::Lost));
    assert!(of(&error).is_temporary(), "{error:?}");
    assert_eq!(asked, ATTEMPTS);
    // Gone before it is asked for.
    let mut registry = image.registry();
    registry.blobs.clear();
    let server = Server::new(registry);
    let error = failing(read(&client(), &server, &image));
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    assert_eq!(
        (server.count("HEAD", "/blobs/"), server.count("GET", "/blobs/")),
        (1, 0)
    );
}

// [REG-028]
#[test]
fn foreign_client_reuses_the_native_authorization() {
    if lacks(&["certificates"]) {
        return;
    }
    for auth in [Auth::Basic(BASIC.to_string()), Auth::Bearer(BASIC.to_string())] {
        let image = Image::new(1000);
        let mut registry = image.registry();
        registry.auth = auth.clone();
        let server = Server::new(registry);
        let client = client_as(ana(&server));
        assert!(read(&client, &server, &image).unwrap() == image.layer);
        let tokens = usize::from(matches!(auth, Auth::Bearer(_)));
        assert_eq!(server.count("GET", "/token"), tokens);
        let seen = server.seen();
        assert!(seen.iter().all(|s| s.head.path() != "/v2/"), "{seen:?}");
        assert_eq!(server.count("GET", "/blobs/"), 1);
        if tokens > 0 {
            // As if it had expired: our client obtains another.
            server.registry(|registry| registry.tokens += 1);
            assert!(read(&client, &server, &image).unwrap() == image.layer);
            assert_eq!(server.count("GET", "/token"), 2);
        }
        let error = failing(read(&crate::support::client(), &server, &image));
        assert!(matches!(of(&error), RemoteError::Denied { .. }), "{error:?}");
        assert_eq!(server.count("GET", "/blobs/"), 1 + tokens);
    }
}

// [REG-028]
#[test]
fn credentials_are_not_sent_to_the_place_that_a_foreign_layer_is_redirected_to() {
    if lacks(&["certificates"]) {
        return;
    }
    for status in [301, 302, 303, 307, 308] {
        for auth in [Auth::Basic(BASIC.to_string()), Auth::Bearer(BASIC.to_string())] {
            let image = Image::new(20_000);
            let cdn = Server::new(image.registry());
            let host = cdn.host();
            let mut registry = image.registry();
            registry.auth = auth;
            let server = Server::faulty(registry, move |head| {
                match head.is("GET", "/blobs/") && head.header("authorization").is_some() {
                    true => Reaction::Response(
                        Response::new(status).with("location", format!("http://{host}{}", head.target)),
                    ),
                    false => Reaction::Serve,
                }
            });
            assert!(read(&client_as(ana(&server)), &server, &image).unwrap() == image.layer);
            assert_eq!(cdn.count("GET", "/blobs/"), 1);
            assert!(cdn.seen().iter().all(|s| s.head.header("authorization").is_none()));
            // A host that asks for credentials gets none, and one request.
            cdn.registry(|registry| registry.auth = Auth::Basic(BASIC.to_string()));
            let error = failing(read(&client_as(ana(&server)), &server, &image));
            assert!(matches!(of(&error), RemoteError::Denied { .. }), "{error:?}");
            assert!(cdn.seen().iter().all(|s| s.head.header("authorization").is_none()));
        }
    }
}

// [REG-028]
#[test]
fn mirror_is_asked_first_on_the_foreign_path_too() {
    if lacks(&["certificates"]) {
        return;
    }
    let image = Image::new(1000);
    for whole in [true, false] {
        let mirror = Server::new(match whole {
            true => image.registry(),
            false => Registry::default(),
        });
        let server = Server::new(image.registry());
        let mut options = options();
        let host = HostOptions {
            mirrors: vec![mirror.host()],
            ..HostOptions::default()
        };
        options.hosts.insert(server.host(), host);
        let client = qyvol_remote::Client::new(options, Box::new(qyvol_remote::Anonymous), Box::new(|_| {}));
        assert!(read(&client, &server, &image).is_ok_and(|bytes| bytes == image.layer) || !whole);
        assert_eq!(mirror.count("HEAD", "/blobs/"), 1);
        assert_eq!(server.count("GET", "/blobs/"), usize::from(!whole));
    }
}

// [REG-020] [REG-028]
#[test]
fn proxy_and_the_api_of_docker_hub_are_used_on_the_foreign_path() {
    if lacks(&["certificates"]) {
        return;
    }
    for (name, place) in [
        ("registry.invalid/app:1", "http://registry.invalid/v2/app/blobs/"),
        ("docker.io/app:1", "http://registry-1.docker.io/v2/library/app/blobs/"),
    ] {
        let image = Image::new(1000);
        let layer = image.layer.clone();
        let mut registry = image.registry();
        registry.put_blob("library/app", &image.layer);
        let proxy = Server::faulty(registry, move |head| match head.method.as_str() {
            // The connection is from here on the registry's.
            "CONNECT" => Reaction::Tunnel,
            "GET" if head.target.starts_with(place) => Reaction::Response(Response::new(200).body(layer.clone())),
            _ => Reaction::Serve,
        });
        let options = Options {
            plain_http: vec!["registry.invalid".to_string(), "docker.io".to_string()],
            http_proxy: Some(format!("http://ana:{PASSWORD}@{}", proxy.host())),
            ..options()
        };
        let client = qyvol_remote::Client::new(options, Box::new(qyvol_remote::Anonymous), Box::new(|_| {}));
        let name = name.parse().unwrap();
        let repository = qyvol_remote::Repository::new(&client, &name, qyvol_remote::Access::Pull).unwrap();
        assert!(within(LIMIT, || read_from(&repository, &image)).unwrap() == image.layer);
        let asked = proxy.seen().into_iter().find(|s| s.head.target.starts_with(place));
        assert_eq!(asked.unwrap().head.header("proxy-authorization"), Some(BASIC));
    }
}

// [REG-027]
#[test]
fn foreign_manifest_is_bounded_and_read_as_what_it_came_as() {
    let image = Image::new(10);
    let manifest = |kind: &'static str, act: fn(Response) -> Response| {
        let server = Server::faulty(image.registry(), move |head| match head.is("GET", "/manifests/") {
            true => Reaction::edit(move |answer| act(answer.with("content-type", kind))),
            false => Reaction::Serve,
        });
        let name = name(&server, "app:1");
        let repository = repository(&client(), &server);
        within(LIMIT, || repository.resolve_foreign(&name))
    };
    let same = |answer: Response| answer;
    assert!(manifest(media_type::IMAGE_MANIFEST, same).unwrap().is_some());
    for kind in [media_type::IMAGE_INDEX, "application/json", "text/html"] {
        let error = manifest(kind, same).unwrap_err();
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    }
    for act in [
        (|answer| answer.framed(Framing::Endless)) as fn(Response) -> Response,
        |answer| answer.with("docker-content-digest", Digest::of(b"x").to_string()),
        |answer| answer.body("{}"),
    ] {
        let error = manifest(media_type::IMAGE_MANIFEST, act).unwrap_err();
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    }
    // An index is read, and a requested digest is checked.
    let mut registry = image.registry();
    let entry = serde_json::to_value(image.descriptor()).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    registry.put_manifest("app", "all", media_type::IMAGE_INDEX, index.as_bytes());
    let server = Server::new(registry);
    let repository = repository(&client(), &server);
    let found = repository.resolve_foreign(&name(&server, "app:all")).unwrap().unwrap();
    assert!(matches!(&found.manifest, ForeignManifest::Index(entries) if entries.len() == 1));
    assert_eq!(found.digest, Digest::of(index.as_bytes()));
    let found = repository.foreign_manifest(&image.manifest.digest()).unwrap().unwrap();
    assert!(matches!(found.manifest, ForeignManifest::Image(_)));
    assert!(repository.resolve_foreign(&name(&server, "app:2")).unwrap().is_none());
}

/// A server in TLS that gives each request the answer of a function.
fn secure(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (String, Vec<u8>) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (certificate, key) = certificate();
    let chain = CertificateDer::pem_slice_iter(&certificate)
        .map(Result::unwrap)
        .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&key).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut head = Vec::new();
            let mut byte = [0];
            // A client that does not trust it says so here.
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            if head.is_empty() {
                continue;
            }
            let answer = answer(&String::from_utf8_lossy(&head));
            let _ = stream.write_all(&answer);
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (host, certificate)
}

// [REG-028]
#[test]
fn foreign_path_trusts_what_the_operator_says_and_never_leaves_https_for_http() {
    if lacks(&["certificates", "openssl"]) {
        return;
    }
    let image = Image::new(10);
    let plain = Server::new(image.registry());
    let (length, target) = (
        image.layer.len(),
        format!("http://{}/v2/app/blobs/{}", plain.host(), image.layer().digest),
    );
    let layer = image.layer.clone();
    let (host, certificate) = secure(move |head| {
        let (status, field, body) = match head.split(' ').nth(1).unwrap_or_default() {
            _ if head.starts_with("HEAD ") => (200, String::new(), &[][..]),
            path if path.starts_with("/v2/whole/") => (200, String::new(), layer.as_slice()),
            _ => (307, format!("location: {target}\r\n"), &[][..]),
        };
        let length = if status == 200 { length } else { 0 };
        let head = format!("HTTP/1.1 {status} X\r\n{field}content-length: {length}\r\nconnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    });
    let read = |name: &str, ca: Option<Vec<u8>>| {
        let options = Options {
            tls: vec![host.clone()],
            ca,
            timeout: Some(Duration::from_secs(1)),
            ..options()
        };
        let client = qyvol_remote::Client::new(options, Box::new(qyvol_remote::Anonymous), Box::new(|_| {}));
        let name = format!("{host}/{name}:1").parse().unwrap();
        let repository = qyvol_remote::Repository::new(&client, &name, qyvol_remote::Access::Pull).unwrap();
        within(LIMIT, || read_from(&repository, &image))
    };
    let error = failing(read("whole", None));
    assert!(matches!(of(&error), RemoteError::Tls { .. }), "{error:?}");
    assert!(read("whole", Some(certificate.clone())).unwrap() == image.layer);
    let error = failing(read("app", Some(certificate)));
    assert!(of(&error).to_string().contains("from HTTPS to HTTP"), "{error:?}");
    assert!(plain.seen().is_empty());
}
