//! What the operator decides of a remote tree, and what its user lends it.
//!
//! Nothing here opens a connection. But for where certificates are, the crate reads no
//! clock, no environment and no
//! resolver of its own: all of that comes through [`Host`].

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::error::Error;
use crate::url::{self, Base};

/// How the tree is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP (RFC 9110): `HEAD`, `GET`, and to write `PUT` and `DELETE`. It can't
    /// be listed, and its directories are taken for granted.
    Http,
    /// WebDAV (RFC 4918), class 1.
    WebDav,
    /// Amazon S3's REST interface, or what speaks it.
    S3 {
        /// The region that requests are signed for, such as `eu-west-1`.
        region: String,
    },
}

/// A remote tree and how it is used.
#[derive(Clone)]
pub struct Config {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Its root: `http` or `https`, without user, query or fragment. For S3 the bucket
    /// is the first part of the path; at `BUCKET.s3.REGION.amazonaws.com` it is in the
    /// host. `s3://BUCKET/PREFIX` stands for the latter.
    pub url: String,
    /// Whether the guest may change it.
    pub writable: bool,
    /// Certificates to trust beside the system's, PEM. The system's are where it has them,
    /// or where the environment says (`SSL_CERT_FILE`, `SSL_CERT_DIR`).
    pub certificates: Vec<Vec<u8>>,
    /// Sends credentials unencrypted to another host too. Loopback always gets them.
    pub allow_plain_credentials: bool,
    /// What bounds it.
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
    /// Host and port that connections go to: what the permissions of a run must allow.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if the URL can't be one of such a tree.
    pub fn endpoint(&self) -> Result<(String, u16), Error> {
        let base = Base::parse(&self.url, &self.protocol)?;
        Ok((base.host().to_string(), base.port()))
    }
}

/// Bounds of one [`crate::NetFs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of fetched content that the private directory holds at most.
    pub bytes: u64,
    /// Bytes of one file at most, read or written.
    pub file_bytes: u64,
    /// Paths that are known at once at most, directories included.
    pub files: usize,
    /// Entries of one directory at most.
    pub entries: usize,
    /// Bytes of content in the persistent cache, beyond which the oldest goes.
    pub cache_bytes: u64,
    /// How long the server may be silent.
    pub timeout: Duration,
    /// How long what the server said of a path holds before it is asked again.
    pub refresh: Duration,
    /// After how long a server that was unreachable is tried again.
    pub outage: Duration,
    /// When a failed request is made again.
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

/// How often, and after which waits, a failed request is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// The wait before the second attempt; each later wait is twice as long.
    pub backoff: Duration,
    /// The longest wait, computed or asked for by the server.
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

/// What a run lends to its file system. Methods are called from any thread.
pub trait Host: Send + Sync {
    /// Where a connection may go. The only source of addresses: one that is not in the
    /// answer is never dialled, and an address in the URL is asked about like a name.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] if it may go nowhere, or the name is not known.
    fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError>;

    /// The time: signatures of S3 have it, and the cache orders by it.
    fn now(&self) -> SystemTime;

    /// Waits before another attempt; false if none is to be made, as when the run was
    /// ended from outside.
    fn wait(&self, duration: Duration) -> bool;

    /// Something that the user should know, in one line.
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
