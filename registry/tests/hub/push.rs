//! Pushing: every way to upload a blob, and manifests.

use std::io::Write as _;
use std::time::{Duration, Instant};

use qyvol_types::Digest;

use crate::support::{IMAGE, INDEX, Response, Server, files, image, sha512, subject};

fn finish(server: &Server, location: &str, digest: &Digest, body: &[u8]) -> crate::support::Response {
    server.send("PUT", &format!("{location}?digest={digest}"), &[], body)
}

#[test]
fn every_way_of_pushing_gives_the_same_blob() {
    let server = Server::new();
    // Longer than what is kept in memory, and shorter.
    for size in [0, 1, 1000, 700_000, 3_000_000] {
        let bytes: Vec<u8> = (0..size)
            .map(|i: u32| i.to_le_bytes()[0] ^ i.to_le_bytes()[1])
            .collect();
        for digest in [Digest::of(&bytes), sha512(&bytes)] {
            for way in 0..5 {
                let name = format!("a/way{way}");
                let done = match way {
                    0 => server.send(
                        "POST",
                        &format!("/v2/{name}/blobs/uploads/?digest={digest}"),
                        &[],
                        &bytes,
                    ),
                    1 => finish(&server, &server.start(&name), &digest, &bytes),
                    2 => {
                        let at = server.start(&name);
                        server.send("PATCH", &at, &[], &bytes).expect(202);
                        finish(&server, &at, &digest, b"")
                    }
                    3 => {
                        let at = server.start(&name);
                        let half = bytes.len() / 2;
                        if half > 0 {
                            let range = format!("0-{}", half - 1);
                            let answer = server.send("PATCH", &at, &[("Content-Range", &range)], &bytes[..half]);
                            assert_eq!(answer.expect(202).header("range"), Some(range.as_str()));
                        }
                        finish(&server, &at, &digest, &bytes[half..])
                    }
                    _ => {
                        let at = server.start(&name);
                        let mut chunked = Vec::new();
                        for part in bytes.chunks(100_000) {
                            chunked.extend(format!("{:x}\r\n", part.len()).bytes());
                            chunked.extend(part);
                            chunked.extend(b"\r\n");
                        }
                        chunked.extend(b"0\r\n\r\n");
                        server
                            .send("PATCH", &at, &[("Transfer-Encoding", "chunked")], &chunked)
                            .expect(202);
                        finish(&server, &at, &digest, b"")
                    }
                };
                let done = done.expect(201);
                assert_eq!(done.header("docker-content-digest"), Some(digest.to_string().as_str()));
                let got = server.get(done.header("location").unwrap()).expect(200);
                assert!(got.body == bytes, "way {way}, size {size}");
            }
        }
    }
    assert_eq!(crate::support::files(&server.data().join("uploads")).len(), 0);
}

#[test]
fn content_that_is_not_what_it_claims_is_refused_and_not_kept() {
    let server = Server::new();
    let claimed = Digest::of(b"claimed");
    for size in [10, 800_000] {
        let bytes = vec![7; size];
        let path = format!("/v2/a/blobs/uploads/?digest={claimed}");
        server.send("POST", &path, &[], &bytes).refused(400, "DIGEST_INVALID");
        let at = server.start("a");
        finish(&server, &at, &claimed, &bytes).refused(400, "DIGEST_INVALID");
        server.get(&at).refused(404, "BLOB_UPLOAD_UNKNOWN");
        let at = server.start("a");
        server.send("PATCH", &at, &[], &bytes).expect(202);
        finish(&server, &at, &claimed, b"").refused(400, "DIGEST_INVALID");
    }
    assert!(!server.has_blob("a", &claimed));
    let at = server.start("a");
    for bad in ["", "sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        server
            .send("PUT", &format!("{at}?digest={bad}"), &[], b"x")
            .refused(400, "DIGEST_INVALID");
    }
    server.send("PUT", &at, &[], b"x").refused(400, "DIGEST_INVALID");
}

#[test]
fn chunk_out_of_order_is_refused_and_the_upload_goes_on() {
    let server = Server::new();
    let bytes = b"0123456789abcdef";
    let at = server.start("a");
    let patch = |range: &str, part: &[u8]| server.send("PATCH", &at, &[("Content-Range", range)], part);
    assert_eq!(
        patch("5-9", &bytes[5..10])
            .refused(416, "BLOB_UPLOAD_INVALID")
            .header("location"),
        Some(at.as_str())
    );
    patch("0-4", &bytes[..5]).expect(202);
    for (range, part) in [
        ("0-4", &bytes[..5]),
        ("6-9", &bytes[6..10]),
        ("x", b"y"),
        ("9-5", b"y"),
        ("4-8", b"12345"),
    ] {
        let refused = patch(range, part).refused(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(refused.header("range"), Some("0-4"), "{range}");
    }
    let status = server.get(&at).expect(204);
    assert_eq!(
        (status.header("range"), status.header("location")),
        (Some("0-4"), Some(at.as_str()))
    );
    // The same holds for the chunk that closes.
    let digest = Digest::of(bytes);
    let close = format!("{at}?digest={digest}");
    server
        .send("PUT", &close, &[("Content-Range", "0-15")], bytes)
        .expect(416);
    server
        .send("PUT", &close, &[("Content-Range", "5-15")], &bytes[5..])
        .expect(201);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).body, bytes);
}

#[test]
fn chunk_of_another_length_than_its_range_is_refused() {
    let server = Server::new();
    let at = server.start("a");
    let answer = server.send("PATCH", &at, &[("Content-Range", "0-9")], b"short");
    answer.refused(400, "SIZE_INVALID");
    let chunked = [("Content-Range", "0-1"), ("Transfer-Encoding", "chunked")];
    server
        .send("PATCH", &at, &chunked, b"5\r\n12345\r\n0\r\n\r\n")
        .refused(400, "SIZE_INVALID");
}

#[test]
fn cancelled_upload_is_gone() {
    let server = Server::new();
    let at = server.start("a");
    server.send("PATCH", &at, &[], &[1; 1_000_000]).expect(202);
    server.delete(&at).expect(204);
    server.delete(&at).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&at).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("PATCH", &at, &[], b"x").refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(crate::support::files(&server.data().join("uploads")).len(), 0);
}

#[test]
fn upload_of_one_repository_is_unknown_to_another() {
    let server = Server::new();
    let at = server.start("a").replace("/v2/a/", "/v2/b/");
    server.get(&at).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.send("PATCH", &at, &[], b"x").refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn mount_links_what_is_there_and_starts_an_upload_otherwise() {
    let server = Server::new();
    let digest = server.blob("from", b"content");
    let mount = |query: &str| server.send("POST", &format!("/v2/to/blobs/uploads/?{query}"), &[], b"");
    for query in [
        format!("mount={}&from=from", Digest::of(b"absent")),
        format!("mount={digest}&from=nowhere"),
        format!("mount={digest}&from=../from"),
        "mount=nonsense&from=from".to_string(),
    ] {
        let answer = mount(&query).expect(202);
        assert!(
            answer.header("location").unwrap().starts_with("/v2/to/blobs/uploads/"),
            "{query}"
        );
    }
    assert!(!server.has_blob("to", &digest));
    let done = mount(&format!("mount={digest}&from=from")).expect(201);
    assert_eq!(
        server.get(done.header("location").unwrap()).expect(200).body,
        b"content"
    );
    // Without a source: from anywhere, since this registry is open.
    let anywhere = server.send("POST", &format!("/v2/third/blobs/uploads/?mount={digest}"), &[], b"");
    anywhere.expect(201);
    assert!(server.has_blob("third", &digest));
    // One file, however many repositories.
    use std::os::unix::fs::MetadataExt as _;
    let pool = server
        .data()
        .join(format!("blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex()));
    assert_eq!(std::fs::metadata(pool).unwrap().nlink(), 4);
}

#[test]
fn manifest_is_refused_while_its_blobs_are_missing() {
    let server = Server::new();
    let config = Digest::of(b"{}");
    let layer = Digest::of(b"layer");
    let text = image(&config, &[layer], "");
    server
        .put_manifest("a", "v1", IMAGE, &text)
        .refused(404, "MANIFEST_BLOB_UNKNOWN");
    server.blob("a", b"{}");
    let refused = server
        .put_manifest("a", "v1", IMAGE, &text)
        .refused(404, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(refused.json()["errors"][0]["detail"], layer.to_string());
    // A blob of another repository doesn't count.
    server.blob("b", b"layer");
    server
        .put_manifest("a", "v1", IMAGE, &text)
        .refused(404, "MANIFEST_BLOB_UNKNOWN");
    server.get("/v2/a/manifests/v1").refused(404, "MANIFEST_UNKNOWN");
    server.blob("a", b"layer");
    let done = server.put_manifest("a", "v1", IMAGE, &text).expect(201);
    assert_eq!(
        done.header("docker-content-digest"),
        Some(Digest::of(text.as_bytes()).to_string().as_str())
    );
    assert_eq!(server.get(done.header("location").unwrap()).expect(200).text(), text);
}

#[test]
fn index_may_come_before_its_images_and_with_none() {
    let server = Server::new();
    let child = Digest::of(b"child");
    for children in [
        String::new(),
        format!(r#"{{"mediaType":"{IMAGE}","digest":"{child}","size":5}}"#),
    ] {
        let text =
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{children}],"x-field":{{"y":1}}}}"#);
        server.put_manifest("a", "list", INDEX, &text).expect(201);
        let got = server.get("/v2/a/manifests/list").expect(200);
        assert_eq!((got.text(), got.header("content-type")), (text, Some(INDEX)));
    }
}

#[test]
fn sha512_manifest_is_found_by_the_digest_it_was_pushed_with() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let text = image(&config, &[], "");
    let digest = sha512(text.as_bytes()).to_string();
    let done = server.put_manifest("a", &digest, IMAGE, &text).expect(201);
    assert_eq!(done.header("docker-content-digest"), Some(digest.as_str()));
    let got = server.get(&format!("/v2/a/manifests/{digest}")).expect(200);
    assert_eq!(
        (got.text(), got.header("docker-content-digest")),
        (text.clone(), Some(digest.as_str()))
    );
    let other = Digest::of(text.as_bytes());
    server
        .get(&format!("/v2/a/manifests/{other}"))
        .refused(404, "MANIFEST_UNKNOWN");
    let wrong = Digest::of(b"other");
    server
        .put_manifest("a", &wrong.to_string(), IMAGE, &text)
        .refused(400, "DIGEST_INVALID");
    // By tag, with the algorithm of a digest stated beside it.
    let tagged = format!("wide?digest={digest}");
    server.put_manifest("a", &tagged, IMAGE, &text).expect(201);
    assert_eq!(
        server.head("/v2/a/manifests/wide").header("docker-content-digest"),
        Some(digest.as_str())
    );
}

#[test]
fn push_by_digest_sets_the_tags_it_names() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let text = image(&config, &[], "");
    let digest = Digest::of(text.as_bytes());
    let done = server
        .put_manifest("a", &format!("{digest}?tag=one&tag=two"), IMAGE, &text)
        .expect(201);
    let tags: Vec<_> = done
        .headers
        .iter()
        .filter(|(n, _)| n == "oci-tag")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(tags, ["one", "two"]);
    assert_eq!(server.get("/v2/a/manifests/two").text(), text);
    server
        .put_manifest("a", &format!("{digest}?tag=-no"), IMAGE, &text)
        .refused(400, "TAG_INVALID");
}

#[test]
fn subject_is_confirmed_though_it_is_not_there() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let text = image(&config, &[], &subject("missing"));
    let done = server
        .put_manifest("a", &Digest::of(text.as_bytes()).to_string(), IMAGE, &text)
        .expect(201);
    assert_eq!(
        done.header("oci-subject"),
        Some(Digest::of(b"missing").to_string().as_str())
    );
    let plain = image(&config, &[], "");
    assert_eq!(
        server
            .put_manifest("a", "v1", IMAGE, &plain)
            .expect(201)
            .header("oci-subject"),
        None
    );
}

#[test]
fn manifest_near_the_limit_passes_and_one_above_is_refused() {
    let server = Server::new();
    let config = server.blob("a", b"{}");
    let text = |filler: usize| {
        image(
            &config,
            &[],
            &format!(r#","annotations":{{"a":"{}"}}"#, "x".repeat(filler)),
        )
    };
    let limit = 4 << 20;
    let empty = text(0).len();
    server.put_manifest("a", "v1", IMAGE, &text(limit - empty)).expect(201);
    assert_eq!(server.get("/v2/a/manifests/v1").expect(200).body.len(), limit);
    server
        .put_manifest("a", "v2", IMAGE, &text(limit - empty + 1))
        .refused(413, "SIZE_INVALID");
    server
        .put_manifest("a", "v1", INDEX, &text(1))
        .refused(400, "MANIFEST_INVALID");
    server
        .put_manifest("a", "v1", IMAGE, "{}")
        .refused(400, "MANIFEST_INVALID");
    server
        .put_manifest("a", "v1", IMAGE, "")
        .refused(400, "MANIFEST_INVALID");
}

#[test]
fn pushes_of_one_digest_at_once_all_succeed() {
    let server = Server::new();
    let bytes = vec![9; 600_000];
    let digest = Digest::of(&bytes);
    std::thread::scope(|scope| {
        for n in 0..24 {
            let (server, bytes) = (&server, &bytes);
            scope.spawn(move || {
                let name = format!("r{}", n % 3);
                let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
                server.send("POST", &path, &[], bytes).expect(201);
                assert!(server.has_blob(&name, &digest));
                let text = server.image(&name, &format!("t{n}"), &[u8::try_from(n).unwrap(); 10]);
                assert_eq!(server.get(&format!("/v2/{name}/manifests/t{n}")).text(), text);
            });
        }
    });
    assert_eq!(
        server.get("/v2/r0/tags/list").json()["tags"].as_array().unwrap().len(),
        8
    );
    assert_eq!(server.get(&format!("/v2/r1/blobs/{digest}")).body, bytes);
}

// [HUB-018]
#[test]
fn damaged_content_is_stored_again_by_a_push() {
    let large = vec![7; 700_000];
    for (content, damage) in [
        (&b"content"[..], &b"cont"[..]),
        (b"content", b"CONTENT"),
        (&large, b"7"),
    ] {
        let server = Server::new();
        let digest = server.blob("a", content);
        server.blob("b", b"another");
        let file = format!("repositories/a/_layout/blobs/sha256/{}", digest.hex());
        std::fs::write(server.data().join(file), damage).unwrap();
        // To where the damaged file is, and to where it would be linked.
        for name in ["b", "a"] {
            server.blob(name, content);
            let got = server.get(&format!("/v2/{name}/blobs/{digest}")).expect(200);
            assert!(got.body == content, "{name}");
        }
    }
}

// [HUB-019]
#[test]
fn chunk_behind_the_request_that_ends_the_upload_is_refused() {
    let server = Server::new();
    let content = vec![3; 800_000];
    let digest = Digest::of(&content);
    for cancelled in [false, true] {
        let at = server.start("a");
        let mut ending = server.connect();
        let head = format!(
            "PUT {at}?digest={digest} HTTP/1.1\r\nHost: x\r\nContent-Length: 800000\r\nConnection: close\r\n\r\n"
        );
        ending.write_all(head.as_bytes()).unwrap();
        ending.write_all(&content[..600_000]).unwrap();
        // It holds the upload once some of it is written.
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.get(&at).expect(204).header("range") == Some("0-0") {
            assert!(Instant::now() < deadline);
        }
        let mut queued = server.connect();
        let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlate");
        queued.write_all(head.as_bytes()).unwrap();
        if cancelled {
            // When a body breaks off, the next request gets the upload.
            drop(ending);
            Response::read(&mut queued);
            server.delete(&at).expect(204);
            server
                .send("PATCH", &at, &[], b"late")
                .refused(404, "BLOB_UPLOAD_UNKNOWN");
        } else {
            ending.write_all(&content[600_000..]).unwrap();
            Response::read(&mut ending).expect(201);
            Response::read(&mut queued).refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
        assert_eq!(files(&server.data().join("uploads")), Vec::<String>::new());
        assert!(server.get("/metrics").text().contains("qyvol_hub_open_uploads 0"));
    }
}
