//! From a representation to the bytes of its target.
//!
//! Every frame is in memory as a whole, is decoded in one call into a buffer of its content
//! size, and may refer to the base and to its own content alone.

use std::io::{self, Read};

use qyvol_types::Hasher;
use zstd::zstd_safe::DCtx;

use crate::frame::{Frames, reserve};
use crate::{BASE_BYTES, Blob, DecodeError, FRAME_BYTES, Representation, TARGET_BYTES};

/// Where decoded bytes go. A sink that is dropped without being finished must leave nothing
/// behind: what was written to it is not verified.
pub trait Sink {
    /// What a finished sink becomes.
    type Finished;
    /// Takes more bytes, not verified yet.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Keeps what was written: it is the target.
    fn finish(self) -> io::Result<Self::Finished>;
}

/// Bytes in memory.
impl Sink for Vec<u8> {
    type Finished = Vec<u8>;

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.try_reserve(bytes.len())?;
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        Ok(self)
    }
}

/// The base of a patch, read and checked against its digest.
#[derive(Clone)]
pub struct Base {
    blob: Blob,
    bytes: Vec<u8>,
}

impl Base {
    /// Reads exactly `blob` from `from`. What it is read from may be on a disk where it changed
    /// since it was verified: it is hashed again.
    pub fn read(from: impl Read, blob: Blob) -> Result<Base, DecodeError> {
        limit("base of a patch", blob.size, BASE_BYTES)?;
        let mut bytes = Vec::new();
        // A byte more shows that the source is longer.
        reserve(&mut bytes, blob.size + 1)?;
        from.take(blob.size + 1)
            .read_to_end(&mut bytes)
            .map_err(DecodeError::Read)?;
        let mut hasher = Hasher::new(blob.digest.algorithm());
        hasher.update(&bytes);
        let got = Blob {
            digest: hasher.finish(),
            size: bytes.len() as u64,
        };
        if got != blob {
            return Err(other_base(blob, &got.to_string()));
        }
        Ok(Base { blob, bytes })
    }

    /// What it is.
    pub fn blob(&self) -> Blob {
        self.blob
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Decodes one representation into `sink`, and finishes it if what was decoded is the target.
/// On any error the sink is dropped.
pub fn decode<S: Sink>(
    representation: &Representation,
    from: impl Read,
    base: Option<&Base>,
    mut sink: S,
) -> Result<S::Finished, DecodeError> {
    let Representation { target, encoding, blob } = representation;
    limit("target", target.size, TARGET_BYTES)?;
    let base = match (encoding.base(), base) {
        (None, _) => None,
        (Some(needed), Some(base)) if base.blob == needed => Some(base),
        (Some(needed), Some(base)) => return Err(other_base(needed, &base.blob.to_string())),
        (Some(needed), None) => return Err(other_base(needed, "absent")),
    };
    let largest = target.size.min(FRAME_BYTES);
    let mut frames = Frames::new(from, blob.size, largest)?;
    let mut content = Vec::new();
    reserve(&mut content, largest)?;
    let mut decoder = DCtx::try_create().ok_or(DecodeError::Memory { bytes: 0 })?;
    let mut hasher = Hasher::new(target.digest.algorithm());
    while hasher.length() < target.size {
        let due = (target.size - hasher.length()).min(FRAME_BYTES);
        let at = frames.at();
        let frame = frames.next(due)?;
        let damaged = |why| DecodeError::Damaged { at, why };
        let refused = |code| damaged(zstd::zstd_safe::get_error_name(code));
        if let Some(base) = base {
            // zstd forgets the prefix after each frame.
            decoder.ref_prefix(base.bytes()).map_err(refused)?;
        }
        content.clear();
        let decoded = decoder.decompress(&mut content, frame).map_err(refused)?;
        if decoded as u64 != due {
            return Err(damaged("its content is shorter than it declares"));
        }
        hasher.update(&content);
        sink.write(&content).map_err(DecodeError::Write)?;
    }
    frames.end()?;
    let got = hasher.finish();
    if got != target.digest {
        return Err(DecodeError::OtherTarget {
            expected: target.digest,
            got,
        });
    }
    sink.finish().map_err(DecodeError::Write)
}

fn other_base(expected: Blob, got: &str) -> DecodeError {
    DecodeError::OtherBase {
        expected: expected.to_string(),
        got: got.to_string(),
    }
}

fn limit(what: &'static str, got: u64, limit: u64) -> Result<(), DecodeError> {
    if got > limit {
        return Err(DecodeError::Limit { what, got, limit });
    }
    Ok(())
}
