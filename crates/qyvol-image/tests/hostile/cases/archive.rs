//! Frames and the seek table.

use super::{CONTENT, OPEN, Row, file, frames, good, row};
use crate::common::{Case, decoded, frame, raw_frame, skippable, tar};

pub fn rows() -> Vec<Row> {
    vec![
        row("empty-file", "a file of no bytes", "BIN-020", OPEN, file(Vec::clear)),
        row(
            "not-zstd",
            "a tar that is not compressed",
            "BIN-020",
            OPEN,
            file(|f| *f = tar(&[("oci-layout", b"{}")])),
        ),
        row(
            "skippable-first",
            "first frame a skippable one",
            "BIN-020",
            OPEN,
            frames(|f| {
                f.insert(0, (skippable(b"x"), 0));
            }),
        ),
        row(
            "no-content-size",
            "frame without content size",
            "BIN-021",
            OPEN,
            frames(|f| {
                f[0].0 = raw_frame(0x04, &[0x50], &decoded(&f[0].0), true);
            }),
        ),
        row(
            "content-size-short",
            "content size one less than the content",
            "BIN-021",
            OPEN,
            frames(|f| {
                let d = decoded(&f[0].0);
                f[0].0 = raw_frame(0xa4, &(d.len() as u32 - 1).to_le_bytes(), &d, true);
            }),
        ),
        row(
            "content-size-long",
            "content size one more than the content",
            "BIN-021",
            OPEN,
            frames(|f| {
                let d = decoded(&f[0].0);
                f[0].0 = raw_frame(0xa4, &(d.len() as u32 + 1).to_le_bytes(), &d, true);
            }),
        ),
        row(
            "no-checksum",
            "frame without checksum",
            "BIN-021",
            OPEN,
            frames(|f| {
                let d = decoded(&f[0].0);
                f[0].0 = raw_frame(0xa0, &(d.len() as u32).to_le_bytes(), &d, false);
            }),
        ),
        row(
            "checksum-wrong",
            "frame with another content's checksum",
            "BIN-021",
            CONTENT,
            frames(|f| {
                let at = f[1].0.len() - 1;
                f[1].0[at] ^= 1;
            }),
        ),
        row(
            "dictionary",
            "frame that names a dictionary",
            "BIN-021",
            OPEN,
            frames(|f| {
                let d = decoded(&f[0].0);
                let rest = [&[7][..], &(d.len() as u32).to_le_bytes()].concat();
                f[0].0 = raw_frame(0xa5, &rest, &d, true);
            }),
        ),
        row(
            "reserved-bit",
            "frame that sets a reserved bit",
            "BIN-021",
            OPEN,
            frames(|f| {
                let d = decoded(&f[0].0);
                f[0].0 = raw_frame(0xac, &(d.len() as u32).to_le_bytes(), &d, true);
            }),
        ),
        row(
            "window-2-gib",
            "frame with a window of 2 GiB",
            "BIN-021",
            OPEN,
            frames(|f| {
                let d = decoded(&f[0].0);
                let rest = [&[0xa8][..], &(d.len() as u32).to_le_bytes()].concat();
                f[0].0 = raw_frame(0x84, &rest, &d, true);
            }),
        ),
        row(
            "window-16-mib-content",
            "content frame with a window of 16 MiB",
            "BIN-021",
            CONTENT,
            frames(|f| {
                let d = decoded(&f[1].0);
                let rest = [&[0x70][..], &(d.len() as u32).to_le_bytes()].concat();
                f[1].0 = raw_frame(0x84, &rest, &d, true);
            }),
        ),
        row(
            "head-too-large",
            "a head of 1 MiB and more",
            "BIN-020",
            OPEN,
            Case {
                signatures: vec!["x".repeat(1 << 20)],
                ..good()
            },
        ),
        row(
            "two-frames-for-one",
            "content in two frames, listed as two",
            "BIN-020 BIN-024",
            OPEN,
            frames(|f| {
                let d = decoded(&f[1].0);
                f[1] = (frame(&d[..512]), 512);
                f.insert(2, (frame(&d[512..]), d.len() as u32 - 512));
            }),
        ),
        row(
            "two-frames-as-one",
            "content in two frames, listed as one",
            "BIN-020 BIN-024",
            CONTENT,
            frames(|f| {
                let d = decoded(&f[1].0);
                f[1].0 = [frame(&d[..512]), frame(&d[512..])].concat();
            }),
        ),
        row(
            "empty-frame-behind",
            "an empty frame behind a content frame, listed as one",
            "BIN-020 BIN-024",
            CONTENT,
            frames(|f| f[1].0.extend(frame(b""))),
        ),
        row(
            "skippable-between",
            "a skippable frame behind a content frame, listed as one",
            "BIN-020 BIN-024",
            CONTENT,
            frames(|f| f[1].0.extend(skippable(b"hidden"))),
        ),
        row(
            "skippable-before",
            "a skippable frame before a content frame, listed as one",
            "BIN-020 BIN-024",
            CONTENT,
            frames(|f| f[1].0 = [skippable(b"hidden"), f[1].0.clone()].concat()),
        ),
        row(
            "skippable-before-end",
            "a skippable frame behind the last frame",
            "BIN-020 BIN-024",
            CONTENT,
            frames(|f| {
                let last = f.len() - 1;
                f[last].0.extend(skippable(b"hidden"));
            }),
        ),
        row(
            "skippable-behind-head",
            "a skippable frame behind the head, listed with it",
            "BIN-020 BIN-024",
            OPEN,
            frames(|f| f[0].0.extend(skippable(b"hidden"))),
        ),
        row(
            "content-in-head",
            "head and content in one frame",
            "BIN-020 BIN-024",
            OPEN,
            frames(|f| {
                let d = [decoded(&f[0].0), decoded(&f[1].0)].concat();
                f[0] = (frame(&d), d.len() as u32);
                f.remove(1);
            }),
        ),
        row(
            "trailing-byte",
            "one byte behind the end",
            "BIN-023 BIN-024",
            OPEN,
            file(|f| f.push(0)),
        ),
        row(
            "trailing-archive",
            "a second archive behind the first",
            "BIN-023 BIN-024",
            OPEN,
            file(|f| f.extend(f.clone())),
        ),
        row(
            "cut-in-half",
            "the first half",
            "BIN-023 BIN-024",
            OPEN,
            file(|f| f.truncate(f.len() / 2)),
        ),
        row(
            "table-missing",
            "no seek table",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|_| Vec::new()),
                ..good()
            },
        ),
        row(
            "table-offsets",
            "seek table that moves a byte from one frame to the next",
            "BIN-023 BIN-024",
            CONTENT,
            Case {
                table: Box::new(|mut t| {
                    t[16] -= 1;
                    t[24] += 1;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-decoded",
            "seek table with another decoded size",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    t[20] ^= 1;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-flags",
            "seek table with checksums",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|mut t| {
                    let n = t.len();
                    t[n - 5] = 0x80;
                    t
                }),
                ..good()
            },
        ),
        row(
            "table-twice",
            "two seek tables",
            "BIN-023 BIN-024",
            OPEN,
            Case {
                table: Box::new(|t| [t.clone(), t].concat()),
                ..good()
            },
        ),
    ]
}
