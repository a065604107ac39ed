//! Why a representation can't be decoded.

use std::io;

use qyvol_types::Digest;
use thiserror::Error;

/// Why a representation was not decoded. Its target is fetched as it is then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The source failed.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// The sink failed.
    #[error("writing what was decoded failed: {0}")]
    Write(#[source] io::Error),
    /// Bytes that are no frame of a representation.
    #[error("zstd frame at byte {at} {why}")]
    Frame {
        /// Where the frame begins in the representation.
        at: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A frame with more or less content than is due.
    #[error("zstd frame at byte {at} has {got} bytes of content, expected {expected}")]
    FrameContent {
        /// Where the frame begins in the representation.
        at: u64,
        /// Bytes that are due.
        expected: u64,
        /// Bytes that it declares.
        got: u64,
    },
    /// zstd refuses a frame.
    #[error("zstd frame at byte {at} is damaged, or made with another base: {why}")]
    Damaged {
        /// Where the frame begins in the representation.
        at: u64,
        /// What zstd says.
        why: &'static str,
    },
    /// The representation ends early.
    #[error("representation is cut short at byte {at}")]
    Cut {
        /// Bytes that were read.
        at: u64,
    },
    /// The representation goes on after the last frame, or is not as long as the list says.
    #[error("last frame of the representation ends at byte {at}, expected {size}")]
    Trailing {
        /// Where the last frame ends.
        at: u64,
        /// Its size by the list.
        size: u64,
    },
    /// What was decoded is something else.
    #[error("representation decodes to {got}, expected {expected}")]
    OtherTarget {
        /// Digest of the target.
        expected: Digest,
        /// Digest of what was decoded.
        got: Digest,
    },
    /// A base that is not what its descriptor says, or not the one that the patch needs.
    #[error("base of a patch is {got}, expected {expected}")]
    OtherBase {
        /// What is needed.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A size beyond the bounds of `spec/encodings.md`.
    #[error("{what} has {got} bytes: at most {limit}")]
    Limit {
        /// What is too large.
        what: &'static str,
        /// Its size.
        got: u64,
        /// The bound.
        limit: u64,
    },
    /// Memory that could not be had.
    #[error("no memory for {bytes} bytes")]
    Memory {
        /// How much was asked for.
        bytes: u64,
    },
}
