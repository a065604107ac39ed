//! Paths of assets, and what the config promises of them.

use super::{Row, UNPACK, assets, before, files, row};
use crate::common::{Case, frame, header, skippable, tar};

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(
            "path-twice",
            "a path twice",
            "BIN-050 BIN-052",
            UNPACK,
            files(&[("a", b""), ("a", b"")]),
        ),
        row(
            "path-unsorted",
            "paths out of order",
            "BIN-050",
            UNPACK,
            files(&[("b", b""), ("a", b"")]),
        ),
        row(
            "path-case",
            "paths that differ in case",
            "BIN-052",
            UNPACK,
            files(&[("A", b""), ("a", b"")]),
        ),
        row(
            "path-sharp-s",
            "ss and sharp s",
            "BIN-052",
            UNPACK,
            files(&[("ss", b""), ("ß", b"")]),
        ),
        row(
            "path-file-and-folder",
            "a file in the folder's place",
            "BIN-052",
            UNPACK,
            files(&[("a", b""), ("a/b", b"")]),
        ),
        row(
            "path-not-utf8",
            "a name that isn't UTF-8",
            "BIN-051",
            UNPACK,
            before(header(b"\xff\xfe", 0, b'0')),
        ),
        row(
            "files-more",
            "one file more than the config says",
            "BIN-054",
            UNPACK,
            assets(tar(&[("a", b""), ("b", b"")]), 1, 0),
        ),
        row(
            "files-fewer",
            "one file less than the config says",
            "BIN-054",
            UNPACK,
            assets(tar(&[("a", b"")]), 2, 0),
        ),
        row(
            "bytes-more",
            "one byte more than the config says",
            "BIN-054",
            UNPACK,
            assets(tar(&[("a", b"xx")]), 1, 1),
        ),
        row(
            "bytes-fewer",
            "one byte less than the config says",
            "BIN-054",
            UNPACK,
            assets(tar(&[("a", b"x")]), 1, 2),
        ),
        row(
            "diff-id-wrong",
            "diffID of another tar",
            "BIN-050",
            UNPACK,
            Case {
                config: Box::new(|c| {
                    let at = c.find("\"diffID\":\"sha256:").unwrap() + 17;
                    format!("{}{}{}", &c[..at], "0".repeat(64), &c[at + 64..])
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-not-zstd",
            "asset layer that isn't zstd",
            "BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| t),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-skippable",
            "asset layer with a skippable frame",
            "BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| [skippable(b"x"), frame(&t)].concat()),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-frames-not-full",
            "asset layer in two frames where one would do",
            "BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| [frame(&t[..512]), frame(&t[512..])].concat()),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-frame-empty",
            "asset layer with an empty frame behind the last",
            "BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| [frame(&t), frame(b"")].concat()),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-trailing",
            "junk behind the asset layer's frames",
            "BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|t| [frame(&t), b"junk".to_vec()].concat()),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-frame-large",
            "asset layer in a frame over 2 MiB",
            "BIN-050",
            UNPACK,
            Case {
                layer: Box::new(|_| frame(&vec![0; (2 << 20) + 1])),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "path-component-256",
            "a component of 256 bytes",
            "BIN-051",
            UNPACK,
            files(&[(&"é".repeat(128), b"")]),
        ),
        row(
            "path-1025",
            "a path of 1,025 bytes",
            "BIN-051",
            UNPACK,
            files(&[(&("d/".repeat(511) + "xyz"), b"")]),
        ),
        row(
            "path-10000-deep",
            "a path 10,000 folders deep",
            "BIN-011 BIN-051",
            UNPACK,
            files(&[(&("d/".repeat(10_000) + "x"), b"")]),
        ),
        row(
            "path-nfc-and-nfd",
            "one name in both normal forms",
            "BIN-051 BIN-052",
            UNPACK,
            files(&[("cafe\u{301}", b""), ("caf\u{e9}", b"")]),
        ),
        row(
            "path-compatible",
            "names that compatibility makes one",
            "BIN-052",
            UNPACK,
            files(&[("fi", b""), ("\u{fb01}", b"")]),
        ),
        row(
            "path-folder-in-two-cases",
            "one folder in two cases",
            "BIN-052",
            UNPACK,
            files(&[("D/a", b""), ("d/b", b"")]),
        ),
        row(
            "path-file-then-folder-in-another-case",
            "a file in another case where a folder is",
            "BIN-052",
            UNPACK,
            files(&[("A", b""), ("a/b", b"")]),
        ),
        row(
            "path-overlong-utf8",
            "a slash in overlong UTF-8",
            "BIN-051",
            UNPACK,
            before(header(b"..\xc0\xafx", 0, b'0')),
        ),
        row(
            "path-surrogate",
            "half of a surrogate pair",
            "BIN-051",
            UNPACK,
            before(header(b"\xed\xa0\x80", 0, b'0')),
        ),
    ];
    for (name, path) in [
        ("path-parent", "../x"),
        ("path-parent-inside", "a/../../x"),
        ("path-absolute", "/abs"),
        ("path-drive", "C:\\x"),
        ("path-unc", "\\\\host\\share"),
        ("path-backslash", "a\\b"),
        ("path-dot", "."),
        ("path-dot-inside", "a/./b"),
        ("path-empty-inside", "a//b"),
        ("path-trailing-slash", "a/"),
        ("path-trailing-dot", "a."),
        ("path-trailing-space", "a "),
        ("path-nfd", "cafe\u{301}"),
        ("path-con", "CON"),
        ("path-aux", "aux.txt"),
        ("path-com-superscript", "COM¹"),
        ("path-newline", "a\nb"),
        ("path-ansi", "a\u{1b}[2J"),
        ("path-bidi", "a\u{202e}txt.exe"),
        ("path-stream", "a:b"),
        ("path-question", "a?"),
        ("path-nul-device", "nul.tar.gz"),
        ("path-leading-space", " a"),
        ("path-dots-alone", "..."),
        ("path-c1-control", "a\u{85}b"),
        ("path-zero-width", "a\u{200b}b"),
        ("path-unc-slashes", "//host/share/x"),
        ("path-parent-alone", ".."),
    ] {
        rows.push(row(
            name,
            "a name that isn't portable or leaves the folder",
            "BIN-051",
            UNPACK,
            files(&[(path, b"x")]),
        ));
    }
    let empty = before(header(b"", 0, b'0'));
    rows.push(row("path-empty", "a name of nothing", "BIN-051", UNPACK, empty));
    rows
}
