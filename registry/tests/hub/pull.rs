//! Pulling: blobs, parts of blobs, manifests.

use qyvol_types::Digest;

use crate::support::{IMAGE, Server};

#[test]
fn base_says_that_this_is_a_registry() {
    let server = Server::new();
    let answer = server.get("/v2/").expect(200);
    assert_eq!(answer.header("docker-distribution-api-version"), Some("registry/2.0"));
    server.get("/v2").expect(200);
    server.get("/healthz").expect(200);
    assert!(
        server
            .get("/metrics")
            .expect(200)
            .text()
            .contains("route=\"base\",method=\"GET\",status=\"200\"} 2")
    );
    assert!(server.get("/").expect(200).text().starts_with("QyvolHub "));
    server.get("/v1/").expect(404);
}

#[test]
fn head_says_what_get_would_and_sends_nothing() {
    let server = Server::new();
    let text = server.image("a/b", "v1", &[5; 400_000]);
    let manifest = Digest::of(text.as_bytes());
    let layer = Digest::of(&[5; 400_000]);
    for (path, length, digest) in [
        ("/v2/a/b/manifests/v1".to_string(), text.len(), manifest),
        (format!("/v2/a/b/manifests/{manifest}"), text.len(), manifest),
        (format!("/v2/a/b/blobs/{layer}"), 400_000, layer),
    ] {
        let (head, get) = (server.head(&path).expect(200), server.get(&path).expect(200));
        assert_eq!((head.body.len(), get.body.len()), (0, length), "{path}");
        for name in ["content-length", "content-type", "docker-content-digest", "etag"] {
            assert!(head.header(name).is_some(), "{path} {name}");
            assert_eq!(head.header(name), get.header(name), "{path} {name}");
        }
        assert_eq!(get.header("docker-content-digest"), Some(digest.to_string().as_str()));
        let etag = get.header("etag").unwrap();
        server.send("GET", &path, &[("If-None-Match", etag)], b"").expect(304);
    }
    assert_eq!(server.head("/v2/a/b/manifests/v1").header("content-type"), Some(IMAGE));
}

#[test]
fn what_is_not_there_is_404_with_the_code_of_its_kind() {
    let server = Server::new();
    server.image("a", "v1", b"layer");
    let absent = Digest::of(b"absent");
    server.get("/v2/a/manifests/v2").refused(404, "MANIFEST_UNKNOWN");
    server
        .get(&format!("/v2/a/manifests/{absent}"))
        .refused(404, "MANIFEST_UNKNOWN");
    server
        .get(&format!("/v2/a/blobs/{absent}"))
        .refused(404, "BLOB_UNKNOWN");
    server.get("/v2/nowhere/manifests/v1").refused(404, "NAME_UNKNOWN");
    server
        .get(&format!("/v2/nowhere/blobs/{absent}"))
        .refused(404, "NAME_UNKNOWN");
    server.get("/v2/nowhere/tags/list").refused(404, "NAME_UNKNOWN");
    for head in ["/v2/a/manifests/v2".to_string(), format!("/v2/a/blobs/{absent}")] {
        assert!(server.head(&head).expect(404).body.is_empty());
    }
    server.get("/v2/a/blobs/sha256:zz").refused(400, "DIGEST_INVALID");
    server.get("/v2/a/manifests/sha256:zz").refused(400, "DIGEST_INVALID");
    // A blob is no manifest.
    server
        .get(&format!("/v2/a/manifests/{}", Digest::of(b"layer")))
        .refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn invalid_tag_is_not_found() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    let long = "x".repeat(129);
    for word in [".v1", "-v1", "v1%20", &long] {
        let path = format!("/v2/a/manifests/{word}");
        server.head(&path).expect(404);
        server.get(&path).refused(404, "MANIFEST_UNKNOWN");
        server.delete(&path).refused(404, "MANIFEST_UNKNOWN");
        // Pushing to it is another error.
        server.put_manifest("a", word, IMAGE, &text).refused(400, "TAG_INVALID");
    }
    server.get("/v2/a/manifests/sha256:x").refused(400, "DIGEST_INVALID");
}

#[test]
fn parts_of_a_blob_are_those_asked_for() {
    let server = Server::new();
    // From memory, and streamed from a file in several pieces.
    for size in [1000_usize, 1_800_000] {
        let bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let digest = server.blob("a", &bytes);
        let path = format!("/v2/a/blobs/{digest}");
        let part = |range: &str| server.send("GET", &path, &[("Range", range)], b"");
        for (range, from, to) in [
            ("bytes=0-0".to_string(), 0, 1),
            ("bytes=10-19".to_string(), 10, 20),
            ("bytes=900-".to_string(), 900, size),
            ("bytes=-7".to_string(), size - 7, size),
            (format!("bytes=3-{}", size * 2), 3, size),
        ] {
            let answer = part(&range).expect(206);
            assert!(answer.body == bytes[from..to], "{range}");
            let stated = format!("bytes {from}-{}/{size}", to - 1);
            assert_eq!(answer.header("content-range"), Some(stated.as_str()));
        }
        let beyond = part(&format!("bytes={size}-")).expect(416);
        assert_eq!(beyond.header("content-range"), Some(format!("bytes */{size}").as_str()));
        assert_eq!(part("bytes=1-2,4-5").expect(200).body.len(), size);
        let other = [("Range", "bytes=0-0"), ("If-Range", "\"other\"")];
        assert_eq!(server.send("GET", &path, &other, b"").expect(200).body.len(), size);
    }
}
