//! What a kill leaves, and what the next start makes of it.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use qyvol_hub::{Config, Hub, HubError};
use qyvol_types::Digest;
use serde_json::json;

use crate::support::{Answer, IMAGE, Server, files, image, subject};

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
    let folder = server.kill();
    // Twice: the first start rewrites what the second reads.
    for _ in 0..2 {
        let server = Server::at(folder.clone(), |_| {});
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
fn journal_with_a_torn_end_gives_what_stands_before_it() {
    let server = Server::new();
    let text = server.image("a", "v1", b"layer");
    let folder = server.kill();
    let journal = folder.path().join("data/repositories/a/_journal");
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
        let server = Server::at(folder.clone(), |_| {});
        assert_eq!(server.get("/v2/a/manifests/v1").text(), text);
        server.put_manifest("a", "v2", IMAGE, &text).expect(201);
        server.kill();
        let server = Server::at(folder.clone(), |_| {});
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
    let folder = server.kill();
    let uploads = folder.path().join("data/uploads");
    std::fs::write(uploads.join("tmp-7"), "left").unwrap();
    std::fs::write(uploads.join("x.y"), "left").unwrap();
    let server = Server::at(folder, |_| {});
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
    let folder = server.kill();
    // A start writes the index of what the journal held.
    drop(Server::at(folder.clone(), |_| {}));
    let layout = folder.path().join("data/repositories/a/b/_layout");
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
    server.image("a", "v1", b"layer");
    let at = server.start("a");
    let mut running = server.connect();
    let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    running.write_all(head.as_bytes()).unwrap();
    running.write_all(&[3; 600_000]).unwrap();
    // Some of it was written: the request has begun.
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.get(&at).expect(204).header("range") == Some("0-0") {
        assert!(Instant::now() < deadline);
    }
    server.stop();
    while TcpStream::connect(server.address).is_ok() {
        assert!(Instant::now() < deadline);
    }
    running.write_all(&[3; 400_000]).unwrap();
    let answer = Answer::read(&mut running).expect(202);
    assert_eq!(answer.header("range"), Some("0-999999"));
    let index = server.data().join("repositories/a/_layout/index.json");
    while !std::fs::read_to_string(&index).unwrap().contains("v1") {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn two_servers_never_share_a_folder() {
    let server = Server::new();
    let config = Config::new(
        "127.0.0.1:0".parse().unwrap(),
        server.data(),
        std::time::SystemTime::now,
    );
    assert!(matches!(Hub::open(config), Err(HubError::InUse(_))));
}

#[test]
fn damaged_index_stops_the_start_and_is_named() {
    let server = Server::new();
    server.image("a", "v1", b"layer");
    let folder = server.kill();
    drop(Server::at(folder.clone(), |_| {}));
    std::fs::write(folder.path().join("data/repositories/a/_layout/index.json"), "{").unwrap();
    let config = Config::new(
        "127.0.0.1:0".parse().unwrap(),
        folder.path().join("data"),
        std::time::SystemTime::now,
    );
    match Hub::open(config) {
        Err(error @ HubError::Damaged { .. }) => assert!(error.to_string().contains("index.json")),
        other => panic!("{:?}", other.err()),
    }
}
