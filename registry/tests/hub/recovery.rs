//! Recovery after a kill.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use qyvol_hub::{Config, Hub, HubError};
use qyvol_types::Digest;
use serde_json::json;

use crate::support::{IMAGE, Response, Server, files, image, subject};

#[test]
fn everything_acknowledged_is_there_after_a_kill() {
    let server = Server::new();
    let text = server.image("a/b", "v1", b"layer");
    server.put_manifest("a/b", "v2", IMAGE, &text).expect(201);
    let gone = server.image("a/b", "gone", b"other layer");
    server
        .delete(&format!("/v2/a/b/manifests/{}", Digest::of(gone.as_bytes())))
        .expect(202);
    server.delete("/v2/a/b/manifests/v2").expect(202);
    let config = server.blob("a/b", b"{}");
    let referrer = image(&config, &[], &subject(&text));
    server
        .put_manifest("a/b", &Digest::of(referrer.as_bytes()).to_string(), IMAGE, &referrer)
        .expect(201);
    let directory = server.kill();
    // Twice: the first start rewrites what the second reads.
    for _ in 0..2 {
        let server = Server::at(directory.clone(), |_| {});
        assert_eq!(server.get("/v2/a/b/tags/list").json()["tags"], json!(["v1"]));
        let got = server.get("/v2/a/b/manifests/v1").expect(200);
        assert_eq!((got.text(), got.header("content-type")), (text.clone(), Some(IMAGE)));
        assert!(server.has_blob("a/b", &Digest::of(b"layer")));
        server
            .get(&format!("/v2/a/b/manifests/{}", Digest::of(gone.as_bytes())))
            .expect(404);
        let referrers = server.get(&format!("/v2/a/b/referrers/{}", Digest::of(text.as_bytes())));
        assert_eq!(
            referrers.json()["manifests"][0]["digest"],
            Digest::of(referrer.as_bytes()).to_string()
        );
        server.kill();
    }
}

#[test]
fn journal_with_a_torn_end_keeps_the_lines_before_it() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    let directory = server.kill();
    let journal = directory.path().join("data/repositories/a/_journal");
    let whole = std::fs::read(&journal).unwrap();
    assert!(!whole.is_empty());
    for tail in [
        &b"{\"put\":{\"digest\""[..],
        b"\0\0\0\0\0",
        b"\0\0\0\n{\"untag\":{\"tag\":\"v1\"}}\n",
    ] {
        let mut torn = whole.clone();
        torn.extend(tail);
        std::fs::write(&journal, torn).unwrap();
        let server = Server::at(directory.clone(), |_| {});
        assert_eq!(server.get("/v2/a/manifests/v1").text(), text);
        server.put_manifest("a", "v2", IMAGE, &text).expect(201);
        server.kill();
        let server = Server::at(directory.clone(), |_| {});
        assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!(["v1", "v2"]));
        server.kill();
    }
}

#[test]
fn upload_goes_on_after_a_restart_and_leftovers_are_swept() {
    let server = Server::new();
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    let at = server.start("a");
    server
        .send("PATCH", &at, &[("Content-Range", "0-999999")], &bytes[..1_000_000])
        .expect(202);
    let directory = server.kill();
    let uploads = directory.path().join("data/uploads");
    std::fs::write(uploads.join("tmp-7"), "left").unwrap();
    std::fs::write(uploads.join("x.y"), "left").unwrap();
    let server = Server::at(directory, |_| {});
    assert_eq!(files(&uploads).len(), 1);
    assert_eq!(server.get(&at).expect(204).header("range"), Some("0-999999"));
    server
        .get(&at.replace("/v2/a/", "/v2/b/"))
        .refused(404, "BLOB_UPLOAD_UNKNOWN");
    server
        .send(
            "PATCH",
            &at,
            &[("Content-Range", "1000000-1499999")],
            &bytes[1_000_000..],
        )
        .expect(202);
    let digest = Digest::of(&bytes);
    server
        .send("PUT", &format!("{at}?digest={digest}"), &[], b"")
        .expect(201);
    assert!(server.get(&format!("/v2/a/blobs/{digest}")).body == bytes);
    assert_eq!(files(&uploads).len(), 0);
}

#[test]
fn repository_on_disk_is_an_image_layout() {
    let server = Server::new();
    let text = server.image("a/b", "v1", b"layer");
    let digest = Digest::of(text.as_bytes());
    let directory = server.kill();
    // A start writes the index of what the journal held.
    drop(Server::at(directory.clone(), |_| {}));
    let layout = directory.path().join("data/repositories/a/b/_layout");
    let read = |path: &str| std::fs::read_to_string(layout.join(path)).unwrap();
    assert_eq!(read("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let index: serde_json::Value = serde_json::from_str(&read("index.json")).unwrap();
    assert_eq!(
        index["manifests"],
        json!([{"mediaType": IMAGE, "digest": digest.to_string(), "size": text.len(),
            "annotations": {"org.opencontainers.image.ref.name": "v1"}}])
    );
    assert_eq!(read(&format!("blobs/sha256/{}", digest.hex())), text);
    assert_eq!(files(&layout.join("blobs/sha256")).len(), 3);
}

#[test]
fn stop_lets_a_running_push_finish_and_writes_the_index() {
    let mut server = Server::with(|config| config.limits.shutdown = Duration::from_secs(20));
    server.image("a", "pushed", b"layer");
    let at = server.start("a");
    let mut running = server.connect();
    let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    running.write_all(head.as_bytes()).unwrap();
    running.write_all(&[3; 600_000]).unwrap();
    // Some of it was written: the request has begun.
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.get(&at).expect(204).header("range") == Some("0-0") {
        assert!(Instant::now() < deadline);
    }
    server.stop();
    while TcpStream::connect(server.address).is_ok() {
        assert!(Instant::now() < deadline);
    }
    running.write_all(&[3; 400_000]).unwrap();
    let answer = Response::read(&mut running).expect(202);
    assert_eq!(answer.header("range"), Some("0-999999"));
    let index = server.data().join("repositories/a/_layout/index.json");
    while !std::fs::read_to_string(&index).unwrap().contains("pushed") {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn two_servers_never_share_a_directory() {
    let server = Server::new();
    let config = Config::new(
        "127.0.0.1:0".parse().unwrap(),
        server.data(),
        std::time::SystemTime::now,
    );
    assert!(matches!(Hub::open(config), Err(HubError::InUse(_))));
}

/// Opens what a server has left; gives the error.
fn refused(directory: &tempfile::TempDir) -> String {
    let data = directory.path().join("data");
    let config = Config::new("127.0.0.1:0".parse().unwrap(), data, std::time::SystemTime::now);
    match Hub::open(config) {
        Err(error @ (HubError::Damaged { .. } | HubError::Version { .. })) => error.to_string(),
        other => panic!("{:?}", other.err()),
    }
}

// [HUB-016]
#[test]
fn damaged_index_stops_the_start_and_is_named() {
    let server = Server::new();
    server.image("a", "v1", b"layer");
    let directory = server.kill();
    drop(Server::at(directory.clone(), |_| {}));
    let index = directory.path().join("data/repositories/a/_layout/index.json");
    let whole = std::fs::read_to_string(&index).unwrap();
    for damage in ["{".to_string(), whole.replace("org.qyvol.hub.sequence", "x")] {
        std::fs::write(&index, damage).unwrap();
        assert!(refused(&directory).contains("index.json"));
    }
}

// [HUB-016]
#[test]
fn missing_index_is_damage_unless_the_repository_is_empty() {
    let server = Server::new();
    server.image("a", "v1", b"layer");
    let empty = server.image("b", "v1", b"layer");
    let empty = Digest::of(empty.as_bytes());
    server.delete(&format!("/v2/b/manifests/{empty}")).expect(202);
    for blob in [empty, Digest::of(b"layer"), Digest::of(b"{\"x\":5}")] {
        server.delete(&format!("/v2/b/blobs/{blob}")).expect(202);
    }
    let directory = server.kill();
    drop(Server::at(directory.clone(), |_| {}));
    let repositories = directory.path().join("data/repositories");
    std::fs::remove_file(repositories.join("b/_layout/index.json")).unwrap();
    drop(Server::at(directory.clone(), |_| {}));
    std::fs::remove_file(repositories.join("a/_layout/index.json")).unwrap();
    let error = refused(&directory);
    assert!(error.contains("index.json") && error.contains("missing"), "{error}");
}

// [HUB-016]
#[test]
fn journal_that_lost_a_change_is_refused() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    server.put_manifest("a", "v2", IMAGE, &text).expect(201);
    server.put_manifest("a", "v3", IMAGE, &text).expect(201);
    let directory = server.kill();
    drop(Server::at(directory.clone(), |_| {}));
    let repository = directory.path().join("data/repositories/a");
    let index = std::fs::read(repository.join("_layout/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let sequence = index["annotations"]["org.qyvol.hub.sequence"].as_str().unwrap();
    let sequence: u64 = sequence.parse().unwrap();
    let line = |number: u64| {
        let text = json!({"changes": [{"untag": {"tag": format!("v{number}")}}], "sequence": sequence + number});
        let text = text.to_string();
        let checksum = Digest::of(text.as_bytes()).hex();
        format!("{} {text}\n", &checksum[..16])
    };
    let [first, second, third] = [line(1), line(2), line(3)];
    let changed = second.replace("v2", "v4");
    let path = repository.join("_journal");
    for damage in [
        // A line that is not what was written, one that is gone, and all of them.
        Some(format!("{first}{changed}{third}")),
        Some(format!("{first}{third}")),
        Some(format!("{second}{third}")),
        None,
    ] {
        match damage {
            Some(lines) => std::fs::write(&path, lines).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        assert!(refused(&directory).contains("_journal"));
    }
    std::fs::write(&path, format!("{first}{second}{changed}")).unwrap();
    let server = Server::at(directory, |_| {});
    assert_eq!(server.get("/v2/a/tags/list").json()["tags"], json!(["v3"]));
}

// [HUB-016]
#[test]
fn data_of_another_format_is_refused() {
    let server = Server::new();
    server.image("a", "v1", b"layer");
    let directory = server.kill();
    let version = directory.path().join("data/version");
    assert_eq!(std::fs::read_to_string(&version).unwrap(), "2\n");
    std::fs::write(&version, "3\n").unwrap();
    let error = refused(&directory);
    assert!(
        error.contains("format 3") && error.contains("expected format 2"),
        "{error}"
    );
    // The format from before versions were numbered.
    std::fs::remove_file(&version).unwrap();
    let error = refused(&directory);
    assert!(error.contains("without a format number"), "{error}");
}

// [HUB-019]
#[test]
fn file_that_is_in_the_pool_too_is_no_upload_after_a_restart() {
    let server = Server::new();
    let blob = server.blob("a", b"content");
    let at = server.start("a");
    server.send("PATCH", &at, &[], b"begun").expect(202);
    let directory = server.kill();
    let uploads = directory.path().join("data/uploads");
    let [upload] = &files(&uploads)[..] else { panic!() };
    // The state after a kill between the link into the pool and the removal.
    std::fs::remove_file(uploads.join(upload)).unwrap();
    let pool = format!("data/blobs/sha256/{}/{}", &blob.hex()[..2], blob.hex());
    std::fs::hard_link(directory.path().join(pool), uploads.join(upload)).unwrap();
    let server = Server::at(directory, |_| {});
    server
        .send("PATCH", &at, &[], b"written into the blob")
        .refused(404, "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(files(&uploads).len(), 0);
    assert_eq!(server.get(&format!("/v2/a/blobs/{blob}")).expect(200).body, b"content");
}
