//! Unpacked trees that must not be used.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use qyvol_store::{LocalStore, NoopReporter, StoreError};
use qyvol_types::Digest;

use crate::support::{Home, chmod, flip};

fn id() -> Digest {
    Digest::of(b"layer")
}

fn unpack(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir.join("a/b"))?;
    fs::write(dir.join("top"), b"top")?;
    fs::write(dir.join("a/one"), b"one")?;
    fs::write(dir.join("a/b/two"), b"two")
}

fn unpacked() -> Home {
    let home = Home::new();
    assert_eq!(there(&home.store), None);
    let tree = home.store.put_tree(&id(), &mut unpack).unwrap();
    assert_eq!(there(&home.store).as_deref(), Some(tree.path()));
    home
}

fn there(store: &LocalStore) -> Option<PathBuf> {
    store.tree(&id()).unwrap().map(|tree| tree.path().to_path_buf())
}

#[test]
fn tree_is_read_only_and_not_unpacked_twice() {
    let home = unpacked();
    let tree = there(&home.other()).unwrap();
    assert_eq!(fs::read(tree.join("a/b/two")).unwrap(), b"two");
    for (path, mode) in [
        ("", 0o555),
        ("a", 0o555),
        ("a/b", 0o555),
        ("top", 0o444),
        ("a/b/two", 0o444),
    ] {
        assert_eq!(fs::metadata(tree.join(path)).unwrap().mode() & 0o7777, mode, "{path}");
    }
    let inode = fs::metadata(&tree).unwrap().ino();
    home.store.put_tree(&id(), &mut unpack).unwrap();
    assert_eq!(fs::metadata(&tree).unwrap().ino(), inode);
}

type Change = fn(&Path);

fn unsealed(dir: &Path, change: impl FnOnce()) {
    chmod(dir, 0o755);
    change();
    chmod(dir, 0o555);
}

// [STORE-043]
#[test]
fn entry_that_was_altered_added_or_removed_is_refused_when_it_is_used() {
    let changes: &[(&str, &[&str], Change)] = &[
        ("altered", &["a/b/two"], |tree| flip(&tree.join("a/b/two"))),
        ("removed", &["a", "a/one"], |tree| {
            unsealed(&tree.join("a"), || fs::remove_file(tree.join("a/one")).unwrap());
        }),
        ("added", &["a/b", "a/b/three"], |tree| {
            unsealed(&tree.join("a/b"), || fs::write(tree.join("a/b/three"), b"3").unwrap());
        }),
        ("swapped", &["a", "a/b", "a/b/two", "a/one/two"], |tree| {
            let at = |name: &str| tree.join("a").join(name);
            chmod(&at("b"), 0o755);
            unsealed(&tree.join("a"), || {
                fs::rename(at("one"), at("x")).unwrap();
                fs::rename(at("b"), at("one")).unwrap();
                fs::rename(at("x"), at("b")).unwrap();
            });
        }),
        ("a link", &["a", "a/one"], |tree| {
            unsealed(&tree.join("a"), || {
                fs::remove_file(tree.join("a/one")).unwrap();
                symlink("/etc/passwd", tree.join("a/one")).unwrap();
            });
        }),
        ("loosened", &["top"], |tree| chmod(&tree.join("top"), 0o666)),
    ];
    for (what, wrong, change) in changes {
        let home = unpacked();
        let tree = home.store.tree(&id()).unwrap().unwrap();
        for path in [
            "",
            "top",
            "a",
            "a/one",
            "a/b",
            "a/b/two",
            "absent",
            "a/absent",
            "top/absent",
        ] {
            tree.check(path).unwrap();
        }
        change(tree.path());
        let tree = home.store.tree(&id()).unwrap().unwrap();
        for path in *wrong {
            tree.check(path).expect_err(&format!("{what}: {path}"));
        }
        tree.check("").unwrap();
        // Other entries are still valid.
        if !wrong.contains(&"top") {
            tree.check("top").unwrap();
        }
        let found = home.store.check(&NoopReporter, false).unwrap();
        assert_eq!(found.len(), 1, "{what}: {found:?}");
        home.store.quarantine_tree(&id(), "it was altered");
        assert_eq!(there(&home.store), None, "{what}");
        assert_eq!(home.store.take_notices().len(), 1, "{what}");
        home.store
            .put_tree(&id(), &mut unpack)
            .unwrap()
            .check("a/b/two")
            .unwrap();
    }
}

// [STORE-041]
#[test]
fn tree_whose_own_directory_or_index_was_altered_counts_as_absent() {
    let changes: &[(&str, Change)] = &[
        ("added at the top", |tree| {
            unsealed(tree, || fs::write(tree.join("three"), b"3").unwrap());
        }),
        ("swapped for a link", |tree| {
            unsealed(tree, || {
                fs::remove_file(tree.join("top")).unwrap();
                symlink("/etc/passwd", tree.join("top")).unwrap();
            });
        }),
        ("index altered", |tree| flip_first(&tree.with_extension("index"))),
        ("index cut", |tree| cut(&tree.with_extension("index"), 60)),
        ("index a link", |tree| {
            let index = tree.with_extension("index");
            fs::rename(&index, index.with_extension("moved")).unwrap();
            symlink(index.with_extension("moved"), &index).unwrap();
        }),
        ("copied", |tree| {
            // As after a restore: every inode is new.
            let copy = tree.with_extension("copy");
            let status = std::process::Command::new("cp").arg("-a").arg(tree).arg(&copy).status();
            assert!(status.unwrap().success());
            chmod(tree, 0o755);
            fs::rename(tree, tree.with_extension("old")).unwrap();
            chmod(&copy, 0o755);
            fs::rename(&copy, tree).unwrap();
            chmod(tree, 0o555);
        }),
    ];
    for (what, change) in changes {
        let home = unpacked();
        let tree = there(&home.store).unwrap();
        change(&tree);
        assert_eq!(there(&home.store), None, "{what}");
        assert!(!tree.exists(), "{what}: still in place");
        assert_eq!(home.store.take_notices().len(), 1, "{what}");
        home.store.put_tree(&id(), &mut unpack).unwrap();
        assert_eq!(fs::read(tree.join("a/b/two")).unwrap(), b"two", "{what}");
    }
}

// [STORE-043]
#[test]
fn altered_index_page_fails_verification() {
    let home = unpacked();
    let path = there(&home.store).unwrap();
    let size = fs::metadata(path.with_extension("index")).unwrap().len();
    cut(&path.with_extension("index"), size - 1);
    let tree = home.store.tree(&id()).unwrap().unwrap();
    tree.check("top").unwrap_err();
    assert_eq!(home.store.check(&NoopReporter, false).unwrap().len(), 1);
}

/// Alters a byte of an index's head.
fn flip_first(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[50] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path, len: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(usize::try_from(len).unwrap());
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn index_of_another_tree_is_refused() {
    let home = unpacked();
    let other = Digest::of(b"other layer");
    let from = home.store.put_tree(&other, &mut unpack).unwrap();
    let from = from.path();
    let to = there(&home.store).unwrap();
    fs::copy(from.with_extension("index"), home.dir.path().join("index")).unwrap();
    fs::rename(home.dir.path().join("index"), to.with_extension("index")).unwrap();
    assert_eq!(there(&home.store), None);
}

#[test]
fn failed_unpacking_leaves_nothing() {
    let home = Home::new();
    let error = home
        .store
        .put_tree(&id(), &mut |dir| {
            unpack(dir)?;
            Err(io::Error::other("bad archive"))
        })
        .unwrap_err();
    assert!(matches!(error, StoreError::Unpack { .. }), "{error}");
    assert_eq!(home.files(), Vec::<String>::new());
    assert_eq!(fs::read_dir(home.v1().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(home.v1().join("trees")).unwrap().count(), 0);
}

#[test]
fn link_or_special_file_that_was_unpacked_is_refused() {
    let home = Home::new();
    let mut link = |dir: &Path| symlink("/etc/passwd", dir.join("x"));
    let mut hard = |dir: &Path| {
        fs::write(dir.join("a"), b"a")?;
        fs::hard_link(dir.join("a"), dir.join("b"))
    };
    assert!(matches!(
        home.store.put_tree(&id(), &mut link),
        Err(StoreError::UnsupportedFileType { .. })
    ));
    assert!(matches!(
        home.store.put_tree(&id(), &mut hard),
        Err(StoreError::UnsupportedFileType { .. })
    ));
    assert_eq!(there(&home.store), None);
}

#[test]
fn tree_without_an_index_is_a_leftover_and_replaced() {
    let home = unpacked();
    let tree = there(&home.store).unwrap();
    fs::remove_file(tree.with_extension("index")).unwrap();
    assert_eq!(there(&home.store), None);
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
    home.store.put_tree(&id(), &mut unpack).unwrap();
    assert!(home.store.tree(&id()).unwrap().is_some());
}

#[test]
fn many_files_are_unpacked_and_processes_that_unpack_at_once_agree() {
    let home = Home::new();
    thread::scope(|scope| {
        for _ in 0..4 {
            let store = home.other();
            scope.spawn(move || {
                let mut many = |dir: &Path| (0..100).try_for_each(|n| fs::write(dir.join(n.to_string()), b"x"));
                let tree = store.put_tree(&id(), &mut many).unwrap();
                assert_eq!(there(&store).as_deref(), Some(tree.path()));
                assert_eq!(store.take_notices(), []);
            });
        }
    });
    assert_eq!(fs::read_dir(there(&home.store).unwrap()).unwrap().count(), 100);
}
