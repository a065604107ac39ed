//! Blobs and manifests of the repositories: looked up, read, stored, mounted, deleted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::time::SystemTime;

use bytes::Bytes;
use qyvol_types::Digest;

use super::disk;
use super::state::{Entry, Record};
use super::{CachedBlob, SMALL, Store, StoredRepository, Upload};
use crate::names::Name;

/// Where the bytes of a blob are.
pub(crate) enum BlobSource<'a> {
    /// In memory, and of the digest stated.
    Bytes(&'a [u8]),
    /// A file of this size, of the digest stated, and durable.
    File(&'a Path, u64),
}

impl BlobSource<'_> {
    fn size(&self) -> u64 {
        match self {
            BlobSource::Bytes(bytes) => bytes.len() as u64,
            BlobSource::File(_, size) => *size,
        }
    }

    /// Whether a file has this content, as far as a cheap check shows: a large file is checked
    /// by its size only. Truncated or damaged content is stored again.
    pub(super) fn is_in(&self, path: &Path) -> io::Result<bool> {
        let same_size = disk::stat(path)?.is_some_and(|metadata| metadata.len() == self.size());
        match self {
            BlobSource::Bytes(bytes) => Ok(same_size && fs::read(path)? == *bytes),
            BlobSource::File(..) => Ok(same_size),
        }
    }
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

/// The result of deleting a blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DeleteOutcome {
    Done,
    /// The repository has no such blob.
    Missing,
    /// It is a manifest, and deleted as one.
    Manifest,
    /// This manifest needs it, or can't be read and may need it.
    Needed(Digest),
}

impl Store {
    /// The size of a blob. Renews its time.
    pub(crate) fn blob(&self, repository: &StoredRepository, digest: &Digest) -> io::Result<Option<u64>> {
        if let Some(known) = self.fresh(repository, digest) {
            return Ok(Some(known.size));
        }
        let _shared = self.gc_lock.read().unwrap_or_else(PoisonError::into_inner);
        self.blob_shared(repository, digest)
    }

    /// The cached size; none means to check the disk.
    pub(crate) fn blob_in_memory(&self, repository: &StoredRepository, digest: &Digest) -> Option<u64> {
        self.fresh(repository, digest).map(|known| known.size)
    }

    fn fresh(&self, repository: &StoredRepository, digest: &Digest) -> Option<CachedBlob> {
        let known = self.known.get(&(repository.id, *digest))?;
        self.is_fresh(known.touched).then_some(known)
    }

    fn is_fresh(&self, touched: SystemTime) -> bool {
        self.now().duration_since(touched).unwrap_or_default() < self.grace / 4
    }

    /// The caller holds `gc_lock`.
    fn blob_shared(&self, repository: &StoredRepository, digest: &Digest) -> io::Result<Option<u64>> {
        if let Some(known) = self.fresh(repository, digest) {
            return Ok(Some(known.size));
        }
        let path = repository.blob_path(digest);
        let Some(metadata) = disk::stat(&path)? else {
            return Ok(None);
        };
        let touched = self.renew(&path, &metadata)?;
        // The link may belong to a push that has not synced it yet.
        self.cache_blob(repository, digest, metadata.len(), touched, false);
        Ok(Some(metadata.len()))
    }

    /// Sets the time of last use if it is due, and returns it. The change is durable: a client
    /// that was told that a blob exists may come back after a power loss.
    fn renew(&self, path: &Path, metadata: &fs::Metadata) -> io::Result<SystemTime> {
        let touched = metadata.modified()?;
        if self.is_fresh(touched) {
            return Ok(touched);
        }
        let now = self.now();
        self.disk.touch(path, now)?;
        self.disk.sync(path)?;
        Ok(now)
    }

    fn cache_blob(&self, repository: &StoredRepository, digest: &Digest, size: u64, touched: SystemTime, synced: bool) {
        let known = CachedBlob { size, touched, synced };
        self.known.insert((repository.id, *digest), known, 1);
    }

    /// A blob's content, if memory has it.
    pub(crate) fn content_in_memory(&self, repository: &StoredRepository, digest: &Digest) -> Option<Bytes> {
        self.fresh(repository, digest)?;
        self.content.get(digest)
    }

    /// A blob's content.
    pub(crate) fn content(&self, repository: &StoredRepository, digest: &Digest) -> io::Result<Option<Content>> {
        let Some(size) = self.blob(repository, digest)? else {
            return Ok(None);
        };
        if size <= SMALL {
            return Ok(self.manifest_bytes(repository, digest)?.map(Content::Bytes));
        }
        match File::open(repository.blob_path(digest)) {
            Ok(file) => Ok(Some(Content::File(file, size))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A manifest's bytes. Their size is bounded.
    pub(crate) fn manifest_bytes(&self, repository: &StoredRepository, digest: &Digest) -> io::Result<Option<Bytes>> {
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

    fn remember(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() as u64 <= SMALL {
            self.content.insert(*digest, bytes.clone(), bytes.len() + 256);
        }
    }

    /// Stores a blob in a repository: durable when this returns.
    pub(crate) fn put_blob(&self, name: &Name, digest: &Digest, source: &BlobSource<'_>) -> io::Result<()> {
        let repository = self.repository_or_new(name)?;
        let _shared = self.gc_lock.read().unwrap_or_else(PoisonError::into_inner);
        self.put_blob_shared(&repository, digest, source)
    }

    fn put_blob_shared(
        &self,
        repository: &StoredRepository,
        digest: &Digest,
        source: &BlobSource<'_>,
    ) -> io::Result<()> {
        let to = repository.blob_path(digest);
        if !source.is_in(&to)? {
            // The cached content may come from the damaged file.
            self.content.remove(digest);
            if !source.is_in(&self.pool.path(digest))? {
                self.add_to_pool(digest, source)?;
            }
            self.pool.link_out(digest, &to, &self.uploads.scratch())?;
        } else if self.fresh(repository, digest).is_some_and(|known| known.synced) {
            return Ok(());
        }
        let metadata = disk::stat(&to)?.ok_or_else(|| io::Error::other("a blob was deleted while it was stored"))?;
        let touched = self.renew(&to, &metadata)?;
        self.disk.sync(&repository.blobs(digest.algorithm()))?;
        self.cache_blob(repository, digest, source.size(), touched, true);
        Ok(())
    }

    /// Adds content to the pool.
    fn add_to_pool(&self, digest: &Digest, source: &BlobSource<'_>) -> io::Result<()> {
        let scratch = self.uploads.scratch();
        match source {
            BlobSource::File(from, _) => self.pool.link_in(digest, source, from, &scratch),
            BlobSource::Bytes(bytes) => {
                let from = self.uploads.scratch();
                let made = self.disk.create(&from, bytes).and_then(|()| {
                    // The clock is the caller's, not the file system's.
                    self.disk.touch(&from, self.now())?;
                    self.disk.sync(&from)?;
                    self.pool.link_in(digest, source, &from, &scratch)
                });
                self.disk.remove(&from)?;
                made
            }
        }
    }

    /// Closes an upload, whatever the outcome. False if its bytes have another digest.
    pub(crate) fn finish_upload(&self, name: &Name, upload: &Upload, digest: &Digest) -> io::Result<bool> {
        let stored = self.store_upload(name, upload, digest);
        // After an error too: its file may already be in the pool, or be what a failed sync has
        // left.
        self.uploads.discard(upload)?;
        stored
    }

    fn store_upload(&self, name: &Name, upload: &Upload, digest: &Digest) -> io::Result<bool> {
        if upload.digest(digest.algorithm())? != *digest {
            return Ok(false);
        }
        match upload.offset() {
            0 => self.put_blob(name, digest, &BlobSource::Bytes(b""))?,
            size => {
                // Before the lock is taken: this may be gigabytes.
                self.disk.touch(&upload.path, self.now())?;
                self.disk.sync(&upload.path)?;
                self.put_blob(name, digest, &BlobSource::File(&upload.path, size))?;
            }
        }
        Ok(true)
    }

    /// Mounts a blob of one repository into another. False if the source doesn't have it.
    pub(crate) fn mount(&self, to: &Name, from: &StoredRepository, digest: &Digest) -> io::Result<bool> {
        if self.blob(from, digest)?.is_none() {
            return Ok(false);
        }
        let repository = self.repository_or_new(to)?;
        let _shared = self.gc_lock.read().unwrap_or_else(PoisonError::into_inner);
        // Checked again under the lock: it may have been deleted meanwhile.
        let Some(size) = self.blob_shared(from, digest)? else {
            return Ok(false);
        };
        let source = from.blob_path(digest);
        self.put_blob_shared(&repository, digest, &BlobSource::File(&source, size))?;
        Ok(true)
    }

    /// Removes a repository's link to a blob that no manifest of it needs.
    pub(crate) fn delete_blob(&self, repository: &StoredRepository, digest: &Digest) -> io::Result<DeleteOutcome> {
        if disk::stat(&repository.blob_path(digest))?.is_none() {
            return Ok(DeleteOutcome::Missing);
        }
        if repository.state().manifests.contains_key(digest) {
            return Ok(DeleteOutcome::Manifest);
        }
        // Most manifests are read before the lock is taken.
        let mut read = HashSet::new();
        if let Some(needing) = self.find_referencing(repository, digest, &mut read) {
            return Ok(DeleteOutcome::Needed(needing));
        }
        let _alone = self.gc_lock.write().unwrap_or_else(PoisonError::into_inner);
        if repository.state().manifests.contains_key(digest) {
            return Ok(DeleteOutcome::Manifest);
        }
        if let Some(needing) = self.find_referencing(repository, digest, &mut read) {
            return Ok(DeleteOutcome::Needed(needing));
        }
        self.known.remove(&(repository.id, *digest));
        if !self.disk.remove(&repository.blob_path(digest))? {
            return Ok(DeleteOutcome::Missing);
        }
        self.disk.sync(&repository.blobs(digest.algorithm()))?;
        Ok(DeleteOutcome::Done)
    }

    /// A manifest, not in `read`, that needs the blob or may need it.
    fn find_referencing(
        &self,
        repository: &StoredRepository,
        blob: &Digest,
        read: &mut HashSet<Digest>,
    ) -> Option<Digest> {
        let unread: Vec<_> = {
            let state = repository.state();
            state
                .manifests
                .keys()
                .filter(|one| !read.contains(*one))
                .copied()
                .collect()
        };
        unread.into_iter().find(|one| {
            let needs = match repository.references_of(one) {
                Ok(Some(needs)) => needs.contains(blob),
                // Deleted meanwhile: if it comes back, it is read then.
                Ok(None) => return false,
                Err(_) => true,
            };
            read.insert(*one);
            needs
        })
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
        let _shared = self.gc_lock.read().unwrap_or_else(PoisonError::into_inner);
        for blob in needed {
            if self.blob_shared(&repository, blob)?.is_none() {
                return Err(PutError::Missing(*blob));
            }
        }
        self.put_blob_shared(&repository, &digest, &BlobSource::Bytes(bytes))?;
        // A copy: the received bytes may be part of a much larger buffer.
        self.remember(&digest, &Bytes::copy_from_slice(bytes));
        repository.commit(Record::Put { digest, entry, tags })?;
        Ok(())
    }
}

impl StoredRepository {
    /// Removes a tag. False if there is none.
    pub(crate) fn untag(&self, tag: &str) -> io::Result<bool> {
        if !self.state().tags.contains_key(tag) {
            return Ok(false);
        }
        self.commit(Record::Untag { tag: tag.to_string() })?;
        Ok(true)
    }

    /// Removes a manifest and the tags that point to it. False if there is none.
    pub(crate) fn delete_manifest(&self, digest: &Digest) -> io::Result<bool> {
        if !self.state().manifests.contains_key(digest) {
            return Ok(false);
        }
        self.commit(Record::Delete { digest: *digest })?;
        Ok(true)
    }
}
