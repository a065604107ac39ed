//! Garbage collection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use qyvol_types::Digest;

use crate::support::{IMAGE, Server, image};

const DAY: u64 = 24 * 3600;

#[test]
fn what_a_manifest_needs_stays_and_the_rest_goes_after_the_grace_time() {
    let server = Server::new();
    let text = server.image("a", "v1", b"needed");
    let orphan = server.blob("a", b"orphan");
    let deleted = server.image("a", "old", b"deleted layer");
    server
        .delete(&format!("/v2/a/manifests/{}", Digest::of(deleted.as_bytes())))
        .expect(202);
    let untagged = server.image("a", "moved", b"untagged");
    server.put_manifest("a", "moved", IMAGE, &text).expect(201);
    assert_eq!(server.collect().links, 0);
    server.advance(DAY + 60);
    let report = server.collect();
    // The orphan, and of the deleted image the manifest, the config, the layer.
    assert_eq!((report.links, report.blobs), (4, 4));
    assert!(!server.has_blob("a", &orphan));
    assert!(!server.has_blob("a", &Digest::of(b"deleted layer")));
    for kept in [b"needed".as_slice(), b"untagged"] {
        assert!(server.has_blob("a", &Digest::of(kept)));
    }
    assert_eq!(
        server
            .get(&format!("/v2/a/manifests/{}", Digest::of(untagged.as_bytes())))
            .text(),
        untagged
    );
    assert_eq!(server.get("/v2/a/manifests/v1").text(), text);
    server.advance(DAY * 10);
    assert_eq!(server.collect().links, 0);
}

#[test]
fn blob_that_was_reported_to_a_client_stays_for_its_manifest() {
    let server = Server::new();
    let seen = server.blob("a", b"seen");
    let mounted = server.blob("b", b"mounted");
    let again = server.blob("a", b"again");
    let forgotten = server.blob("a", b"forgotten");
    server.advance(DAY + 60);
    assert!(server.has_blob("a", &seen));
    server
        .send(
            "POST",
            &format!("/v2/a/blobs/uploads/?mount={mounted}&from=b"),
            &[],
            b"",
        )
        .expect(201);
    server.blob("a", b"again");
    assert_eq!(server.collect().blobs, 1);
    assert!(!server.has_blob("a", &forgotten));
    let text = image(&seen, &[mounted, again], "");
    server.put_manifest("a", "v1", IMAGE, &text).expect(201);
}

// [HUB-017]
#[test]
fn damaged_manifest_keeps_its_repository_and_no_other() {
    for damage in ["", "{}", "{", "[1]"] {
        let server = Server::new();
        let text = server.image("bad", "v1", b"layer");
        let kept = server.blob("bad", b"may be needed");
        let orphan = server.blob("good", b"orphan");
        let hex = Digest::of(text.as_bytes()).hex();
        let file = server
            .data()
            .join(format!("repositories/bad/_layout/blobs/sha256/{hex}"));
        std::fs::write(&file, damage).unwrap();
        server.advance(DAY + 60);
        let report = server.collect();
        assert_eq!(report.links, 1);
        let [bad] = &report.kept[..] else { panic!("{report:?}") };
        assert_eq!(bad.repository, "bad");
        assert!(bad.reason.contains(&hex), "{}", bad.reason);
        assert!(!server.has_blob("good", &orphan) && server.has_blob("bad", &kept));
        // Pushing the same bytes again repairs it.
        server.put_manifest("bad", "v1", IMAGE, &text).expect(201);
        assert_eq!(server.get("/v2/bad/manifests/v1").text(), text);
        server.advance(DAY + 60);
        let report = server.collect();
        assert_eq!((report.links, report.kept.len()), (1, 0));
        assert!(server.has_blob("bad", &Digest::of(b"layer")));
    }
}

// [HUB-012]
#[test]
fn index_is_written_while_a_collection_runs_on() {
    let (started, starts) = channel();
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let server = Server::with(|config| {
        config.gc_interval = Some(Duration::ZERO);
        config.log = Arc::new(move |event| {
            if event.message.starts_with("collected") {
                let _nobody_waits = started.send(());
                let _released = released.lock().unwrap().recv();
            }
        });
    });
    let timeout = Duration::from_secs(60);
    starts.recv_timeout(timeout).unwrap();
    server.image("a", "pushed", b"layer");
    let index = server.data().join("repositories/a/_layout/index.json");
    let deadline = Instant::now() + timeout;
    while !std::fs::read_to_string(&index).unwrap().contains("pushed") {
        assert!(Instant::now() < deadline, "the index waits for the collection");
    }
    drop(release);
}

#[test]
fn content_of_one_repository_outlives_another() {
    let server = Server::new();
    server.image("a", "v1", b"shared");
    let shared = server.blob("b", b"shared");
    server.advance(DAY + 60);
    let report = server.collect();
    assert_eq!((report.links, report.blobs), (1, 0));
    assert!(server.has_blob("a", &shared) && !server.has_blob("b", &shared));
}

#[test]
fn collecting_while_pushing_loses_nothing() {
    let server = Server::new();
    let done = AtomicBool::new(false);
    // Time jumps between rounds, so that each finds blobs that are old; within
    // a round it stands, for a client is not slower than the grace time.
    let time = RwLock::new(());
    let round = |n: u8, round: u8| {
        let _standing = time.read().unwrap();
        let layer = [n, round % 4];
        let text = server.image("a", &format!("t{n}"), &layer);
        let got = server.get(&format!("/v2/a/manifests/t{n}")).expect(200);
        assert_eq!(got.text(), text);
        let path = format!("/v2/a/blobs/{}", Digest::of(&layer));
        assert_eq!(server.get(&path).expect(200).body, layer);
        let path = format!("/v2/a/manifests/{}", Digest::of(text.as_bytes()));
        server.delete(&path).expect(202);
    };
    let collected = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut blobs = 0;
            while !done.load(Ordering::Relaxed) {
                let jumping = time.write().unwrap();
                server.advance(DAY + 60);
                drop(jumping);
                blobs += server.collect().blobs;
            }
            blobs
        });
        let round = &round;
        let pushers: Vec<_> = (0..4)
            .map(|n| scope.spawn(move || (0..25).for_each(|r| round(n, r))))
            .collect();
        let ended: Vec<_> = pushers.into_iter().map(|pusher| pusher.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(|ended| ended.is_ok()));
        collector.join().unwrap()
    });
    assert!(collected > 0);
}
