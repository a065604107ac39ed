//! A store in memory: for tests, and for images that never touch a disk.
//!
//! Keeps everything for as long as it lives; there is no limit and no garbage collection.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_types::{Descriptor, Digest, ImageManifest, Reference, limits, media_type};

use crate::{Body, Exists, Fetch, Push, Referrers, StoreError, VerifyReader};

/// Blobs, referrers and names in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    blobs: HashMap<Digest, Arc<[u8]>>,
    referrers: HashMap<Digest, BTreeMap<Digest, Descriptor>>,
    names: BTreeMap<Reference, Descriptor>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Stores bytes and returns their descriptor.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, StoreError> {
        let descriptor = Descriptor::of(media_type, bytes);
        self.push(&descriptor, &mut &*bytes)?;
        Ok(descriptor)
    }

    /// Names a descriptor.
    pub fn tag(&self, name: &Reference, descriptor: &Descriptor) {
        self.lock().names.insert(name.clone(), descriptor.clone());
    }

    /// What a name refers to.
    pub fn resolve(&self, name: &Reference) -> Option<Descriptor> {
        self.lock().names.get(name).cloned()
    }

    // A panic while the lock was held leaves the maps as they are: each change
    // to them is one insertion.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetch for MemoryStore {
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        match self.lock().blobs.get(&descriptor.digest) {
            Some(bytes) => Ok(Box::new(Cursor::new(Arc::clone(bytes)))),
            None => Err(StoreError::NotFound {
                digest: descriptor.digest,
            }),
        }
    }
}

impl Exists for MemoryStore {
    fn exists(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        let inner = self.lock();
        let found = inner.blobs.get(&descriptor.digest);
        Ok(found.is_some_and(|bytes| bytes.len() as u64 == descriptor.size))
    }
}

impl Push for MemoryStore {
    fn push(&self, descriptor: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        let mut bytes = Vec::new();
        VerifyReader::new(body, descriptor)
            .read_to_end(&mut bytes)
            .map_err(|error| StoreError::reading(&descriptor.digest, error))?;
        let link = referrer_link(descriptor, || Ok(bytes.clone()))?;
        let mut inner = self.lock();
        inner.blobs.insert(descriptor.digest, bytes.into());
        if let Some((subject, referrer)) = link {
            let links = inner.referrers.entry(subject).or_default();
            links.insert(referrer.digest, referrer);
        }
        Ok(())
    }
}

impl Referrers for MemoryStore {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let inner = self.lock();
        let links = inner.referrers.get(subject);
        Ok(links.map_or_else(Vec::new, |links| links.values().cloned().collect()))
    }
}

/// The subject of pushed content, with the referrer's descriptor, if the content is a manifest
/// that has a subject. A manifest that can't be read is refused.
pub(crate) fn referrer_link(
    descriptor: &Descriptor,
    bytes: impl FnOnce() -> Result<Vec<u8>, StoreError>,
) -> Result<Option<(Digest, Descriptor)>, StoreError> {
    if descriptor.media_type != media_type::IMAGE_MANIFEST {
        return Ok(None);
    }
    let digest = descriptor.digest;
    if descriptor.size > limits::MANIFEST_BYTES {
        return Err(StoreError::TooLarge {
            digest,
            size: descriptor.size,
            limit: limits::MANIFEST_BYTES,
        });
    }
    let manifest = ImageManifest::parse(bytes()?).map_err(|source| StoreError::Manifest { digest, source })?;
    Ok(manifest
        .subject()
        .map(|subject| (subject.digest, manifest.descriptor())))
}
