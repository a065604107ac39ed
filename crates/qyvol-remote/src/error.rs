//! Why an operation on a registry failed.
//!
//! Everything that a caller may decide on is data: the [`Operation`], the [`Class`], the
//! status, the kind of TLS failure. Message texts are only for people.

use std::error::Error;
use std::{fmt, io};

use qyvol_store::StoreError;
use qyvol_types::Digest;
use thiserror::Error;

/// An operation on a registry. Displayed as an infinitive: `read manifest 1.0.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// `GET /v2/`: is this a registry, and are the credentials accepted?
    Ping,
    /// Fetching an access token from the token server that the registry names.
    FetchToken,
    /// Reading a manifest by tag or digest.
    ReadManifest(String),
    /// Writing a manifest by tag or digest.
    WriteManifest(String),
    /// Deleting a tag alone.
    DeleteTag(String),
    /// Deleting a manifest with all of its tags.
    DeleteManifest(Digest),
    /// Asking whether a blob or manifest is there.
    Find(Digest),
    /// Reading a blob.
    ReadBlob(Digest),
    /// Writing a blob, in one of the requests that it takes.
    WriteBlob(Digest),
    /// Listing what refers to a manifest.
    ListReferrers(Digest),
    /// Listing the tags of a repository.
    ListTags(String),
    /// Listing the repositories of the registry.
    ListRepositories,
}

impl Operation {
    /// What the operation is about, as a noun.
    fn subject(&self) -> String {
        match self {
            Operation::Ping => "the registry API".to_string(),
            Operation::FetchToken => "an access token".to_string(),
            Operation::ReadManifest(name) | Operation::WriteManifest(name) => format!("manifest {name}"),
            Operation::DeleteTag(tag) => format!("tag {tag}"),
            Operation::DeleteManifest(digest) => format!("manifest {digest}"),
            Operation::Find(digest) => digest.short(),
            Operation::ReadBlob(digest) | Operation::WriteBlob(digest) => format!("blob {}", digest.short()),
            Operation::ListReferrers(digest) => format!("the list of referrers of {}", digest.short()),
            Operation::ListTags(repository) => format!("repository {repository}"),
            Operation::ListRepositories => "the catalog of repositories".to_string(),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Operation::Ping => "check",
            Operation::FetchToken => "issue",
            Operation::ReadManifest(_)
            | Operation::ReadBlob(_)
            | Operation::ListReferrers(_)
            | Operation::ListRepositories => "read",
            Operation::WriteManifest(_) | Operation::WriteBlob(_) => "write",
            Operation::DeleteTag(_) | Operation::DeleteManifest(_) => "delete",
            Operation::Find(_) => "look for",
            Operation::ListTags(_) => "list the tags of",
        };
        write!(f, "{verb} {}", self.subject())
    }
}

/// Why a TLS connection could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFailure {
    /// No trusted authority issued the server's certificate.
    UnknownIssuer,
    /// The server presents the certificate of an authority as its own.
    CaUsedAsServer,
    /// The server does not speak TLS on that port.
    NotTls,
    /// Anything else: expired, another name, a broken handshake.
    Other,
}

/// Errors by what can be done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The command or its configuration must change.
    Usage,
    /// Something on this host failed, such as a file of credentials.
    Local,
    /// The same request may succeed at another time.
    Temporary,
    /// The same request will fail again.
    Permanent,
}

/// A failed request to a registry.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// No answer came, or the connection broke.
    #[error("can't reach {host}: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What happened.
        why: String,
        /// Whether it may work at another time.
        temporary: bool,
    },
    /// No bytes came for too long, or too few.
    #[error("gave up on {host}: {why}")]
    TimedOut {
        /// Host and port.
        host: String,
        /// What was waited for.
        why: String,
    },
    /// No secure connection could be made.
    #[error("can't connect to {host} securely: {why}")]
    Tls {
        /// Host and port.
        host: String,
        /// The kind of failure.
        failure: TlsFailure,
        /// The details.
        why: String,
    },
    /// The answer is not HTTP.
    #[error("{host} sent an answer that is not HTTP: {why}")]
    NotHttp {
        /// Host and port.
        host: String,
        /// The details.
        why: String,
    },
    /// The registry requires other credentials, or some.
    #[error("{host} denied access when asked to {operation}: {why}")]
    Denied {
        /// Host and port.
        host: String,
        /// What was asked for.
        operation: Operation,
        /// The registry's message, or the status.
        why: String,
        /// Whether credentials were sent.
        authenticated: bool,
    },
    /// The registry answered with an error.
    #[error("{host} answered {status} when asked to {operation}{}", detail(.why))]
    Status {
        /// Host and port.
        host: String,
        /// What was asked for.
        operation: Operation,
        /// The HTTP status.
        status: u16,
        /// The registry's message; may be empty.
        why: String,
    },
    /// The registry asks to wait longer than [`crate::RetryPolicy::max_wait`].
    #[error("{host} asked us to wait {seconds} s before trying to {operation} again")]
    Busy {
        /// Host and port.
        host: String,
        /// What was asked for.
        operation: Operation,
        /// How long.
        seconds: u64,
    },
    /// What was asked for is not there.
    #[error("{} is not on {host}", .operation.subject())]
    NotFound {
        /// Host and port.
        host: String,
        /// What was asked for.
        operation: Operation,
    },
    /// Other writers kept replacing the list of referrers.
    #[error("can't update the referrers list {tag} on {host}: other clients keep overwriting it")]
    Contended {
        /// Host and port.
        host: String,
        /// The tag of the list.
        tag: String,
    },
    /// An answer that the specification doesn't allow.
    #[error("the registry sent {what}")]
    Protocol {
        /// What was wrong with it.
        what: String,
    },
    /// Credentials would have crossed the network in the clear, or gone to
    /// another host.
    #[error("refused to send credentials: {why}")]
    Unsafe {
        /// Where they would have gone, and why not.
        why: String,
    },
    /// The stored credentials can't be read or written.
    #[error("can't {action} the credentials for {host}: {why}")]
    Credentials {
        /// `read` or `write`.
        action: &'static str,
        /// The registry.
        host: String,
        /// Why.
        why: String,
    },
    /// The name has no registry in it.
    #[error("{0} names no registry: expected HOST/NAME[:TAG]")]
    NoRegistry(String),
    /// The client can't be set up as configured.
    #[error("{0}")]
    Setup(String),
}

fn detail(why: &str) -> String {
    if why.is_empty() {
        String::new()
    } else {
        format!(": {why}")
    }
}

impl RemoteError {
    /// What can be done about it.
    pub fn class(&self) -> Class {
        let temporary = match self {
            RemoteError::NoRegistry(_) | RemoteError::Setup(_) => return Class::Usage,
            RemoteError::Credentials { .. } => return Class::Local,
            RemoteError::Unreachable { temporary, .. } => *temporary,
            RemoteError::TimedOut { .. } | RemoteError::Busy { .. } | RemoteError::Contended { .. } => true,
            RemoteError::Status { status, .. } => is_temporary_status(*status),
            RemoteError::Tls { .. }
            | RemoteError::NotHttp { .. }
            | RemoteError::Denied { .. }
            | RemoteError::NotFound { .. }
            | RemoteError::Protocol { .. }
            | RemoteError::Unsafe { .. } => false,
        };
        if temporary { Class::Temporary } else { Class::Permanent }
    }

    /// Whether the same request may succeed at another time.
    pub fn is_temporary(&self) -> bool {
        self.class() == Class::Temporary
    }

    /// Whether to retry the same request at once: not if the registry asked for a longer wait,
    /// nor after the retries of a contended referrers list.
    pub(crate) fn is_retryable(&self) -> bool {
        self.is_temporary() && !matches!(self, RemoteError::Busy { .. } | RemoteError::Contended { .. })
    }

    /// The HTTP status, if the registry answered with a status and nothing more specific.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            RemoteError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Finds the registry's error in a store's error.
    pub fn of(error: &StoreError) -> Option<&RemoteError> {
        match error {
            StoreError::Other { source, .. } => source.downcast_ref(),
            StoreError::Read { source, .. } => RemoteError::of_io(source),
            _ => None,
        }
    }

    fn of_io(error: &io::Error) -> Option<&RemoteError> {
        let inner: &(dyn Error + 'static) = error.get_ref()?;
        match inner.downcast_ref::<StoreError>() {
            Some(store) => RemoteError::of(store),
            None => inner.downcast_ref(),
        }
    }

    /// As the error of a store that could not `action`.
    pub(crate) fn into_store(self, action: impl Into<String>) -> StoreError {
        StoreError::Other {
            action: action.into(),
            source: Box::new(self),
        }
    }
}

/// Temporary statuses of a registry, or of a proxy before it (RFC 9110 section 15; RFC 6585
/// section 4).
pub(crate) fn is_temporary_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
