//! Qyvol's content-addressed stores and the copy between them.
//!
//! Everything is a store of blobs addressed by descriptor, and moving an image
//! is one [`copy()`]. This crate holds the traits that a store implements
//! ([`Fetch`], [`Exists`], [`Push`], [`Referrers`]), the reader that checks
//! size and digest while bytes pass ([`VerifyReader`]), a store in memory
//! ([`MemoryStore`]) and the one on disk ([`LocalStore`]).
//!
//! ```text
//!   Fetch + Referrers --copy()--> Exists + Push
//!   archive, store, registry      store, registry
//! ```
//!
//! Invariants:
//! - bytes read through [`Fetch::fetch`] match the descriptor, or the reader fails before it
//!   returns the last of them;
//! - nothing becomes visible in a [`LocalStore`] before it is complete, hashed and on disk, and
//!   a name only ever points to a complete image;
//! - every path in a store is made from a parsed digest or from the digest of
//!   a name, never from text that crossed a wire;
//! - nothing here follows a symbolic link below the store's own directory.
//!
//! Deliberately absent: trust (the store keeps signatures as referrers and
//! does not judge them), networks, archives, unpacking (the caller passes a
//! closure), clocks, environment and output. The rules are in `spec/store.md`.

mod copy;
mod error;
mod local;
mod memory;
mod record;
mod sys;
mod traits;
mod verify;

pub use copy::{CopyError, ReferrerFilter, copy, copy_graph, copy_referrers};
pub use error::StoreError;
pub use local::{
    BlobWriter, Damage, Ingest, LocalStore, Notice, PruneItem, PruneKind, PrunePlan, Pruned, RunLock, Spooled, Tree,
};
pub use memory::MemoryStore;
pub use traits::{Body, Exists, Fetch, NoopReporter, Open, Push, Referrers, Reporter};
pub use verify::VerifyReader;
