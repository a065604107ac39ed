//! Storage on disk.
//!
//! ```text
//! data/lock                              held while a server runs
//! data/blobs/<alg>/<2>/<hex>             the pool: each content once
//! data/repositories/<name>/_layout/      an OCI image layout, its blobs hard links to the pool
//! data/repositories/<name>/_journal      changes since index.json was written
//! data/uploads/                          incomplete uploads and scratch files
//! ```
//!
//! Invariants:
//! - a file under a digest's name was hashed before it got that name, and is
//!   never written again;
//! - what was acknowledged is durable: content, then its link in the
//!   repository's folder, then the journal, each synced;
//! - whoever answers that a blob is there, or lets a manifest refer to it,
//!   renews its time under the lock [`Store::sweep`] (shared), and collection
//!   looks at the time again under the same lock (exclusive) before it removes
//!   a link. A blob that a client was told about stays for three quarters of
//!   the grace time at least (times are renewed once they are a quarter old).
//!
//! Everything here is synchronous; callers move it off the event loop.

mod files;
mod gc;
mod pool;
mod repository;
mod state;
mod upload;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use qyvol_types::Digest;
use rustix::fs::FlockOperation;

pub use self::gc::GcReport;
pub(crate) use self::repository::Repository;
pub(crate) use self::state::{Entry, Record};
pub(crate) use self::upload::{Upload, Uploads};

use self::pool::Pool;
use crate::cache::{Cache, lock};
use crate::error::HubError;
use crate::names::Name;
use crate::{Clock, Config};

/// Content up to this size is kept in memory for a while.
pub(crate) const SMALL: u64 = 256 << 10;
const CONTENT_ROOM: usize = 48 << 20;
const KNOWN: usize = 1 << 16;

/// A blob seen in a repository.
#[derive(Clone, Copy)]
struct Known {
    size: u64,
    touched: SystemTime,
    /// Whether the link itself is known to be on disk.
    synced: bool,
}

/// Where the bytes of a new blob are.
pub(crate) enum Source<'a> {
    /// In memory, and of the digest stated.
    Bytes(&'a [u8]),
    /// An upload whose digest was found to be the one stated, and synced.
    Upload(&'a Upload),
}

/// What was read for a client.
pub(crate) enum Content {
    /// All of it.
    Bytes(Bytes),
    /// A file to stream from.
    File(File, u64),
}

impl Content {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, size) => *size,
        }
    }
}

/// What stops a manifest from being stored.
pub(crate) enum PutError {
    /// A blob it needs is not in the repository.
    Missing(Digest),
    Io(io::Error),
}

impl From<io::Error> for PutError {
    fn from(error: io::Error) -> PutError {
        PutError::Io(error)
    }
}

pub(crate) struct Store {
    repositories: RwLock<BTreeMap<Name, Arc<Repository>>>,
    repositories_root: PathBuf,
    creating: Mutex<()>,
    next_id: AtomicU64,
    pool: Pool,
    pub(crate) uploads: Uploads,
    sweep: RwLock<()>,
    collecting: Mutex<()>,
    known: Cache<(u64, Digest), Known>,
    content: Cache<Digest, Bytes>,
    clock: Clock,
    grace: Duration,
    _lock: File,
}

impl Store {
    pub(crate) fn open(config: &Config) -> Result<Store, HubError> {
        let data = config.data.as_path();
        let failed = |what, path: &Path| HubError::storage(what, path.to_path_buf());
        fs::create_dir_all(data).map_err(failed("cannot create the data folder", data))?;
        let lock_path = data.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(failed("cannot open the lock", &lock_path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(HubError::InUse(data.to_path_buf())),
            Err(error) => return Err(failed("cannot lock", &lock_path)(error.into())),
        }
        let pool_root = data.join("blobs");
        fs::create_dir_all(&pool_root).map_err(failed("cannot create", &pool_root))?;
        let pool = Pool::open(pool_root.clone()).map_err(failed("cannot open", &pool_root))?;
        let uploads_root = data.join("uploads");
        let uploads = Uploads::open(uploads_root.clone(), config.limits.uploads, (config.clock)())
            .map_err(failed("cannot open", &uploads_root))?;
        let root = data.join("repositories");
        fs::create_dir_all(&root).map_err(failed("cannot create", &root))?;
        files::sync_folder(data).map_err(failed("cannot sync", data))?;
        let mut repositories = BTreeMap::new();
        let names = repository::find(&root).map_err(failed("cannot list", &root))?;
        let next_id = AtomicU64::new(0);
        for name in names {
            let id = next_id.fetch_add(1, Ordering::Relaxed);
            let repository = Repository::open(&root, name.clone(), id)?;
            repositories.insert(name, Arc::new(repository));
        }
        Ok(Store {
            repositories: RwLock::new(repositories),
            repositories_root: root,
            creating: Mutex::new(()),
            next_id,
            pool,
            uploads,
            sweep: RwLock::new(()),
            collecting: Mutex::new(()),
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

    pub(crate) fn repository(&self, name: &Name) -> Option<Arc<Repository>> {
        let all = self.repositories.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    pub(crate) fn repositories(&self) -> Vec<Arc<Repository>> {
        let all = self.repositories.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    fn repository_or_new(&self, name: &Name) -> io::Result<Arc<Repository>> {
        if let Some(repository) = self.repository(name) {
            return Ok(repository);
        }
        let _creating = lock(&self.creating);
        if let Some(repository) = self.repository(name) {
            return Ok(repository);
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let made = Repository::open(&self.repositories_root, name.clone(), id).map_err(io::Error::other)?;
        let made = Arc::new(made);
        let mut all = self.repositories.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.clone(), made.clone());
        Ok(made)
    }

    /// The size of a blob, whose time this renews.
    pub(crate) fn blob(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<u64>> {
        if let Some(known) = self.fresh(repository, digest) {
            return Ok(Some(known.size));
        }
        let _shared = self.sweep.read().unwrap_or_else(PoisonError::into_inner);
        self.blob_shared(repository, digest)
    }

    /// What memory alone says: none means to look on disk.
    pub(crate) fn blob_in_memory(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        self.fresh(repository, digest).map(|known| known.size)
    }

    fn fresh(&self, repository: &Repository, digest: &Digest) -> Option<Known> {
        let known = self.known.get(&(repository.id, *digest))?;
        let age = self.now().duration_since(known.touched).unwrap_or_default();
        (age < self.grace / 4).then_some(known)
    }

    /// The caller holds `sweep`.
    fn blob_shared(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<u64>> {
        if let Some(known) = self.fresh(repository, digest) {
            return Ok(Some(known.size));
        }
        let path = repository.blob_path(digest);
        let Some(metadata) = files::stat(&path)? else {
            return Ok(None);
        };
        let now = self.now();
        let mut touched = metadata.modified()?;
        if now.duration_since(touched).unwrap_or_default() >= self.grace / 4 {
            files::touch(&path, now)?;
            touched = now;
        }
        // The link may be of a push that has not synced it yet.
        self.know(repository, digest, metadata.len(), touched, false);
        Ok(Some(metadata.len()))
    }

    fn know(&self, repository: &Repository, digest: &Digest, size: u64, touched: SystemTime, synced: bool) {
        let known = Known { size, touched, synced };
        self.known.insert((repository.id, *digest), known, 1);
    }

    /// A blob's content, if memory has it.
    pub(crate) fn content_in_memory(&self, repository: &Repository, digest: &Digest) -> Option<Bytes> {
        self.fresh(repository, digest)?;
        self.content.get(digest)
    }

    /// A blob's content.
    pub(crate) fn content(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Content>> {
        let Some(size) = self.blob(repository, digest)? else {
            return Ok(None);
        };
        self.read(repository, digest, size)
    }

    fn read(&self, repository: &Repository, digest: &Digest, size: u64) -> io::Result<Option<Content>> {
        if size <= SMALL
            && let Some(bytes) = self.content.get(digest)
        {
            return Ok(Some(Content::Bytes(bytes)));
        }
        let path = repository.blob_path(digest);
        if size <= SMALL {
            return match fs::read(&path) {
                Ok(bytes) => {
                    let bytes = Bytes::from(bytes);
                    self.remember(digest, &bytes);
                    Ok(Some(Content::Bytes(bytes)))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            };
        }
        match File::open(&path) {
            Ok(file) => Ok(Some(Content::File(file, size))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn remember(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() as u64 <= SMALL {
            self.content.insert(*digest, bytes.clone(), bytes.len() + 256);
        }
    }

    /// A manifest's bytes, whole: they are bounded.
    pub(crate) fn manifest_bytes(&self, repository: &Repository, digest: &Digest) -> io::Result<Option<Bytes>> {
        if let Some(bytes) = self.content.get(digest) {
            return Ok(Some(bytes));
        }
        match fs::read(repository.blob_path(digest)) {
            Ok(bytes) => {
                let bytes = Bytes::from(bytes);
                self.remember(digest, &bytes);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A manifest's bytes, if memory has them.
    pub(crate) fn manifest_in_memory(&self, digest: &Digest) -> Option<Bytes> {
        self.content.get(digest)
    }

    /// Stores a blob in a repository: durable when this returns.
    pub(crate) fn put_blob(&self, name: &Name, digest: &Digest, source: &Source<'_>) -> io::Result<()> {
        let repository = self.repository_or_new(name)?;
        let _shared = self.sweep.read().unwrap_or_else(PoisonError::into_inner);
        self.put_blob_shared(&repository, digest, source)
    }

    fn put_blob_shared(&self, repository: &Repository, digest: &Digest, source: &Source<'_>) -> io::Result<()> {
        if self.fresh(repository, digest).is_some_and(|known| known.synced) {
            return Ok(());
        }
        let to = repository.blob_path(digest);
        let now = self.now();
        if files::stat(&to)?.is_some() || self.pool.link_out(digest, &to, &self.uploads.scratch())? {
            // Of an earlier push, or of one at this very moment.
        } else {
            let scratch;
            let from = match source {
                Source::Bytes(bytes) => {
                    scratch = self.uploads.scratch();
                    files::write_new(&scratch, bytes)?;
                    scratch.as_path()
                }
                Source::Upload(upload) => upload.path.as_path(),
            };
            self.pool.link_in(digest, from)?;
            let linked = self.pool.link_out(digest, &to, &self.uploads.scratch());
            files::remove(from)?;
            if !linked? {
                return Err(io::Error::other("the pool lost a file while it was taken in"));
            }
        }
        // Of a new file too: the clock is the caller's, not the file system's.
        files::touch(&to, now)?;
        files::sync_folder(&repository.blobs(digest.algorithm()))?;
        let size = match source {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::Upload(upload) => upload.offset(),
        };
        self.know(repository, digest, size, now, true);
        Ok(())
    }

    /// Closes an upload: None if its bytes have another digest.
    pub(crate) fn finish_upload(&self, name: &Name, upload: &Upload, digest: &Digest) -> io::Result<Option<()>> {
        if upload.digest(digest.algorithm())? != *digest {
            self.uploads.discard(upload)?;
            return Ok(None);
        }
        let source = match upload.offset() {
            0 => Source::Bytes(b""),
            _ => {
                // Before the lock is taken: this may be gigabytes.
                File::open(&upload.path)?.sync_all()?;
                Source::Upload(upload)
            }
        };
        self.put_blob(name, digest, &source)?;
        self.uploads.discard(upload)?;
        Ok(Some(()))
    }

    /// Every repository that may have a blob: none if the pool does not have
    /// it, which spares looking into each.
    pub(crate) fn holders(&self, digest: &Digest) -> io::Result<Vec<Arc<Repository>>> {
        match files::stat(&self.pool.path(digest))? {
            Some(_) => Ok(self.repositories()),
            None => Ok(Vec::new()),
        }
    }

    /// Makes a blob of one repository one of another too. False if the source
    /// has none.
    pub(crate) fn mount(&self, to: &Name, from: &Repository, digest: &Digest) -> io::Result<bool> {
        if self.blob(from, digest)?.is_none() {
            return Ok(false);
        }
        let repository = self.repository_or_new(to)?;
        let _shared = self.sweep.read().unwrap_or_else(PoisonError::into_inner);
        // Again, under the lock: it may have been deleted meanwhile.
        let Some(size) = self.blob_shared(from, digest)? else {
            return Ok(false);
        };
        let target = repository.blob_path(digest);
        if !self.pool.link_out(digest, &target, &self.uploads.scratch())? {
            files::link(&from.blob_path(digest), &target)?;
        }
        let now = self.now();
        files::touch(&target, now)?;
        files::sync_folder(&repository.blobs(digest.algorithm()))?;
        self.know(&repository, digest, size, now, true);
        Ok(true)
    }

    /// Removes a repository's link to a blob. False if it has none.
    pub(crate) fn delete_blob(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        let _alone = self.sweep.write().unwrap_or_else(PoisonError::into_inner);
        self.known.remove(&(repository.id, *digest));
        let there = files::remove(&repository.blob_path(digest))?;
        if there {
            files::sync_folder(&repository.blobs(digest.algorithm()))?;
        }
        Ok(there)
    }

    /// Stores a manifest and lets `tags` point to it: durable when this returns.
    pub(crate) fn put_manifest(
        &self,
        name: &Name,
        digest: Digest,
        bytes: &Bytes,
        entry: Entry,
        tags: Vec<String>,
        needed: &[Digest],
    ) -> Result<(), PutError> {
        let repository = match self.repository(name) {
            Some(repository) => repository,
            None => match needed.first() {
                Some(first) => return Err(PutError::Missing(*first)),
                None => self.repository_or_new(name)?,
            },
        };
        let _shared = self.sweep.read().unwrap_or_else(PoisonError::into_inner);
        for blob in needed {
            if self.blob_shared(&repository, blob)?.is_none() {
                return Err(PutError::Missing(*blob));
            }
        }
        self.put_blob_shared(&repository, &digest, &Source::Bytes(bytes))?;
        // A copy: what was received may be a part of a much larger buffer.
        self.remember(&digest, &Bytes::copy_from_slice(bytes));
        repository.commit(&Record::Put { digest, entry, tags })?;
        Ok(())
    }

    /// Writes the `index.json` of every repository that has changed; unless
    /// `all`, not of those where that takes long and was done lately.
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

impl Repository {
    /// Removes a tag. False if there is none.
    pub(crate) fn untag(&self, tag: &str) -> io::Result<bool> {
        if !self.state().tags.contains_key(tag) {
            return Ok(false);
        }
        self.commit(&Record::Untag { tag: tag.to_string() })?;
        Ok(true)
    }

    /// Removes a manifest and the tags that point to it. False if there is none.
    pub(crate) fn delete_manifest(&self, digest: &Digest) -> io::Result<bool> {
        if !self.state().manifests.contains_key(digest) {
            return Ok(false);
        }
        self.commit(&Record::Delete { digest: *digest })?;
        Ok(true)
    }
}
