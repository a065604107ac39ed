//! Values that a policy has accepted.

use std::ops::Deref;

use qyvol_types::{ConfigError, Descriptor, ImageConfig, ImageManifest, ManifestError};
use thiserror::Error;

/// Something that the policy has accepted, or that is bound by digest to
/// something it has. Only [`crate::verify()`] makes one from nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T>(T);

/// Why bytes can't be bound to a verified descriptor.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// They are not the bytes of the descriptor.
    #[error("the bytes of {0} are not those that were signed")]
    Digest(qyvol_types::Digest),
    /// They are, and are no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// They are, and are no config.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl<T> Verified<T> {
    pub(crate) fn accepted(value: T) -> Verified<T> {
        Verified(value)
    }

    /// Marks an unverified value as verified. `reason` documents why at the call
    /// site.
    pub fn dangerously_trust(value: T, reason: &str) -> Verified<T> {
        let _ = reason;
        Verified(value)
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Verified<Descriptor> {
    fn check(&self, bytes: &[u8]) -> Result<(), BindError> {
        if self.0.size == bytes.len() as u64 && self.0.digest.matches(bytes) {
            return Ok(());
        }
        Err(BindError::Digest(self.0.digest))
    }

    /// The manifest of this descriptor, re-hashed.
    pub fn bind(&self, bytes: Vec<u8>) -> Result<Verified<ImageManifest>, BindError> {
        self.check(&bytes)?;
        Ok(Verified(ImageManifest::parse(bytes)?))
    }

    /// The config of this descriptor, re-hashed.
    pub fn bind_config(&self, bytes: &[u8]) -> Result<Verified<ImageConfig>, BindError> {
        self.check(bytes)?;
        Ok(Verified(ImageConfig::parse(bytes)?))
    }
}

impl Verified<ImageManifest> {
    /// The config's descriptor.
    pub fn config(&self) -> Verified<Descriptor> {
        Verified(self.0.config().clone())
    }

    /// The layers' descriptors.
    pub fn layers(&self) -> Vec<Verified<Descriptor>> {
        self.0.layers().iter().cloned().map(Verified).collect()
    }
}
