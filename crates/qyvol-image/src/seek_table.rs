//! The zstd seekable-format table at the end of an archive: compressed and
//! decoded size of each frame, in a skippable frame. Decoders skip it.
//!
//! In a `.qyvbin` it must be there and must be right: the decoded sizes follow
//! from the head, and the compressed ones must add up to the file. So opening
//! an archive finds every truncation and extension at constant cost.

use crate::ImageError;

const SKIPPABLE: u32 = 0x184d_2a5e;
const SEEKABLE: u32 = 0x8f92_eab1;
const FOOTER: usize = 9;

/// Bytes of a table of `frames` frames, with its own frame header.
pub(crate) fn table_len(frames: usize) -> u64 {
    8 + frames as u64 * 8 + FOOTER as u64
}

/// The table of `frames`: (compressed, decoded) sizes in order.
pub(crate) fn encode(frames: &[(u32, u32)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(table_len(frames.len()) as usize);
    out.extend_from_slice(&SKIPPABLE.to_le_bytes());
    out.extend_from_slice(&((frames.len() * 8 + FOOTER) as u32).to_le_bytes());
    for (compressed, decoded) in frames {
        out.extend_from_slice(&compressed.to_le_bytes());
        out.extend_from_slice(&decoded.to_le_bytes());
    }
    out.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    out.push(0);
    out.extend_from_slice(&SEEKABLE.to_le_bytes());
    out
}

/// Reads the table from the file's last bytes, and checks it against the decoded sizes that the
/// head states. Returns the compressed sizes.
pub(crate) fn decode(bytes: &[u8], decoded: &[u32]) -> Result<Vec<u32>, ImageError> {
    let mut compressed = Vec::with_capacity(decoded.len());
    for entry in bytes.get(8..).unwrap_or_default().chunks_exact(8).take(decoded.len()) {
        let mut size = [0; 4];
        for (to, from) in size.iter_mut().zip(entry) {
            *to = *from;
        }
        compressed.push(u32::from_le_bytes(size));
    }
    let frames: Vec<(u32, u32)> = compressed.iter().copied().zip(decoded.iter().copied()).collect();
    if frames.len() != decoded.len() || encode(&frames) != bytes {
        return Err(ImageError::format(
            "its seek table is missing or is not the one that its head asks for",
        ));
    }
    Ok(compressed)
}
