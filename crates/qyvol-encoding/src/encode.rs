//! From a target to a representation of it.

use std::io::{self, Read, Write};

use qyvol_types::{Algorithm, Hasher};
use thiserror::Error;
use zstd::zstd_safe::{CCtx, CParameter, get_error_name};

use crate::decode::Base;
use crate::frame::{read_full, reserve};
use crate::{Blob, DecodeError, Encoding, FRAME_BYTES, Representation, TARGET_BYTES};

/// What a representation may cost.
#[derive(Clone, Copy)]
pub struct Effort<'a> {
    /// zstd's compression level, 1 to 22.
    pub level: i32,
    /// Most bytes that the representation may have: beyond, it is not worth keeping.
    pub largest: u64,
    /// Most bytes of memory, the base included.
    pub memory: u64,
    /// Asked before each frame: whether there is time for it.
    pub proceed: &'a dyn Fn() -> bool,
}

/// Why there is no representation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// It would be larger than it may be.
    #[error("representation would be larger than {largest} bytes")]
    NotSmaller {
        /// The bound.
        largest: u64,
    },
    /// There was no time for all of it.
    #[error("encoding ran out of time after {at} of {size} bytes")]
    OutOfTime {
        /// Bytes that were encoded.
        at: u64,
        /// Bytes of the target.
        size: u64,
    },
    /// It would need more memory than it may have.
    #[error("encoding needs {needed} bytes of memory: at most {limit}")]
    Memory {
        /// An estimate, from above.
        needed: u64,
        /// The bound.
        limit: u64,
    },
    /// The target is not what its descriptor says.
    #[error("target is {got}, expected {expected}")]
    OtherTarget {
        /// What was to be encoded.
        expected: String,
        /// What was read.
        got: String,
    },
    /// The source failed.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// The destination failed.
    #[error("writing the representation failed: {0}")]
    Write(#[source] io::Error),
    /// zstd failed.
    #[error("zstd failed: {0}")]
    Zstd(&'static str),
}

/// zstd's parameters for one target.
struct Parameters {
    window: u32,
    /// Of a patch with a base that the tables of the level are too small for.
    long: bool,
}

impl Parameters {
    fn new(content: u64, base: u64) -> Parameters {
        // The window holds base and frame, so that the frame is a single segment.
        let window = (content + base).next_power_of_two().ilog2().clamp(10, 30);
        Parameters {
            window,
            long: base > LONG_FROM,
        }
    }

    /// An estimate of zstd's tables, from above: positions of four bytes each in two tables
    /// whose logarithms are at most that of the window, and entries of eight for long matches.
    fn memory(&self, level: i32) -> u64 {
        let tables = if level < 10 { 22 } else { 26 }.min(self.window);
        (8 << tables) + if self.long { 8 << (self.window - 4) } else { 0 } + (4 << 20)
    }

    fn set(&self, encoder: &mut CCtx<'_>, level: i32) -> Result<(), EncodeError> {
        let mut parameters = vec![
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
            CParameter::WindowLog(self.window),
        ];
        if self.long {
            parameters.extend([
                CParameter::EnableLongDistanceMatching(true),
                CParameter::LdmHashLog(self.window - 4),
                CParameter::LdmMinMatch(32),
            ]);
        }
        for parameter in parameters {
            encoder.set_parameter(parameter).map_err(failed)?;
        }
        Ok(())
    }
}

/// What zstd says when its output has no room left.
const NO_ROOM: &str = "Destination buffer is too small";
/// Bases of more bytes are searched for long matches.
const LONG_FROM: u64 = 1 << 20;

/// Reads `target` from `from` and writes a representation of it, a patch if there is a base.
/// The representation is `to`'s only once it is returned: until then the target may turn out to
/// be another.
pub fn encode(
    mut from: impl Read,
    target: Blob,
    base: Option<&Base>,
    effort: &Effort<'_>,
    mut to: impl Write,
) -> Result<Representation, EncodeError> {
    let content = target.size.min(FRAME_BYTES);
    let base_bytes = base.map_or(0, |base| base.blob().size);
    let parameters = Parameters::new(content, base_bytes);
    let needed = base_bytes + content * 2 + parameters.memory(effort.level);
    let memory = |needed| EncodeError::Memory {
        needed,
        limit: effort.memory,
    };
    if needed > effort.memory || target.size > TARGET_BYTES {
        return Err(memory(needed));
    }
    let none = |error: DecodeError| match error {
        DecodeError::Memory { bytes } => memory(bytes),
        _ => memory(needed),
    };
    let mut encoder = CCtx::try_create().ok_or_else(|| memory(needed))?;
    parameters.set(&mut encoder, effort.level)?;
    let mut input = Vec::new();
    reserve(&mut input, content).map_err(none)?;
    let mut frame = Vec::new();
    // No more room than what is worth keeping: zstd gives up as soon as that is full.
    let room = (zstd::zstd_safe::compress_bound(content as usize) as u64).min(effort.largest);
    reserve(&mut frame, room).map_err(none)?;
    let not_smaller = EncodeError::NotSmaller {
        largest: effort.largest,
    };
    let mut read = Hasher::new(target.digest.algorithm());
    let mut written = Hasher::new(Algorithm::Sha256);
    while read.length() < target.size {
        if !(effort.proceed)() {
            return Err(EncodeError::OutOfTime {
                at: read.length(),
                size: target.size,
            });
        }
        let due = (target.size - read.length()).min(FRAME_BYTES);
        input.clear();
        let got = from.by_ref().take(due).read_to_end(&mut input);
        let got = got.map_err(EncodeError::Read)? as u64;
        read.update(&input);
        if got < due {
            break;
        }
        if let Some(base) = base {
            // zstd forgets the prefix after each frame.
            encoder.ref_prefix(base.bytes()).map_err(failed)?;
        }
        frame.clear();
        match encoder.compress2(&mut frame, &input) {
            Ok(_) if written.length() + frame.len() as u64 <= effort.largest => {}
            Err(code) if get_error_name(code) != NO_ROOM => return Err(failed(code)),
            _ => return Err(not_smaller),
        }
        written.update(&frame);
        to.write_all(&frame).map_err(EncodeError::Write)?;
    }
    // A byte more shows that the source is longer.
    let mut more = [0];
    let got = read_full(&mut from, &mut more).map_err(EncodeError::Read)?;
    read.update(more.get(..got).unwrap_or_default());
    let got = Blob {
        size: read.length(),
        digest: read.finish(),
    };
    if got != target {
        return Err(EncodeError::OtherTarget {
            expected: target.to_string(),
            got: got.to_string(),
        });
    }
    let blob = Blob {
        size: written.length(),
        digest: written.finish(),
    };
    let encoding = base.map_or(Encoding::Zstd, |base| Encoding::ZstdPatch { base: base.blob() });
    Ok(Representation { target, encoding, blob })
}

fn failed(code: usize) -> EncodeError {
    EncodeError::Zstd(get_error_name(code))
}
