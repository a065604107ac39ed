//! Unpacked trees that must not be used.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::thread;

use qyvol_store::StoreError;
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
    assert_eq!(home.store.tree(&id()).unwrap(), None);
    let path = home.store.put_tree(&id(), &mut unpack).unwrap();
    assert_eq!(home.store.tree(&id()).unwrap(), Some(path));
    home
}

#[test]
fn tree_is_read_only_and_not_unpacked_twice() {
    let home = unpacked();
    let tree = home.other().tree(&id()).unwrap().unwrap();
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

#[test]
fn tree_with_a_file_altered_added_or_removed_is_refused() {
    type Change = fn(&Path);
    let changes: &[(&str, Change)] = &[
        ("altered", |tree| flip(&tree.join("a/b/two"))),
        ("removed", |tree| {
            chmod(&tree.join("a"), 0o755);
            fs::remove_file(tree.join("a/one")).unwrap();
            chmod(&tree.join("a"), 0o555);
        }),
        ("added", |tree| {
            chmod(&tree.join("a/b"), 0o755);
            fs::write(tree.join("a/b/three"), b"3").unwrap();
            chmod(&tree.join("a/b"), 0o555);
        }),
        ("added at the top", |tree| {
            chmod(tree, 0o755);
            fs::write(tree.join("three"), b"3").unwrap();
            chmod(tree, 0o555);
        }),
        ("swapped for a link", |tree| {
            chmod(tree, 0o755);
            fs::remove_file(tree.join("top")).unwrap();
            symlink("/etc/passwd", tree.join("top")).unwrap();
            chmod(tree, 0o555);
        }),
        ("loosened", |tree| chmod(&tree.join("top"), 0o666)),
        ("index altered", |tree| flip(&tree.with_extension("index"))),
        ("index cut", |tree| {
            let index = tree.with_extension("index");
            let bytes = fs::read(&index).unwrap();
            fs::remove_file(&index).unwrap();
            fs::write(&index, &bytes[..bytes.len() - 1]).unwrap();
        }),
    ];
    for (what, change) in changes {
        let home = unpacked();
        let tree = home.store.tree(&id()).unwrap().unwrap();
        change(&tree);
        assert_eq!(home.store.tree(&id()).unwrap(), None, "{what}");
        assert!(!tree.exists(), "{what}: still in place");
        assert_eq!(home.store.take_notices().len(), 1, "{what}");
        home.store.put_tree(&id(), &mut unpack).unwrap();
        assert_eq!(fs::read(tree.join("a/b/two")).unwrap(), b"two", "{what}");
    }
}

#[test]
fn index_of_another_tree_is_refused() {
    let home = unpacked();
    let other = Digest::of(b"other layer");
    let from = home.store.put_tree(&other, &mut unpack).unwrap();
    let to = home.store.tree(&id()).unwrap().unwrap();
    fs::copy(from.with_extension("index"), home.dir.path().join("index")).unwrap();
    fs::rename(home.dir.path().join("index"), to.with_extension("index")).unwrap();
    assert_eq!(home.store.tree(&id()).unwrap(), None);
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
        Err(StoreError::Foreign { .. })
    ));
    assert!(matches!(
        home.store.put_tree(&id(), &mut hard),
        Err(StoreError::Foreign { .. })
    ));
    assert_eq!(home.store.tree(&id()).unwrap(), None);
}

#[test]
fn tree_without_an_index_is_a_leftover_and_replaced() {
    let home = unpacked();
    let tree = home.store.tree(&id()).unwrap().unwrap();
    fs::remove_file(tree.with_extension("index")).unwrap();
    assert_eq!(home.store.tree(&id()).unwrap(), None);
    assert_eq!(home.store.check(&qyvol_store::NoReport, false).unwrap(), []);
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
                assert_eq!(store.tree(&id()).unwrap(), Some(tree));
                assert_eq!(store.take_notices(), []);
            });
        }
    });
    assert_eq!(
        fs::read_dir(home.store.tree(&id()).unwrap().unwrap()).unwrap().count(),
        100
    );
}
