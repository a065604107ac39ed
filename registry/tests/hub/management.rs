//! Content management: deleting tags, manifests and blobs.

use qyvol_types::Digest;

use crate::support::{IMAGE, Server, image};

#[test]
fn deleting_a_tag_leaves_the_manifest_and_other_tags() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    server.put_manifest("a", "v2", IMAGE, &text).expect(201);
    server.delete("/v2/a/manifests/v1").expect(202);
    server.delete("/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/a/manifests/v2").expect(200);
    server
        .get(&format!("/v2/a/manifests/{}", Digest::of(text.as_bytes())))
        .expect(200);
}

#[test]
fn deleting_a_manifest_removes_its_tags_and_no_others() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    server.put_manifest("a", "v2", IMAGE, &text).expect(201);
    server.image("a", "other", b"other");
    let digest = Digest::of(text.as_bytes());
    server.delete(&format!("/v2/a/manifests/{digest}")).expect(202);
    server
        .delete(&format!("/v2/a/manifests/{digest}"))
        .refused(404, "MANIFEST_UNKNOWN");
    for gone in ["v1".to_string(), "v2".to_string(), digest.to_string()] {
        server
            .get(&format!("/v2/a/manifests/{gone}"))
            .refused(404, "MANIFEST_UNKNOWN");
    }
    assert_eq!(
        server.get("/v2/a/tags/list").json()["tags"],
        serde_json::json!(["other"])
    );
    // And it can come back.
    server.put_manifest("a", "v1", IMAGE, &text).expect(201);
    assert_eq!(server.get("/v2/a/manifests/v1").text(), text);
}

#[test]
fn tag_that_moved_points_to_the_new_manifest_alone() {
    let server = Server::new();
    let old = server.image("a", "v1", b"old");
    let new = server.image("a", "v1", b"newer");
    assert_eq!(server.get("/v2/a/manifests/v1").text(), new);
    server
        .delete(&format!("/v2/a/manifests/{}", Digest::of(old.as_bytes())))
        .expect(202);
    assert_eq!(server.get("/v2/a/manifests/v1").expect(200).text(), new);
}

#[test]
fn deleting_a_blob_leaves_that_of_other_repositories() {
    let server = Server::new();
    let digest = server.blob("a", b"content");
    server.blob("b", b"content");
    assert!(server.has_blob("a", &digest));
    server.delete(&format!("/v2/a/blobs/{digest}")).expect(202);
    server
        .delete(&format!("/v2/a/blobs/{digest}"))
        .refused(404, "BLOB_UNKNOWN");
    assert!(!server.has_blob("a", &digest));
    server
        .get(&format!("/v2/a/blobs/{digest}"))
        .refused(404, "BLOB_UNKNOWN");
    assert_eq!(
        server.get(&format!("/v2/b/blobs/{digest}")).expect(200).body,
        b"content"
    );
    server.blob("a", b"content");
    assert!(server.has_blob("a", &digest));
    server.delete("/v2/a/blobs/sha256:x").refused(400, "DIGEST_INVALID");
    server
        .delete(&format!("/v2/nowhere/blobs/{digest}"))
        .refused(404, "NAME_UNKNOWN");
}

#[test]
fn manifest_is_not_deleted_as_a_blob() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let text = image(&config, &[], "");
    server.put_manifest("a", "v1", IMAGE, &text).expect(201);
    let digest = Digest::of(text.as_bytes());
    server
        .delete(&format!("/v2/a/blobs/{digest}"))
        .refused(405, "UNSUPPORTED");
    assert_eq!(server.get("/v2/a/manifests/v1").text(), text);
}

// [HUB-015]
#[test]
fn blob_that_a_manifest_needs_is_not_deleted() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    let layer = Digest::of(b"layer");
    let path = format!("/v2/a/blobs/{layer}");
    let refused = server.delete(&path).refused(405, "UNSUPPORTED");
    assert!(refused.text().contains(&Digest::of(text.as_bytes()).to_string()));
    assert!(server.has_blob("a", &layer));
    server
        .delete(&format!("/v2/a/manifests/{}", Digest::of(text.as_bytes())))
        .expect(202);
    server.delete(&path).expect(202);
    assert!(!server.has_blob("a", &layer));
}

#[test]
fn methods_that_a_resource_lacks_are_405() {
    let server = Server::new();
    for (method, path) in [
        ("PUT", "/v2/a/tags/list"),
        ("POST", "/v2/a/manifests/v1"),
        ("PUT", "/v2/a/blobs/x"),
        ("GET", "/v2/a/blobs/uploads/"),
        ("DELETE", "/v2/"),
        ("OPTIONS", "/v2/_catalog"),
    ] {
        let answer = server.send(method, path, &[], b"").refused(405, "UNSUPPORTED");
        assert!(answer.header("allow").is_some(), "{method} {path}");
    }
}
