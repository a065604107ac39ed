//! Tar headers in the head and before content, and more of PAX.

use super::{CONTENT, OPEN, Row, UNPACK, before, frames, good, head, row};
use crate::common::{Case, entry, header, patch, pax};

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "head-checksum",
            "a wrong checksum in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| {
                let mut h = h;
                h[148] ^= 1;
                h
            }),
        ),
        row(
            "head-time",
            "a time in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(h, 136, b"00000000001")),
        ),
        row(
            "head-base-256",
            "a size in base 256 in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(h, 124, &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30])),
        ),
        row(
            "head-old-type",
            "a regular file of type NUL in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(h, 156, &[0])),
        ),
        row(
            "head-link",
            "a symbolic link in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(h, 156, b"2")),
        ),
        row(
            "head-prefix",
            "a path in two fields in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(patch(h, 345, b"x"), 0, b"oci-layout")),
        ),
        row(
            "head-gnu",
            "GNU tar's magic in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(h, 257, b"ustar  \0")),
        ),
        row(
            "head-hidden",
            "bytes behind the name's NUL in the head",
            "BIN-010 BIN-012",
            OPEN,
            head(|h| patch(h, 12, b"hidden")),
        ),
        row(
            "head-pax-size",
            "a PAX size in the head",
            "BIN-011 BIN-012",
            OPEN,
            Case {
                head: Box::new(|h| [pax(b"10 size=0\n", b"", 0)[..1024].to_vec(), h].concat()),
                ..good()
            },
        ),
        row(
            "head-pax-path",
            "a PAX path in the head where ustar's would do",
            "BIN-011 BIN-012",
            OPEN,
            Case {
                head: Box::new(|h| [pax(b"19 path=oci-layout\n", b"", 0)[..1024].to_vec(), h].concat()),
                ..good()
            },
        ),
        row(
            "head-global-pax",
            "a global PAX header before the head",
            "BIN-011 BIN-012",
            OPEN,
            Case {
                head: Box::new(|h| [header(b"pax_global_header", 0, b'g'), h].concat()),
                ..good()
            },
        ),
        row(
            "content-pax",
            "a component's entry behind a PAX size",
            "BIN-011 BIN-012",
            OPEN,
            Case {
                content: Box::new(|mut c| {
                    let e = c.remove(0);
                    vec![[pax(b"10 size=8\n", b"", 0)[..1024].to_vec(), e].concat()]
                }),
                ..good()
            },
        ),
        row(
            "content-checksum",
            "a component's entry with a wrong checksum",
            "BIN-010 BIN-012",
            CONTENT,
            Case {
                content: Box::new(|mut c| {
                    c[0][148] ^= 1;
                    c
                }),
                ..good()
            },
        ),
        row(
            "content-link",
            "a component's entry that is a hard link",
            "BIN-010 BIN-012",
            CONTENT,
            Case {
                content: Box::new(|mut c| {
                    let e = c.remove(0);
                    vec![patch(e, 156, b"1")]
                }),
                ..good()
            },
        ),
        row(
            "content-size",
            "a component's entry of another size",
            "BIN-010 BIN-012",
            CONTENT,
            Case {
                content: Box::new(|mut c| {
                    let e = c.remove(0);
                    vec![patch(e, 124, b"00000000011")]
                }),
                ..good()
            },
        ),
        row(
            "end-missing",
            "no end of tar",
            "BIN-001 BIN-020",
            OPEN,
            frames(|f| drop(f.pop())),
        ),
        row(
            "symlink-then-folder",
            "a symbolic link to a folder, then a folder of that name with another mode",
            "BIN-010",
            UNPACK,
            before(
                [
                    patch(header(b"a", 0, b'2'), 157, b"/"),
                    patch(header(b"a", 0, b'5'), 100, b"0000777"),
                ]
                .concat(),
            ),
        ),
        row(
            "pax-size-empty",
            "a PAX size of no digits",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"8 size=\n", b"a", 0)),
        ),
        row(
            "pax-size-signed",
            "a PAX size with a sign",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"11 size=+0\n", b"a", 0)),
        ),
        row(
            "pax-size-overflow",
            "a PAX size of 2^64",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"30 size=18446744073709551616\n", b"a", 0)),
        ),
        row(
            "pax-path-empty",
            "a PAX path of nothing",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"8 path=\n", b"a", 0)),
        ),
        row(
            "pax-length-wrong",
            "a PAX record that says another length",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"11 path=a\n", b"a", 0)),
        ),
        row(
            "pax-length-empty",
            "a PAX record without length",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b" path=a\n", b"a", 0)),
        ),
        row(
            "pax-path-nul",
            "a PAX path with NUL",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"12 path=a\0b\n", b"a", 0)),
        ),
        row(
            "pax-no-line-feed",
            "a PAX record without its line feed",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"9 path=ab", b"a", 0)),
        ),
        row(
            "pax-link-path",
            "a PAX link path",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"14 linkpath=/\n", b"a", 0)),
        ),
        row(
            "pax-sparse",
            "PAX keywords of a sparse file",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"22 GNU.sparse.major=1\n", b"a", 0)),
        ),
        row(
            "pax-comment",
            "a PAX comment",
            "BIN-011 BIN-012",
            UNPACK,
            before(pax(b"13 comment=x\n", b"a", 0)),
        ),
        row(
            "pax-twice",
            "two PAX headers before a file",
            "BIN-011 BIN-012",
            UNPACK,
            before(
                [
                    pax(b"10 path=a\n", b"", 0)[..1024].to_vec(),
                    pax(b"10 path=b\n", b"b", 0),
                ]
                .concat(),
            ),
        ),
        row(
            "pax-against-gnu-name",
            "a GNU long name, then a PAX path of another",
            "BIN-011 BIN-012",
            UNPACK,
            before(
                [
                    header(b"././@LongLink", 2, b'L'),
                    [b"c\0".to_vec(), vec![0; 510]].concat(),
                    pax(b"10 path=b\n", b"c", 0),
                ]
                .concat(),
            ),
        ),
        row(
            "pax-name-differs",
            "a PAX path whose header is of another name",
            "BIN-011 BIN-012",
            UNPACK,
            before({
                let mut e = entry(&"n".repeat(150), b"");
                let at = e.len() - 512;
                let h = patch(e.split_off(at), 0, b"m");
                [e, h].concat()
            }),
        ),
        row(
            "pax-where-prefix-would-do",
            "a PAX path that prefix and name could hold",
            "BIN-011 BIN-012",
            UNPACK,
            before({
                let path = format!("{}/{}", "d".repeat(60), "n".repeat(60));
                pax(format!("131 path={path}\n").as_bytes(), &path.as_bytes()[..100], 0)
            }),
        ),
        row(
            "prefix-where-name-would-do",
            "a path in two fields that one could hold",
            "BIN-011 BIN-012",
            UNPACK,
            before(patch(header(b"b", 0, b'0'), 345, b"a")),
        ),
        row(
            "prefix-cut-elsewhere",
            "a long path cut at its first slash",
            "BIN-011 BIN-012",
            UNPACK,
            before({
                let name = format!("{}/b", "n".repeat(90));
                patch(header(name.as_bytes(), 0, b'0'), 345, "p".repeat(20).as_bytes())
            }),
        ),
    ]
}
