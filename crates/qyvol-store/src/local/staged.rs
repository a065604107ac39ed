//! What is staged so far: blobs by their digests, and which of them refer to others.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_types::{Descriptor, Digest};

use super::LocalStore;
use super::staging::Staging;
use crate::StoreError;
use crate::memory::referrer_link;

/// What an ingest and its writers have staged.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) store: LocalStore,
    contents: Mutex<Contents>,
    pub(super) staging: Staging,
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) blobs: HashMap<Digest, Blob>,
    pub(super) links: BTreeMap<(Digest, Digest), Descriptor>,
}

#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// The lock of a file in `partial/`: held until the file is installed.
    pub(super) lock: Option<Arc<File>>,
}

impl Staged {
    pub(super) fn new(store: &LocalStore) -> Result<Staged, StoreError> {
        Ok(Staged {
            staging: Staging::new(store)?,
            store: store.clone(),
            contents: Mutex::default(),
        })
    }

    /// What is staged, for as long as the guard lives.
    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        // Each change is one insertion: a panic leaves nothing half done.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a finished file under its digest.
    pub(super) fn add(
        &self,
        descriptor: &Descriptor,
        path: PathBuf,
        lock: Option<Arc<File>>,
    ) -> Result<(), StoreError> {
        let link = referrer_link(descriptor, || {
            fs::read(&path).map_err(|e| StoreError::io("read", &path, e))
        })?;
        let mut contents = self.lock();
        let size = descriptor.size;
        if let Some(old) = contents.blobs.insert(descriptor.digest, Blob { path, size, lock }) {
            let _ = fs::remove_file(old.path);
        }
        if let Some((subject, referrer)) = link {
            contents.links.insert((subject, referrer.digest), referrer);
        }
        Ok(())
    }
}
