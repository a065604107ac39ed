//! Finding damage.

use std::fs;

use qyvol_store::{Exists, LocalStore, NoopReporter, Referrers};

use crate::support::{Home, chmod, flip, image, reference, sign};

#[test]
fn every_kind_of_damage_is_found_and_repaired() {
    let home = Home::new();
    let mut ingest = home.store.begin().unwrap();
    let image = image(&ingest, "a");
    let signature = sign(&ingest, &image.manifest, "ana");
    ingest.tag(&reference("a:1"), &image.manifest);
    ingest.commit().unwrap();
    home.store.put_code("engine", &image.layer.digest, b"code").unwrap();
    let mut unpack = |dir: &std::path::Path| fs::write(dir.join("f"), b"f");
    let tree = home.store.put_tree(&image.layer.digest, &mut unpack).unwrap();
    let tree = tree.path().to_path_buf();
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);

    let code = home.v1().join(format!("code/engine/{}", image.layer.digest.hex()));
    let link = home.v1().join(format!(
        "referrers/sha256/{}/{}",
        image.manifest.digest.hex(),
        signature.digest.hex()
    ));
    flip(&home.blob(&image.layer.digest));
    flip(&tree.join("f"));
    flip(&code);
    flip(&link);
    chmod(&home.v1().join("blobs"), 0o775);
    chmod(&home.v1().join("state/key"), 0o640);
    let store = home.other();
    let damage = store.check(&NoopReporter, false).unwrap();
    let mut found: Vec<_> = damage.iter().map(|d| d.path.clone()).collect();
    found.sort();
    // Without a key, trees and code can't be checked.
    let mut expected = vec![
        home.blob(&image.layer.digest),
        link.clone(),
        home.v1().join("blobs"),
        home.v1().join("state/key"),
    ];
    expected.sort();
    assert_eq!(found, expected, "{damage:#?}");
    assert!(damage.iter().all(|d| !d.repaired && !d.repair.is_empty()));

    chmod(&home.v1().join("state/key"), 0o600);
    let damage = home.other().check(&NoopReporter, false).unwrap();
    for path in [&tree, &code] {
        assert!(damage.iter().any(|d| d.path == *path), "{damage:#?}");
    }

    let store = home.other();
    for damage in store.check(&NoopReporter, true).unwrap() {
        assert!(damage.repaired || damage.what.contains("missing"), "{damage:?}");
    }
    assert!(!store.exists(&image.layer).unwrap());
    let left = store.check(&NoopReporter, false).unwrap();
    assert_eq!(left.len(), 1, "the name that lacks a blob: {left:?}");
    assert!(left[0].repair.contains("a:1"));

    // The hint of the repair: load again.
    let mut ingest = store.begin().unwrap();
    let image = crate::support::image(&ingest, "a");
    sign(&ingest, &image.manifest, "ana");
    ingest.tag(&reference("a:1"), &image.manifest);
    ingest.commit().unwrap();
    assert_eq!(store.check(&NoopReporter, false).unwrap(), []);
    assert_eq!(store.referrers(&image.manifest.digest).unwrap(), [signature]);
}

#[test]
fn missing_blob_is_found() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    fs::remove_file(home.blob(&image.config.digest)).unwrap();
    let damage = home.store.check(&NoopReporter, false).unwrap();
    assert_eq!(damage.len(), 1);
    assert!(damage[0].what.contains(&image.config.digest.to_string()));
}

#[test]
fn foreign_file_among_blobs_is_found() {
    let home = Home::new();
    home.load("a:1", "a");
    fs::create_dir_all(home.v1().join("blobs/sha256/zz")).unwrap();
    fs::write(home.v1().join("blobs/sha256/zz/zzz"), b"x").unwrap();
    assert_eq!(home.store.check(&NoopReporter, true).unwrap().len(), 1);
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
}

#[test]
fn absent_store_is_undamaged_and_check_creates_nothing() {
    let dir = tempfile::TempDir::new().unwrap();
    let root = dir.path().join("none");
    let store = LocalStore::open(&root).unwrap();
    assert_eq!(store.check(&NoopReporter, false).unwrap(), []);
    assert_eq!(store.references().unwrap(), []);
    assert!(store.prune_plan().unwrap().items.is_empty());
    assert!(!root.exists());
}
