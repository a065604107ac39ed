//! Prune removes what is unreachable, and nothing else.

use std::sync::mpsc;
use std::thread;

use qyvol_store::{Exists, NoopReporter, PruneKind};

use crate::support::{Home, flip, image, reference, sign};

fn prune(home: &Home) -> Vec<PruneKind> {
    let plan = home.store.prune_plan().unwrap();
    let pruned = home.store.prune(&plan).unwrap();
    assert_eq!(pruned.failed, []);
    pruned.removed.iter().map(|item| item.kind).collect()
}

#[test]
fn prune_keeps_what_a_name_reaches_and_removes_the_rest() {
    let home = Home::new();
    let mut ingest = home.store.begin().unwrap();
    let kept = image(&ingest, "kept");
    let gone = image(&ingest, "gone");
    let signature = sign(&ingest, &kept.manifest, "ana");
    let orphan = sign(&ingest, &gone.manifest, "luis");
    ingest.tag(&reference("kept:1"), &kept.manifest);
    ingest.commit().unwrap();
    for image in [&kept, &gone] {
        home.store.put_code("engine", &image.layer.digest, b"code").unwrap();
        let mut unpack = |dir: &std::path::Path| std::fs::write(dir.join("f"), b"f");
        home.store.put_tree(&image.layer.digest, &mut unpack).unwrap();
    }
    let before = home.files().len();

    let plan = home.store.prune_plan().unwrap();
    assert!(plan.bytes > 0);
    assert_eq!(home.files().len(), before, "a plan removes nothing");
    let mut kinds = prune(&home);
    kinds.dedup();
    assert_eq!(
        kinds,
        [PruneKind::Code, PruneKind::Tree, PruneKind::Referrer, PruneKind::Blob]
    );

    for d in [&kept.manifest, &kept.config, &kept.layer, &signature] {
        assert!(home.store.exists(d).unwrap());
    }
    for d in [&gone.manifest, &gone.config, &gone.layer, &orphan] {
        assert!(!home.store.exists(d).unwrap());
    }
    assert!(home.store.code("engine", &kept.layer.digest).unwrap().is_some());
    assert!(home.store.tree(&kept.layer.digest).unwrap().is_some());
    assert!(home.store.code("engine", &gone.layer.digest).unwrap().is_none());
    assert!(home.store.tree(&gone.layer.digest).unwrap().is_none());
    assert_eq!(prune(&home), []);
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
}

#[test]
fn prune_keeps_what_a_running_guest_needs() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    home.store.remove_reference(&reference("a:1")).unwrap();
    let mut running = home.other().running(&image.manifest.digest).unwrap();
    let mut second = home.other().running(&image.manifest.digest).unwrap();
    assert!(running.is_held());
    running.allow_prune();
    second.allow_prune();
    drop(running);
    assert_eq!(prune(&home), []);
    drop(second);
    assert_eq!(prune(&home).len(), 3);
    assert_eq!(
        std::fs::read_dir(home.v1().join("locks")).unwrap().count(),
        2,
        "locks of guests that ended"
    );
}

// [RUN-020]
#[test]
fn prune_waits_until_a_run_has_found_what_it_needs() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    let mut unpack = |dir: &std::path::Path| std::fs::write(dir.join("f"), b"f");
    home.store.put_tree(&image.layer.digest, &mut unpack).unwrap();
    home.store.remove_reference(&reference("a:1")).unwrap();
    let plan = home.store.prune_plan().unwrap();
    let store = home.other();
    let mut running = store.running(&image.manifest.digest).unwrap();
    thread::scope(|scope| {
        let (send, done) = mpsc::channel();
        let pruner = home.other();
        let plan = &plan;
        scope.spawn(move || send.send(pruner.prune(plan).unwrap().removed).unwrap());
        // While the guest's content is looked up, none of it is removed.
        for _ in 0..200 {
            assert!(store.tree(&image.layer.digest).unwrap().is_some());
            thread::yield_now();
        }
        assert!(done.try_recv().is_err(), "the prune did not wait");
        running.allow_prune();
        assert_eq!(done.recv().unwrap(), [], "a running guest's content was removed");
    });
    assert!(store.tree(&image.layer.digest).unwrap().is_some());
}

#[test]
fn prune_keeps_what_became_reachable_or_was_not_planned() {
    let home = Home::new();
    let a = home.load("a:1", "a");
    let b = home.load("b:1", "b");
    home.store.remove_reference(&reference("a:1")).unwrap();
    let plan = home.store.prune_plan().unwrap();
    home.load("a:2", "a");
    home.store.remove_reference(&reference("b:1")).unwrap();
    assert_eq!(home.store.prune(&plan).unwrap().removed, []);
    assert!(home.store.exists(&a.layer).unwrap() && home.store.exists(&b.layer).unwrap());
}

#[test]
fn prune_refuses_when_reachability_is_unknown() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    flip(&home.blob(&image.manifest.digest));
    assert!(home.store.prune_plan().is_err());
    assert!(home.store.exists(&image.layer).unwrap());
}

#[test]
fn prune_removes_code_of_other_engines_when_asked() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    home.store.put_code("old", &image.layer.digest, b"old").unwrap();
    home.store.put_code("new", &image.layer.digest, b"new").unwrap();
    assert_eq!(prune(&home), []);
    let plan = home.store.prune_plan_keeping("new").unwrap();
    assert_eq!(home.store.prune(&plan).unwrap().removed.len(), 1);
    assert!(home.store.code("old", &image.layer.digest).unwrap().is_none());
    assert!(home.store.code("new", &image.layer.digest).unwrap().is_some());
}

#[test]
fn prune_never_follows_a_link_out_of_the_store() {
    let home = Home::new();
    home.load("a:1", "a");
    let outside = home.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), b"x").unwrap();
    for place in ["trees/x", "quarantine/x", "tmp/x", "blobs/sha256/x", "code/x"] {
        std::os::unix::fs::symlink(&outside, home.v1().join(place)).unwrap();
    }
    let inside = home.v1().join("quarantine/directory");
    std::fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
    let plan = home.store.prune_plan().unwrap();
    for item in &plan.items {
        assert!(!item.path.ends_with("precious"), "{}", item.path.display());
    }
    home.store.prune(&plan).unwrap();
    assert!(outside.join("precious").exists());
    assert!(!inside.exists());
}

#[test]
fn ingest_prune_and_run_at_once_damage_nothing() {
    let home = Home::new();
    thread::scope(|scope| {
        for worker in 0..3 {
            let store = home.other();
            scope.spawn(move || {
                for round in 0..15 {
                    let name = reference(&format!("w{worker}:{}", round % 3));
                    let mut ingest = store.begin().unwrap();
                    let image = image(&ingest, &format!("{}", round % 4));
                    let guard = store.running(&image.manifest.digest).unwrap();
                    sign(&ingest, &image.manifest, "ana");
                    ingest.tag(&name, &image.manifest);
                    ingest.commit().unwrap();
                    store.put_code("engine", &image.layer.digest, b"code").unwrap();
                    let mut unpack = |dir: &std::path::Path| std::fs::write(dir.join("f"), b"f");
                    store.put_tree(&image.layer.digest, &mut unpack).unwrap();
                    store.remove_reference(&name).unwrap();
                    assert!(store.exists(&image.layer).unwrap(), "pruned while it runs");
                    assert!(store.code("engine", &image.layer.digest).unwrap().is_some());
                    assert!(store.tree(&image.layer.digest).unwrap().is_some());
                    drop(guard);
                }
            });
        }
        let store = home.other();
        scope.spawn(move || {
            for _ in 0..20 {
                let plan = store.prune_plan().unwrap();
                assert_eq!(store.prune(&plan).unwrap().failed, []);
            }
        });
    });
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
    prune(&home);
    assert_eq!(home.files(), Vec::<String>::new());
}
