//! Parsed forms of trust policies, so that a run need not parse a large policy again. The store
//! does not interpret the bytes.
//!
//! Verdicts depend on a form, so it is used only if it is authenticated with this store's key,
//! for exactly the text and the build that it was made from. Anything else counts as absent:
//! the caller has the text.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use qyvol_types::{Digest, limits};

use super::staging::Staging;
use super::{LocalStore, read_bounded};
use crate::{StoreError, sys};

const MAGIC: &[u8; 8] = b"qyvpoli1";
/// Bytes of an HMAC-SHA256.
const TAG: usize = 32;
/// Number of forms that are kept: that of the policy in force, and those of policies named by
/// options.
const KEPT: usize = 8;

impl LocalStore {
    /// The form that this store keeps for a policy's text and a build (`form`).
    pub fn parsed_policy(&self, form: &str, text: &Digest) -> Option<Vec<u8>> {
        let limit = limits::PARSED_POLICY_BYTES + (MAGIC.len() + TAG) as u64;
        let mut record = read_bounded(&self.layout().policy(text), limit).ok()??;
        let key = self.usable_key().ok()??;
        let (tag, body) = record.strip_prefix(MAGIC)?.split_first_chunk::<TAG>()?;
        if !key.verify_policy_mac(form, text, body, tag) {
            return None;
        }
        record.drain(..MAGIC.len() + TAG);
        Some(record)
    }

    /// Stores the form of a policy's text, replacing an earlier one, and removes the oldest
    /// forms. A form that is too large to be read is not stored.
    pub fn put_parsed_policy(&self, form: &str, text: &Digest, body: &[u8]) -> Result<(), StoreError> {
        if body.len() as u64 > limits::PARSED_POLICY_BYTES {
            return Ok(());
        }
        let staging = Staging::new(self)?;
        let key = self.ensure_key(&staging)?;
        let directory = self.layout().policies();
        sys::make_dir(&directory, 0o700).map_err(|e| StoreError::io("create directory", &directory, e))?;
        let tag = key.policy_mac(form, text, body);
        let (staged, _) = staging.write(0o600, &[MAGIC, tag.as_ref(), body].concat())?;
        let _lock = self.lock_install()?;
        let path = self.layout().policy(text);
        let failed = |error| StoreError::io("write", &path, error);
        // Whatever exists there: a directory could not be replaced.
        sys::remove(&path).map_err(failed)?;
        fs::rename(&staged, &path).map_err(failed)?;
        for old in self.parsed_policies()?.into_iter().skip(KEPT) {
            sys::remove(&old).map_err(|e| StoreError::io("remove", &old, e))?;
        }
        Ok(())
    }

    /// The files of all that are kept, the newest first.
    pub(super) fn parsed_policies(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.layout().policies();
        let paths = sys::names(&directory)?.into_iter().map(|name| directory.join(name));
        let mut paths: Vec<_> = paths.collect();
        paths.sort_by_cached_key(|path| {
            let meta = sys::stat(path).ok().flatten();
            std::cmp::Reverse(meta.map(|meta| (meta.mtime(), meta.mtime_nsec())))
        });
        Ok(paths)
    }
}
