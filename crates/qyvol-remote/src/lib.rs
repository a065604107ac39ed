//! Registries of the OCI distribution-spec 1.1 as stores.
//!
//! A [`Repository`] is a store like a file or a directory: moving an image
//! there or back is the same [`qyvol_store::copy()`]. What is special about a network is here,
//! in layers, each of which uses the ones below it:
//!
//! - [`Repository`]: manifests, blobs, referrers, tags;
//! - [`Client`]: a request with its authorisation, redirects and retries;
//! - `auth`: which `Authorization` field is sent to an endpoint;
//! - `transport`: one HTTP request, proxies, certificates, time limits;
//! - `endpoint`, `retry`, [`Options`]: values that decide where, how often and
//!   how.
//!
//! ```text
//!   Repository --> Client --> auth, retry --> transport --> registry
//! ```
//!
//! Invariants:
//! - nothing is trusted for its origin: the reader hashes every blob, and a tag is resolved
//!   once and is a digest from then on;
//! - credentials are sent to the registry that they are for and to the token server that it
//!   names, encrypted unless the operator configured plain HTTP for that host;
//! - whatever the other side sends, memory and time stay bounded;
//! - making a [`Client`] or [`Repository`] opens no connection.
//!
//! Artifacts of other tools can be read too: see `repository::foreign`, which streams layers
//! through those tools' client.
//!
//! Deliberately absent: images of several platforms of ours (an index under a
//! tag is refused), and the environment, which the command reads.

mod auth;
mod client;
mod credentials;
mod endpoint;
mod error;
mod hosts;
mod options;
mod repository;
mod request;
mod retry;
mod transport;
mod url;

pub use client::Client;
pub use credentials::{
    Anonymous, Credential, CredentialFiles, Credentials, Secret, StaticCredential, erase_credentials, store_credentials,
};
pub use endpoint::Access;
pub use error::{Class, Operation, RemoteError, TlsFailure};
pub use hosts::{HostEntry, parse_hosts};
pub use options::{HostOptions, Options};
#[cfg(feature = "import")]
pub use repository::FetchedManifest;
pub use repository::{Mounts, Repository};
pub use retry::{Notify, RetryPolicy};
pub use transport::{count_system_certificates, shown_proxy};
