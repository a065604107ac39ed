//! Requests that race: no acknowledged manifest without its blobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qyvol_types::Digest;
use tempfile::TempDir;

use super::recorder::Recorder;
use super::{DeleteOutcome, PutError, TestStore, has, image};

/// Races in one round, each with a manifest of its own.
const RACES: u64 = 50;
const ROUNDS: u64 = 200;

fn layer(round: u64, race: u64) -> Vec<u8> {
    format!("layer {round} {race}").into_bytes()
}

// [HUB-012] [HUB-015]
#[test]
fn no_acknowledged_manifest_loses_a_blob_to_a_race() {
    let root = TempDir::new().unwrap();
    let subject = TestStore::open(root.path(), Arc::new(Recorder::silent(root.path())), 0);
    let config = subject.blob("x", b"{}");
    subject.blob("y", b"{}");
    let (mut put, mut mounted, mut deleted, mut needed, mut collected) = (0, 0, 0, 0, 0);
    for round in 0..ROUNDS {
        let layers: Vec<_> = (0..RACES).map(|race| layer(round, race)).collect();
        let layers: Vec<_> = layers.iter().map(|bytes| (bytes, Digest::of(bytes))).collect();
        let text = |race: usize| image(&config, &layers[race].1, race as u64);
        let digest = |race: usize| Digest::of(text(race).as_bytes());
        // Half of the layers are there, and old enough to be collected.
        for (bytes, _) in layers.iter().step_by(2) {
            subject.blob("x", bytes);
        }
        subject.advance();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (subject, layers, text, digest, done) = (&subject, &layers, &text, &digest, &done);
            let pushing = scope.spawn(move || {
                let push = |race: usize| {
                    subject.blob("x", b"{}");
                    subject.blob("x", layers[race].0);
                    match subject.put("x", &text(race), &[&format!("t{race}")]) {
                        Ok(_) => 1,
                        // The layer was deleted in between.
                        Err(PutError::Missing(_)) => 0,
                        Err(PutError::Io(error)) => panic!("{error}"),
                    }
                };
                (0..layers.len()).map(push).sum::<u64>()
            });
            let mounting = scope.spawn(move || {
                let mount = |race: usize| {
                    subject.blob("y", b"{}");
                    match subject.mount("y", "x", &layers[race].1) && subject.put("y", &text(race), &[]).is_ok() {
                        true => 1,
                        false => 0,
                    }
                };
                (0..layers.len()).map(mount).sum::<u64>()
            });
            let collecting = scope.spawn(move || {
                let mut collected = 0;
                while !done.load(Ordering::Relaxed) {
                    let report = subject.store.collect().unwrap();
                    assert_eq!(report.kept, []);
                    collected += report.links;
                }
                collected
            });
            let deleting = scope.spawn(move || {
                let (mut gone, mut refused) = (0, 0);
                for (race, (_, layer)) in layers.iter().enumerate() {
                    for blob in [&digest(race), layer] {
                        match subject.delete_blob("x", blob) {
                            DeleteOutcome::Done => gone += 1,
                            DeleteOutcome::Missing => {}
                            DeleteOutcome::Manifest | DeleteOutcome::Needed(_) => refused += 1,
                        }
                    }
                }
                (gone, refused)
            });
            put += pushing.join().unwrap();
            mounted += mounting.join().unwrap();
            let (gone, refused) = deleting.join().unwrap();
            deleted += gone;
            needed += refused;
            done.store(true, Ordering::Relaxed);
            collected += collecting.join().unwrap();
        });
        subject.assert_whole();
        for name in ["x", "y"] {
            let repository = subject.repository(name);
            let listed: Vec<_> = repository.state().manifests.keys().copied().collect();
            for digest in listed {
                assert!(has(&repository, &digest), "{name} lost the manifest {digest}");
                assert!(repository.delete_manifest(&digest).unwrap());
            }
        }
    }
    // Each outcome occurred, or there was no race.
    let seen = [put, mounted, deleted, needed, collected];
    assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
}
