//! What went wrong with a registry, sorted by whether trying again may help.

use std::error::Error;
use std::io;

use qyvol_store::StoreError;
use thiserror::Error;

/// A failed conversation with a registry.
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
        /// Whether it may be another time.
        temporary: bool,
    },
    /// No byte came for too long, or too few.
    #[error("{host} stopped answering: {why}")]
    TimedOut {
        /// Host and port.
        host: String,
        /// What was waited for.
        why: String,
    },
    /// The server's certificate is not one to trust.
    #[error("can't connect to {host} securely: {why}")]
    Tls {
        /// Host and port.
        host: String,
        /// What is wrong.
        why: String,
    },
    /// The registry wants other credentials, or any.
    #[error("{host} refused access to {what}: {why}")]
    Denied {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// Its words, or the status.
        why: String,
        /// Whether credentials were sent.
        known: bool,
    },
    /// The registry answered with an error.
    #[error("{host} answered {status} to {what}{}", detail(.why))]
    Status {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Its words; may be empty.
        why: String,
    },
    /// It asks for more patience than was given.
    #[error("{host} asks to wait {seconds} s before {what} is tried again")]
    Busy {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// What was asked for is not there.
    #[error("{what} is not on {host}")]
    NotFound {
        /// Host and port.
        host: String,
        /// What was asked for.
        what: String,
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
        /// Where to, and why not.
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
    /// The client can't be set up as it was asked to be.
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
    /// Whether the same may succeed at another time.
    pub fn is_temporary(&self) -> bool {
        match self {
            RemoteError::Unreachable { temporary, .. } => *temporary,
            RemoteError::TimedOut { .. } | RemoteError::Busy { .. } => true,
            RemoteError::Status { status, .. } => is_temporary_status(*status),
            _ => false,
        }
    }

    /// Finds the registry's error in what a store made of it.
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

    pub(crate) fn store(self, action: impl Into<String>) -> StoreError {
        StoreError::Other {
            action: action.into(),
            source: Box::new(self),
        }
    }
}

/// Statuses of a registry, or of what stands before it, that pass (RFC 9110
/// section 15; RFC 6585 section 4).
pub(crate) fn is_temporary_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}
