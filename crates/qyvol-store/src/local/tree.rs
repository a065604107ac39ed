//! Unpacked trees: read-only directories, each with an authenticated index.
//!
//! `trees/<id>/` is authenticated by `trees/<id>.index`, which lists every
//! directory and file with its inode, size and times. Opening a tree compares
//! only its own directory with the index; each entry is compared when it is
//! first used, by [`Tree::check`]. A changed file shows in its change time, an
//! added or removed one in that of its directory; nothing is hashed again.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_types::Digest;
use rustix::fs::{Mode, OFlags};

use super::LocalStore;
use super::probe::Probe;
use super::staging::Staging;
use super::tree_index::{self, Entry, EntryKind, TreeIndex};
use crate::record::{RecordKey, Stamp};
use crate::{StoreError, sys};

/// Files of a tree that are synced one by one; more are synced with the whole
/// file system, which costs about as much as a few dozen.
const SYNC_EACH: usize = 32;

/// An unpacked tree.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    index: TreeIndex,
}

impl Tree {
    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens its directory, without following a link, and checks that it is the one that was
    /// unpacked.
    pub fn open(&self) -> Result<OwnedFd, StoreError> {
        let failed = |error| StoreError::io("open", &self.path, error);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        let directory = File::from(directory);
        let found = entry_of(&directory.metadata().map_err(failed)?);
        if found.kind != EntryKind::Directory || found.stamp != *self.index.root() {
            return Err(StoreError::Damaged {
                path: self.path.clone(),
                what: "it was changed after it was unpacked".to_string(),
            });
        }
        Ok(directory.into())
    }

    /// Checks that the entry of this name is as it was unpacked, and that there
    /// is none if the tree has none; says what is wrong. `path` is relative,
    /// without `.`, `..` or empty components; empty, it is the tree itself.
    pub fn check(&self, path: &str) -> Result<(), String> {
        let entry = match path {
            "" => Some(Entry {
                kind: EntryKind::Directory,
                stamp: *self.index.root(),
            }),
            _ => self.index.find(path.as_bytes())?,
        };
        match (entry, fs::symlink_metadata(self.path.join(path))) {
            (Some(entry), Ok(meta)) if entry == entry_of(&meta) => Ok(()),
            (Some(_), _) => Err("it was changed after it was unpacked".to_string()),
            (None, Ok(_)) => Err("it was not unpacked from the image".to_string()),
            // A name that can't exist here counts as absent.
            (None, Err(_)) => Ok(()),
        }
    }

    /// Compares everything with the index; says what differs.
    fn check_all(&self) -> Result<(), String> {
        self.index.for_each(|path, _| {
            let path = Path::new(OsStr::from_bytes(path));
            let text = path.to_str().ok_or("its index was not made by this version")?;
            self.check(text)
                .map_err(|why| format!("{}: {why}", crate::error::show(path)))
        })
    }
}

impl LocalStore {
    /// The unpacked tree of this id, which is the digest of the layer that it
    /// was unpacked from. Some only if the index is this store's and the tree's own directory
    /// is unchanged since the index was made; anything else is moved to quarantine and counts
    /// as absent. The entries of the tree must be checked when they are used.
    pub fn tree(&self, id: &Digest) -> Result<Option<Tree>, StoreError> {
        let Some(key) = self.record_key()? else {
            return Ok(None);
        };
        let tree = self.layout().tree(id);
        match self.probe_settled(|| self.probe_tree(&key, id, &tree))? {
            (Probe::Absent, _) => Ok(None),
            (Probe::Good(tree), _) => Ok(Some(tree)),
            (Probe::Bad(why), Some(_)) => {
                self.discard_tree(id, &why);
                Ok(None)
            }
            (Probe::Bad(why), None) => {
                self.notice(&tree, format!("unpacked tree: {why}: not used"));
                Ok(None)
            }
        }
    }

    /// Unpacks a tree: `unpack` is given a private, empty directory to fill with
    /// regular files and directories. Losing a race to another process is success.
    pub fn put_tree(&self, id: &Digest, unpack: &mut dyn FnMut(&Path) -> io::Result<()>) -> Result<Tree, StoreError> {
        let staging = Staging::new(self)?;
        let key = self.ensure_key(&staging)?;
        let new = staging.path().join("tree");
        sys::make_dir(&new, 0o700).map_err(|e| StoreError::io("create directory", &new, e))?;
        unpack(&new).map_err(|error| unpack_failed(id, &new, error))?;
        seal(&new)?;

        let tree = self.layout().tree(id);
        let failed = |error| StoreError::io("create", &tree, error);
        let _lock = self.lock_install()?;
        match self.probe_tree(&key, id, &tree)? {
            Probe::Good(tree) => return Ok(tree),
            Probe::Absent => self.discard_tree(id, "left over from an installation that was interrupted"),
            Probe::Bad(why) => self.discard_tree(id, &why),
        }
        // The directory itself stays writable until it has moved: its `..`
        // changes with the move.
        fs::rename(&new, &tree).map_err(failed)?;
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o555)).map_err(failed)?;
        let directory = self.layout().directory("trees");
        sys::sync_dir(&tree)?;
        sys::sync_dir(&directory)?;

        let (index, newest) = make_index(&key, id, &tree)?;
        let (path, file) = staging.write(0o444, &index)?;
        sys::wait_past(&file, newest).map_err(failed)?;
        let target = self.layout().tree_index(id);
        fs::rename(&path, &target).map_err(|e| StoreError::io("create", &target, e))?;
        sys::sync_dir(&directory)?;
        match self.probe_tree(&key, id, &tree)? {
            Probe::Good(tree) => Ok(tree),
            Probe::Absent => Err(StoreError::Damaged {
                path: target,
                what: "it is gone again".to_string(),
            }),
            Probe::Bad(what) => Err(StoreError::Damaged { path: target, what }),
        }
    }

    /// Moves a tree that failed a check to quarantine: it counts as absent from
    /// here on.
    pub fn quarantine_tree(&self, id: &Digest, why: &str) {
        if self.lock_install().is_ok() {
            self.discard_tree(id, why);
        } else {
            self.notice(&self.layout().tree(id), format!("unpacked tree: {why}"));
        }
    }

    /// Moves a tree to quarantine. The caller holds the install lock.
    fn discard_tree(&self, id: &Digest, why: &str) {
        // The index first: a tree without one is not used.
        let _ = sys::remove(&self.layout().tree_index(id));
        self.quarantine(&self.layout().tree(id), &format!("unpacked tree: {why}"));
    }

    /// What is wrong with a tree, for `check`.
    pub(crate) fn check_tree(&self, id: &Digest) -> Result<Option<String>, StoreError> {
        let Ok(Some(key)) = self.usable_key() else {
            return Ok(None);
        };
        let _lock = self.lock_install();
        match self.probe_tree(&key, id, &self.layout().tree(id))? {
            Probe::Bad(why) => Ok(Some(why)),
            Probe::Good(tree) => Ok(tree.check_all().err()),
            Probe::Absent => Ok(None),
        }
    }

    fn probe_tree(&self, key: &RecordKey, id: &Digest, tree: &Path) -> Result<Probe<Tree>, StoreError> {
        let path = self.layout().tree_index(id);
        let file = match sys::open_read(&path) {
            Ok(file) => file,
            // Left over from an installation or a prune that was interrupted.
            Err(error) if sys::is_absent(&error) => return Ok(Probe::Absent),
            Err(error) if sys::is_link(&error) => return Ok(Probe::Bad("index: it is a symbolic link".to_string())),
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let meta = file.metadata().map_err(|e| StoreError::io("read", &path, e))?;
        if !meta.is_file() {
            return Ok(Probe::Bad(format!("index: it is {}", sys::kind_of(&meta))));
        }
        let index = match TreeIndex::open(key, id, file) {
            Ok(index) => index,
            Err(why) => return Ok(Probe::Bad(format!("index: {why}"))),
        };
        let path = tree.to_path_buf();
        let tree = Tree { path, index };
        Ok(match tree.check("") {
            Ok(()) => Probe::Good(tree),
            Err(why) => Probe::Bad(why),
        })
    }
}

/// Distinguishes failures of the system from those of the closure.
fn unpack_failed(id: &Digest, path: &Path, error: io::Error) -> StoreError {
    match StoreError::from_io(error) {
        Ok(error) => error,
        Err(error) if error.raw_os_error().is_some() => StoreError::io("unpack to", path, error),
        Err(source) => StoreError::Unpack { id: *id, source },
    }
}

/// Makes everything below a directory read-only and writes it to the device. The
/// directory itself stays writable.
fn seal(top: &Path) -> Result<(), StoreError> {
    let mut files = Vec::new();
    let mut directories = vec![top.to_path_buf()];
    let mut next = 0;
    while let Some(directory) = directories.get(next).cloned() {
        next += 1;
        for name in sys::names(&directory)? {
            let path = directory.join(name);
            let failed = |error| StoreError::io("read", &path, error);
            let Some(meta) = sys::stat(&path).map_err(failed)? else {
                continue;
            };
            if meta.is_dir() {
                directories.push(path);
                continue;
            }
            let what = if !meta.is_file() {
                sys::kind_of(&meta)
            } else if meta.nlink() != 1 {
                "a file with several names"
            } else {
                set_mode(&path, &meta, 0o444)?;
                files.push(path);
                continue;
            };
            return Err(StoreError::UnsupportedFileType { path, what });
        }
    }
    for directory in directories.iter().skip(1).rev() {
        let meta = sys::stat(directory).map_err(|e| StoreError::io("read", directory, e))?;
        if let Some(meta) = meta {
            set_mode(directory, &meta, 0o555)?;
        }
    }
    // Many entries are synced at once: one at a time, a tree of directories
    // would cost minutes.
    if files.len() + directories.len() > SYNC_EACH && sync_file_system(top)? {
        return Ok(());
    }
    for path in &files {
        sys::open_read(path)
            .and_then(|file| file.sync_all())
            .map_err(|e| StoreError::io("write", path, e))?;
    }
    for directory in directories.iter().skip(1).rev() {
        sys::sync_dir(directory)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn sync_file_system(directory: &Path) -> Result<bool, StoreError> {
    let failed = |error| StoreError::io("sync", directory, error);
    let dir = sys::open_read(directory).map_err(failed)?;
    rustix::fs::syncfs(&dir).map_err(|e| failed(e.into()))?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_: &Path) -> Result<bool, StoreError> {
    Ok(false)
}

fn set_mode(path: &Path, meta: &Metadata, mode: u32) -> Result<(), StoreError> {
    if meta.mode() & 0o7777 == mode {
        return Ok(());
    }
    // In a private directory, on an entry that was just checked not to be a link.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| StoreError::io("set mode of", path, e))
}

/// The index of a tree that is in place, and its newest change time.
fn make_index(key: &RecordKey, id: &Digest, tree: &Path) -> Result<(Vec<u8>, (i64, i64)), StoreError> {
    let root = entry_of(&stat_entry(tree)?);
    let mut newest = root.stamp.ctime;
    let mut entries = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for name in sys::names(&tree.join(&directory))? {
            let path = directory.join(name);
            let entry = entry_of(&stat_entry(&tree.join(&path))?);
            newest = newest.max(entry.stamp.ctime);
            entries.push((path.as_os_str().as_bytes().to_vec(), entry));
            if entry.kind == EntryKind::Directory {
                directories.push(path);
            }
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    Ok((tree_index::encode(key, id, &root.stamp, &entries), newest))
}

/// The metadata of an entry. Without the device number, which some file systems change at each
/// mount; unpacking again would cost too much.
fn entry_of(meta: &Metadata) -> Entry {
    let stamp = Stamp {
        dev: 0,
        ..Stamp::of(meta)
    };
    let kind = if meta.is_dir() {
        EntryKind::Directory
    } else if meta.is_file() {
        EntryKind::File
    } else {
        EntryKind::Other
    };
    Entry { kind, stamp }
}

fn stat_entry(path: &Path) -> Result<Metadata, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    fs::symlink_metadata(path).map_err(failed)
}
