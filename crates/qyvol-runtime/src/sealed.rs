//! Directories whose content is verified entry by entry.
//!
//! The guest sees an entry (by opening it, or asking for its size and times)
//! only after the [`Seal`] of its mount has checked it.
//!
//! This defends the guest's data, not the host: a guest that evaded it would
//! read files that it could read anyway.

use std::fmt;

use qyvol_types::escape;

use crate::RuntimeError;

/// Verifies the content of a mounted directory.
pub trait Seal: Send + Sync + fmt::Debug {
    /// Checks that the entry of this name is what was sealed, or that there is none if none was
    /// sealed; returns what is wrong. `path` is relative to the mount's directory, without `.`,
    /// `..` or empty components; the empty path is that directory.
    fn check(&self, path: &str) -> Result<(), String>;
}

/// The failure of a check. It ends the guest: a program that treats an unreadable file
/// as absent must not go on without it.
#[derive(Debug)]
pub(crate) struct IntegrityError {
    pub(crate) path: String,
    pub(crate) why: String,
}

impl fmt::Display for IntegrityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", escape(&self.path), self.why)
    }
}

impl std::error::Error for IntegrityError {}

impl From<&IntegrityError> for RuntimeError {
    fn from(broken: &IntegrityError) -> RuntimeError {
        RuntimeError::Sealed {
            path: broken.path.clone(),
            why: broken.why.clone(),
        }
    }
}
