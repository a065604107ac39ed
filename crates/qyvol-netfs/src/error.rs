//! Why a tree could not be mounted, used or written back.
//!
//! Programs decide by the [`ErrorKind`]; the messages are for people. Text from the
//! server is escaped and limited in length.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a [`crate::NetFs`] can't be created. Nothing has been sent yet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL can't be the root of such a tree.
    #[error("the URL of the tree, {url}, can't be used: {why}")]
    Url {
        /// As it was given, escaped, without user, query and fragment.
        url: String,
        /// What is wrong, and what it should be.
        why: String,
    },
    /// The credentials don't fit.
    #[error("the credentials of the tree can't be used: {0}")]
    Credentials(String),
    /// The certificates can't be read.
    #[error("the certificates for the tree can't be used: {0}")]
    Certificates(String),
    /// A directory that was given can't be used.
    #[error("{what} can't be used: {error}")]
    Directory {
        /// Which.
        what: String,
        /// Why.
        error: io::Error,
    },
}

/// What an error means to a program, and the POSIX error that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is nothing at the path (`ENOENT`).
    NotFound,
    /// The server, or the permissions of the run, don't allow it (`EACCES`).
    Access,
    /// A part of the path is not a directory (`ENOTDIR`).
    NotADirectory,
    /// The tree is not writable (`EROFS`).
    ReadOnly,
    /// A limit of the mount, or the space here or there, is used up (`ENOSPC`).
    NoSpace,
    /// One file, or one listing, is over its limit (`EFBIG`).
    TooLarge,
    /// Not a valid path (`EINVAL`).
    InvalidPath,
    /// A symbolic link, which is not followed (`ELOOP`).
    Link,
    /// A directory with remote content can't be renamed as a whole: copy and remove it
    /// (`EXDEV`).
    CrossDevice,
    /// The server no longer has what the guest saw; nothing was overwritten (`ESTALE`).
    Conflict,
    /// The server took too long (`ETIMEDOUT`).
    TimedOut,
    /// The server can't be reached (`EHOSTUNREACH`).
    Unreachable,
    /// Everything else (`EIO`).
    Io,
}

/// A use of the tree that failed.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct FsError {
    kind: ErrorKind,
    message: String,
    /// The server gave no usable response.
    is_outage: bool,
    /// It would give none for other paths either.
    is_server_away: bool,
}

impl FsError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> FsError {
        FsError {
            kind,
            message: message.into(),
            is_outage: false,
            is_server_away: false,
        }
    }

    /// The kind of error, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn outage(kind: ErrorKind, message: impl Into<String>) -> FsError {
        FsError {
            is_outage: true,
            ..FsError::new(kind, message)
        }
    }

    /// The same, if the server as a whole is unreachable.
    pub(crate) fn server_away(self) -> FsError {
        FsError {
            is_server_away: self.is_outage,
            ..self
        }
    }

    pub(crate) fn is_server_away(&self) -> bool {
        self.is_server_away
    }

    /// Whether a cached copy may be used instead.
    pub(crate) fn is_outage(&self) -> bool {
        self.is_outage
    }

    /// An error on this machine.
    pub(crate) fn local(what: &str, error: &io::Error) -> FsError {
        let kind = match error.kind() {
            _ if rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::LOOP) => ErrorKind::Link,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::FileTooLarge => ErrorKind::TooLarge,
            io::ErrorKind::NotADirectory => ErrorKind::NotADirectory,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        FsError::new(kind, format!("{what}: {error}"))
    }
}

/// A failed attempt, and whether to try again.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: FsError,
    pub(crate) retry: Retry,
}

/// Whether to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    Never,
    Usual,
    After(Duration),
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Failure {
        Failure {
            error,
            retry: Retry::Never,
        }
    }
}

impl Failure {
    /// A failure that may be temporary.
    pub(crate) fn temporary(error: FsError) -> Failure {
        Failure {
            error,
            retry: Retry::Usual,
        }
    }
}

/// What was to be done on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file's content was to be sent.
    Write,
    /// A directory was to be made.
    MakeDirectory,
    /// A file or directory was to be removed.
    Remove,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Write => "write",
            Change::MakeDirectory => "make directory",
            Change::Remove => "remove",
        })
    }
}

/// One change that the server did not take.
#[derive(Clone, Debug, Error)]
#[error("can't {change} {path}: {error}{}", Kept(.kept.as_ref()))]
pub struct FlushFailure {
    /// The path in the tree.
    pub path: String,
    /// What was to be done there.
    pub change: Change,
    /// Why it was not; [`ErrorKind::Conflict`] if the server has something else.
    pub error: FsError,
    /// Where the local content is kept, if it was a file and there is a cache directory.
    pub kept: Option<PathBuf>,
}

struct Kept<'a>(Option<&'a PathBuf>);

impl fmt::Display for Kept<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "; what the application wrote is kept in {}", path.display()),
            None => Ok(()),
        }
    }
}

/// The changes that could not be sent. All others were.
#[derive(Clone, Debug)]
pub struct FlushError {
    /// At least one, in the order of the tree.
    pub failures: Vec<FlushFailure>,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, failure) in self.failures.iter().enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FlushError {}
