//! The configuration of a remote tree, and what its user provides to it.
//!
//! Nothing here opens a connection. The crate uses no clock, no resolver and, except for
//! the location of certificates, no environment of its own: all of that comes through
//! [`Host`].

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::error::Error;
use crate::protocol::Protocol;
use crate::url::{self, Base};

/// A remote tree and how it is used.
#[derive(Clone)]
pub struct Config {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its root: `http` or `https`, without user, query or fragment. For S3 the bucket
    /// is the first part of the path; at `BUCKET.s3.REGION.amazonaws.com` it is in the
    /// host. `s3://BUCKET/PREFIX` stands for the latter.
    pub url: String,
    /// Whether the guest may change it.
    pub writable: bool,
    /// Certificates to trust in addition to the system's, in PEM. The environment can say
    /// where the system's are (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
    pub certificates: Vec<Vec<u8>>,
    /// Whether credentials are sent to other hosts without encryption. On loopback, they
    /// always are.
    pub allow_plain_credentials: bool,
    /// Its limits.
    pub limits: Limits,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL that is refused may have a password in it.
        f.debug_struct("Config")
            .field("protocol", &self.protocol)
            .field("url", &url::shown(&self.url))
            .field("writable", &self.writable)
            .field("certificates", &self.certificates.len())
            .field("allow_plain_credentials", &self.allow_plain_credentials)
            .field("limits", &self.limits)
            .finish()
    }
}

impl Config {
    /// Host and port of all connections, which the permissions of a run must allow.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if the URL can't be one of such a tree.
    pub fn endpoint(&self) -> Result<(String, u16), Error> {
        let base = Base::parse(&self.url, &self.protocol)?;
        Ok((base.host().to_string(), base.port()))
    }
}

/// Limits of one [`crate::NetFs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum bytes of fetched content in the private directory.
    pub bytes: u64,
    /// Maximum bytes of one file, read or written.
    pub file_bytes: u64,
    /// Maximum number of known paths, directories included.
    pub files: usize,
    /// Maximum number of entries of one directory.
    pub entries: usize,
    /// Maximum bytes of content in the persistent cache; beyond that, the oldest is
    /// removed.
    pub cache_bytes: u64,
    /// How long the server may send nothing.
    pub timeout: Duration,
    /// How long the server's answer about a path is valid.
    pub refresh: Duration,
    /// How long to wait before an unreachable server is tried again.
    pub outage: Duration,
    /// When a failed request is retried.
    pub retry: RetryPolicy,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bytes: 1 << 30,
            file_bytes: 256 << 20,
            files: 100_000,
            entries: 10_000,
            cache_bytes: 1 << 30,
            timeout: Duration::from_secs(30),
            refresh: Duration::from_secs(10),
            outage: Duration::from_secs(15),
            retry: RetryPolicy::default(),
        }
    }
}

/// How often, and after which delays, a failed request is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// The delay before the second attempt; each later delay is twice as long.
    pub backoff: Duration,
    /// The longest delay, whether computed or requested by the server.
    pub max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            retries: 4,
            backoff: Duration::from_millis(500),
            max_wait: Duration::from_secs(20),
        }
    }
}

/// What a run provides to its file system. Methods are called from any thread.
pub trait Host: Send + Sync {
    /// The addresses that a connection may go to. This is the only source of addresses:
    /// no other is ever connected to, and an address in the URL is resolved like a name.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] if no connection is allowed, or the name is not known.
    fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError>;

    /// The time, for the signatures of S3 and the order of the cache.
    fn now(&self) -> SystemTime;

    /// Waits before another attempt. False if there should be none, for example because
    /// the run was ended from outside.
    fn wait(&self, duration: Duration) -> bool;

    /// Reports something that the user should know, in one line.
    fn notice(&self, message: &str);
}

/// Why there is no address to connect to.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ResolveError {
    /// The permissions of the run don't allow it.
    #[error("the permissions of this run don't allow it")]
    Denied,
    /// No such host.
    #[error("no such host")]
    NotFound,
    /// The name server did not answer.
    #[error("the name server did not answer")]
    Unavailable,
}
