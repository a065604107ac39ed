//! Power lost at any step: what was acknowledged is there, and was not undone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use qyvol_types::{Algorithm, Digest};
use tempfile::TempDir;

use super::recorder::{Change, Model, Recorder, Survives};
use super::{TestStore, has, image, name};
use crate::cache::lock;
use crate::storage::DeleteOutcome;

/// What was acknowledged to clients.
#[derive(Clone, Default)]
struct Acknowledged {
    names: BTreeMap<String, Digest>,
    blobs: BTreeSet<(&'static str, Digest)>,
    deleted: BTreeSet<(&'static str, Digest)>,
}

/// Makes one change after another, and records after each what a client then knows.
struct Client<'a> {
    subject: &'a TestStore,
    disk: &'a Recorder,
    told: Vec<Acknowledged>,
}

impl Client<'_> {
    fn step(&mut self, act: impl FnOnce(&TestStore, &mut Acknowledged)) {
        let mut told = self.told.last().cloned().unwrap_or_default();
        act(self.subject, &mut told);
        // A blob that no client needs any more is in neither set.
        told.names = self.subject.names();
        self.disk.acknowledge(0, self.told.len() as u64);
        self.told.push(told);
    }

    fn stored(&mut self, repository: &'static str, store: impl FnOnce(&TestStore) -> Digest) -> Digest {
        let mut stored = None;
        self.step(|subject, told| {
            let digest = store(subject);
            told.blobs.insert((repository, digest));
            told.deleted.remove(&(repository, digest));
            stored = Some(digest);
        });
        stored.unwrap()
    }

    fn delete(&mut self, repository: &'static str, digest: &Digest) {
        self.step(|subject, told| {
            assert_eq!(subject.delete_blob(repository, digest), DeleteOutcome::Done);
            told.blobs.remove(&(repository, *digest));
            told.deleted.insert((repository, *digest));
        });
    }

    fn changed(&mut self, act: impl FnOnce(&TestStore)) {
        self.step(|subject, _| act(subject));
    }

    /// Lets the grace time pass and collects; gives the number of blobs.
    fn collect(&mut self) -> u64 {
        let mut blobs = 0;
        self.step(|subject, told| {
            // What no manifest needs may go from now on.
            told.blobs.clear();
            subject.advance();
            let report = subject.store.collect().unwrap();
            assert_eq!(report.kept, []);
            blobs = report.blobs;
        });
        blobs
    }
}

/// Pushes, moves, mounts, deletes, compacts and collects.
fn work(client: &mut Client<'_>) {
    let layer: Vec<u8> = (0..9000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let config = client.stored("a", |s| s.blob("a", b"{}"));
    let layer = client.stored("a", |s| s.upload("a", &layer));
    let first = image(&config, &layer, 1);
    let second = image(&config, &layer, 2);
    client.changed(|s| _ = s.push("a", &first, &["v1"]));
    client.stored("b/c", |s| {
        assert!(s.mount("b/c", "a", &layer));
        layer
    });
    client.stored("b/c", |s| s.blob("b/c", b"{}"));
    client.changed(|s| _ = s.push("b/c", &first, &["v1", "v2"]));
    client.changed(|s| s.store.compact(true).unwrap());
    client.changed(|s| _ = s.push("a", &second, &["v1", "v2"]));
    client.changed(|s| assert!(s.repository("a").untag("v2").unwrap()));
    client.changed(|s| s.store.compact(true).unwrap());
    client.changed(|s| {
        let digest = Digest::of(first.as_bytes());
        assert!(s.repository("a").delete_manifest(&digest).unwrap());
    });
    let orphan = client.stored("a", |s| s.blob("a", b"orphan"));
    client.delete("a", &orphan);
    client.stored("b/c", |s| s.upload("b/c", b"another orphan"));
    // The first image's manifest in `a`, the orphans; the rest is needed.
    assert_eq!(client.collect(), 2);
    client.stored("a", |s| s.blob("a", b"orphan"));
    client.changed(|s| _ = s.push("a", &first, &["v1"]));
    client.changed(|s| s.store.compact(true).unwrap());
    client.changed(|s| assert!(s.repository("b/c").untag("v1").unwrap()));
    client.changed(|s| assert!(s.repository("b/c").untag("v2").unwrap()));
    client.changed(|s| {
        let digest = Digest::of(first.as_bytes());
        assert!(s.repository("b/c").delete_manifest(&digest).unwrap());
    });
    client.delete("b/c", &layer);
    client.collect();
    client.changed(|s| s.store.compact(true).unwrap());
    client.changed(|s| _ = s.push("a", &second, &["last"]));
}

/// Restarts from what a power loss left.
fn restart(model: &Model, survives: Survives, ahead: u64) -> (TempDir, TestStore) {
    let root = TempDir::new().unwrap();
    model.lose_power(survives, root.path());
    let subject = TestStore::open(root.path(), Arc::new(Recorder::silent(root.path())), ahead);
    (root, subject)
}

/// What is stored is what was acknowledged before or after the step that was cut off.
fn assert_acknowledged(subject: &TestStore, before: &Acknowledged, after: &Acknowledged) {
    let names = subject.names();
    assert!(
        names == before.names || names == after.names,
        "{names:?} is neither {:?} nor {:?}",
        before.names,
        after.names
    );
    subject.assert_whole();
    for (name, digest) in before.blobs.intersection(&after.blobs) {
        let bytes = std::fs::read(subject.repository(name).blob_path(digest));
        assert!(bytes.is_ok_and(|bytes| digest.matches(&bytes)), "{name} lost {digest}");
    }
    for (name, digest) in before.deleted.intersection(&after.deleted) {
        assert!(!has(&subject.repository(name), digest), "{name} has {digest} again");
    }
}

/// The store works: it collects, accepts a push and restarts once more.
fn assert_usable(root: &Path, subject: TestStore) {
    subject.advance();
    subject.store.collect().unwrap();
    subject.assert_whole();
    let config = subject.blob("a", b"{}");
    let layer = subject.blob("a", b"later");
    let later = subject.push("a", &image(&config, &layer, 9), &["later"]);
    let ahead = subject.ahead.load(Ordering::Relaxed);
    drop(subject);
    let subject = TestStore::open(root, Arc::new(Recorder::silent(root)), ahead);
    assert_eq!(subject.names().get("a:later"), Some(&later));
    subject.assert_whole();
}

// [HUB-014]
#[test]
fn power_lost_at_any_step_undoes_nothing_acknowledged() {
    let root = TempDir::new().unwrap();
    let disk = Arc::new(Recorder::new(root.path()));
    let subject = TestStore::open(root.path(), disk.clone(), 0);
    let mut client = Client {
        subject: &subject,
        disk: &disk,
        told: Vec::new(),
    };
    work(&mut client);
    let told = client.told;
    let ahead = subject.ahead.load(Ordering::Relaxed);
    let log = disk.log();
    assert!(log.len() > 150, "{}", log.len());
    let nothing = Acknowledged::default();
    let (mut model, mut step) = (Model::default(), 0);
    for (at, change) in log.iter().enumerate() {
        model.apply(change);
        step += usize::from(matches!(change, Change::Acknowledged(..)));
        for survives in [Survives::Nothing, Survives::Everything, Survives::Some(at as u64)] {
            let before = step.checked_sub(1).map_or(&nothing, |step| &told[step]);
            let after = told.get(step).unwrap_or(before);
            // Synced content changes only by a sync; everything else changes the rest.
            let told_or_synced = matches!(change, Change::Sync(_) | Change::Acknowledged(..));
            match survives {
                Survives::Nothing if !told_or_synced => continue,
                Survives::Everything if told_or_synced => continue,
                _ => {}
            }
            let context = (at, survives, step);
            let outcome = std::panic::catch_unwind(|| {
                let (root, subject) = restart(&model, survives, ahead);
                assert_acknowledged(&subject, before, after);
                if at % 5 == 0 {
                    assert_usable(root.path(), subject);
                }
            });
            assert!(outcome.is_ok(), "change, survivors, step: {context:?}");
        }
    }
}

// [HUB-014]
#[test]
fn power_lost_among_many_pushes_undoes_nothing_acknowledged() {
    const WRITERS: usize = 2;
    const PUSHES: u64 = 30;
    let root = TempDir::new().unwrap();
    let disk = Arc::new(Recorder::new(root.path()));
    let subject = TestStore::open(root.path(), disk.clone(), 0);
    let config = subject.blob("a", b"{}");
    let layer = subject.blob("a", b"layer");
    let text = |writer: usize, number: u64| image(&config, &layer, writer as u64 * 1000 + number);
    // From time to time, the index is written while a change waits for its sync.
    let (wake, woken) = sync_channel(0);
    let writes = AtomicUsize::new(0);
    let waker = Arc::new(Mutex::new(Some(wake)));
    let wakes = waker.clone();
    let after_write = move || {
        let wake = lock(&wakes);
        if writes.fetch_add(1, Ordering::Relaxed) % 3 == 2
            && wake.as_ref().is_some_and(|wake| wake.try_send(()).is_ok())
        {
            (0..50).for_each(|_| std::thread::yield_now());
        }
    };
    assert!(disk.after_write.set(Box::new(after_write)).is_ok());
    let compacted = std::thread::scope(|scope| {
        let (subject, disk, text) = (&subject, &disk, &text);
        let compacting = scope.spawn(move || woken.iter().map(|()| subject.store.compact(true).unwrap()).count());
        let write = move |writer: usize| {
            for number in 1..=PUSHES {
                subject.push("a", &text(writer, number), &[&format!("t{writer}")]);
                disk.acknowledge(writer, number);
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        drop(lock(&waker).take());
        compacting.join().unwrap()
    });
    assert!(compacted > 0);
    let (mut model, mut told) = (Model::default(), [0; WRITERS]);
    let mut acknowledged = 0;
    for (at, change) in disk.log().iter().enumerate() {
        model.apply(change);
        let Change::Acknowledged(writer, number) = change else {
            continue;
        };
        told[*writer] = *number;
        acknowledged += 1;
        for survives in [Survives::Nothing, Survives::Everything, Survives::Some(at as u64)] {
            let (_root, subject) = restart(&model, survives, 0);
            subject.assert_whole();
            let names = subject.names();
            for (writer, number) in told.iter().enumerate().filter(|(_, number)| **number > 0) {
                // The push after the acknowledged one may be there too.
                let last = [*number, *number + 1].map(|n| Digest::of(text(writer, n).as_bytes()));
                let found = names.get(&format!("a:t{writer}"));
                assert!(
                    found.is_some_and(|found| last.contains(found)),
                    "change {at}, {survives:?}: writer {writer} lost the acknowledged change {number}"
                );
            }
        }
    }
    assert_eq!(acknowledged, WRITERS as u64 * PUSHES);
}

// [HUB-014]
#[test]
fn upload_hash_matches_its_file_after_power_loss() {
    let root = TempDir::new().unwrap();
    let disk = Arc::new(Recorder::new(root.path()));
    let mut subject = TestStore::open(root.path(), disk.clone(), 0);
    subject.store.uploads.step = 1000;
    let id = "0".repeat(32);
    let uploads = &subject.store.uploads;
    let upload = uploads.start(&name("a"), id.clone(), Algorithm::Sha256, subject.store.now(), None);
    let upload = upload.unwrap();
    for part in 0..20_u8 {
        uploads.append(&upload, &[Bytes::from(vec![part; 300])]).unwrap();
    }
    let mut model = Model::default();
    let mut found = 0;
    for (at, change) in disk.log().iter().enumerate() {
        model.apply(change);
        for survives in [Survives::Nothing, Survives::Everything, Survives::Some(at as u64)] {
            let (_root, subject) = restart(&model, survives, 0);
            let Some(upload) = subject.store.uploads.get(&name("a"), &id, subject.store.now()) else {
                continue;
            };
            let bytes = std::fs::read(&upload.path).unwrap();
            let hashed = upload.digest(Algorithm::Sha256).unwrap();
            assert_eq!(hashed, Digest::of(&bytes), "change {at}, {survives:?}");
            found += 1;
        }
    }
    assert!(found > 50, "{found}");
}
