//! Registries of the OCI distribution-spec 1.1 as stores.
//!
//! A [`Repository`] is a store like a file or a folder: moving an image there
//! or back is the same [`qyvol_store::copy()`]. What is special about a network
//! is here: access tokens, patience, trying again, going on where a transfer
//! broke off, mounting, lists of referrers that a registry may not keep.
//!
//! Invariants:
//! - nothing is trusted for its origin: every blob is hashed by whoever reads
//!   it, and a tag is asked for once and is a digest from then on;
//! - credentials go to the registry that they are for and to the token server
//!   that it names, encrypted unless the operator said otherwise for that host;
//! - whatever the other side sends, memory stays bounded, and time too;
//! - making a [`Client`] or [`Repository`] opens no connection.
//!
//! Deliberately absent: images of several platforms (an index under a tag is
//! refused), the catalogue, and the environment, which the command reads.

mod auth;
mod client;
mod credentials;
mod download;
mod error;
mod helper;
mod options;
mod referrers;
mod repository;
mod token;
mod transport;
mod tries;
mod upload;
mod url;

pub use client::{Client, Tell};
pub use credentials::{
    Anonymous, Credential, CredentialFiles, Credentials, Fixed, Secret, erase_credentials, store_credentials,
};
pub use error::RemoteError;
pub use options::Options;
pub use repository::{Access, Repository, ping};
pub(crate) use upload::Upload;
