//! Names.

use qyvol_store::StoreError;
use qyvol_types::{Descriptor, Digest, ImageManifest, media_type};

use crate::support::{Home, image, overwrite, put, reference};

#[test]
fn name_is_resolved_replaced_and_removed() {
    let home = Home::new();
    assert_eq!(home.store.resolve(&reference("a:1")).unwrap(), None);
    let one = home.load("a:1", "one").manifest;
    assert_eq!(home.other().resolve(&reference("a:1")).unwrap(), Some(one.clone()));
    let two = home.load("a:1", "two").manifest;
    assert_eq!(home.store.resolve(&reference("a:1")).unwrap(), Some(two.clone()));
    home.load("a", "one");
    assert_eq!(home.store.resolve(&reference("a:latest")).unwrap(), Some(one.clone()));
    // A digest decides, whatever the tag says.
    let pinned = format!("a:1@{}", one.digest);
    assert_eq!(home.store.resolve(&reference(&pinned)).unwrap(), Some(one.clone()));
    assert_eq!(
        home.store.references().unwrap(),
        [(reference("a:1"), two), (reference("a:latest"), one)]
    );
    assert!(home.store.remove_reference(&reference("a:1")).unwrap());
    assert!(!home.store.remove_reference(&reference("a:1")).unwrap());
    assert_eq!(home.store.resolve(&reference("a:1")).unwrap(), None);
}

#[test]
fn incomplete_image_gets_no_name() {
    let home = Home::new();
    let mut ingest = home.store.begin().unwrap();
    let config = put(&ingest, media_type::WASM_CONFIG, b"{}");
    let absent = Descriptor::of(media_type::WASM, b"absent");
    let manifest = ImageManifest::image(config, vec![absent.clone()]).unwrap();
    let manifest = put(&ingest, media_type::IMAGE_MANIFEST, manifest.raw());
    ingest.tag(&reference("a:1"), &manifest);
    match ingest.commit() {
        Err(StoreError::Incomplete { digest, .. }) => assert_eq!(digest, absent.digest),
        other => panic!("{other:?}"),
    }
    assert_eq!(home.files(), Vec::<String>::new());
}

#[test]
fn one_damaged_name_does_not_hide_the_others() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    let name = home.files().into_iter().find(|f| f.starts_with("refs/")).unwrap();
    home.load("b:1", "b");
    for bad in [
        "",
        "{",
        "{\"name\":\"../x\"}",
        &format!(
            "{{\"name\":\"b:1\",\"descriptor\":{{\"mediaType\":\"x\",\"digest\":\"{}\",\"size\":1}}}}",
            image.manifest.digest
        ),
    ] {
        overwrite(&home.v1().join(&name), bad.as_bytes());
        assert!(
            matches!(home.store.resolve(&reference("a:1")), Err(StoreError::Damaged { .. })),
            "{bad}"
        );
        let names: Vec<_> = home
            .store
            .references()
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, [reference("b:1")]);
        assert_eq!(home.store.take_notices().len(), 1);
        let damage = home.store.check(&qyvol_store::NoopReporter, false).unwrap();
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert!(home.store.prune_plan().is_err(), "what it referred to is unknown");
    }
    let damage = home.store.check(&qyvol_store::NoopReporter, true).unwrap();
    assert!(damage[0].repaired);
    assert_eq!(home.store.check(&qyvol_store::NoopReporter, false).unwrap(), []);
}

// [STORE-033]
#[test]
fn tag_new_never_overwrites_even_a_concurrent_tag() {
    let home = Home::new();
    let first = home.load("app:1", "first");
    let before = home.files();
    let mut late = home.store.begin().unwrap();
    let second = image(&late, "second");
    late.tag_new(&reference("app:1"), &second.manifest);
    late.tag_new(&reference("app:2"), &second.manifest);
    match late.commit() {
        Err(StoreError::NameTaken { there, wanted, .. }) => {
            assert_eq!((there, *wanted), (first.manifest.digest, second.manifest.digest));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(home.files(), before);
    // The same image is not a move.
    let mut again = home.store.begin().unwrap();
    again.tag_new(&reference("app:1"), &first.manifest);
    again.commit().unwrap();
}

// [BIN-036]
#[test]
fn free_space_check_counts_each_missing_blob_once() {
    let home = Home::new();
    let stored = home.load("app:1", "stored");
    home.store.check_free_space([&stored.layer]).unwrap();
    let huge = Descriptor::new("x", Digest::of(b"huge"), u64::MAX / 2);
    let more = Descriptor::new("x", Digest::of(b"more"), u64::MAX);
    for blobs in [vec![&huge], vec![&huge, &huge, &more]] {
        match home.store.check_free_space(blobs) {
            Err(StoreError::InsufficientSpace { needed, available, .. }) => assert!(needed > available),
            other => panic!("{other:?}"),
        }
    }
}
