//! Lists of tags and of referrers that are false, endless, or not lists.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use qyvol_remote::{RemoteError, Repository};
use qyvol_store::{Exists, MemoryStore, NoopReporter, Push, Referrers, Reporter, copy};
use qyvol_types::{Descriptor, Digest, ImageManifest, media_type};
use serde_json::{Value, json};

use crate::registry::{Registry, list};
use crate::server::{Framing, Head, Reaction, Response, Server};
use crate::support::{tags as support_tags, *};

const LIMIT: Duration = Duration::from_secs(30);

fn tags(act: impl Fn(&Head) -> Reaction + Send + Sync + 'static) -> (Result<Vec<String>, RemoteError>, usize) {
    let mut registry = Registry::default();
    for tag in ["1", "2", "3"] {
        registry.put_manifest("app", tag, media_type::IMAGE_MANIFEST, tag.as_bytes());
    }
    registry.page = 2;
    let server = Server::faulty(registry, act);
    let found = within(LIMIT, || support_tags(&repository(&client(), &server)));
    (found, server.seen().len())
}

#[test]
fn all_pages_of_tags_are_read() {
    let (found, asked) = tags(|_| Reaction::Serve);
    assert_eq!(found.unwrap(), ["1", "2", "3"]);
    assert_eq!(asked, 2);
}

#[test]
fn endless_pages_of_tags_are_given_up() {
    let (found, asked) = tags(|head| {
        let next = format!("</v2/app/tags/list?last={}>; rel=\"next\"", head.nth);
        let body = json!({"tags": [format!("t{}", head.nth)]});
        Reaction::Response(Response::new(200).with("link", next).body(body.to_string()))
    });
    let error = found.unwrap_err();
    assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
    assert!(!error.is_temporary() && asked <= 1100);
    // Empty pages are no progress at all.
    let (found, asked) = tags(|_| {
        let next = "</v2/app/tags/list?last=x>; rel=\"next\"";
        Reaction::Response(Response::new(200).with("link", next).body("{\"tags\":null}"))
    });
    assert!(!found.unwrap_err().is_temporary());
    assert_eq!(asked, 1);
}

#[test]
fn next_page_on_another_host_is_refused() {
    let other = Server::new(Registry::default());
    for place in [format!("http://{}/x", other.host()), format!("//{}/x", other.host())] {
        let link = format!("<{place}>; rel=\"next\"");
        let (found, asked) = tags(move |_| {
            let link = link.clone();
            Reaction::edit(move |answer| answer.with("link", link))
        });
        let error = found.unwrap_err();
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
        assert_eq!((asked, other.seen().len()), (1, 0));
    }
}

#[test]
fn invalid_tag_is_refused_and_escaped() {
    for bad in ["", "../x", "a b", "a\u{1b}[2J", "\u{e9}", "-x"] {
        let (found, _) =
            tags(move |_| Reaction::Response(Response::new(200).body(json!({"tags": ["1", bad]}).to_string())));
        let error = found.unwrap_err();
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
}

#[test]
fn answer_that_is_no_list_of_tags_is_refused() {
    for body in ["", "<html>", "[]7", "{\"tags\":7}", "{\"tags\":[7]}"] {
        let (found, asked) = tags(move |_| Reaction::Response(Response::new(200).body(body)));
        let error = found.unwrap_err();
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
        assert_eq!(asked, 1);
    }
    let (found, asked) = tags(|_| Reaction::Response(Response::new(200).body([b' '; 65536]).framed(Framing::Endless)));
    assert!(!found.unwrap_err().is_temporary());
    assert_eq!(asked, 1);
}

#[test]
fn repositories_of_a_registry_are_visited_page_by_page() {
    let server = Server::faulty(Registry::default(), |head| match head.target.as_str() {
        "/v2/_catalog?n=1000" => Reaction::Response(
            Response::new(200)
                .with("link", "</v2/_catalog?n=1000&last=b>; rel=\"next\"")
                .body(r#"{"repositories":["a","b"]}"#),
        ),
        _ => Reaction::Response(Response::new(200).body(r#"{"repositories":["c/d"]}"#)),
    });
    let mut found = Vec::new();
    client()
        .visit_repositories(&server.host(), &mut |name| found.push(name))
        .unwrap();
    assert_eq!(found, ["a", "b", "c/d"]);
    assert_eq!(server.seen().len(), 2);
}

// More tags than are held at once anywhere.
#[test]
fn long_list_of_tags_is_visited_to_its_end() {
    const PAGES: usize = 150;
    let server = Server::faulty(Registry::default(), |head| {
        let page = head.nth;
        let tags: Vec<String> = (0..1000).map(|i| format!("t{page}-{i}")).collect();
        let answer = Response::new(200).body(json!({"tags": tags}).to_string());
        Reaction::Response(match page < PAGES {
            true => answer.with("link", format!("</v2/app/tags/list?page={page}>; rel=\"next\"")),
            false => answer,
        })
    });
    let mut count = 0;
    repository(&client(), &server).visit_tags(&mut |_| count += 1).unwrap();
    assert_eq!(count, PAGES * 1000);
}

/// Collects warnings.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn warned(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_string());
    }
}

/// An image with one signature, on a registry that gives this list for it.
struct Signed {
    image: Image,
    signature: ImageManifest,
    registry: Registry,
}

impl Signed {
    fn new() -> Signed {
        let image = Image::new(1000);
        let mut registry = image.registry();
        let (signature, layer) = referrer(&image.descriptor(), "good");
        registry.put_blob("app", b"{}");
        registry.put_blob("app", &layer);
        let digest = signature.digest().to_string();
        registry.put_manifest("app", &digest, media_type::IMAGE_MANIFEST, signature.raw());
        Signed {
            image,
            signature,
            registry,
        }
    }

    fn entry(&self) -> Value {
        serde_json::to_value(self.signature.descriptor()).unwrap()
    }

    /// The referrers that arrive with the image, and the warnings.
    fn pulled(self, entries: Vec<Value>) -> (Vec<Digest>, Vec<String>) {
        let part = format!("/referrers/{}", self.image.manifest.digest());
        let server = Server::faulty(self.registry, move |head| match head.is("GET", &part) {
            true => Reaction::Response(list(&entries)),
            false => Reaction::Serve,
        });
        let store = MemoryStore::new();
        let from = repository(&client(), &server);
        let root = from.resolve(&name(&server, "app:1")).unwrap().unwrap();
        let warnings = Warnings::default();
        within(LIMIT, || copy(&from, &store, &root, &|_| true, &warnings).unwrap());
        assert!(self.image.is_in(&store));
        let found = store.referrers(&self.image.manifest.digest()).unwrap();
        let warnings = warnings.0.into_inner().unwrap();
        (found.into_iter().map(|d| d.digest).collect(), warnings)
    }
}

#[test]
fn signature_is_copied_with_its_image() {
    let signed = Signed::new();
    let (entries, due) = (vec![signed.entry()], signed.signature.digest());
    let (found, warnings) = signed.pulled(entries);
    assert_eq!((found, warnings.len()), (vec![due], 0));
}

#[test]
fn invalid_referrer_is_skipped_with_a_warning() {
    let mut signed = Signed::new();
    let due = signed.signature.digest();
    let other = Image::new(2000);
    let (foreign, _) = referrer(&other.descriptor(), "foreign");
    for manifest in [&other.manifest, &foreign] {
        let digest = manifest.digest().to_string();
        signed
            .registry
            .put_manifest("app", &digest, media_type::IMAGE_MANIFEST, manifest.raw());
    }
    let mut resized = signed.entry();
    resized["size"] = 7.into();
    let of = |d: Descriptor| serde_json::to_value(d).unwrap();
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    let index_digest = Descriptor::of("", index).digest.to_string();
    signed
        .registry
        .put_manifest("app", &index_digest, media_type::IMAGE_INDEX, index);
    let entries = vec![
        of(Descriptor::of(media_type::IMAGE_MANIFEST, b"gone")),
        of(Descriptor::of(media_type::IMAGE_MANIFEST, index)),
        of(other.descriptor()),
        of(foreign.descriptor()),
        signed.entry(),
        signed.entry(),
        resized,
    ];
    let (found, warnings) = signed.pulled(entries);
    assert_eq!(found, [due]);
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}

#[test]
fn unreadable_entries_are_skipped() {
    let signed = Signed::new();
    let due = signed.signature.digest();
    let mut bare = signed.entry();
    bare.as_object_mut().unwrap().remove("artifactType");
    let entries = vec![
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!({"mediaType": "text/plain", "digest": due.to_string(), "size": 1}),
        json!({"mediaType": media_type::IMAGE_MANIFEST, "digest": "md5:00", "size": 1}),
        json!({"mediaType": media_type::IMAGE_MANIFEST, "digest": due.to_string(), "size": -1}),
        bare,
    ];
    let (found, _) = signed.pulled(entries);
    assert_eq!(found, [due]);
}

#[test]
fn number_of_referrers_that_are_read_is_bounded() {
    let signed = Signed::new();
    let entries: Vec<Value> = (0..10_000u32)
        .map(|i| serde_json::to_value(Descriptor::of(media_type::IMAGE_MANIFEST, &i.to_le_bytes())).unwrap())
        .collect();
    let (found, warnings) = signed.pulled(entries);
    assert!(found.is_empty());
    assert!(
        warnings.len() <= 1025 && warnings[0].contains("10000"),
        "{}",
        warnings.len()
    );
}

#[test]
fn endless_pages_of_referrers_are_bounded() {
    let signed = Signed::new();
    let entry = signed.entry();
    let server = Server::faulty(signed.registry.clone(), move |head| {
        match head.is("GET", "/referrers/") {
            true => {
                let next = format!("<{}?p={}>; rel=\"next\"", head.path(), head.nth);
                Reaction::Response(list(&[&entry]).with("link", next))
            }
            false => Reaction::Serve,
        }
    });
    let subject = signed.image.manifest.digest();
    let found = within(LIMIT, || repository(&client(), &server).referrers(&subject).unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(server.count("GET", "/referrers/"), 64);
}

#[test]
fn all_pages_of_referrers_are_read_from_the_registry_alone() {
    let mut signed = Signed::new();
    let subject = signed.image.manifest.digest();
    for i in 0..4 {
        let (manifest, _) = referrer(&signed.image.descriptor(), &format!("s{i}"));
        let digest = manifest.digest().to_string();
        signed
            .registry
            .put_manifest("app", &digest, media_type::IMAGE_MANIFEST, manifest.raw());
    }
    signed.registry.page = 2;
    let server = Server::new(signed.registry.clone());
    assert_eq!(repository(&client(), &server).referrers(&subject).unwrap().len(), 5);
    let other = Server::new(Registry::default());
    let link = format!("<http://{}/x>; rel=\"next\"", other.host());
    let server = Server::faulty(signed.registry, move |_| {
        let link = link.clone();
        Reaction::edit(move |answer| answer.with("link", link))
    });
    let error = repository(&client(), &server).referrers(&subject).unwrap_err();
    assert!(matches!(of(&error), RemoteError::Protocol { .. }), "{error:?}");
    assert!(other.seen().is_empty());
}

#[test]
fn index_that_is_no_list_of_referrers_is_refused() {
    for body in ["", "<html>", "7", "{\"manifests\":7}"] {
        let signed = Signed::new();
        let server = Server::faulty(signed.registry, move |head| match head.is("GET", "/referrers/") {
            true => Reaction::Response(
                Response::new(200)
                    .with("content-type", media_type::IMAGE_INDEX)
                    .body(body),
            ),
            false => Reaction::Serve,
        });
        let subject = signed.image.manifest.digest();
        let error = repository(&client(), &server).referrers(&subject).unwrap_err();
        assert!(matches!(of(&error), RemoteError::Protocol { .. }), "{error:?}");
        assert!(!of(&error).is_temporary());
    }
}

fn fallback(digest: &Digest) -> String {
    format!("sha256-{}", digest.hex())
}

/// Pushes a signature as another process would.
fn sign(server: &Server, image: &Image, text: &str) -> (Repository, Digest) {
    let (manifest, layer) = referrer(&image.descriptor(), text);
    let store = image.store();
    store.add(media_type::EMPTY, b"{}").unwrap();
    store.add(media_type::SIGSTORE_BUNDLE, &layer).unwrap();
    store.push(&manifest.descriptor(), &mut manifest.raw()).unwrap();
    let to = repository(&client(), server);
    copy(&store, &to, &manifest.descriptor(), &|_| true, &NoopReporter).unwrap();
    (to, manifest.digest())
}

fn without_api(image: &Image) -> Registry {
    let mut registry = image.registry();
    registry.referrers = false;
    registry
}

#[test]
fn signature_is_listed_under_the_tag_where_there_is_no_api() {
    let image = Image::new(1000);
    let server = Server::new(without_api(&image));
    let (to, digest) = sign(&server, &image, "one");
    to.publish_referrers().unwrap();
    let found = repository(&client(), &server)
        .referrers(&image.manifest.digest())
        .unwrap();
    assert_eq!(found.iter().map(|d| d.digest).collect::<Vec<_>>(), [digest]);
    assert!(repository(&client(), &server).exists(&found[0]).unwrap());
    // Once is enough.
    let before = server.count("PUT", "/manifests/");
    to.publish_referrers().unwrap();
    assert_eq!(server.count("PUT", "/manifests/"), before);
}

#[test]
fn image_under_the_referrers_tag_is_not_overwritten() {
    let image = Image::new(1000);
    let tag = fallback(&image.manifest.digest());
    let squatter = Image::new(2000);
    let mut registry = without_api(&image);
    registry.put_manifest("app", &tag, media_type::IMAGE_MANIFEST, squatter.manifest.raw());
    let server = Server::new(registry);
    let found = repository(&client(), &server)
        .referrers(&image.manifest.digest())
        .unwrap();
    assert!(found.is_empty());
    let (to, _) = sign(&server, &image, "one");
    for _ in 0..2 {
        let error = to.publish_referrers().unwrap_err();
        assert!(matches!(error, RemoteError::Protocol { .. }), "{error:?}");
        assert!(!error.is_temporary());
    }
    let kept = server.registry(|registry| registry.manifest("app", &tag).unwrap().1.clone());
    assert_eq!(kept, squatter.manifest.raw());
}

// [REG-006]
#[test]
fn superseded_lists_are_deleted_where_the_registry_allows_it() {
    let image = Image::new(1000);
    for allows in [true, false] {
        let server = Server::faulty(without_api(&image), move |head| match head.method.as_str() {
            "DELETE" if !allows => Reaction::Response(Response::new(405)),
            _ => Reaction::Serve,
        });
        for text in ["one", "two", "three"] {
            sign(&server, &image, text).0.publish_referrers().unwrap();
        }
        let found = repository(&client(), &server)
            .referrers(&image.manifest.digest())
            .unwrap();
        assert_eq!(found.len(), 3);
        let lists = server.registry(|registry| {
            let lists = registry.manifests.iter();
            lists
                .filter(|((_, name), (kind, _))| kind == media_type::IMAGE_INDEX && name.contains(':'))
                .count()
        });
        assert_eq!(lists, if allows { 1 } else { 3 });
    }
}

#[test]
fn failed_publish_is_completed_by_the_next_call() {
    let image = Image::new(1000);
    let tag = fallback(&image.manifest.digest());
    let part = tag.clone();
    let server = Server::faulty(without_api(&image), move |head| {
        match head.is("PUT", &part) && head.nth <= 1 + RETRIES as usize {
            true => Reaction::Response(Response::new(503)),
            false => Reaction::Serve,
        }
    });
    let (to, digest) = sign(&server, &image, "one");
    assert!(to.publish_referrers().unwrap_err().is_temporary());
    to.publish_referrers().unwrap();
    let found = repository(&client(), &server)
        .referrers(&image.manifest.digest())
        .unwrap();
    assert_eq!(found.iter().map(|d| d.digest).collect::<Vec<_>>(), [digest]);
}

#[test]
fn entries_and_fields_of_others_stay_in_the_list() {
    let image = Image::new(1000);
    let tag = fallback(&image.manifest.digest());
    let mut entries: Vec<Value> = (0..17_000u32)
        .map(|i| serde_json::to_value(Descriptor::of("x", &i.to_le_bytes())).unwrap())
        .collect();
    entries.push(json!({"unknown": true}));
    let index = json!({"schemaVersion": 2, "mediaType": media_type::IMAGE_INDEX, "manifests": entries,
        "annotations": {"kept": "yes"}});
    let mut registry = without_api(&image);
    registry.put_manifest("app", &tag, media_type::IMAGE_INDEX, index.to_string().as_bytes());
    let server = Server::new(registry);
    let (to, digest) = sign(&server, &image, "one");
    to.publish_referrers().unwrap();
    let now = server.registry(|registry| registry.manifest("app", &tag).unwrap().1.clone());
    let now: Value = serde_json::from_slice(&now).unwrap();
    let list = now["manifests"].as_array().unwrap();
    assert_eq!(list.len(), 17_002);
    assert_eq!(list.last().unwrap()["digest"], digest.to_string());
    assert_eq!(now["annotations"]["kept"], "yes");
}

/// Eight signers at the same time: all of their entries must be there.
fn sign_at_once(server: &Server, image: &Image) {
    let begin = Instant::now();
    let mut due: Vec<Digest> = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                scope.spawn(move || {
                    let (to, digest) = sign(server, image, &format!("signer {i}"));
                    to.publish_referrers().unwrap();
                    digest
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    due.sort();
    let found = repository(&client(), server)
        .referrers(&image.manifest.digest())
        .unwrap();
    assert_eq!(found.iter().map(|d| d.digest).collect::<Vec<_>>(), due);
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn concurrent_signers_keep_each_others_entries() {
    let image = Image::new(1000);
    sign_at_once(&Server::new(without_api(&image)), &image);
}

#[test]
fn concurrent_signers_on_a_slow_network_keep_each_others_entries() {
    let image = Image::new(1000);
    let tag = fallback(&image.manifest.digest());
    let server = Server::faulty(without_api(&image), move |head| {
        if head.is("PUT", &tag) && head.nth % 2 == 0 {
            thread::sleep(Duration::from_millis(120));
        }
        Reaction::Serve
    });
    sign_at_once(&server, &image);
}
