//! Turns errors of the parts of a verb into errors of the verb: with what was attempted, and on
//! what.

use std::io;
use std::path::PathBuf;

use qyvol_image::ImageError;
use qyvol_runtime::RuntimeError;
use qyvol_store::StoreError;
use qyvol_trust::{KeyError, VerifyError};

use crate::Error;

impl Error {
    /// An error about a file.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    /// An error about the copy that the store has of an image.
    pub(crate) fn stored(target: &str) -> impl Fn(StoreError) -> Error + '_ {
        move |source| Error::Stored {
            target: target.to_string(),
            source,
        }
    }

    /// An error about an image the user named.
    pub(crate) fn image(target: &str) -> impl Fn(ImageError) -> Error + '_ {
        move |source| match source {
            // What is wrong with the content is the image's, the rest the store's.
            ImageError::Store(store) if !(store.is_content_error() || matches!(store, StoreError::Read { .. })) => {
                Error::Store(store)
            }
            source => Error::Image {
                target: target.to_string(),
                source,
            },
        }
    }

    pub(crate) fn malformed<E: ToString>(target: &str) -> impl Fn(E) -> Error + '_ {
        move |why| Error::Malformed {
            target: target.to_string(),
            why: why.to_string(),
        }
    }

    pub(crate) fn key(name: &str) -> impl Fn(KeyError) -> Error + '_ {
        move |why| Error::Key {
            key: name.to_string(),
            why: why.to_string(),
        }
    }

    pub(crate) fn trust(target: &str) -> impl Fn(VerifyError) -> Error + '_ {
        move |source| Error::Trust {
            target: target.to_string(),
            source: Box::new(source),
        }
    }

    pub(crate) fn state<E: ToString>(target: &str) -> impl Fn(E) -> Error + '_ {
        move |why| Error::State {
            target: target.to_string(),
            why: why.to_string(),
        }
    }

    pub(crate) fn runtime(target: &str) -> impl Fn(RuntimeError) -> Error + '_ {
        move |source| Error::Runtime {
            target: target.to_string(),
            source,
        }
    }
}
