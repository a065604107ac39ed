//! Writing and reading blobs.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::thread;

use qyvol_store::{Exists, Fetch, MemoryStore, NoopReporter, Push, Referrers, StoreError, copy};
use qyvol_types::{Descriptor, Digest, media_type};

use crate::support::{Home, flip, image, overwrite, put, reference, sign};

#[test]
fn blob_that_was_committed_reads_back_and_is_read_only() {
    let home = Home::new();
    let d = Descriptor::of("x", b"hello");
    let ingest = home.store.begin().unwrap();
    put(&ingest, "x", b"hello");
    assert!(!home.store.exists(&d).unwrap(), "visible before the commit");
    assert_eq!(ingest.fetch_bytes(&d, 5).unwrap(), b"hello");
    ingest.commit().unwrap();
    assert_eq!(home.other().fetch_bytes(&d, 5).unwrap(), b"hello");
    assert_eq!(std::fs::metadata(home.blob(&d.digest)).unwrap().mode() & 0o333, 0);
    assert!(matches!(
        home.store.fetch_bytes(&d, 4),
        Err(StoreError::TooLarge { .. })
    ));
}

#[test]
fn content_that_does_not_match_its_descriptor_leaves_nothing() {
    let home = Home::new();
    let ingest = home.store.begin().unwrap();
    let d = Descriptor::of("x", b"hello");
    for (bad, size) in [(&b"hellO"[..], false), (b"hell", true), (b"hello!", true), (b"", true)] {
        let error = ingest.push(&d, &mut &*bad).unwrap_err();
        assert_eq!(matches!(error, StoreError::WrongSize { .. }), size, "{error}");
        assert!(error.is_content_error());
    }
    assert!(!ingest.exists(&d).unwrap());
    ingest.commit().unwrap();
    assert_eq!(home.files(), Vec::<String>::new());
}

#[test]
fn endless_source_is_stopped_one_byte_past_the_descriptor() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 += buf.len() as u64;
            assert!(self.0 < 1 << 20, "read on and on");
            buf.fill(0);
            Ok(buf.len())
        }
    }
    let home = Home::new();
    let ingest = home.store.begin().unwrap();
    let error = ingest
        .push(&Descriptor::of("x", &[0; 300_000]), &mut Endless(0))
        .unwrap_err();
    assert!(matches!(error, StoreError::WrongSize { more: true, .. }), "{error}");
    let huge = Descriptor::new("x", Digest::of(b""), u64::MAX);
    assert!(ingest.push(&huge, &mut &b"short"[..]).is_err());
}

#[test]
fn dropped_ingest_and_unfinished_writer_leave_nothing() {
    let home = Home::new();
    let ingest = home.store.begin().unwrap();
    put(&ingest, "x", b"hello");
    let mut writer = ingest.writer().unwrap();
    writer.write_all(b"half").unwrap();
    drop(ingest);
    drop(writer);
    assert_eq!(home.files(), Vec::<String>::new());
    assert_eq!(std::fs::read_dir(home.v1().join("tmp")).unwrap().count(), 0);
}

#[test]
fn writer_learns_the_digest_and_refuses_another() {
    let home = Home::new();
    let ingest = home.store.begin().unwrap();
    let write = |known: Option<&Digest>, hashing: bool| {
        let mut writer = ingest.writer().unwrap();
        if !hashing {
            writer = writer.without_hashing();
        }
        writer.write_all(b"hel").unwrap();
        writer.write_all(b"lo").unwrap();
        writer.finish("x", known)
    };
    let d = Descriptor::of("x", b"hello");
    assert_eq!(write(None, true).unwrap(), d);
    assert_eq!(write(None, false).unwrap(), d);
    assert_eq!(write(Some(&d.digest), true).unwrap(), d);
    assert_eq!(write(Some(&d.digest), false).unwrap(), d);
    let other = Digest::of(b"other");
    assert!(matches!(write(Some(&other), true), Err(StoreError::WrongDigest { .. })));
    assert_eq!(ingest.fetch_bytes(&d, 5).unwrap(), b"hello");
}

#[test]
fn losing_a_race_for_the_same_image_is_success() {
    let home = Home::new();
    thread::scope(|scope| {
        for _ in 0..8 {
            let store = home.other();
            scope.spawn(move || {
                for _ in 0..10 {
                    let mut ingest = store.begin().unwrap();
                    let image = image(&ingest, "same");
                    sign(&ingest, &image.manifest, "ana");
                    ingest.tag(&reference("same:1"), &image.manifest);
                    ingest.commit().unwrap();
                }
            });
        }
    });
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
    assert_eq!(home.files().len(), 6 + 1 + 1);
}

#[test]
fn existing_blob_is_kept_and_a_truncated_one_is_repaired() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    let inode = || std::fs::metadata(home.blob(&image.layer.digest)).unwrap().ino();
    let before = inode();
    home.load("a:1", "a");
    assert_eq!(inode(), before);
    overwrite(&home.blob(&image.layer.digest), b"comp");
    assert!(!home.store.exists(&image.layer).unwrap());
    home.load("a:1", "a");
    assert_eq!(home.store.fetch_bytes(&image.layer, 100).unwrap(), b"component a");
}

#[test]
fn altered_blob_is_never_returned() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    flip(&home.blob(&image.layer.digest));
    let error = home.store.fetch_bytes(&image.layer, 100).unwrap_err();
    assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
}

#[test]
fn link_or_directory_in_place_of_a_blob_is_refused() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    let path = home.blob(&image.layer.digest);
    let secret = home.dir.path().join("secret");
    std::fs::write(&secret, b"component a").unwrap();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    assert!(matches!(
        home.store.blob_file(&image.layer),
        Err(StoreError::Damaged { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(
        home.store.blob_file(&image.layer),
        Err(StoreError::Damaged { .. })
    ));
}

#[test]
fn copy_moves_children_manifest_and_signatures_and_can_be_repeated() {
    let memory = MemoryStore::new();
    let image = image(&memory, "m");
    let ana = sign(&memory, &image.manifest, "ana");
    let counter = sign(&memory, &ana, "luis");
    let home = Home::new();
    for _ in 0..2 {
        let mut ingest = home.store.begin().unwrap();
        copy(&memory, &ingest, &image.manifest, &|_| true, &NoopReporter).unwrap();
        assert_eq!(
            ingest.referrers(&image.manifest.digest).unwrap(),
            std::slice::from_ref(&ana)
        );
        ingest.tag(&reference("m:1"), &image.manifest);
        ingest.commit().unwrap();
    }
    assert_eq!(
        home.store.referrers(&image.manifest.digest).unwrap(),
        std::slice::from_ref(&ana)
    );
    assert_eq!(
        home.store.referrers(&ana.digest).unwrap(),
        std::slice::from_ref(&counter)
    );
    let back = MemoryStore::new();
    copy(&home.store, &back, &image.manifest, &|_| true, &NoopReporter).unwrap();
    assert_eq!(back.referrers(&ana.digest).unwrap(), [counter]);
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
}

#[test]
fn copy_names_the_end_that_failed_and_tags_nothing() {
    use qyvol_store::CopyError;
    let source = Home::new();
    let image = source.load("a:1", "a");
    flip(&source.blob(&image.layer.digest));
    let target = Home::new();
    let ingest = target.store.begin().unwrap();
    let error = copy(&source.store, &ingest, &image.manifest, &|_| true, &NoopReporter).unwrap_err();
    assert!(matches!(error, CopyError::Source { .. }), "{error:?}");
    drop(ingest);
    assert_eq!(target.files(), Vec::<String>::new());
}

#[test]
fn invalid_referrers_do_not_fail_the_copy() {
    let source = Home::new();
    let mut ingest = source.store.begin().unwrap();
    let a = image(&ingest, "a");
    let b = image(&ingest, "b");
    let junk = put(&ingest, "application/octet-stream", b"junk");
    // One that is no manifest, and one without a subject.
    ingest.add_referrer(&a.manifest.digest, &junk);
    ingest.add_referrer(&a.manifest.digest, &b.manifest);
    let good = sign(&ingest, &a.manifest, "ana");
    ingest.commit().unwrap();
    let target = MemoryStore::new();
    copy(&source.store, &target, &a.manifest, &|_| true, &NoopReporter).unwrap();
    assert_eq!(target.referrers(&a.manifest.digest).unwrap(), [good]);
}

#[test]
fn ambiguous_manifest_is_not_stored() {
    let home = Home::new();
    let ingest = home.store.begin().unwrap();
    let memory = MemoryStore::new();
    for bad in [&b"{}"[..], b"not json", br#"{"schemaVersion":2,"schemaVersion":2}"#] {
        let d = Descriptor::of(media_type::IMAGE_MANIFEST, bad);
        assert!(matches!(ingest.push(&d, &mut &*bad), Err(StoreError::Manifest { .. })));
        assert!(matches!(memory.push(&d, &mut &*bad), Err(StoreError::Manifest { .. })));
    }
}

#[test]
fn builder_threads_can_share_an_ingest_and_own_its_writers() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn sent<T: Send + 'static>(_: &T) {}
    let home = Home::new();
    let ingest = home.store.begin().unwrap();
    shared(&ingest);
    shared(&home.store);
    sent(&ingest.writer().unwrap());
}
