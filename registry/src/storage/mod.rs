//! Storage on disk.
//!
//! ```text
//! data/lock                              held while a server runs
//! data/version                           the form of all this
//! data/blobs/<alg>/<2>/<hex>             the pool: each content once
//! data/repositories/<name>/_layout/      an OCI image layout, its blobs hard links to the pool
//! data/repositories/<name>/_journal      changes since index.json was written data/uploads/
//! incomplete uploads and scratch files
//! ```
//!
//! Invariants:
//! - a file named by a digest was hashed before it got that name, and is never written again;
//! - what was acknowledged is durable: content, then its link in the
//!   repository's directory, then the journal, each synced;
//! - a request that answers that a blob exists, or lets a manifest refer to it, renews its time
//!   under the lock [`Store::gc_lock`] (shared), and collection checks the time again under the
//!   same lock (exclusive) before it removes a link. A blob that was reported to a client stays
//!   for at least three quarters of the grace time (times are renewed once they are a quarter
//!   old).
//!
//! Everything here is synchronous; callers move it off the event loop.

mod blobs;
mod checked_line;
mod disk;
mod gc;
mod journal;
mod pool;
mod repository;
mod state;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use qyvol_types::Digest;
use rustix::fs::FlockOperation;

pub(crate) use self::blobs::{BlobSource, Content, DeleteOutcome, PutError};
pub use self::gc::{GcReport, GcSkipped};
pub(crate) use self::repository::StoredRepository;
pub(crate) use self::state::{Entry, State};
pub(crate) use self::upload::{Upload, Uploads};

use self::disk::{Disk, System};
use self::pool::Pool;
use crate::cache::{Cache, lock};
use crate::error::HubError;
use crate::names::Name;
use crate::{Clock, Config};

/// Content up to this size is kept in memory for a while.
pub(crate) const SMALL: u64 = 256 << 10;
const CONTENT_ROOM: usize = 48 << 20;
const KNOWN: usize = 1 << 16;
/// The format of the data directory. The previous format had no number, and no checksums in its
/// journals.
const VERSION: &str = "2";

/// A blob seen in a repository.
#[derive(Clone, Copy)]
struct CachedBlob {
    size: u64,
    touched: SystemTime,
    /// Whether the link itself is known to be on disk.
    synced: bool,
}

pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    repositories: RwLock<BTreeMap<Name, Arc<StoredRepository>>>,
    repositories_root: PathBuf,
    creating: Mutex<()>,
    next_id: AtomicU64,
    pool: Pool,
    pub(crate) uploads: Uploads,
    gc_lock: RwLock<()>,
    gc_mutex: Mutex<()>,
    known: Cache<(u64, Digest), CachedBlob>,
    content: Cache<Digest, Bytes>,
    clock: Clock,
    grace: Duration,
    _lock: File,
}

impl Store {
    pub(crate) fn open(config: &Config) -> Result<Store, HubError> {
        Store::open_on(config, Arc::new(System))
    }

    fn open_on(config: &Config, disk: Arc<dyn Disk>) -> Result<Store, HubError> {
        let data = config.data.as_path();
        let failed = |what, path: &Path| HubError::storage(what, path.to_path_buf());
        fs::create_dir_all(data).map_err(failed("can't create the data directory", data))?;
        let lock_path = data.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed("can't open the lock", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(HubError::InUse(data.to_path_buf())),
            Err(error) => return Err(failed("can't lock", &lock_path)(error.into())),
        }
        let root = data.join("repositories");
        let pool_root = data.join("blobs");
        check_version(&*disk, data, root.exists() || pool_root.exists())?;
        for directory in [&root, &pool_root] {
            disk.make_directory(directory)
                .map_err(failed("can't create", directory))?;
        }
        let pool = Pool::open(disk.clone(), pool_root.clone()).map_err(failed("can't open", &pool_root))?;
        let uploads_root = data.join("uploads");
        let now = (config.clock)();
        let uploads = Uploads::open(disk.clone(), uploads_root.clone(), config.limits.uploads, now)
            .map_err(failed("can't open", &uploads_root))?;
        disk.sync(data).map_err(failed("can't sync", data))?;
        let mut repositories = BTreeMap::new();
        let names = repository::find(&root).map_err(failed("can't list", &root))?;
        let next_id = AtomicU64::new(0);
        for name in names {
            let id = next_id.fetch_add(1, Ordering::Relaxed);
            let repository = StoredRepository::open(disk.clone(), &root, name.clone(), id)?;
            repositories.insert(name, Arc::new(repository));
        }
        Ok(Store {
            disk,
            repositories: RwLock::new(repositories),
            repositories_root: root,
            creating: Mutex::new(()),
            next_id,
            pool,
            uploads,
            gc_lock: RwLock::new(()),
            gc_mutex: Mutex::new(()),
            known: Cache::new(KNOWN),
            content: Cache::new(CONTENT_ROOM),
            clock: config.clock.clone(),
            grace: config.blob_grace,
            _lock: lock,
        })
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.clock)()
    }

    pub(crate) fn repository(&self, name: &Name) -> Option<Arc<StoredRepository>> {
        let all = self.repositories.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    pub(crate) fn repositories(&self) -> Vec<Arc<StoredRepository>> {
        let all = self.repositories.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    /// The names after `last` for which `wanted` is true: in order, at most `most`.
    pub(crate) fn repositories_after(
        &self,
        last: &str,
        most: usize,
        wanted: impl Fn(&StoredRepository) -> bool,
    ) -> Vec<Name> {
        let all = self.repositories.read().unwrap_or_else(PoisonError::into_inner);
        let rest = all.range::<str, _>((Bound::Excluded(last), Bound::Unbounded));
        rest.filter(|(_, repository)| wanted(repository))
            .map(|(name, _)| name.clone())
            .take(most)
            .collect()
    }

    fn repository_or_new(&self, name: &Name) -> io::Result<Arc<StoredRepository>> {
        if let Some(repository) = self.repository(name) {
            return Ok(repository);
        }
        let _creating = lock(&self.creating);
        if let Some(repository) = self.repository(name) {
            return Ok(repository);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let made = StoredRepository::open(self.disk.clone(), &self.repositories_root, name.clone(), id)
            .map_err(io::Error::other)?;
        let made = Arc::new(made);
        let mut all = self.repositories.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), made.clone());
        Ok(made)
    }

    /// Every repository that may have a blob: none if the pool doesn't have it, which saves
    /// checking each.
    pub(crate) fn holders(&self, digest: &Digest) -> io::Result<Vec<Arc<StoredRepository>>> {
        match disk::stat(&self.pool.path(digest))? {
            Some(_) => Ok(self.repositories()),
            None => Ok(Vec::new()),
        }
    }

    /// Writes the `index.json` of every repository that has changed; unless `all`, except those
    /// where that takes long and was done recently.
    pub(crate) fn compact(&self, all: bool) -> io::Result<()> {
        for repository in self.repositories() {
            if repository.is_due(all) {
                repository.compact()?;
            }
        }
        Ok(())
    }

    /// Discards uploads that were not used for `age`.
    pub(crate) fn expire_uploads(&self, age: Duration) -> io::Result<u64> {
        self.uploads.expire(age, self.now())
    }
}

/// Checks that existing data has this format, or records the format for new data.
fn check_version(disk: &dyn Disk, data: &Path, used: bool) -> Result<(), HubError> {
    let path = data.join("version");
    let found = match fs::read_to_string(&path) {
        Ok(text) => Some(text.trim_end().escape_debug().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(HubError::storage("can't read", &path)(error)),
    };
    match found {
        Some(found) if found == VERSION => Ok(()),
        None if !used => disk
            .replace(&path, format!("{VERSION}\n").as_bytes())
            .map_err(HubError::storage("can't write", &path)),
        found => Err(HubError::Version {
            path: data.to_path_buf(),
            found,
            expected: VERSION,
        }),
    }
}
