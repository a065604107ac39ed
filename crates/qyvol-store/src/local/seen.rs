//! State that a host keeps by name: one small file each, in `state/seen/`. The
//! store does not interpret the bytes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{LocalStore, read_with_meta, staging::Staging};
use crate::{StoreError, sys};

/// Bytes that are kept for a name.
const SEEN_BYTES: u64 = 64 << 10;

impl LocalStore {
    /// The state under a name.
    pub fn host_state(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.layout().seen(name);
        let Some((bytes, meta)) = read_with_meta(&path, SEEN_BYTES)? else {
            return Ok(None);
        };
        // The store may belong to root.
        if meta.uid() != sys::user() && meta.uid() != 0 || meta.mode() & 0o022 != 0 {
            let what = format!(
                "others can write it (owner {}, mode {:04o})",
                meta.uid(),
                meta.mode() & 0o7777
            );
            return Err(StoreError::Damaged { path, what });
        }
        Ok(Some(bytes))
    }

    /// Updates the state under a name, one process at a time: `update` gets the
    /// old bytes and returns the new ones. They are on disk when this returns.
    pub fn update_host_state<E: From<StoreError>>(
        &self,
        name: &str,
        update: impl FnOnce(Option<&[u8]>) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let staging = Staging::new(self)?;
        let directory = self.layout().directory("state").join("seen");
        let new = sys::make_dir(&directory, 0o700).map_err(|e| StoreError::io("create directory", &directory, e))?;
        if new {
            sys::sync_dir(&self.layout().directory("state"))?;
        }
        let _lock = self.lock_install()?;
        let old = self.host_state(name)?;
        let bytes = update(old.as_deref())?;
        if old.as_ref() == Some(&bytes) {
            return Ok(());
        }
        let path = self.layout().seen(name);
        let (staged, _) = staging.write(0o600, &bytes)?;
        fs::rename(&staged, &path).map_err(|e| StoreError::io("write", &path, e))?;
        Ok(sys::sync_dir(&directory)?)
    }
}
