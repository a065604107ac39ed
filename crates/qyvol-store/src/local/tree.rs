//! Unpacked trees: read-only folders with an authenticated index beside them.
//!
//! `trees/<id>/` is trusted on the word of `trees/<id>.index`, which lists
//! every folder and file with its inode, size and times, under an HMAC of the
//! store's key. A file that was altered shows in its change time, one that was
//! added or removed in that of its folder; nothing is listed or hashed again.
//!
//! The index: `qyvtree1`, HMAC-SHA256 over the domain, the id and the rest,
//! then the number of entries in 64 bits and each entry, sorted by path: the
//! path's length in 32 bits, the path, one byte `d` or `f`, a stamp of 56
//! bytes (see `record`) with device 0. Integers are little-endian. The first entry is the
//! folder itself, with an empty path.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_types::Digest;

use super::staging::Staging;
use super::{LocalStore, read_small};
use crate::record::{RecordKey, Stamp};
use crate::{StoreError, sys};

const MAGIC: &[u8; 8] = b"qyvtree1";
/// Where the authenticated part of an index begins.
const BODY: usize = MAGIC.len() + 32;
/// Bytes of an index: a million entries with long paths.
const INDEX_BYTES: u64 = 2 << 30;
/// Files of a tree that are synced one by one; more are synced with the whole
/// file system, which costs about as much as a few dozen.
const SYNC_EACH: usize = 32;

enum Look {
    Absent,
    Good,
    Bad(String),
}

impl LocalStore {
    /// The unpacked tree of this id, which is the digest of the layer that it
    /// was unpacked from. Some only if the index is this store's and every
    /// file and folder is as it was when the index was made; anything else is
    /// moved to quarantine and counts as absent.
    pub fn tree(&self, id: &Digest) -> Result<Option<PathBuf>, StoreError> {
        let Some(key) = self.record_key()? else {
            return Ok(None);
        };
        let tree = self.layout().tree(id);
        match self.look_at_tree(&key, id, &tree)? {
            Look::Absent => return Ok(None),
            Look::Good => return Ok(Some(tree)),
            Look::Bad(_) => {}
        }
        // Another process may be putting it in place: look again when it is
        // done, where this process can lock at all.
        let lock = self.lock_install();
        match self.look_at_tree(&key, id, &tree)? {
            Look::Absent => Ok(None),
            Look::Good => Ok(Some(tree)),
            Look::Bad(why) => {
                if lock.is_ok() {
                    self.discard_tree(id, &why);
                } else {
                    self.notice(&tree, format!("unpacked tree: {why}: not used"));
                }
                Ok(None)
            }
        }
    }

    /// Unpacks a tree: `unpack` is given a private, empty folder to fill with
    /// regular files and folders. Losing a race to another process is success.
    pub fn put_tree(
        &self,
        id: &Digest,
        unpack: &mut dyn FnMut(&Path) -> io::Result<()>,
    ) -> Result<PathBuf, StoreError> {
        let staging = Staging::new(self)?;
        let key = self.make_key(&staging)?;
        let new = staging.path().join("tree");
        sys::make_dir(&new, 0o700).map_err(|e| StoreError::io("create folder", &new, e))?;
        unpack(&new).map_err(|error| unpack_failed(id, &new, error))?;
        seal(&new)?;

        let tree = self.layout().tree(id);
        let failed = |error| StoreError::io("create", &tree, error);
        let _lock = self.lock_install()?;
        match self.look_at_tree(&key, id, &tree)? {
            Look::Good => return Ok(tree),
            Look::Absent => self.discard_tree(id, "left over from an installation that was interrupted"),
            Look::Bad(why) => self.discard_tree(id, &why),
        }
        // The folder itself stays writable until it has moved: its `..`
        // changes with the move.
        fs::rename(&new, &tree).map_err(failed)?;
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o555)).map_err(failed)?;
        let folder = self.layout().folder("trees");
        sys::sync_dir(&tree)?;
        sys::sync_dir(&folder)?;

        let (index, newest) = make_index(&key, id, &tree)?;
        let (path, file) = staging.write(0o444, &index)?;
        sys::wait_past(&file, newest).map_err(failed)?;
        let target = self.layout().tree_index(id);
        fs::rename(&path, &target).map_err(|e| StoreError::io("create", &target, e))?;
        sys::sync_dir(&folder)?;
        Ok(tree)
    }

    /// Takes a tree out of use. To be called with the install lock held.
    fn discard_tree(&self, id: &Digest, why: &str) {
        // The index first: a tree without one is not used.
        let _ = sys::remove(&self.layout().tree_index(id));
        self.quarantine(&self.layout().tree(id), &format!("unpacked tree: {why}"));
    }

    /// What is wrong with a tree, for `check`.
    pub(crate) fn check_tree(&self, id: &Digest) -> Result<Option<String>, StoreError> {
        let Ok(Some(key)) = self.fit_key() else {
            return Ok(None);
        };
        let _lock = self.lock_install();
        match self.look_at_tree(&key, id, &self.layout().tree(id))? {
            Look::Bad(why) => Ok(Some(why)),
            Look::Absent | Look::Good => Ok(None),
        }
    }

    fn look_at_tree(&self, key: &RecordKey, id: &Digest, tree: &Path) -> Result<Look, StoreError> {
        let index = match read_small(&self.layout().tree_index(id), INDEX_BYTES) {
            Ok(Some(index)) => index,
            // Left over from an installation or a prune that was interrupted.
            Ok(None) => return Ok(Look::Absent),
            Err(StoreError::Damaged { what, .. }) => return Ok(Look::Bad(format!("index: {what}"))),
            Err(error) => return Err(error),
        };
        Ok(match compare(key, id, tree, &index) {
            Ok(()) => Look::Good,
            Err(why) => Look::Bad(why),
        })
    }
}

/// Keeps apart what the system refused and what the closure found wrong.
fn unpack_failed(id: &Digest, path: &Path, error: io::Error) -> StoreError {
    match StoreError::from_io(error) {
        Ok(error) => error,
        Err(error) if error.raw_os_error().is_some() => StoreError::io("unpack to", path, error),
        Err(source) => StoreError::Unpack { id: *id, source },
    }
}

/// Makes everything below a folder read-only and writes it to the device. The
/// folder itself stays writable.
fn seal(top: &Path) -> Result<(), StoreError> {
    let mut files = Vec::new();
    let mut folders = vec![top.to_path_buf()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        for name in sys::names(&folder)? {
            let path = folder.join(name);
            let failed = |error| StoreError::io("read", &path, error);
            let Some(meta) = sys::stat(&path).map_err(failed)? else {
                continue;
            };
            if meta.is_dir() {
                folders.push(path);
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
            return Err(StoreError::Foreign { path, what });
        }
    }
    if files.len() > SYNC_EACH && sync_file_system(top)? {
        // Synced again below, folders alone, after their modes have changed.
        files.clear();
    }
    for path in &files {
        sys::open_read(path)
            .and_then(|file| file.sync_all())
            .map_err(|e| StoreError::io("write", path, e))?;
    }
    for folder in folders.iter().skip(1).rev() {
        let meta = sys::stat(folder).map_err(|e| StoreError::io("read", folder, e))?;
        if let Some(meta) = meta {
            set_mode(folder, &meta, 0o555)?;
        }
        sys::sync_dir(folder)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn sync_file_system(folder: &Path) -> Result<bool, StoreError> {
    let failed = |error| StoreError::io("sync", folder, error);
    let dir = sys::open_read(folder).map_err(failed)?;
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
    // In a private folder, on an entry that was just seen not to be a link.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|e| StoreError::io("set mode of", path, e))
}

/// The index of a tree that is in place, and its newest change time.
fn make_index(key: &RecordKey, id: &Digest, tree: &Path) -> Result<(Vec<u8>, (i64, i64)), StoreError> {
    let mut entries = vec![(PathBuf::new(), stat_entry(tree)?)];
    let mut next = 0;
    while let Some((folder, meta)) = entries.get(next).cloned() {
        next += 1;
        if meta.is_dir() {
            for name in sys::names(&tree.join(&folder))? {
                let path = folder.join(name);
                let meta = stat_entry(&tree.join(&path))?;
                entries.push((path, meta));
            }
        }
    }
    entries.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
    let mut newest = (0, 0);
    let mut body = Vec::new();
    body.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (path, meta) in &entries {
        let path = path.as_os_str().as_bytes();
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(path);
        body.push(if meta.is_dir() { b'd' } else { b'f' });
        let stamp = stamp_of(meta);
        newest = newest.max(stamp.ctime);
        stamp.write(&mut body);
    }
    let mut index = MAGIC.to_vec();
    index.extend_from_slice(key.tree_tag(id, &body).as_ref());
    index.extend_from_slice(&body);
    Ok((index, newest))
}

/// The stamp of an entry of a tree. Without the device: some file systems
/// number theirs anew at each mount, and a tree costs more to make again than
/// a hash does.
fn stamp_of(meta: &Metadata) -> Stamp {
    Stamp {
        dev: 0,
        ..Stamp::of(meta)
    }
}

fn stat_entry(path: &Path) -> Result<Metadata, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    fs::symlink_metadata(path).map_err(failed)
}

/// Compares a tree with its index; says what differs.
fn compare(key: &RecordKey, id: &Digest, tree: &Path, index: &[u8]) -> Result<(), String> {
    let broken = || "the index was not made by this store for it".to_string();
    let (head, body) = index.split_at_checked(BODY).ok_or_else(broken)?;
    let tag = head.strip_prefix(MAGIC).ok_or_else(broken)?;
    if !key.tree_matches(id, body, tag) {
        return Err(broken());
    }
    let (count, mut rest) = body.split_first_chunk::<8>().ok_or_else(broken)?;
    let base = tree.as_os_str().as_bytes();
    let mut path = base.to_vec();
    for _ in 0..u64::from_le_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| broken())?;
        let (name, after) = after.split_at_checked(length).ok_or_else(broken)?;
        let (kind, after) = after.split_first().ok_or_else(broken)?;
        let (stamp, after) = after.split_at_checked(Stamp::LEN).ok_or_else(broken)?;
        rest = after;
        path.truncate(base.len());
        if !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        let path = Path::new(OsStr::from_bytes(&path));
        let meta = fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", crate::error::show(path)))?;
        let kind_matches = match kind {
            b'd' => meta.is_dir(),
            _ => meta.is_file(),
        };
        if !kind_matches || Some(stamp_of(&meta)) != Stamp::read(stamp) {
            return Err(format!("{} was changed", crate::error::show(path)));
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(broken()) }
}
