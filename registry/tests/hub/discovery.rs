//! Content discovery: tags, referrers, repositories.

use qyvol_types::Digest;
use serde_json::json;

use crate::support::{IMAGE, INDEX, Response, Server, image, subject};

/// The path of the next page.
fn next(answer: &Response) -> Option<String> {
    let link = answer.header("link")?;
    assert!(link.ends_with("; rel=\"next\""), "{link}");
    Some(link[1..link.find('>').unwrap()].to_string())
}

#[test]
fn pages_of_tags_together_are_all_tags_in_order() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let text = image(&config, &[], "");
    let mut tags = ["b", "a", "z", "A", "1", "test.x", "test_x", "_u"];
    for tag in tags {
        server.put_manifest("a", tag, IMAGE, &text).expect(201);
    }
    tags.sort_unstable();
    let all = server.get("/v2/a/tags/list").expect(200);
    assert_eq!(all.json(), json!({"name": "a", "tags": tags}));
    assert_eq!(next(&all), None);
    for n in 1..=9 {
        let mut path = format!("/v2/a/tags/list?n={n}");
        let mut found = Vec::new();
        loop {
            let page = server.get(&path).expect(200);
            let some: Vec<String> = serde_json::from_value(page.json()["tags"].clone()).unwrap();
            assert!(some.len() <= n);
            found.extend(some);
            match next(&page) {
                Some(next) => path = next,
                None => break,
            }
        }
        assert_eq!(found, tags, "{n}");
    }
    assert_eq!(server.get("/v2/a/tags/list?n=0").json()["tags"], json!([]));
    assert_eq!(
        server.get("/v2/a/tags/list?last=test.x").json()["tags"],
        json!(["test_x", "z"])
    );
    assert_eq!(server.get("/v2/a/tags/list?n=1&last=aa").json()["tags"], json!(["b"]));
    server.get("/v2/a/tags/list?n=-1").expect(400);
    server.get("/v2/a/tags/list?n=99999999999999999999").expect(200);
}

#[test]
fn referrers_are_those_pushed_and_not_deleted() {
    let server = Server::new();
    let base = server.image("a", "v1", b"base");
    let path = format!("/v2/a/referrers/{}", Digest::of(base.as_bytes()));
    let config = server.blob("a", b"{}");
    let list = |path: &str| {
        let answer = server.get(path).expect(200);
        assert_eq!(answer.header("content-type"), Some(INDEX));
        let document = answer.json();
        assert_eq!(
            (&document["schemaVersion"], &document["mediaType"]),
            (&json!(2), &json!(INDEX))
        );
        (document["manifests"].as_array().unwrap().clone(), answer)
    };
    assert!(list(&path).0.is_empty());
    let subject = subject(&base);
    let typed = image(
        &config,
        &[],
        &format!(r#"{subject},"artifactType":"application/sbom","annotations":{{"k":"v"}}"#),
    );
    let untyped = image(&config, &[], &subject);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],"artifactType":"application/list"{subject}}}"#
    );
    let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
    server.put_manifest("a", &digest(&typed), IMAGE, &typed).expect(201);
    server.put_manifest("a", "untyped", IMAGE, &untyped).expect(201);
    server.put_manifest("a", &digest(&index), INDEX, &index).expect(201);
    let (found, answer) = list(&path);
    assert_eq!(found.len(), 3);
    assert_eq!(answer.header("oci-filters-applied"), None);
    let of = |text: &str| found.iter().find(|d| d["digest"] == digest(text)).unwrap().clone();
    assert_eq!(
        of(&typed),
        json!({"mediaType": IMAGE, "digest": digest(&typed), "size": typed.len(),
            "artifactType": "application/sbom", "annotations": {"k": "v"}})
    );
    assert_eq!(of(&untyped)["artifactType"], "application/vnd.oci.image.config.v1+json");
    assert_eq!(of(&index)["artifactType"], "application/list");
    let (filtered, answer) = list(&format!("{path}?artifactType=application%2Fsbom"));
    assert_eq!(filtered, [of(&typed)]);
    assert_eq!(answer.header("oci-filters-applied"), Some("artifactType"));
    assert!(list(&format!("{path}?artifactType=none")).0.is_empty());
    server
        .delete(&format!("/v2/a/manifests/{}", digest(&typed)))
        .expect(202);
    assert_eq!(list(&path).0.len(), 2);
    // Only the tag goes: the manifest is still a referrer.
    server.delete("/v2/a/manifests/untyped").expect(202);
    assert_eq!(list(&path).0.len(), 2);
    assert!(list(&format!("/v2/a/referrers/{}", Digest::of(b"other"))).0.is_empty());
    assert!(
        list(&format!("/v2/nowhere/referrers/{}", Digest::of(b"other")))
            .0
            .is_empty()
    );
    server.get("/v2/a/referrers/nonsense").refused(400, "DIGEST_INVALID");
}

#[test]
fn long_list_of_referrers_comes_in_pages() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let subject = subject("big");
    let mut pushed = Vec::new();
    for n in 0..6 {
        let note = format!(r#"{subject},"annotations":{{"n":"{n}","x":"{}"}}"#, "x".repeat(700_000));
        let text = image(&config, &[], &note);
        server.put_manifest("a", &format!("t{n}"), IMAGE, &text).expect(201);
        pushed.push(Digest::of(text.as_bytes()).to_string());
    }
    pushed.sort_unstable();
    let filter = "artifactType=application%2Fvnd.oci.image.config.v1%2Bjson";
    let mut path = format!("/v2/a/referrers/{}?{filter}", Digest::of(b"big"));
    let mut found = Vec::new();
    let mut pages = 0;
    loop {
        let page = server.get(&path).expect(200);
        pages += 1;
        assert!(page.body.len() < 4 << 20);
        let manifests = page.json()["manifests"].as_array().unwrap().clone();
        found.extend(manifests.iter().map(|m| m["digest"].as_str().unwrap().to_string()));
        match next(&page) {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!((pages, found), (3, pushed));
}

#[test]
fn catalog_lists_repositories_with_manifests_in_pages() {
    let server = Server::new();
    for name in ["b", "a/c", "a", "a/b/blobs"] {
        server.image(name, "v1", b"layer");
    }
    server.blob("blobs-only", b"x");
    let all = server.get("/v2/_catalog").expect(200);
    assert_eq!(all.json(), json!({"repositories": ["a", "a/b/blobs", "a/c", "b"]}));
    let first = server.get("/v2/_catalog?n=2").expect(200);
    assert_eq!(first.json()["repositories"], json!(["a", "a/b/blobs"]));
    let second = server.get(&next(&first).unwrap()).expect(200);
    assert_eq!(second.json()["repositories"], json!(["a/c", "b"]));
    assert_eq!(next(&second), None);
}
