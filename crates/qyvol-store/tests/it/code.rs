//! Compiled code that must not be mapped.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::thread;

use qyvol_store::StoreError;
use qyvol_types::Digest;

use crate::support::{Home, chmod, flip, overwrite};

const ENGINE: &str = "48-abc";

fn component() -> Digest {
    Digest::of(b"component")
}

fn path(home: &Home) -> PathBuf {
    home.v1().join(format!("code/{ENGINE}/{}", component().hex()))
}

fn compiled() -> Home {
    let home = Home::new();
    assert!(home.store.code(ENGINE, &component()).unwrap().is_none());
    let mut code = String::new();
    let kept = home.store.put_code(ENGINE, &component(), b"native code").unwrap();
    kept.file().read_to_string(&mut code).unwrap();
    assert_eq!(code, "native code");
    home
}

/// The code counts as absent, and can be compiled again.
fn refused(home: &Home) {
    assert!(home.store.code(ENGINE, &component()).unwrap().is_none());
    assert!(!path(home).exists(), "still in place");
    assert!(!home.store.take_notices().is_empty(), "said nothing");
    home.store.put_code(ENGINE, &component(), b"native code").unwrap();
    assert!(home.store.code(ENGINE, &component()).unwrap().is_some());
}

#[test]
fn code_is_kept_private_with_a_record_of_128_bytes() {
    let home = compiled();
    assert!(home.other().code(ENGINE, &component()).unwrap().is_some());
    assert_eq!(fs::metadata(path(&home)).unwrap().mode() & 0o7777, 0o400);
    assert_eq!(
        fs::metadata(path(&home).parent().unwrap()).unwrap().mode() & 0o7777,
        0o700
    );
    assert_eq!(fs::metadata(path(&home).with_extension("record")).unwrap().len(), 128);
    assert_eq!(
        fs::metadata(home.v1().join("state/key")).unwrap().mode() & 0o7777,
        0o600
    );
}

#[test]
fn altered_code_is_refused_at_once() {
    for _ in 0..20 {
        let home = compiled();
        flip(&path(&home));
        refused(&home);
    }
}

#[test]
fn swapped_code_is_refused() {
    let home = compiled();
    fs::remove_file(path(&home)).unwrap();
    fs::write(path(&home), b"NATIVE CODE").unwrap();
    chmod(&path(&home), 0o400);
    refused(&home);
}

#[test]
fn code_and_record_of_another_component_or_engine_are_refused() {
    let home = compiled();
    let other = Digest::of(b"other");
    home.store.put_code(ENGINE, &other, b"evil").unwrap();
    home.store.put_code("other-engine", &component(), b"evil").unwrap();
    for from in [
        format!("{ENGINE}/{}", other.hex()),
        format!("other-engine/{}", component().hex()),
    ] {
        let from = home.v1().join("code").join(from);
        let copy = home.dir.path().join("copy");
        // Read-only, as the code is: only root could write over it.
        let _ = fs::remove_file(&copy);
        fs::copy(&from, copy).unwrap();
        fs::rename(&from, path(&home)).unwrap();
        fs::rename(from.with_extension("record"), path(&home).with_extension("record")).unwrap();
        refused(&home);
    }
}

#[test]
fn linked_code_is_refused() {
    let home = compiled();
    let outside = home.dir.path().join("outside");
    fs::hard_link(path(&home), &outside).unwrap();
    refused(&home);
    fs::rename(path(&home), &outside).unwrap();
    symlink(&outside, path(&home)).unwrap();
    refused(&home);
    assert!(outside.exists());
}

#[test]
fn code_that_others_can_write_or_own_is_refused() {
    let home = compiled();
    for mode in [0o420, 0o402, 0o666] {
        chmod(&path(&home), mode);
        refused(&home);
    }
    if !crate::needs::lacks(&["root"]) {
        std::os::unix::fs::chown(path(&home), Some(12345), None).unwrap();
        refused(&home);
    }
    chmod(path(&home).parent().unwrap(), 0o770);
    refused(&home);
}

#[test]
fn damaged_record_or_key_invalidates_compiled_code() {
    let home = compiled();
    flip(&path(&home).with_extension("record"));
    refused(&home);
    overwrite(&path(&home).with_extension("record"), b"short");
    refused(&home);

    for spoil in [
        (|key| chmod(key, 0o644)) as fn(&std::path::Path),
        |key| overwrite(key, b"short"),
        |key| flip(key),
    ] {
        spoil(&home.v1().join("state/key"));
        let store = home.other();
        assert!(store.code(ENGINE, &component()).unwrap().is_none());
        store.put_code(ENGINE, &component(), b"native code").unwrap();
        assert!(home.other().code(ENGINE, &component()).unwrap().is_some());
    }
}

#[test]
fn store_that_was_copied_elsewhere_still_finds_its_code() {
    let home = compiled();
    let bytes = fs::read(path(&home)).unwrap();
    fs::remove_file(path(&home)).unwrap();
    fs::write(path(&home), bytes).unwrap();
    chmod(&path(&home), 0o400);
    let record = || fs::read(path(&home).with_extension("record")).unwrap();
    let before = record();
    assert!(home.store.code(ENGINE, &component()).unwrap().is_some());
    assert_ne!(record(), before, "hashed again at every run");
    assert_eq!(home.store.take_notices(), []);
}

#[test]
fn engine_id_that_leaves_its_directory_is_refused() {
    let home = Home::new();
    for bad in ["", "..", ".", "a/b", "/a", "a\0b", ".hidden", &"a".repeat(129)] {
        assert!(
            matches!(home.store.code(bad, &component()), Err(StoreError::InvalidEngineId(_))),
            "{bad}"
        );
        assert!(matches!(
            home.store.put_code(bad, &component(), b""),
            Err(StoreError::InvalidEngineId(_))
        ));
    }
}

#[test]
fn processes_that_compile_at_once_agree() {
    let home = Home::new();
    thread::scope(|scope| {
        for worker in 0..6_u8 {
            let store = home.other();
            scope.spawn(move || {
                for _ in 0..10 {
                    store.put_code(ENGINE, &component(), &[worker; 1000]).unwrap();
                    let mut code = Vec::new();
                    let kept = store.code(ENGINE, &component()).unwrap().expect("just put");
                    kept.file().read_to_end(&mut code).unwrap();
                    assert_eq!(code.len(), 1000);
                    assert_eq!(store.take_notices(), []);
                }
            });
        }
    });
    assert!(!home.v1().join("quarantine").read_dir().unwrap().any(|_| true));
}
