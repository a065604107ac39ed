//! What can go wrong with an image.

use std::io;
use std::path::PathBuf;

use qyvol_store::StoreError;
use qyvol_types::{AssetPathError, Digest, ManifestError, escape};
use thiserror::Error;

/// An error about an image or archive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Reading or writing a file of this machine failed.
    #[error("can't {action} {}: {source}", escape(&path.to_string_lossy()))]
    File {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The archive breaks the format.
    #[error("not a valid .qyvbin: {0}")]
    Format(String),
    /// An image layout can't be used.
    #[error("not a usable OCI image layout: {0}")]
    Layout(String),
    /// A layer of files of another tool's image is unusable.
    #[error("its layer of files is unusable: {0}")]
    Layer(String),
    /// A bound was passed.
    #[error("{what} is {got}: at most {limit} is allowed")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Its size or number.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// Some bytes don't have the digest that was promised.
    #[error("{what} has digest {got}: expected {expected}")]
    Digest {
        /// What was read.
        what: &'static str,
        /// The promise.
        expected: Digest,
        /// What came.
        got: Digest,
    },
    /// A manifest inside is unusable.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The payload isn't acceptable WebAssembly.
    #[error("{0}")]
    Wasm(String),
    /// A file can't be packed.
    #[error("can't pack `{}`: {why}", escape(path))]
    Asset {
        /// Its path as found.
        path: String,
        /// Why not.
        why: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Writing the archive failed.
    #[error("can't write the archive: {0}")]
    Write(io::Error),
    /// Reading content failed.
    #[error("can't read content: {0}")]
    Read(#[from] io::Error),
}

impl ImageError {
    pub(crate) fn format(why: impl Into<String>) -> ImageError {
        ImageError::Format(why.into())
    }

    pub(crate) fn asset(path: &str, why: impl ToString) -> ImageError {
        ImageError::Asset {
            path: path.to_string(),
            why: why.to_string(),
        }
    }

    pub(crate) fn asset_path(path: &str, why: &AssetPathError) -> ImageError {
        ImageError::asset(path, format_args!("its name {why}"))
    }
}
