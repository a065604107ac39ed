//! The one error of every store.
//!
//! Failures of the operating system keep the path and the [`io::Error`] and
//! are sorted by what the user can do about them: free space, make the file
//! system writable, change owner or mode. A [`StoreError`] passes through a
//! reader or writer as an [`io::Error`] and can be taken out again with
//! [`StoreError::from_io`].

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use qyvol_types::{Digest, ManifestError, Reference, escape};
use rustix::io::Errno;
use thiserror::Error;

/// What went wrong in a store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The blob is not there.
    #[error("blob {digest} is not in the store")]
    NotFound {
        /// The digest asked for.
        digest: Digest,
    },
    /// The content has another length than its descriptor says.
    #[error("blob {digest} has the wrong size: expected {expected} bytes, got {}{got}", if *.more { "at least " } else { "" })]
    WrongSize {
        /// The digest asked for.
        digest: Digest,
        /// Bytes expected.
        expected: u64,
        /// Bytes read.
        got: u64,
        /// Reading stopped at `got`: there is more.
        more: bool,
    },
    /// The content is not what its descriptor says.
    #[error("blob has the wrong digest: expected {expected}, got {got}")]
    WrongDigest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes read.
        got: Box<Digest>,
    },
    /// The descriptor's size is over what the caller reads.
    #[error("blob {digest} is {size} bytes: at most {limit} are read")]
    TooLarge {
        /// The digest asked for.
        digest: Digest,
        /// The descriptor's size.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// The store has something else under this digest.
    #[error("{digest} does not match its descriptor: {what}")]
    Mismatch {
        /// The digest asked for.
        digest: Digest,
        /// What there is instead; safe to show.
        what: String,
    },
    /// The bytes are not a manifest.
    #[error("manifest {digest} can't be read")]
    Manifest {
        /// The manifest's digest.
        digest: Digest,
        /// Why not.
        source: ManifestError,
    },
    /// An incomplete image can't be tagged.
    #[error("can't tag {}: blob {digest} of the image is neither staged nor stored", escape(&.name.to_string()))]
    Incomplete {
        /// The name.
        name: Box<Reference>,
        /// The blob that is missing.
        digest: Digest,
    },
    /// A name refers to another image, and must not be moved.
    #[error(
        "{} already names {there} in the store, not {wanted}",
        escape(&.name.to_string())
    )]
    NameTaken {
        /// The name.
        name: Box<Reference>,
        /// The image that it refers to.
        there: Digest,
        /// The image that it was to refer to.
        wanted: Box<Digest>,
    },
    /// The file system has less space than is to be written.
    #[error("can't write {needed} bytes into {}: {available} bytes are available", show(.path))]
    InsufficientSpace {
        /// The store.
        path: PathBuf,
        /// Bytes that would be written.
        needed: u64,
        /// Bytes that the file system has for this user.
        available: u64,
    },
    /// A file of the store has other content than was written.
    #[error("{} is damaged: {what}", show(.path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A directory of the store is a symbolic link.
    #[error("store directory {} is a symbolic link: expected the directory itself", show(.path))]
    SymlinkedDirectory {
        /// The link.
        path: PathBuf,
    },
    /// A directory of the store is something else.
    #[error("store directory {} is not a directory", show(.path))]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// A directory of the store belongs to someone else.
    #[error("store directory {} belongs to user {owner}: expected {user}; run `chown -R {user} {}`", show(.path), show(.path))]
    WrongOwner {
        /// The directory.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// Others can write to a directory of the store.
    #[error("store directory {} can be written by others (mode {mode:04o}): run `chmod go-w {}`", show(.path), show(.path))]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The device is full or the quota used up.
    #[error("can't {action} {}: no space left", show(.path))]
    DiskFull {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error("can't {action} {}: the file system is read-only", show(.path))]
    ReadOnly {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Permission is missing.
    #[error("can't {action} {}: permission denied", show(.path))]
    Denied {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Any other failure of the operating system.
    #[error("can't {action} {}", show(.path))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The source of some bytes failed while they were read.
    #[error("can't read blob {digest} from its source")]
    Read {
        /// The blob.
        digest: Digest,
        /// The reader's error.
        source: io::Error,
    },
    /// The caller's closure failed to unpack.
    #[error("can't unpack {id}")]
    Unpack {
        /// The tree.
        id: Digest,
        /// The closure's error.
        source: io::Error,
    },
    /// An unpacked tree holds something other than files and directories.
    #[error("unpacked tree has {}, which is {what}: expected only regular files and directories", show(.path))]
    UnsupportedFileType {
        /// The entry.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// An engine's name can't be a directory's.
    #[error("engine id \"{}\" can't name a directory: expected 1 to 128 letters, digits, `.`, `_`, `-`", escape(.0))]
    InvalidEngineId(String),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// A store outside this crate failed (an archive, a registry).
    #[error("can't {action}")]
    Other {
        /// What was attempted, on what.
        action: String,
        /// Why it failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// A path, made safe to show.
pub(crate) fn show(path: &Path) -> String {
    escape(&path.to_string_lossy()).to_string()
}

impl StoreError {
    /// An error of the operating system, sorted by what can be done about it.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> StoreError {
        let path = path.to_path_buf();
        match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT) => StoreError::DiskFull { action, path, source },
            Some(Errno::ROFS) => StoreError::ReadOnly { action, path, source },
            Some(Errno::ACCESS | Errno::PERM) => StoreError::Denied { action, path, source },
            _ => StoreError::Io { action, path, source },
        }
    }

    /// Takes a store's error out of the I/O error that carried it through a reader or writer;
    /// returns any other I/O error unchanged.
    pub fn from_io(error: io::Error) -> Result<StoreError, io::Error> {
        error.downcast::<StoreError>()
    }

    /// An error met while reading the content of `digest`.
    pub fn reading(digest: &Digest, error: io::Error) -> StoreError {
        StoreError::from_io(error).unwrap_or_else(|source| StoreError::Read {
            digest: *digest,
            source,
        })
    }

    /// Whether nothing can be written here: a read-only file system, or
    /// permission is missing.
    pub fn is_unwritable(&self) -> bool {
        matches!(self, StoreError::ReadOnly { .. } | StoreError::Denied { .. })
    }

    /// Whether the file system has no room for what was to be written.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::DiskFull { .. } | StoreError::InsufficientSpace { .. })
    }

    /// Whether the content itself is wrong, whatever the machine's state.
    pub fn is_content_error(&self) -> bool {
        matches!(
            self,
            StoreError::WrongSize { .. }
                | StoreError::WrongDigest { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Manifest { .. }
                | StoreError::Mismatch { .. }
        )
    }
}

impl From<StoreError> for io::Error {
    /// Keeps the kind of the system's error; wrong content is `InvalidData`.
    fn from(error: StoreError) -> io::Error {
        let kind = match &error {
            StoreError::DiskFull { source, .. }
            | StoreError::ReadOnly { source, .. }
            | StoreError::Denied { source, .. }
            | StoreError::Io { source, .. }
            | StoreError::Read { source, .. } => source.kind(),
            StoreError::NotFound { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_read_only_and_denied_are_distinguished() {
        let of = |errno: Errno| StoreError::io("write", Path::new("x"), errno.into());
        assert!(matches!(of(Errno::NOSPC), StoreError::DiskFull { .. }));
        assert!(matches!(of(Errno::DQUOT), StoreError::DiskFull { .. }));
        assert!(matches!(of(Errno::ROFS), StoreError::ReadOnly { .. }));
        assert!(matches!(of(Errno::ACCESS), StoreError::Denied { .. }));
        assert!(matches!(of(Errno::IO), StoreError::Io { .. }));
    }

    #[test]
    fn store_error_round_trips_through_io_error() {
        let inner = StoreError::io("write", Path::new("a\u{1b}b"), Errno::NOSPC.into());
        let back = StoreError::from_io(io::Error::from(inner)).expect("ours");
        assert_eq!(back.to_string(), "can't write a\\u{1b}b: no space left");
        assert!(StoreError::from_io(io::Error::other("x")).is_err());
    }
}
