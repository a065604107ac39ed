//! Directories that someone else could have put there, or could write to; stores
//! that can't be written.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::process::Command;

use qyvol_store::{Fetch, LocalStore, StoreError};

use crate::support::{Home, chmod, is_root, reference};

#[test]
fn store_directory_that_is_a_link_is_refused() {
    for part in ["home", "home/store", "home/store/v1"] {
        let home = Home::new();
        home.load("a:1", "a");
        let path = home.dir.path().join(part);
        let moved = home.dir.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        let error = LocalStore::open(&home.root()).unwrap_err();
        assert!(
            matches!(error, StoreError::SymlinkedDirectory { .. }),
            "{part}: {error}"
        );
    }
}

#[test]
fn store_directory_that_others_can_write_is_refused_with_the_chmod_to_run() {
    for part in ["home", "home/store", "home/store/v1"] {
        for mode in [0o770, 0o707, 0o1777] {
            let home = Home::new();
            home.load("a:1", "a");
            chmod(&home.dir.path().join(part), mode);
            let error = LocalStore::open(&home.root()).unwrap_err();
            assert!(error.to_string().contains("chmod go-w"), "{part}: {error}");
        }
    }
    let home = Home::new();
    home.load("a:1", "a");
    chmod(&home.v1().join("refs"), 0o777);
    assert!(matches!(home.store.begin(), Err(StoreError::WritableByOthers { .. })));
}

#[test]
fn store_of_another_user_is_refused() {
    if crate::needs::lacks(&["root"]) {
        return;
    }
    for part in ["home", "home/store", "home/store/v1", "home/store/v1/blobs"] {
        let home = Home::new();
        home.load("a:1", "a");
        chown(home.dir.path().join(part), Some(12345), None).unwrap();
        let error = match LocalStore::open(&home.root()) {
            Ok(store) => store.begin().unwrap_err(),
            Err(error) => error,
        };
        assert!(
            matches!(error, StoreError::WrongOwner { owner: 12345, .. }),
            "{part}: {error}"
        );
    }
}

#[test]
fn file_in_place_of_the_store_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    fs::write(dir.path().join("home"), b"").unwrap();
    let error = LocalStore::open(&dir.path().join("home")).unwrap_err();
    assert!(matches!(error, StoreError::NotADirectory { .. }), "{error}");
}

#[test]
fn new_store_is_private_whatever_the_umask() {
    let home = Home::new();
    home.load("a:1", "a");
    for path in [home.root(), home.root().join("store"), home.v1()] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o077, 0, "{}", path.display());
    }
}

/// As a user who may only read: a child of this test that drops root.
#[test]
fn store_that_cannot_be_written_is_read_without_writing() {
    let home = Home::new();
    let image = home.load("a:1", "a");
    home.store.put_code("engine", &image.layer.digest, b"code").unwrap();
    if is_root() {
        // Root can write anywhere: the store's own files stay readable to
        // others, and the child is one of them.
        chmod(home.dir.path(), 0o755);
        for part in ["home", "home/store", "home/store/v1", "home/store/v1/locks"] {
            chmod(&home.dir.path().join(part), 0o755);
        }
    } else {
        for part in [
            "home/store/v1/locks",
            "home/store/v1/tmp",
            "home/store/v1/blobs",
            "home/store/v1",
        ] {
            chmod(&home.dir.path().join(part), 0o555);
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "directories::child_reads", "--ignored", "--nocapture"])
        .env("QYVOL_TEST_ROOT", home.root());
    if is_root() {
        use std::os::unix::process::CommandExt;
        // Another user may not be able to reach the test binary.
        let copy = home.dir.path().join("child");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        chmod(&copy, 0o755);
        command = Command::new(&copy);
        command
            .args(["--exact", "directories::child_reads", "--ignored", "--nocapture"])
            .env("QYVOL_TEST_ROOT", home.root())
            .uid(12345)
            .gid(12345);
    }
    let output = command.current_dir(home.dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in [
        "home/store/v1/locks",
        "home/store/v1/tmp",
        "home/store/v1/blobs",
        "home/store/v1",
    ] {
        chmod(&home.dir.path().join(part), 0o755);
    }
}

#[test]
#[ignore = "run by store_that_cannot_be_written_is_read_without_writing"]
fn child_reads() {
    let root = std::path::PathBuf::from(std::env::var_os("QYVOL_TEST_ROOT").expect("set by the parent"));
    let store = LocalStore::open(&root).unwrap();
    let manifest = store.resolve(&reference("a:1")).unwrap().expect("readable");
    let bytes = store.fetch_bytes(&manifest, 10_000).unwrap();
    let layer = qyvol_types::ImageManifest::parse(bytes).unwrap().layers()[0].clone();
    let mut body = Vec::new();
    store.fetch(&layer).unwrap().read_to_end(&mut body).unwrap();
    assert_eq!(body, b"component a");
    assert_eq!(store.references().unwrap().len(), 1);
    assert!(store.begin().unwrap_err().is_unwritable());
    assert_eq!(store.check(&qyvol_store::NoopReporter, false).unwrap_or_default(), []);
    // A guest may run from it; whether the lock can be taken depends on the system.
    store.running(&manifest.digest).unwrap();
    let _ = store.code("engine", &layer.digest).unwrap();
    assert!(store.tree(&layer.digest).unwrap().is_none());
}
