//! Zstandard frames (RFC 8878) as `.qyvbin` uses them: one-shot, with content
//! size and checksum, without dictionary, at most [`CHUNK_SIZE`] decoded bytes each
//! (the head up to its own bound).
//!
//! Deliberately absent: streaming across frames. A frame is small enough to be
//! held, which bounds memory and lets many be coded at once.

use std::hash::Hasher as _;
use std::io::{self, Read};

use crate::ImageError;

/// Decoded bytes of a full frame.
pub const CHUNK_SIZE: usize = 2 << 20;
/// Compression level. A constant of the format's writer: see
/// `spec/decisions/` for what was measured.
pub(crate) const LEVEL: i32 = 2;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BLOCK_MAX: usize = 128 << 10;

/// A frame's header, checked.
struct FrameHeader {
    content_size: u64,
}

/// Compresses `data` into one frame.
pub(crate) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(crate) fn new() -> Result<Compressor, ImageError> {
        let mut inner = zstd::bulk::Compressor::new(LEVEL)?;
        inner.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
        inner.set_parameter(zstd::zstd_safe::CParameter::ContentSizeFlag(true))?;
        Ok(Compressor(inner))
    }

    pub(crate) fn frame(&mut self, data: &[u8]) -> Result<Vec<u8>, ImageError> {
        Ok(self.0.compress(data)?)
    }
}

/// Writes `data` into one frame uncompressed, for content that is compressed already: raw
/// blocks, no search.
pub(crate) fn stored_frame(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len() / BLOCK_MAX * 3 + 32);
    out.extend_from_slice(&MAGIC);
    // Single segment, checksum; the content size in 1, 2 or 4 bytes.
    match data.len() {
        len @ 0..=255 => out.extend_from_slice(&[0b0010_0100, len as u8]),
        len @ 256..=65_791 => {
            out.push(0b0110_0100);
            out.extend_from_slice(&((len - 256) as u16).to_le_bytes());
        }
        len => {
            out.push(0b1010_0100);
            out.extend_from_slice(&(len as u32).to_le_bytes());
        }
    }
    let mut rest = data;
    loop {
        let (block, after) = rest.split_at(rest.len().min(BLOCK_MAX));
        let last = u32::from(after.is_empty());
        let head = last | (block.len() as u32) << 3;
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.extend_from_slice(block);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    out.extend_from_slice(&checksum(data));
    out
}

/// The low four bytes of XXH64, as frames carry it.
fn checksum(data: &[u8]) -> [u8; 4] {
    let mut hasher = twox_hash::XxHash64::with_seed(0);
    hasher.write(data);
    (hasher.finish() as u32).to_le_bytes()
}

/// Most bytes that a frame of `decoded` bytes may take.
pub(crate) fn bound(decoded: u64) -> u64 {
    decoded + (decoded >> 8) + 512
}

fn parse_header(bytes: &[u8]) -> Result<FrameHeader, ImageError> {
    let bad = |why: &str| ImageError::format(format!("zstd frame {why}"));
    let short = || bad("is cut short");
    match bytes.get(..4).ok_or_else(short)? {
        magic if magic == MAGIC => {}
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] => return Err(bad("is a skippable one where content is due")),
        _ => return Err(bad("expected: other bytes found")),
    }
    let descriptor = *bytes.get(4).ok_or_else(short)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 0x18 != 0 {
        return Err(bad("sets reserved bits"));
    }
    if descriptor & 0x03 != 0 {
        return Err(bad("asks for a dictionary"));
    }
    if descriptor & 0x04 == 0 {
        return Err(bad("has no checksum"));
    }
    let mut at = 5;
    if !single_segment {
        let window = *bytes.get(at).ok_or_else(short)?;
        let base = 1u64 << (10 + (window >> 3));
        let window = base + base / 8 * u64::from(window & 7);
        if window > qyvol_types::limits::ZSTD_WINDOW {
            return Err(bad(&format!(
                "has a window of {window} bytes: at most {}",
                qyvol_types::limits::ZSTD_WINDOW
            )));
        }
        at += 1;
    }
    let width = match (descriptor >> 6, single_segment) {
        (0, true) => 1,
        (0, false) => return Err(bad("has no content size")),
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    let mut size = [0; 8];
    for (to, from) in size.iter_mut().zip(bytes.get(at..at + width).ok_or_else(short)?) {
        *to = *from;
    }
    let content_size = u64::from_le_bytes(size) + if width == 2 { 256 } else { 0 };
    Ok(FrameHeader { content_size })
}

/// Reads one complete frame whose decoded size is at most `max_decoded`, without decoding it.
/// `None` at the end of the input.
pub(crate) fn read_frame(from: &mut impl Read, max_decoded: u64) -> Result<Option<Vec<u8>>, ImageError> {
    let mut frame = Vec::new();
    if take(from, &mut frame, 1)? == 0 {
        return Ok(None);
    }
    let cut = || ImageError::format("zstd frame is cut short");
    let need = |from: &mut _, frame: &mut Vec<u8>, n: usize| match take(from, frame, n)? {
        got if got == n => Ok(()),
        _ => Err(cut()),
    };
    // Magic and descriptor, then as much header as the descriptor asks for.
    need(from, &mut frame, 4)?;
    let header = loop {
        match parse_header(&frame) {
            Ok(header) => break header,
            // Valid whatever follows, or invalid whatever follows.
            Err(_) if frame.len() < 14 => {
                parse_header(&[&frame[..], &[0; 9]].concat())?;
                need(from, &mut frame, 1)?;
            }
            Err(error) => return Err(error),
        }
    };
    if header.content_size > max_decoded {
        return Err(ImageError::Limit {
            what: "content of a zstd frame",
            got: header.content_size,
            limit: max_decoded,
        });
    }
    let cap = bound(header.content_size);
    loop {
        need(from, &mut frame, 3)?;
        let mut head = [0; 4];
        for (to, byte) in head.iter_mut().zip(frame.iter().rev().take(3).rev()) {
            *to = *byte;
        }
        let head = u32::from_le_bytes(head);
        let (last, kind, size) = (head & 1 == 1, head >> 1 & 3, (head >> 3) as usize);
        let stored = match kind {
            0 | 2 => size,
            1 => 1,
            _ => return Err(ImageError::format("zstd frame has a reserved block type")),
        };
        if size > BLOCK_MAX || (frame.len() + stored) as u64 > cap {
            return Err(ImageError::format("zstd frame has a block larger than its content"));
        }
        need(from, &mut frame, stored)?;
        if last {
            break;
        }
    }
    need(from, &mut frame, 4)?;
    Ok(Some(frame))
}

/// Appends up to `n` bytes and returns how many were read.
fn take(from: &mut impl Read, to: &mut Vec<u8>, n: usize) -> Result<usize, ImageError> {
    Ok(from.by_ref().take(n as u64).read_to_end(to)?)
}

/// Decodes frames; reuses its working memory.
pub(crate) struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Decompressor {
    pub(crate) fn new() -> Result<Decompressor, ImageError> {
        let mut inner = zstd::bulk::Decompressor::new()?;
        inner.set_parameter(zstd::zstd_safe::DParameter::WindowLogMax(23))?;
        Ok(Decompressor(inner))
    }

    /// Decodes `frame`, which must be one complete frame: of exactly `size` decoded bytes if a
    /// size is given, otherwise of at most `max`.
    pub(crate) fn decode(&mut self, frame: &[u8], size: Option<u64>, max: u64) -> Result<Vec<u8>, ImageError> {
        let header = parse_header(frame)?;
        if size.is_some_and(|size| size != header.content_size) {
            return Err(ImageError::format(format!(
                "zstd frame holds {} bytes: expected {}",
                header.content_size,
                size.unwrap_or_default()
            )));
        }
        if header.content_size > max {
            return Err(ImageError::Limit {
                what: "content of a zstd frame",
                got: header.content_size,
                limit: max,
            });
        }
        // The decoder would continue with frames after the first, also empty or skippable ones,
        // and their content would go unchecked.
        if zstd::zstd_safe::find_frame_compressed_size(frame).ok() != Some(frame.len()) {
            return Err(ImageError::format(
                "zstd frame is cut short, or something stands behind it",
            ));
        }
        let capacity = header.content_size as usize;
        let decoded = self.0.decompress(frame, capacity).map_err(damaged)?;
        if decoded.len() != capacity {
            return Err(ImageError::format("zstd frame holds less than it says"));
        }
        Ok(decoded)
    }
}

fn damaged(error: io::Error) -> ImageError {
    ImageError::format(format!("zstd frame is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(frame: &[u8]) -> Result<Vec<u8>, ImageError> {
        let mut from = frame;
        let whole = read_frame(&mut from, CHUNK_SIZE as u64)?.ok_or_else(|| ImageError::format("nothing"))?;
        if !from.is_empty() {
            return Err(ImageError::format("more"));
        }
        Decompressor::new()?.decode(&whole, None, CHUNK_SIZE as u64)
    }

    // [BIN-022]
    #[test]
    fn stored_and_compressed_frames_decode_at_every_size_class() {
        for len in [0, 1, 255, 256, 65_791, 65_792, BLOCK_MAX, BLOCK_MAX + 1, CHUNK_SIZE] {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
            assert_eq!(decode(&stored_frame(&data)).unwrap(), data, "stored {len}");
            let frame = Compressor::new().unwrap().frame(&data).unwrap();
            assert_eq!(decode(&frame).unwrap(), data, "compressed {len}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_refused_or_harmless() {
        let data = b"some words, some words, some words, some words and 0123456789".to_vec();
        for frame in [stored_frame(&data), Compressor::new().unwrap().frame(&data).unwrap()] {
            for bit in 0..frame.len() * 8 {
                let mut bad = frame.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                if let Ok(decoded) = decode(&bad) {
                    assert_eq!(decoded, data, "bit {bit}");
                }
            }
            for len in 0..frame.len() {
                assert!(decode(&frame[..len]).is_err(), "cut to {len}");
            }
        }
    }

    // [BIN-021]
    #[test]
    fn frame_that_could_exhaust_memory_is_refused_before_allocation() {
        // Window of 2 GiB; no content size; a dictionary; no checksum.
        for header in [
            &[0x28, 0xb5, 0x2f, 0xfd, 0x44, 0xa8, 0, 0][..],
            &[0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x10][..],
            &[0x28, 0xb5, 0x2f, 0xfd, 0x25, 0x10][..],
            &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x10][..],
            &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..],
        ] {
            assert!(decode(header).is_err());
        }
        let bomb = zstd::bulk::compress(&vec![0; CHUNK_SIZE + 1], 19).unwrap();
        assert!(decode(&bomb).is_err());
    }
}
