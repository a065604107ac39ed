//! What decoding takes of memory, by the kernel's own count: zstd's share is not Rust's.
//! Alone in its program, so that nothing else is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{self, Cursor, Read};

use qyvol_encoding::{Base, Blob, Encoding, FRAME_BYTES, Representation, Sink, decode};
use qyvol_types::{Algorithm, Hasher};

const BLOCK: u64 = 128 << 10;

struct Discard;

impl Sink for Discard {
    type Finished = ();

    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        Ok(())
    }
}

/// One frame of uncompressed blocks: the largest that there is.
fn stored_frame() -> impl Read {
    let mut head = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    head.extend((FRAME_BYTES as u32).to_le_bytes());
    let blocks = FRAME_BYTES / BLOCK;
    (0..blocks).fold(Box::new(Cursor::new(head)) as Box<dyn Read>, |frame, index| {
        let block = u32::from(index + 1 == blocks) | (BLOCK as u32) << 3;
        let block = Cursor::new(block.to_le_bytes()[..3].to_vec());
        Box::new(frame.chain(block).chain(io::repeat(0).take(BLOCK)))
    })
}

fn repeated(byte: u8, size: u64) -> Blob {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for _ in 0..size / BLOCK {
        hasher.update(&[byte; BLOCK as usize]);
    }
    Blob {
        digest: hasher.finish(),
        size,
    }
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}

// [ENC-042]
#[test]
fn memory_of_decoding_is_bounded() {
    let frames = 4;
    let base = repeated(1, 32 << 20);
    let target = repeated(0, frames * FRAME_BYTES);
    let stored = FRAME_BYTES + 9 + FRAME_BYTES / BLOCK * 3;
    let representation = Representation {
        target,
        encoding: Encoding::ZstdPatch { base },
        blob: Blob {
            size: frames * stored,
            ..Blob::of(b"")
        },
    };
    let before = peak();
    let base = Base::read(io::repeat(1).take(base.size), base).unwrap();
    let bytes = stored_frame()
        .chain(stored_frame())
        .chain(stored_frame())
        .chain(stored_frame());
    decode(&representation, bytes, Some(&base), Discard).unwrap();
    let taken = peak() - before;
    assert!(taken <= base.blob().size + (64 << 20), "{taken}");
}
