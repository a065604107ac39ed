//! Writing to the store on disk.
//!
//! Blobs are staged in a private directory and appear only at commit, in this
//! order: blobs, referrer links, names; each group is on the device before the next begins. So
//! a name points to a complete image, whenever a process or machine stops. Dropping an ingest
//! leaves nothing, unless it is resumable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_types::{Algorithm, Descriptor, Digest, Hasher, ImageManifest, Reference, json, limits, media_type};

use super::partial::Partial;
use super::refs::{ENTRY_BYTES, Entry, tag_key};
use super::spool::Spooled;
use super::staged::{Blob, Staged};
use super::writer::BlobWriter;
use super::{LocalStore, read_bounded};
use crate::{Body, Exists, Fetch, Open, Push, Referrers, StoreError, sys};

/// Smallest blob that an interrupted ingest keeps in part, in bytes.
const MIN_RESUMABLE_BYTES: u64 = 1 << 20;

/// Blobs, referrers and names that are being written to a [`LocalStore`].
#[derive(Debug)]
pub struct Ingest {
    staged: Arc<Staged>,
    names: BTreeMap<Reference, PendingTag>,
    resumable: bool,
}

/// What a name will refer to.
#[derive(Debug)]
struct PendingTag {
    descriptor: Descriptor,
    /// Whether it may refer to another image now.
    moves: bool,
}

impl Ingest {
    pub(crate) fn begin(store: &LocalStore) -> Result<Ingest, StoreError> {
        Ok(Ingest {
            staged: Arc::new(Staged::new(store)?),
            names: BTreeMap::new(),
            resumable: false,
        })
    }

    /// Keeps the received part of a large blob if its source fails or the process is killed;
    /// the next resumable ingest continues from there. For remote sources.
    pub fn resumable(mut self) -> Ingest {
        self.resumable = true;
        self
    }

    /// A blob whose digest is not known beforehand. It may outlive this value; what isn't
    /// finished at the commit is dropped.
    pub fn writer(&self) -> Result<BlobWriter, StoreError> {
        self.writer_of(Algorithm::Sha256)
    }

    fn writer_of(&self, algorithm: Algorithm) -> Result<BlobWriter, StoreError> {
        let path = self.staged.staging.path().join(sys::random_name()?);
        let file = sys::create_new(&path, 0o444).map_err(|e| StoreError::io("create", &path, e))?;
        Ok(BlobWriter::new(&self.staged, file, path, Hasher::new(algorithm)))
    }

    /// Stages content that may be partly stored; false if the stored part was
    /// wrong, which is then discarded.
    fn resume(&self, descriptor: &Descriptor, partial: Partial, open: &Open<'_>) -> Result<bool, StoreError> {
        let had = partial.bytes;
        let filled = self.fill_partial(descriptor, partial, open);
        let finished = filled.and_then(|writer| writer.finish(&descriptor.media_type, Some(&descriptor.digest)));
        match finished {
            Ok(_) => Ok(true),
            Err(error) if error.is_content_error() && had > 0 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads the rest of content that may be partly stored. What was received is kept if the
    /// source fails.
    fn fill_partial(
        &self,
        descriptor: &Descriptor,
        partial: Partial,
        open: &Open<'_>,
    ) -> Result<BlobWriter, StoreError> {
        let had = partial.bytes;
        let mut writer = BlobWriter::after(&self.staged, partial);
        let filled = match had < descriptor.size {
            true => open(had).and_then(|mut body| writer.fill(descriptor, &mut body)),
            false => Ok(()),
        };
        match filled {
            Ok(()) => Ok(writer),
            // The source failed, not the content or this host.
            Err(error @ (StoreError::Read { .. } | StoreError::Other { .. } | StoreError::NotFound { .. })) => {
                writer.keep();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Receives content that is read once and never becomes a blob of the store, such as a
    /// smaller representation of one. It is verified before it is returned, and resumed like a
    /// blob.
    pub fn spool(&self, descriptor: &Descriptor, open: &Open<'_>) -> Result<Spooled, StoreError> {
        if let Some(partial) = self.partial(descriptor)? {
            let had = partial.bytes;
            let filled = self.fill_partial(descriptor, partial, open);
            match filled.and_then(|writer| Spooled::new(writer, descriptor)) {
                Err(error) if error.is_content_error() && had > 0 => {}
                spooled => return spooled,
            }
        }
        let mut writer = self.writer_of(descriptor.digest.algorithm())?;
        writer.fill(descriptor, &mut open(0)?)?;
        Spooled::new(writer, descriptor)
    }

    /// The stored part of a blob, if this ingest keeps such parts and the blob is large enough.
    fn partial(&self, descriptor: &Descriptor) -> Result<Option<Partial>, StoreError> {
        match self.resumable && descriptor.size >= MIN_RESUMABLE_BYTES {
            true => Partial::open(&self.staged.store, descriptor),
            false => Ok(None),
        }
    }

    /// Stages bytes and returns their descriptor.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.push(&descriptor, &mut &*bytes)?;
        Ok(descriptor)
    }

    /// Makes `descriptor` a referrer of `subject`. Manifests that are pushed
    /// become the referrers of their own `subject` without this.
    pub fn add_referrer(&mut self, subject: &Digest, descriptor: &Descriptor) {
        let key = (*subject, descriptor.digest);
        self.staged.lock().links.insert(key, descriptor.clone());
    }

    /// Gives an image a name when the ingest is committed.
    pub fn tag(&mut self, name: &Reference, descriptor: &Descriptor) {
        let descriptor = descriptor.clone();
        self.names.insert(
            tag_key(name),
            PendingTag {
                descriptor,
                moves: true,
            },
        );
    }

    /// The same, but the commit fails with [`StoreError::NameTaken`] if the name refers to
    /// another image.
    pub fn tag_new(&mut self, name: &Reference, descriptor: &Descriptor) {
        let descriptor = descriptor.clone();
        self.names.insert(
            tag_key(name),
            PendingTag {
                descriptor,
                moves: false,
            },
        );
    }

    /// Fails as the commit would if a named image is incomplete or a new name is
    /// taken.
    pub fn check(&self) -> Result<(), StoreError> {
        for (name, new) in &self.names {
            if let Some(digest) = self.first_missing(&new.descriptor)? {
                let name = Box::new(name.clone());
                return Err(StoreError::Incomplete { name, digest });
            }
            if !new.moves {
                self.check_not_taken(name, &new.descriptor)?;
            }
        }
        Ok(())
    }

    /// Installs everything. If another process did so meanwhile, that is success: the content
    /// is the same. Fails before anything is visible if a named image or a referrer is
    /// incomplete.
    pub fn commit(self) -> Result<(), StoreError> {
        self.check()?;
        let (mut blobs, links) = {
            let mut contents = self.staged.lock();
            let blobs: Vec<_> = contents.blobs.drain().collect();
            (blobs, std::mem::take(&mut contents.links))
        };
        blobs.sort_by_key(|(digest, _)| *digest);
        for referrer in links.values() {
            let staged = blobs.binary_search_by_key(&referrer.digest, |(digest, _)| *digest);
            if staged.is_err() && !self.staged.store.exists(referrer)? {
                return Err(StoreError::NotFound {
                    digest: referrer.digest,
                });
            }
        }
        self.commit_blobs(&blobs)?;
        self.commit_links(&links)?;
        self.commit_names()
    }

    fn commit_blobs(&self, blobs: &[(Digest, Blob)]) -> Result<(), StoreError> {
        let store = &self.staged.store;
        let mut directories = Directories::default();
        for (digest, blob) in blobs {
            let target = store.layout().blob(digest);
            // An existing file is kept, unless it can't be this blob.
            if store.blob_size(digest)? == Some(blob.size) {
                if blob.lock.is_some() {
                    let _ = fs::remove_file(&blob.path);
                }
                continue;
            }
            let read_only = |file: &Arc<File>| file.set_permissions(fs::Permissions::from_mode(0o444));
            (blob.lock.as_ref().map_or(Ok(()), read_only))
                .and_then(|()| sys::open_read(&blob.path)?.sync_all())
                .map_err(|e| StoreError::io("write", &blob.path, e))?;
            directories.place(&blob.path, &target)?;
        }
        directories.sync()
    }

    fn commit_links(&self, links: &BTreeMap<(Digest, Digest), Descriptor>) -> Result<(), StoreError> {
        let store = &self.staged.store;
        let mut directories = Directories::default();
        for ((subject, digest), referrer) in links {
            let directory = store.layout().referrers(subject);
            let target = directory.join(super::layout::file_name(digest));
            // A damaged one is replaced.
            if let Ok(Some(bytes)) = read_bounded(&target, ENTRY_BYTES)
                && json::decode::<Descriptor>(&bytes).is_ok_and(|link| link.digest == *digest)
            {
                continue;
            }
            let (path, _) = self.staged.staging.write(0o444, &encode(referrer, &target)?)?;
            directories.place(&path, &target)?;
        }
        directories.sync()
    }

    fn commit_names(&self) -> Result<(), StoreError> {
        let mut directories = Directories::default();
        for (name, new) in &self.names {
            let target = self.staged.store.layout().reference(&name.to_string());
            let entry = Entry {
                name: name.clone(),
                descriptor: new.descriptor.clone(),
            };
            let (path, _) = self.staged.staging.write(0o644, &encode(&entry, &target)?)?;
            // Another process may have taken the name since the check.
            if new.moves {
                directories.place(&path, &target)?;
            } else if !directories.place_new(&path, &target)? {
                self.check_not_taken(name, &new.descriptor)?;
            }
        }
        directories.sync()
    }

    /// Fails if a name refers to another image.
    fn check_not_taken(&self, name: &Reference, wanted: &Descriptor) -> Result<(), StoreError> {
        match self.staged.store.resolve(name)? {
            Some(there) if there.digest != wanted.digest => Err(StoreError::NameTaken {
                name: Box::new(name.clone()),
                there: there.digest,
                wanted: Box::new(wanted.digest),
            }),
            _ => Ok(()),
        }
    }

    /// The first blob of an image that is neither staged nor stored.
    fn first_missing(&self, root: &Descriptor) -> Result<Option<Digest>, StoreError> {
        if !self.exists(root)? {
            return Ok(Some(root.digest));
        }
        if root.media_type != media_type::IMAGE_MANIFEST {
            return Ok(None);
        }
        let digest = root.digest;
        let bytes = self.fetch_bytes(root, limits::MANIFEST_BYTES)?;
        let manifest = ImageManifest::parse(bytes).map_err(|source| StoreError::Manifest { digest, source })?;
        for child in std::iter::once(manifest.config()).chain(manifest.layers()) {
            if !self.exists(child)? {
                return Ok(Some(child.digest));
            }
        }
        Ok(None)
    }
}

fn encode<T: serde::Serialize>(value: &T, path: &Path) -> Result<Vec<u8>, StoreError> {
    json::encode(value).map_err(|error| StoreError::Io {
        action: "encode",
        path: path.to_path_buf(),
        source: io::Error::other(error),
    })
}

/// Renames files into place and syncs each directory that changed once.
#[derive(Default)]
struct Directories(BTreeSet<PathBuf>);

impl Directories {
    fn place(&mut self, from: &Path, to: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("create", to, error);
        if let Some(parent) = to.parent() {
            self.make(parent)?;
            self.0.insert(parent.to_path_buf());
        }
        fs::rename(from, to).map_err(failed)
    }

    /// The same, unless the target exists; false if it does.
    fn place_new(&mut self, from: &Path, to: &Path) -> Result<bool, StoreError> {
        if let Some(parent) = to.parent() {
            self.make(parent)?;
            self.0.insert(parent.to_path_buf());
        }
        match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StoreError::io("create", to, error)),
        }
    }

    /// Makes a directory and its parents, recording each whose entries changed.
    fn make(&mut self, directory: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("create directory", directory, error);
        let made = match sys::make_dir(directory, 0o755) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = directory.parent() {
                    self.make(parent)?;
                }
                sys::make_dir(directory, 0o755).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        if made && let Some(parent) = directory.parent() {
            self.0.insert(parent.to_path_buf());
        }
        Ok(())
    }

    fn sync(self) -> Result<(), StoreError> {
        self.0.iter().try_for_each(|directory| sys::sync_dir(directory))
    }
}

impl Fetch for Ingest {
    /// Staged content first, then the store's.
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        let staged = self.staged.lock().blobs.get(&descriptor.digest).cloned();
        match staged {
            Some(blob) => {
                let file = sys::open_read(&blob.path).map_err(|e| StoreError::io("open", &blob.path, e))?;
                Ok(Box::new(file))
            }
            None => self.staged.store.fetch_unverified(descriptor),
        }
    }
}

impl Exists for Ingest {
    fn exists(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        let staged = self.staged.lock().blobs.get(&descriptor.digest).map(|b| b.size);
        match staged {
            Some(size) => Ok(size == descriptor.size),
            None => self.staged.store.exists(descriptor),
        }
    }
}

impl Push for Ingest {
    fn push(&self, descriptor: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        let mut writer = self.writer_of(descriptor.digest.algorithm())?;
        writer.fill(descriptor, body)?;
        writer.finish(&descriptor.media_type, Some(&descriptor.digest))?;
        Ok(())
    }

    fn push_from(&self, descriptor: &Descriptor, open: &Open<'_>) -> Result<(), StoreError> {
        if let Some(partial) = self.partial(descriptor)?
            && self.resume(descriptor, partial, open)?
        {
            return Ok(());
        }
        self.push(descriptor, &mut open(0)?)
    }
}

impl Referrers for Ingest {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let mut found: BTreeMap<Digest, Descriptor> = BTreeMap::new();
        for referrer in self.staged.store.referrers(subject)? {
            found.insert(referrer.digest, referrer);
        }
        for ((of, digest), referrer) in &self.staged.lock().links {
            if of == subject {
                found.insert(*digest, referrer.clone());
            }
        }
        Ok(found.into_values().collect())
    }
}
