//! Tar headers, of the archive and of the assets.

use super::{CONTENT, OPEN, Row, UNPACK, assets, before, good, row};
use crate::common::{Case, entry, header, patch, pax, tar};

pub fn rows() -> Vec<Row> {
    let f = || header(b"a", 0, b'0');
    vec![
        row(
            "head-mode",
            "mode 0755 in the head",
            "BIN-010 BIN-012",
            OPEN,
            Case {
                head: Box::new(|h| {
                    let first = patch(h[..512].to_vec(), 100, b"0000755");
                    [first, h[512..].to_vec()].concat()
                }),
                ..good()
            },
        ),
        row(
            "head-padding",
            "padding in the head that isn't zero",
            "BIN-010",
            OPEN,
            Case {
                head: Box::new(|mut h| {
                    let n = h.len();
                    h[n - 1] = 1;
                    h
                }),
                ..good()
            },
        ),
        row(
            "head-ended",
            "an end of tar in the head",
            "BIN-001",
            OPEN,
            Case {
                head: Box::new(|mut h| {
                    h.resize(h.len() + 1024, 0);
                    h
                }),
                ..good()
            },
        ),
        row(
            "content-padding",
            "padding of the component that isn't zero",
            "BIN-010",
            CONTENT,
            Case {
                content: Box::new(|mut c| {
                    c[0][1023] = 1;
                    c
                }),
                ..good()
            },
        ),
        row(
            "content-owner",
            "component with an owner",
            "BIN-010 BIN-012",
            CONTENT,
            Case {
                content: Box::new(|mut c| {
                    let e = c.remove(0);
                    vec![patch(e, 108, b"0001750")]
                }),
                ..good()
            },
        ),
        row(
            "end-not-zero",
            "end of tar that isn't zero",
            "BIN-001",
            CONTENT,
            Case {
                end: [vec![0; 1023], vec![1]].concat(),
                ..good()
            },
        ),
        row(
            "end-of-one-block",
            "one zero block at the end",
            "BIN-001",
            OPEN,
            Case {
                end: vec![0; 512],
                ..good()
            },
        ),
        row(
            "end-of-three-blocks",
            "three zero blocks at the end",
            "BIN-001",
            OPEN,
            Case {
                end: vec![0; 1536],
                ..good()
            },
        ),
        row(
            "assets-no-end",
            "assets without an end",
            "BIN-001",
            UNPACK,
            assets(entry("a", b"a"), 1, 1),
        ),
        row(
            "assets-one-block-end",
            "assets with one zero block",
            "BIN-001",
            UNPACK,
            assets([entry("a", b"a"), vec![0; 512]].concat(), 1, 1),
        ),
        row(
            "assets-three-block-end",
            "assets with three zero blocks",
            "BIN-001",
            UNPACK,
            assets([tar(&[("a", b"a")]), vec![0; 512]].concat(), 1, 1),
        ),
        row(
            "assets-data-behind-end",
            "a file behind the end of the assets",
            "BIN-001",
            UNPACK,
            assets([tar(&[("a", b"a")]), entry("b", b"b")].concat(), 1, 1),
        ),
        row(
            "assets-cut",
            "assets that end inside a file",
            "BIN-001",
            UNPACK,
            assets(header(b"a", 600, b'0'), 1, 600),
        ),
        row(
            "assets-padding",
            "asset with padding that isn't zero",
            "BIN-010",
            UNPACK,
            assets(
                {
                    let mut t = tar(&[("a", b"a")]);
                    t[1023] = 1;
                    t
                },
                1,
                1,
            ),
        ),
        row(
            "assets-checksum",
            "tar header with a wrong checksum",
            "BIN-010 BIN-012",
            UNPACK,
            before({
                let mut h = f();
                h[148] ^= 1;
                h
            }),
        ),
        row(
            "assets-base-256-size",
            "size in base 256",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
        ),
        row(
            "assets-negative-size",
            "size with a sign",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 124, b"-0000000001")),
        ),
        row(
            "assets-space-size",
            "size padded with spaces",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 124, b"          0")),
        ),
        row(
            "assets-mtime",
            "asset with a time",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 136, b"00000000001")),
        ),
        row(
            "assets-setuid",
            "asset with mode 4755",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 100, b"0004755")),
        ),
        row(
            "assets-user-name",
            "asset with a user name",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 265, b"root")),
        ),
        row(
            "assets-gnu-magic",
            "GNU tar's magic",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 257, b"ustar  \0")),
        ),
        row(
            "assets-name-hidden",
            "bytes behind the name's NUL",
            "BIN-010 BIN-012",
            UNPACK,
            before(patch(f(), 2, b"hidden")),
        ),
        row(
            "pax-size-larger",
            "PAX size larger than the ustar one",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"13 size=1024\n", b"a", 0)),
        ),
        row(
            "pax-size-smaller",
            "PAX size smaller than the ustar one",
            "BIN-011 BIN-012",
            UNPACK,
            before([pax(b"10 size=0\n", b"a", 512), vec![0; 512]].concat()),
        ),
        row(
            "pax-path-short",
            "PAX path where ustar's would do",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"10 path=a\n", b"a", 0)),
        ),
        row(
            "pax-two-records",
            "PAX path and size",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"10 path=a\n10 size=0\n", b"a", 0)),
        ),
        row(
            "pax-length-signed",
            "PAX record with a signed length",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"+10 path=a\n", b"a", 0)),
        ),
        row(
            "pax-length-overflow",
            "PAX record whose length overflows",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"99999999999999999999 path=a\n", b"a", 0)),
        ),
        row(
            "pax-empty",
            "PAX header without records",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"", b"a", 0)),
        ),
        row(
            "pax-dangling",
            "PAX header without a file",
            "BIN-011 BIN-012",
            UNPACK,
            assets(
                {
                    let p = pax(b"10 path=a\n", b"a", 0);
                    [p[..1024].to_vec(), vec![0; 1024]].concat()
                },
                0,
                0,
            ),
        ),
        row(
            "pax-then-gnu-name",
            "PAX header, then a GNU long name, then a file",
            "BIN-011 BIN-012",
            UNPACK,
            before({
                let p = pax(b"10 path=a\n", b"b", 0);
                [
                    p[..1024].to_vec(),
                    header(b"././@LongLink", 2, b'L'),
                    [b"c\0".to_vec(), vec![0; 510]].concat(),
                    f(),
                ]
                .concat()
            }),
        ),
        row(
            "pax-huge",
            "PAX header of 1 GiB",
            "BIN-011 BIN-012",
            UNPACK,
            before(header(b"././@PaxHeader", 1 << 30, b'x')),
        ),
        row(
            "pax-global",
            "global PAX header",
            "BIN-011 BIN-012",
            UNPACK,
            before(header(b"pax_global_header", 0, b'g')),
        ),
        row(
            "symlink-then-file",
            "a symbolic link, then a file through it",
            "BIN-011 BIN-012",
            UNPACK,
            before([patch(header(b"a", 0, b'2'), 157, b"/"), entry("a/x", b"")].concat()),
        ),
        row(
            "hard-link-out",
            "a hard link to a file outside",
            "BIN-011 BIN-012",
            UNPACK,
            before(patch(header(b"a", 0, b'1'), 157, b"../test.qyvbin")),
        ),
    ]
}

/// Every type that is no regular file.
pub fn types() -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, what, kind) in [
        ("tar-folder", "an entry for a folder", b'5'),
        ("tar-character-device", "a character device", b'3'),
        ("tar-block-device", "a block device", b'4'),
        ("tar-fifo", "a FIFO", b'6'),
        ("tar-socket", "a socket", b's'),
        ("tar-contiguous", "a contiguous file", b'7'),
        ("tar-sparse", "a GNU sparse file", b'S'),
        ("tar-old-regular", "a regular file of type NUL", 0),
        ("tar-unknown-type", "an unknown type", b'~'),
        ("tar-gnu-long-name", "a GNU long name", b'L'),
        ("tar-gnu-long-link", "a GNU long link", b'K'),
        ("tar-solaris-pax", "a Solaris extended header", b'X'),
        ("tar-control-type", "a type that is a control character", 0x1b),
    ] {
        rows.push(row(
            name,
            what,
            "BIN-011 BIN-012",
            UNPACK,
            before(header(b"a", 0, kind)),
        ));
    }
    rows
}
