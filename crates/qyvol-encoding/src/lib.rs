//! Smaller representations of an image's blobs, as `spec/encodings.md` defines them: the list
//! of them, which one to fetch, how they are made and decoded.
//!
//! ```text
//!   blob, perhaps with a base --encode--> representation, listed by digest and size
//!   list + what the host has  --plan----> the cheapest way to the blob
//!   representation, base      --decode--> bytes --digest is the target's?--> blob
//! ```
//!
//! Invariants:
//! - nothing that comes from outside is trusted: decoded bytes reach a [`Sink`] as unverified,
//!   and only a sink that was given exactly the target's bytes is finished ([`decode`]);
//! - memory is bounded before it is taken: a base of at most [`BASE_BYTES`], which is read and
//!   never mapped, and two buffers of about [`FRAME_BYTES`];
//! - a patch's base is what the host has already, so there are no chains and no cycles
//!   ([`plan`]).
//!
//! Deliberately absent: registries, the store and files. What a blob is read from and where
//! decoded bytes go, the caller says.

mod artifact;
mod decode;
mod encode;
mod error;
mod frame;
mod list;
mod plan;

use std::fmt;

use qyvol_types::Digest;
use serde::{Deserialize, Serialize};

pub use artifact::{ArtifactError, artifact, list_of};
pub use decode::{Base, Sink, decode};
pub use encode::{Effort, EncodeError, encode};
pub use error::DecodeError;
pub use list::{List, ListError};
pub use plan::{Has, Size, Wanted, Way, plan};

/// Content of each frame but the last, in bytes.
pub const FRAME_BYTES: u64 = 16 << 20;
/// The largest base of a patch, in bytes. It is held in memory while the patch is decoded.
pub const BASE_BYTES: u64 = 256 << 20;
/// The largest target, in bytes.
pub const TARGET_BYTES: u64 = qyvol_types::limits::ENTRY_BYTES;
/// The largest list, in bytes of its JSON.
pub const LIST_BYTES: u64 = 256 << 10;
/// Most representations in a list.
pub const ENTRIES: usize = 256;

/// Some bytes by their digest and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    /// Digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

impl Blob {
    /// The blob that `bytes` are.
    pub fn of(bytes: &[u8]) -> Blob {
        Blob {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        }
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.digest, self.size)
    }
}

/// How a blob represents its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Compressed.
    Zstd,
    /// Compressed with the base as what came before.
    ZstdPatch {
        /// What the host must have.
        base: Blob,
    },
}

impl Encoding {
    /// Its name in a list.
    pub fn name(&self) -> &'static str {
        match self {
            Encoding::Zstd => "zstd",
            Encoding::ZstdPatch { .. } => "zstd-patch",
        }
    }

    /// The base that it needs, if any.
    pub fn base(&self) -> Option<Blob> {
        match self {
            Encoding::Zstd => None,
            Encoding::ZstdPatch { base } => Some(*base),
        }
    }
}

/// One blob that decodes to another. It is a claim until [`decode`] has held it against the
/// target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Representation {
    /// What it decodes to.
    pub target: Blob,
    /// How.
    pub encoding: Encoding,
    /// What is fetched.
    pub blob: Blob,
}

/// Whether `fetched` bytes instead of `plain` save a third.
pub fn saves_a_third(fetched: u64, plain: u64) -> bool {
    u128::from(fetched) * 3 <= u128::from(plain) * 2
}
