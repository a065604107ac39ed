//! Frames of zstd (RFC 8878) as representations have them: single segment, with content size,
//! without dictionary id and checksum. A frame's bounds are found from the headers of its
//! blocks, so that it is in memory as a whole, and nothing else is, before it is decoded.

use std::io::{self, Read};

use crate::DecodeError;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The largest block, both as it is stored and as it is decoded.
const BLOCK_BYTES: usize = 128 << 10;

/// Most bytes that a frame with `content` bytes may take: those of uncompressed blocks, and
/// some for blocks that a writer ends early.
pub(crate) fn bound(content: u64) -> u64 {
    content + (content >> 8) + 512
}

/// Reads a representation frame by frame.
pub(crate) struct Frames<R> {
    from: R,
    /// Bytes read so far.
    at: u64,
    size: u64,
    frame: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Frames in `from`, of `size` bytes, none with more content than `largest`.
    pub(crate) fn new(from: R, size: u64, largest: u64) -> Result<Frames<R>, DecodeError> {
        let mut frame = Vec::new();
        reserve(&mut frame, bound(largest).min(size))?;
        Ok(Frames {
            from,
            at: 0,
            size,
            frame,
        })
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next frame, which must have `content` bytes of content.
    pub(crate) fn next(&mut self, content: u64) -> Result<&[u8], DecodeError> {
        let start = self.at;
        let bad = |why| DecodeError::Frame { at: start, why };
        self.frame.clear();
        self.take(5)?;
        match self.frame.get(..4) {
            Some(magic) if magic == MAGIC => {}
            Some([0x50..=0x5f, 0x2a, 0x4d, 0x18]) => return Err(bad("is skippable")),
            _ => return Err(bad("doesn't begin with zstd's magic number")),
        }
        let width = match self.frame.last().copied().unwrap_or_default() {
            0x20 => 1,
            0x60 => 2,
            0xa0 => 4,
            descriptor if descriptor & 0x03 != 0 => return Err(bad("needs a dictionary")),
            descriptor if descriptor & 0x04 != 0 => return Err(bad("has a checksum")),
            descriptor if descriptor & 0x18 != 0 => return Err(bad("has reserved bits set")),
            descriptor if descriptor & 0x20 == 0 => return Err(bad("is not a single segment")),
            _ => return Err(bad("has a content size of eight bytes")),
        };
        let size = little_endian(self.take(width)?) + if width == 2 { 256 } else { 0 };
        if size != content {
            return Err(DecodeError::FrameContent {
                at: start,
                expected: content,
                got: size,
            });
        }
        let cap = bound(content);
        loop {
            let head = little_endian(self.take(3)?);
            let (last, kind, size) = (head & 1 == 1, head >> 1 & 3, (head >> 3) as usize);
            let stored = match kind {
                0 | 2 => size,
                1 => 1,
                _ => return Err(bad("has a block of the reserved type")),
            };
            if size > BLOCK_BYTES || (self.frame.len() + stored) as u64 > cap {
                return Err(bad("is larger than its content allows"));
            }
            self.take(stored)?;
            if last {
                return Ok(&self.frame);
            }
        }
    }

    /// Nothing may follow the last frame.
    pub(crate) fn end(mut self) -> Result<(), DecodeError> {
        let mut more = [0];
        if self.at != self.size || read_full(&mut self.from, &mut more).map_err(DecodeError::Read)? != 0 {
            return Err(DecodeError::Trailing {
                at: self.at,
                size: self.size,
            });
        }
        Ok(())
    }

    /// Appends `n` bytes to the frame and returns them.
    fn take(&mut self, n: usize) -> Result<&[u8], DecodeError> {
        let cut = DecodeError::Cut { at: self.at };
        if self.size - self.at < n as u64 {
            return Err(cut);
        }
        let start = self.frame.len();
        reserve(&mut self.frame, n as u64)?;
        self.frame.resize(start + n, 0);
        let room = self.frame.get_mut(start..).unwrap_or_default();
        if read_full(&mut self.from, room).map_err(DecodeError::Read)? != n {
            return Err(cut);
        }
        self.at += n as u64;
        Ok(self.frame.get(start..).unwrap_or_default())
    }
}

/// Takes memory for `bytes` more, and no more than that.
pub(crate) fn reserve(buffer: &mut Vec<u8>, bytes: u64) -> Result<(), DecodeError> {
    let memory = || DecodeError::Memory { bytes };
    let bytes = usize::try_from(bytes).map_err(|_| memory())?;
    buffer.try_reserve_exact(bytes).map_err(|_| memory())
}

/// Fills `room` as far as the source goes.
pub(crate) fn read_full(from: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A number of at most four bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}
