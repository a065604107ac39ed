//! Frames that are more than they say, and what stands around frames.

use super::{OPEN, Row, UNPACK, file, files, frames, good, large, row};
use crate::common::{Case, frame, raw_frame, skippable};

/// A frame of 1 GiB of zeros, in blocks of one byte said 131,072 times.
fn zeros(said: u32) -> Vec<u8> {
    let block = 128u32 << 10;
    let mut out = raw_frame(0xa4, &said.to_le_bytes(), b"", false);
    out.truncate(9);
    for n in 0..8192u32 {
        let head = u32::from(n == 8191) | 1 << 1 | block << 3;
        out.extend_from_slice(&head.to_le_bytes()[..3]);
        out.push(0);
    }
    // Nobody comes to see that the checksum is wrong.
    out.extend_from_slice(&[0; 4]);
    out
}

/// A frame whose first block has another header.
fn block(frame: &[u8], keep: u8, set: u32) -> Vec<u8> {
    let mut out = frame.to_vec();
    // Behind magic, descriptor and a content size of two bytes.
    assert_eq!(out[4], 0x64);
    let head = u32::from(keep) | set;
    out[7..10].copy_from_slice(&head.to_le_bytes()[..3]);
    out
}

/// A component of 3 MiB, its entry cut into frames of these sizes.
fn cut(sizes: &'static [usize]) -> Case {
    Case {
        frames: Box::new(move |mut f| {
            let mut entry: Vec<u8> = f[1..3].iter().flat_map(|f| large_decoded(&f.0)).collect();
            let parts = sizes.iter().map(|len| {
                let part: Vec<u8> = entry.drain(..*len).collect();
                (frame(&part), part.len() as u32)
            });
            let parts: Vec<_> = parts.collect();
            assert!(entry.is_empty());
            f.splice(1..3, parts);
            f
        }),
        ..large((3 << 20) - 512)
    }
}

fn large_decoded(frame: &[u8]) -> Vec<u8> {
    zstd::bulk::decompress(frame, 2 << 20).unwrap()
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "frames-of-1-mib",
            "content in frames of 1 MiB",
            "BIN-020 BIN-024",
            OPEN,
            cut(&[1 << 20, 1 << 20, 1 << 20]),
        ),
        row(
            "frame-of-3-mib",
            "content in a frame of 3 MiB",
            "BIN-020 BIN-024",
            OPEN,
            cut(&[3 << 20]),
        ),
        row(
            "frames-short-first",
            "content whose first frame is the shorter one",
            "BIN-020 BIN-024",
            OPEN,
            cut(&[1 << 20, 2 << 20]),
        ),
        row(
            "frames-empty-last",
            "content with an empty frame behind it",
            "BIN-020 BIN-024",
            OPEN,
            cut(&[2 << 20, 1 << 20, 0]),
        ),
        row(
            "head-size-huge",
            "head of 2^63 bytes, as it says",
            "BIN-020 BIN-021",
            OPEN,
            frames(|f| f[0].0 = raw_frame(0xe4, &(1u64 << 63).to_le_bytes(), b"", true)),
        ),
        row(
            "bomb-head",
            "head of 1 GiB in 33 kB, as it says",
            "BIN-020 BIN-021",
            OPEN,
            frames(|f| f[0].0 = zeros(1 << 30)),
        ),
        row(
            "bomb-head-lies",
            "head of 1 GiB in 33 kB that says 1 MiB",
            "BIN-020 BIN-021",
            OPEN,
            frames(|f| f[0].0 = zeros(1 << 20)),
        ),
        row(
            "bomb-content",
            "component of 1 GiB in 33 kB that says 1 kB",
            "BIN-021 BIN-024",
            OPEN,
            frames(|f| f[1].0 = zeros(1024)),
        ),
        row(
            "bomb-end",
            "end of 1 GiB in 33 kB that says 1 kB",
            "BIN-021 BIN-024",
            OPEN,
            frames(|f| f[2].0 = zeros(1024)),
        ),
        row(
            "bomb-assets",
            "assets of 1 GiB in 33 kB that say 2 MiB",
            "BIN-021 BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|_| zeros(2 << 20)),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "bomb-assets-honest",
            "assets of 1 GiB in 33 kB, as they say",
            "BIN-021 BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|_| zeros(1 << 30)),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-window-2-gib",
            "assets with a window of 2 GiB",
            "BIN-021 BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| {
                    raw_frame(0x84, &[&[0xa8][..], &(t.len() as u32).to_le_bytes()].concat(), &t, true)
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-no-checksum",
            "assets in a frame without checksum",
            "BIN-021 BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| raw_frame(0xa0, &(t.len() as u32).to_le_bytes(), &t, false)),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-checksum-wrong",
            "assets with another frame's checksum",
            "BIN-021 BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| {
                    let mut f = frame(&t);
                    let at = f.len() - 1;
                    f[at] ^= 1;
                    f
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "skippable-listed",
            "a skippable frame that the table lists",
            "BIN-020 BIN-024",
            OPEN,
            frames(|f| f.insert(1, (skippable(b"hidden"), 0))),
        ),
        row(
            "empty-frame-listed",
            "an empty frame that the table lists",
            "BIN-020 BIN-024",
            OPEN,
            frames(|f| f.insert(1, (frame(b""), 0))),
        ),
        row(
            "head-empty",
            "a head of no bytes",
            "BIN-001 BIN-020",
            OPEN,
            frames(|f| f[0] = (frame(b""), 0)),
        ),
        row(
            "block-reserved",
            "a block of the reserved type",
            "BIN-021",
            OPEN,
            frames(|f| f[0].0 = block(&f[0].0, 7, 1 << 3)),
        ),
        row(
            "block-too-large",
            "a block of more than 128 KiB",
            "BIN-021",
            OPEN,
            frames(|f| f[0].0 = block(&f[0].0, 3, ((128 << 10) + 1) << 3)),
        ),
        row(
            "cut-by-a-byte",
            "all but the last byte",
            "BIN-023 BIN-024",
            OPEN,
            file(|f| f.truncate(f.len() - 1)),
        ),
        row(
            "cut-behind-the-head",
            "the head's frame alone",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                content: Box::new(|_| Vec::new()),
                table: Box::new(|_| Vec::new()),
                frames: Box::new(|mut f| {
                    f.truncate(1);
                    f
                }),
                ..good()
            },
        ),
        row(
            "zeros-behind",
            "a block of zeros behind the end",
            "BIN-023 BIN-024",
            OPEN,
            file(|f| f.resize(f.len() + 512, 0)),
        ),
        row(
            "table-frames",
            "a table of one frame more than it lists",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    let n = t.len();
                    t[n - 9] += 1;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-magic",
            "a table without the seekable format's magic",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    let n = t.len();
                    t[n - 1] ^= 1;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-frame-magic",
            "a table in another skippable frame",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    t[0] ^= 1;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-size",
            "a table whose frame says another length",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    t[4] ^= 1;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-huge",
            "a table of a frame of 4 GiB",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    t[8..12].fill(255);
                    t
                }),
                ..good()
            },
        ),
    ]
}
