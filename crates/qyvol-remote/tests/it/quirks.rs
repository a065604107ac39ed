//! What real registries do that the specification doesn't say. Each with its
//! source.

use std::sync::atomic::{AtomicUsize, Ordering};

use qyvol_remote::{Access, Client, Credential, Credentials, Operation, Options, RemoteError, Repository, Secret};
use qyvol_store::{MemoryStore, NoopReporter, Push, Referrers, copy};
use qyvol_types::{Digest, Reference, media_type};
use serde_json::{Value, json};

use crate::registry::{Auth, Registry};
use crate::server::{Head, Reaction, Response, Server};
use crate::support::*;

/// Pushes a signed image.
fn push_signed(server: &Server, image: &Image) -> Result<Digest, RemoteError> {
    let (signature, layer) = referrer(&image.descriptor(), "signature");
    let store = image.store();
    store.add(media_type::EMPTY, b"{}").unwrap();
    store.add(media_type::SIGSTORE_BUNDLE, &layer).unwrap();
    store.push(&signature.descriptor(), &mut signature.raw()).unwrap();
    let to = repository(&client(), server);
    copy(&store, &to, &image.descriptor(), &|_| true, &NoopReporter).unwrap();
    to.publish_referrers()?;
    to.tag("1", &image.manifest)?;
    Ok(signature.digest())
}

/// Whether the image and its one signature arrive from a registry.
fn is_pulled_signed(server: &Server, image: &Image, signature: &Digest) -> bool {
    let store = MemoryStore::new();
    pull(server, &store).unwrap();
    let found = store.referrers(&image.manifest.digest()).unwrap();
    image.is_in(&store) && found.iter().map(|d| &d.digest).eq([signature])
}

fn without_api() -> Registry {
    Registry {
        referrers: false,
        ..Registry::default()
    }
}

/// Credentials for one registry, whatever the server's name.
struct ForDockerHub;

impl Credentials for ForDockerHub {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError> {
        assert_eq!((registry, repository), ("docker.io", "library/app"));
        Ok(Some(Credential::Password {
            user: "ana".to_string(),
            password: Secret::new(PASSWORD),
        }))
    }
}

// Docker Hub's API is at another host than its name, and its official images
// are below `library/` (oras-go, `registry/reference.go`; Docker's
// `distribution/reference`). [REG-020]
#[test]
fn docker_hub_is_reached_at_its_api_under_the_name_that_users_write() {
    let image = Image::new(1000);
    let mut registry = Registry {
        auth: Auth::Basic(BASIC.to_string()),
        ..Registry::default()
    };
    registry.put_manifest("library/app", "1", media_type::IMAGE_MANIFEST, image.manifest.raw());
    // Stands in for Docker Hub as the proxy to it.
    let server = Server::faulty(registry, |head| match head.method.as_str() {
        "CONNECT" => Reaction::Tunnel,
        _ => Reaction::Serve,
    });
    let options = Options {
        plain_http: vec!["docker.io".to_string()],
        http_proxy: Some(format!("http://{}", server.host())),
        ..options()
    };
    let client = Client::new(options, Box::new(ForDockerHub), Box::new(|_| {}));
    let name: Reference = "docker.io/app:1".parse().unwrap();
    let repository = Repository::new(&client, &name, Access::Pull).unwrap();
    assert_eq!((repository.registry(), repository.name()), ("docker.io", "app"));
    let found = repository.resolve(&name).unwrap().unwrap();
    assert_eq!(found.digest, image.manifest.digest());
    let seen = server.seen();
    let connected: Vec<&str> = seen
        .iter()
        .filter(|s| s.head.method == "CONNECT")
        .map(|s| s.head.target.as_str())
        .collect();
    assert!(!connected.is_empty());
    assert!(
        connected.iter().all(|target| *target == "registry-1.docker.io:80"),
        "{connected:?}"
    );
}

/// GitHub's registry: no `PATCH` of more than 4 MiB, refused with 416
/// (rust-oci-client #35, ocx-sh/ocx #237).
fn ghcr(fault: impl Fn(&Head) -> Option<Reaction> + Send + Sync + 'static) -> Server {
    Server::faulty(without_api(), move |head| {
        let length = head.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        match fault(head) {
            Some(act) => act,
            None if head.method == "PATCH" && length > 4 << 20 => Reaction::Response(
                Response::new(416)
                    .body(r#"{"errors":[{"code":"REQUESTED_RANGE_NOT_SATISFIABLE","message":"too large: 4.00MiB"}]}"#),
            ),
            None => Reaction::Serve,
        }
    })
}

// [REG-021]
#[test]
fn upload_to_ghcr_resumes_in_chunks_that_it_takes() {
    let image = Image::new(9 << 20);
    let broken = AtomicUsize::new(0);
    let server = ghcr(move |head| {
        let is_large = head.header("content-length").is_some_and(|v| v.len() > 6);
        let is_first = head.method == "PUT" && is_large && broken.fetch_add(1, Ordering::SeqCst) == 0;
        is_first.then_some(Reaction::Break(1000))
    });
    push(&client(), &server, &image).unwrap();
    let patches: Vec<usize> = bodies(&server, "PATCH");
    assert!(
        !patches.is_empty() && patches.iter().all(|n| *n <= 4 << 20),
        "{patches:?}"
    );
    assert!(is_stored(&server, &image));
}

// [REG-021]
#[test]
fn chunks_are_halved_where_a_registry_takes_less_than_ghcr() {
    for status in [413, 416] {
        let image = Image::new(5 << 20);
        let server = Server::faulty(without_api(), move |head| {
            let length = head.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
            match head.target.contains("/uploads/") && length > 1 << 20 {
                true if head.method == "PUT" => Reaction::Response(Response::new(413)),
                true => Reaction::Response(Response::new(status)),
                false => Reaction::Serve,
            }
        });
        push(&client(), &server, &image).unwrap();
        assert!(bodies(&server, "PATCH").contains(&(1 << 20)), "{status}");
        assert!(is_stored(&server, &image), "{status}");
    }
}

// [REG-021]
#[test]
fn blob_is_sent_in_one_request_again_if_chunks_of_every_size_are_refused() {
    let image = Image::new(5 << 20);
    let broken = AtomicUsize::new(0);
    let server = Server::faulty(without_api(), move |head| {
        let is_large = head.header("content-length").is_some_and(|v| v.len() > 6);
        match head.method.as_str() {
            "PATCH" => Reaction::Response(Response::new(413)),
            "PUT" if is_large && broken.fetch_add(1, Ordering::SeqCst) == 0 => Reaction::Break(1000),
            _ => Reaction::Serve,
        }
    });
    push(&client(), &server, &image).unwrap();
    assert!(is_stored(&server, &image));
}

fn bodies(server: &Server, method: &str) -> Vec<usize> {
    let seen = server.seen().into_iter();
    seen.filter(|s| s.head.is(method, "/uploads/"))
        .map(|s| s.body)
        .collect()
}

fn is_stored(server: &Server, image: &Image) -> bool {
    let store = MemoryStore::new();
    pull(server, &store).unwrap();
    image.is_in(&store)
}

// GitHub's registry answers the referrers API with a redirect to a page of
// github.com, which answers 429 (artifacthub/hub #4785); other registries send
// a page for people (oras-go #633), or 404. [REG-022]
#[test]
fn redirect_or_page_in_place_of_the_referrers_api_means_that_there_is_none() {
    let image = Image::new(1000);
    let page = Server::faulty(Registry::default(), |_| Reaction::Response(Response::new(429)));
    let elsewhere = format!("http://{}/-/v2/packages", page.host());
    let acts: [Box<dyn Fn() -> Response + Send + Sync>; 4] = [
        Box::new(move || Response::new(303).with("location", elsewhere.clone())),
        Box::new(|| Response::new(303)),
        Box::new(|| {
            Response::new(200)
                .with("content-type", "text/html; charset=utf-8")
                .body("<html></html>")
        }),
        Box::new(|| Response::new(404)),
    ];
    for act in acts {
        let server = Server::faulty(without_api(), move |head| match head.is("GET", "/referrers/") {
            true => Reaction::Response(act()),
            false => Reaction::Serve,
        });
        let signature = push_signed(&server, &image).unwrap();
        assert!(is_pulled_signed(&server, &image, &signature));
    }
    assert_eq!(page.connections(), 0);
}

// GitLab's registry has no referrers API, and takes `sha256-…` for the digest
// where there is no such tag (oras-go #1396). [REG-006]
#[test]
fn signed_push_to_gitlab_succeeds_every_time() {
    for round in 0..12 {
        let image = Image::new(500 + round);
        let server = Server::faulty(without_api(), {
            let subject = image.manifest.clone();
            let written = AtomicUsize::new(0);
            let pushed = AtomicUsize::new(0);
            move |head| {
                let is_list = head.target.contains("/manifests/sha256-");
                if head.is("PUT", &format!("/manifests/{}", subject.digest())) {
                    pushed.fetch_add(1, Ordering::SeqCst);
                }
                if head.method == "PUT" && is_list {
                    written.fetch_add(1, Ordering::SeqCst);
                }
                let is_subject = pushed.load(Ordering::SeqCst) > 0 && written.load(Ordering::SeqCst) == 0;
                if head.method == "GET" && is_list && is_subject {
                    return Reaction::Response(
                        Response::new(200)
                            .with("content-type", media_type::IMAGE_MANIFEST)
                            .body(subject.raw().to_vec()),
                    );
                }
                Reaction::Serve
            }
        });
        let signature = push_signed(&server, &image).unwrap();
        assert!(is_pulled_signed(&server, &image, &signature));
    }
}

// Amazon ECR states the end of the first chunk in its answer to every later one
// (aws/containers-roadmap #2831).
#[test]
fn stale_range_of_ecr_in_the_answer_to_a_chunk_is_ignored() {
    let image = Image::new(9 << 20);
    let registry = Registry {
        auth: Auth::Basic(BASIC.to_string()),
        largest: 4 << 20,
        ..without_api()
    };
    let server = Server::faulty(registry, |head| match head.method.as_str() {
        "PATCH" => Reaction::edit(|answer| match answer.status {
            202 => answer.with("range", "0-4194303"),
            _ => answer,
        }),
        _ => Reaction::Serve,
    });
    let client = client_as(ana(&server));
    push(&client, &server, &image).unwrap();
    let store = MemoryStore::new();
    pull_with(&client, &server, &store).unwrap();
    assert!(image.is_in(&store));
    assert_eq!(bodies(&server, "PATCH").iter().sum::<usize>(), 9 << 20);
}

// The distribution project's registry refuses deletes unless they are enabled,
// and tags always in older releases (distribution/distribution #1222).
#[test]
fn refused_delete_of_a_tag_is_named_as_one() {
    let image = Image::new(1000);
    let server = Server::faulty(image.registry(), |head| match head.method.as_str() {
        "DELETE" => Reaction::Response(Response::new(405).body(r#"{"errors":[{"code":"UNSUPPORTED"}]}"#)),
        _ => Reaction::Serve,
    });
    let name = name(&server, "app:1");
    let repository = Repository::new(&client(), &name, Access::Delete).unwrap();
    let error = repository.delete(&name).unwrap_err();
    assert!(
        matches!(&error, RemoteError::Status { status: 405, operation: Operation::DeleteTag(tag), .. } if tag == "1"),
        "{error:?}"
    );
}

// Azure's registry: a refresh token, stored as Docker's identity token with a
// zero user name, is exchanged by `POST` for `access_token`
// (github.com/Azure/acr, `docs/AAD-OAuth.md`).
#[test]
fn refresh_token_of_acr_is_exchanged_for_an_access_token() {
    let image = Image::new(1000);
    let mut registry = image.registry();
    registry.auth = Auth::Bearer(String::new());
    let server = Server::faulty(registry, |head| match head.path() {
        "/token" if head.method != "POST" => Reaction::Response(Response::new(400)),
        "/token" => Reaction::edit(|answer| {
            let token: Value = serde_json::from_slice(&answer.body).unwrap();
            Response::new(200).body(json!({"access_token": token["token"]}).to_string())
        }),
        _ => Reaction::Serve,
    });
    let identity = qyvol_remote::StaticCredential {
        registry: server.host(),
        credential: Credential::Identity(Secret::new("refresh")),
    };
    let store = MemoryStore::new();
    pull_with(&client_as(identity), &server, &store).unwrap();
    assert!(image.is_in(&store));
    let seen = server.seen();
    let exchange = seen.iter().find(|s| s.head.path() == "/token").unwrap();
    let form: Vec<_> = form_urlencoded::parse(&exchange.start).into_owned().collect();
    let field = |name: &str| {
        form.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(field("grant_type"), Some("refresh_token"));
    assert_eq!(field("refresh_token"), Some("refresh"));
    assert_eq!(field("scope"), Some("repository:app:pull"));
}

// Upload locations may be relative (apple/swift-container-plugin #44), and
// Artifactory refuses uploads with an `Accept` field (dotnet/sdk-container-builds
// #382).
#[test]
fn relative_location_of_artifactory_is_followed_without_an_accept_field() {
    let image = Image::new(50_000);
    let server = Server::faulty(Registry::default(), |head| {
        if head.target.contains("/uploads/") && head.header("accept").is_some() {
            return Reaction::Response(Response::new(406));
        }
        match head.method.as_str() {
            "POST" => Reaction::edit(|answer| {
                let location = answer.headers.iter().find(|(name, _)| name == "location");
                let id = location.unwrap().1.rsplit('/').next().unwrap().to_string();
                answer.with("location", format!("{id}?state=a%2Bb"))
            }),
            _ => Reaction::Serve,
        }
    });
    push(&client(), &server, &image).unwrap();
    assert!(is_stored(&server, &image));
    assert!(server.count("PUT", "?state=a%2Bb&digest=sha256%3A") > 0);
}

// Quay wrote the position of an upload as a range of bytes, `bytes=0-N`
// (quay/quay #325).
#[test]
fn upload_to_quay_resumes_where_its_range_of_bytes_says() {
    let image = Image::new(3_000_000);
    let broken = AtomicUsize::new(0);
    let server = Server::faulty(Registry::default(), move |head| {
        let is_large = head.header("content-length").is_some_and(|v| v.len() > 6);
        match head.method.as_str() {
            "PUT" if is_large && broken.fetch_add(1, Ordering::SeqCst) == 0 => Reaction::Break(2_000_000),
            "GET" if head.target.contains("/uploads/") => Reaction::edit(|answer| {
                let range = answer.headers.iter().find(|(name, _)| name == "range");
                let range = format!("bytes={}", range.unwrap().1);
                answer.with("range", range)
            }),
            _ => Reaction::Serve,
        }
    });
    push(&client(), &server, &image).unwrap();
    assert!(is_stored(&server, &image));
    assert_eq!(bodies(&server, "PATCH").iter().sum::<usize>(), 1_000_000);
}

// Harbor's proxy projects put the origin's repositories below a prefix
// (goharbor.io, "Configure Proxy Cache"): a mirror with a prefix. [REG-023]
#[test]
fn mirror_is_tried_first_and_the_registry_if_it_fails() {
    let image = Image::new(50_000);
    let mut registry = Registry::default();
    registry.put_blob("cache/app", &image.layer);
    registry.put_manifest("cache/app", "1", media_type::IMAGE_MANIFEST, image.manifest.raw());
    let harbor = Server::new(registry);
    let origin = Server::new(image.registry());
    let entry = qyvol_remote::HostOptions {
        mirrors: vec!["127.0.0.1:1".to_string(), format!("{}/cache", harbor.host())],
        ..Default::default()
    };
    let options = Options {
        hosts: [(origin.host(), entry)].into(),
        ..options()
    };
    let client = Client::new(options, Box::new(qyvol_remote::Anonymous), Box::new(|_| {}));
    let store = MemoryStore::new();
    pull_with(&client, &origin, &store).unwrap();
    assert!(image.is_in(&store));
    // Only the config is missing from the cache.
    assert_eq!(harbor.count("GET", &image.layer().digest.to_string()), 1);
    assert_eq!(origin.count("GET", &image.layer().digest.to_string()), 0);
    assert_eq!(origin.count("GET", "/manifests/"), 0);
    let config = image.manifest.config().digest.to_string();
    assert_eq!((harbor.count("GET", &config), origin.count("GET", &config)), (1, 1));
    // Nothing is written to a mirror.
    let other = Image::new(100);
    push(&client, &origin, &other).unwrap();
    assert_eq!(harbor.count("PUT", "/"), 0);
}
