//! The host's state by name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Barrier;
use std::thread;

use qyvol_store::{LocalStore, StoreError};

fn number(bytes: Option<&[u8]>) -> u64 {
    bytes.map_or(0, |b| String::from_utf8_lossy(b).parse().unwrap())
}

// [STORE-032]
#[test]
fn state_updates_are_serialized_across_processes() {
    let base = tempfile::tempdir().unwrap();
    let root = base.path().join("home");
    assert_eq!(LocalStore::open(&root).unwrap().host_state("a").unwrap(), None);
    assert!(!root.exists(), "reading writes nothing");
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = LocalStore::open(&root).unwrap();
                barrier.wait();
                for _ in 0..10 {
                    let add = |old: Option<&[u8]>| Ok::<_, StoreError>((number(old) + 1).to_string().into_bytes());
                    store.update_host_state("a", add).unwrap();
                }
            });
        }
    });
    let store = LocalStore::open(&root).unwrap();
    assert_eq!(number(store.host_state("a").unwrap().as_deref()), 40);
    assert_eq!(store.host_state("b").unwrap(), None);
    assert_eq!(store.check(&qyvol_store::NoopReporter, false).unwrap().len(), 0);
}

// [STORE-032]
#[test]
fn state_that_others_can_write_is_refused() {
    let base = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&base.path().join("home")).unwrap();
    let keep = |_: Option<&[u8]>| Ok::<_, StoreError>(b"x".to_vec());
    store.update_host_state("a", keep).unwrap();
    let directory = base.path().join("home/store/v1/state/seen");
    let file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(matches!(store.host_state("a"), Err(StoreError::Damaged { .. })));
    assert!(matches!(
        store.update_host_state("a", keep),
        Err(StoreError::Damaged { .. })
    ));
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/null", &file).unwrap();
    assert!(matches!(store.host_state("a"), Err(StoreError::Damaged { .. })));
}
