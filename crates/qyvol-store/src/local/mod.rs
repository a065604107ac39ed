//! The store on disk (`spec/store.md`).
//!
//! A [`LocalStore`] is a path and a little shared state: opening one costs a
//! few `lstat` calls and writes nothing. Directories are created by the first write. Whatever
//! is written is staged under `tmp/` on the same file system, synced and renamed into place;
//! two processes that write the same thing both succeed.
//!
//! Locks, always taken in this order: `gc.lock` (shared by every writer,
//! exclusive for prune), a staging directory's own lock (held for its lifetime,
//! so that the directory of a process that was killed is recognised),
//! `install.lock` (exclusive while a tree, compiled code or the key is installed or removed).
//! `locks/<digest>` is held by running guests, shared, and never waited for.

mod check;
mod code;
mod ingest;
mod layout;
mod parsed;
mod partial;
mod probe;
mod prune;
mod refs;
mod seen;
mod spool;
mod staged;
mod staging;
mod tree;
mod tree_index;
mod writer;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use qyvol_types::{Descriptor, Digest};

pub use check::Damage;
pub use ingest::Ingest;
pub use prune::{PruneItem, PruneKind, PrunePlan, Pruned};
pub use spool::Spooled;
pub use tree::Tree;
pub use writer::BlobWriter;

use crate::record::RecordKey;
use crate::{Body, Exists, Fetch, StoreError, sys};
use layout::Layout;

/// Bytes read and hashed at once.
const CHUNK_SIZE: usize = 128 << 10;

/// A store in a directory. Clones share their state.
#[derive(Clone, Debug)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    key: Mutex<Option<RecordKey>>,
    notices: Mutex<Vec<Notice>>,
}

/// A problem that was found and handled.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Notice {
    /// What it concerns.
    pub path: PathBuf,
    /// What was found and done; safe to print.
    pub what: String,
}

/// Held for as long as a guest of an image runs: prune keeps what the image
/// reaches.
///
/// Until [`RunLock::allow_prune`], no prune can start either: a prune that planned before the
/// lock was taken would remove what is being opened.
#[derive(Debug)]
pub struct RunLock {
    file: Option<File>,
    gc_lock: Option<File>,
}

impl RunLock {
    const NONE: RunLock = RunLock {
        file: None,
        gc_lock: None,
    };

    /// Whether a lock is really held; it is not on a store that this process
    /// can't write.
    pub fn is_held(&self) -> bool {
        self.file.is_some()
    }

    /// Call it once everything that the guest needs is open: from here on, a prune may run at
    /// the same time.
    pub fn allow_prune(&mut self) {
        self.gc_lock = None;
    }
}

impl LocalStore {
    /// Opens the store in `root/store/v1`. Nothing is written, and the directory
    /// need not exist. Refuses a root, `store` or `v1` that is a symbolic link, that belongs to
    /// a user other than this process's or root, or that its group or others can write to.
    pub fn open(root: &Path) -> Result<LocalStore, StoreError> {
        let layout = Layout::new(root);
        layout.check_directories()?;
        Ok(LocalStore {
            inner: Arc::new(Inner {
                layout,
                key: Mutex::new(None),
                notices: Mutex::new(Vec::new()),
            }),
        })
    }

    /// The directory that was opened.
    pub fn root(&self) -> &Path {
        self.layout().root()
    }

    /// Fails if the file system lacks space for the blobs that are not stored
    /// yet: the sum of their stated sizes, less what interrupted ingests have
    /// kept of them.
    pub fn check_free_space<'a>(&self, blobs: impl IntoIterator<Item = &'a Descriptor>) -> Result<(), StoreError> {
        let mut seen = std::collections::BTreeSet::new();
        let mut needed: u64 = 0;
        for blob in blobs {
            if seen.insert(blob.digest) && !self.exists(blob)? {
                let partial = std::fs::metadata(self.layout().partial(&blob.digest)).map_or(0, |meta| meta.len());
                needed = needed.saturating_add(blob.size.saturating_sub(partial));
            }
        }
        let path = self.root();
        let available = sys::available(path).map_err(|e| StoreError::io("read the free space in", path, e))?;
        match available {
            Some(available) if needed > available => Err(StoreError::InsufficientSpace {
                path: path.to_path_buf(),
                needed,
                available,
            }),
            _ => Ok(()),
        }
    }

    /// The problems that were found and handled since the last call.
    pub fn take_notices(&self) -> Vec<Notice> {
        let mut notices = self.inner.notices.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut notices)
    }

    fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    fn notice(&self, path: &Path, what: String) {
        let mut notices = self.inner.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.push(Notice {
            path: path.to_path_buf(),
            what,
        });
    }

    /// Begins an ingest. Waits while a prune runs. Also removes the staging directories of
    /// killed processes.
    pub fn begin(&self) -> Result<Ingest, StoreError> {
        Ingest::begin(self)
    }

    /// Marks an image as running. Call it before what the image needs is looked up or ingested.
    /// Waits while a prune runs.
    pub fn running(&self, image: &Digest) -> Result<RunLock, StoreError> {
        let gc_lock = match self.lock_gc_shared()? {
            Some(lock) => lock,
            None => return Ok(RunLock::NONE),
        };
        let path = self.layout().run_lock(image);
        loop {
            let mut opened = sys::open_lock(&path);
            if opened.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
                match self.layout().create() {
                    Ok(()) => opened = sys::open_lock(&path),
                    Err(error) if error.is_unwritable() => return Ok(RunLock::NONE),
                    Err(error) => return Err(error),
                }
            }
            let file = match opened.map_err(|error| StoreError::io("open lock", &path, error)) {
                Ok(file) => file,
                Err(error) if error.is_unwritable() => return Ok(RunLock::NONE),
                Err(error) => return Err(error),
            };
            let failed = |error| StoreError::io("lock", &path, error);
            sys::lock(&file, sys::Lock::Shared).map_err(failed)?;
            // A prune may have removed the file between the two calls; a lock on an unlinked
            // file protects nothing.
            if file.metadata().map_err(failed)?.nlink() > 0 {
                return Ok(RunLock {
                    file: Some(file),
                    gc_lock: Some(gc_lock),
                });
            }
        }
    }

    /// The lock that keeps prunes out; none on a store that this process can't
    /// write.
    fn lock_gc_shared(&self) -> Result<Option<File>, StoreError> {
        let lock = || self.lock_gc(sys::Lock::Shared);
        let locked = match lock() {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                self.layout().create().and_then(|()| lock())
            }
            other => other,
        };
        match locked {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_unwritable() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file of a blob, opened without following links; its size is that of
    /// the descriptor, its content unchecked.
    pub fn blob_file(&self, descriptor: &Descriptor) -> Result<File, StoreError> {
        let digest = descriptor.digest;
        let path = self.layout().blob(&digest);
        let file = match sys::open_read(&path) {
            Ok(file) => file,
            Err(error) if sys::is_absent(&error) => return Err(StoreError::NotFound { digest }),
            Err(error) if sys::is_link(&error) => {
                let what = "it is a symbolic link".to_string();
                return Err(StoreError::Damaged { path, what });
            }
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let meta = file.metadata().map_err(|e| StoreError::io("read", &path, e))?;
        if !meta.is_file() {
            let what = format!("expected a file, got {}", sys::kind_of(&meta));
            return Err(StoreError::Damaged { path, what });
        }
        if meta.len() != descriptor.size {
            return Err(StoreError::WrongSize {
                digest,
                expected: descriptor.size,
                got: meta.len(),
                more: false,
            });
        }
        Ok(file)
    }

    /// The size of the blob with this digest, if it exists.
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.layout().blob(digest);
        let meta = sys::stat(&path).map_err(|e| StoreError::io("read", &path, e))?;
        Ok(meta.filter(|m| m.is_file()).map(|m| m.len()))
    }

    /// Moves something to quarantine. Best effort: on a store that can't be written it stays,
    /// and is refused again next time.
    fn quarantine(&self, path: &Path, why: &str) {
        let moved = self.layout().quarantine(path);
        let what = match moved {
            Ok(true) => format!("{why}: moved to quarantine"),
            Ok(false) => return,
            Err(error) => format!("{why}: not used ({error})"),
        };
        self.notice(path, what);
    }
}

impl Fetch for LocalStore {
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        Ok(Box::new(self.blob_file(descriptor)?))
    }
}

impl Exists for LocalStore {
    fn exists(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        Ok(self.blob_size(&descriptor.digest)? == Some(descriptor.size))
    }
}

/// Reads a small file of the store, without following a link; none if it is absent.
fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(read_with_meta(path, limit)?.map(|(bytes, _)| bytes))
}

/// The same with the metadata of the file that was read.
fn read_with_meta(path: &Path, limit: u64) -> Result<Option<(Vec<u8>, Metadata)>, StoreError> {
    let failed = |error| StoreError::io("read", path, error);
    let damaged = |what: String| StoreError::Damaged {
        path: path.to_path_buf(),
        what,
    };
    let file = match sys::open_read(path) {
        Ok(file) => file,
        Err(error) if sys::is_absent(&error) => return Ok(None),
        Err(error) if sys::is_link(&error) => return Err(damaged("it is a symbolic link".to_string())),
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err(damaged(format!("expected a file, got {}", sys::kind_of(&meta))));
    }
    if meta.len() > limit {
        return Err(damaged(format!("{} bytes: at most {limit} are read", meta.len())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some((bytes, meta)))
}
