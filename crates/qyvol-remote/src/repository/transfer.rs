//! The bytes of a blob, and why its transfer failed: the registry, or the content itself.

use std::io::Read;

use qyvol_store::StoreError;
use qyvol_types::Digest;

use crate::RemoteError;
use crate::retry::AttemptFailure;

/// A blob's bytes from one connection.
pub(super) type Bytes = Box<dyn Read + Send>;

/// Why a transfer failed.
pub(super) enum TransferError {
    /// The registry failed.
    Remote(RemoteError),
    /// The content is not there, not right, or can't be read.
    Content(StoreError),
}

/// The outcome of one attempt.
pub(super) type Attempt<T> = Result<T, AttemptFailure<TransferError>>;

/// A failure that another attempt would not change.
pub(super) fn content(error: StoreError) -> AttemptFailure<TransferError> {
    AttemptFailure::Final(TransferError::Content(error))
}

/// The registry's blob has another size.
pub(super) fn wrong_size(digest: &Digest, expected: u64, got: u64) -> AttemptFailure<TransferError> {
    content(StoreError::WrongSize {
        digest: *digest,
        expected,
        got,
        more: false,
    })
}

impl From<RemoteError> for TransferError {
    fn from(error: RemoteError) -> TransferError {
        TransferError::Remote(error)
    }
}

impl std::fmt::Display for TransferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TransferError::Remote(error) => error.fmt(f),
            TransferError::Content(error) => error.fmt(f),
        }
    }
}

impl TransferError {
    /// As the error of a store that could not `action`.
    pub(super) fn into_store(self, action: String) -> StoreError {
        match self {
            TransferError::Remote(error) => error.into_store(action),
            TransferError::Content(error) => error,
        }
    }
}
