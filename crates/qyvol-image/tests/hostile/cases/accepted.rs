//! Archives that are accepted: what a reader must take, and with good bytes
//! around it, what a writer must make.

use super::{ACCEPT, Row, files, frames, good, large, named, row, signed};
use crate::common::{Case, decoded, raw_frame};

/// From `good-archive.txt` of the signing vectors.
const RELEASE: &str = r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"/RENMB0vB33hQUuPmfRBsUA/qyB7IFL70sBl5O6OfcI="}},"dsseEnvelope":{"payload":"eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEiLCJzdWJqZWN0IjpbeyJuYW1lIjoiYSIsImRpZ2VzdCI6eyJzaGEyNTYiOiJmZjI4NDhkZjBjMWZiNzM0OTYyNWRiODE3MTdhNzM0ZDk0MmRkNWM4YzM2ZjdkMmRhNWJmODA1OTgyYWI5NTRiIn19XSwicHJlZGljYXRlVHlwZSI6Imh0dHBzOi8vcXl2b2wuZGV2L3JlbGVhc2UvdjEiLCJwcmVkaWNhdGUiOnsibmFtZSI6ImEiLCJ2ZXJzaW9uIjoiMS4wLjAiLCJyb2xlIjoicmVsZWFzZSIsInNlcXVlbmNlIjoxMDAwMDAwMDAwMDAwLCJjcmVhdGVkIjoiMTk3MC0wMS0wMVQwMDowMDowMFoiLCJjcml0aWNhbCI6W119fQ==","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"YEHfzgmOSUMIG5AUwnStft+RXHiFFBZwWs6GDnvE05PBVjJSWUjQ8lPuB/kO7rKyscEaKRwFSjgw3nUv41Y4DA=="}]}}"#;

pub fn rows() -> Vec<Row> {
    let long = "folder/".repeat(20) + &"n".repeat(100);
    let longer = "x".repeat(200);
    let deep = format!("{}{}", format!("{}/", "d".repeat(31)).repeat(31), "x".repeat(32));
    vec![
        row("good-component", "a component alone", "BIN-001 BIN-003", ACCEPT, good()),
        row(
            "good-assets",
            "assets in folders, one empty",
            "BIN-050",
            ACCEPT,
            files(&[("a/b.txt", b"words"), ("a/c", b""), ("d.txt", b"more words")]),
        ),
        row(
            "good-no-assets",
            "an asset layer of no files",
            "BIN-050",
            ACCEPT,
            files(&[]),
        ),
        row(
            "good-signed",
            "two signatures, sorted by digest",
            "BIN-003 BIN-043",
            ACCEPT,
            signed(),
        ),
        row(
            "good-signed-release",
            "a signature that signing/good-archive.txt judges",
            "BIN-003 BIN-043",
            ACCEPT,
            Case {
                signatures: vec![RELEASE.into()],
                ..good()
            },
        ),
        row(
            "good-two-images",
            "two images sorted by name, with one component and one signature each",
            "BIN-001 BIN-003 BIN-004",
            ACCEPT,
            Case {
                name: "acme/a",
                signatures: vec!["of a".into()],
                others: vec![Case {
                    name: "b",
                    signatures: vec!["of b".into()],
                    ..files(&[("words.txt", b"of b alone")])
                }],
                ..good()
            },
        ),
        row(
            "good-names-of-one-image",
            "an image under its own name and those of two registries, one a digest, with its signatures",
            "BIN-003 BIN-004",
            ACCEPT,
            Case {
                index: named(&[
                    "a:1.0.0",
                    "r.example/acme/a:1",
                    "r.example/acme/a:latest",
                    "z.example:5000/a@",
                ]),
                ..signed()
            },
        ),
        row(
            "good-one-own-name",
            "two images of one own name, under two repositories",
            "BIN-003 BIN-004",
            ACCEPT,
            Case {
                index: Box::new(|i| {
                    i.replacen("a:1.0.0", "r.example/a/a:1", 1)
                        .replace("\"a:1.0.0", "\"r.example/b/a:1")
                }),
                others: vec![Case {
                    component: [crate::common::COMPONENT, &[0, 2, 1, b'x']].concat(),
                    ..good()
                }],
                ..good()
            },
        ),
        row(
            "good-same-but-for-the-name",
            "two images whose assets are one blob",
            "BIN-001 BIN-004",
            ACCEPT,
            Case {
                others: vec![Case {
                    name: "b",
                    ..files(&[("one.txt", b"for both")])
                }],
                ..files(&[("one.txt", b"for both")])
            },
        ),
        row(
            "good-long-paths",
            "paths that need ustar's prefix or a PAX record, and one of 1,024 bytes",
            "BIN-011 BIN-051",
            ACCEPT,
            files(&[(&deep, b"deep"), (&long, b"split"), (&longer, b"PAX")]),
        ),
        row(
            "good-names",
            "names that are unusual and portable; store and tools have their own elsewhere",
            "BIN-051",
            ACCEPT,
            files(&[
                ("#a", b""),
                ("-r", b""),
                (".lock", b""),
                (".qyvol", b""),
                ("Straße/日本語.txt", b""),
                ("blobs/sha256/x", b""),
                ("com10", b""),
                ("index.json", b""),
                ("oci-layout", b""),
                ("tmp/x.lock", b""),
            ]),
        ),
        row(
            "good-many-frames",
            "a component of 5 MiB, in three frames",
            "BIN-020",
            ACCEPT,
            large(5 << 20),
        ),
        row(
            "good-one-full-frame",
            "a component whose entry is 2 MiB: one frame, and no empty one behind it",
            "BIN-020",
            ACCEPT,
            large((2 << 20) - 512),
        ),
        row(
            "good-one-byte-more",
            "a component of a byte more, whose padding begins the second frame",
            "BIN-020",
            ACCEPT,
            large((2 << 20) - 511),
        ),
        row(
            "good-assets-many-frames",
            "assets of 3 MiB, in two frames",
            "BIN-050",
            ACCEPT,
            files(&[("a", &[0; 3 << 20]), ("b", b"behind it")]),
        ),
        row(
            "good-core-module",
            "a core module",
            "BIN-041",
            ACCEPT,
            Case {
                component: b"\0asm\x01\0\0\0".to_vec(),
                config: Box::new(|c| {
                    let (start, rest) = c.split_once("\"component\"").unwrap();
                    let rest = &rest[rest.find("\"qyv\"").unwrap()..];
                    format!("{start}{rest}").replace("wasip2", "wasip1")
                }),
                ..good()
            },
        ),
        row(
            "good-stored",
            "frames of raw blocks",
            "BIN-022",
            ACCEPT,
            frames(|f| {
                for (frame, _) in f {
                    let d = decoded(frame);
                    *frame = raw_frame(0xa4, &(d.len() as u32).to_le_bytes(), &d, true);
                }
            }),
        ),
        row(
            "good-window",
            "a frame with a window of 8 MiB",
            "BIN-021",
            ACCEPT,
            frames(|f| {
                let d = decoded(&f[1].0);
                let rest = [&[0x68][..], &(d.len() as u32).to_le_bytes()].concat();
                f[1].0 = raw_frame(0x84, &rest, &d, true);
            }),
        ),
        row(
            "good-unknown-config-key",
            "a config with a key of somebody else's",
            "BIN-041",
            ACCEPT,
            Case {
                config: Box::new(|c| c.replacen('{', "{\"author\":\"x\",", 1)),
                ..good()
            },
        ),
        row(
            "good-annotated-manifest",
            "a manifest with an annotation",
            "BIN-040",
            ACCEPT,
            Case {
                manifest: Box::new(|m| m.replacen("\"layers\"", "\"annotations\":{\"x\":\"y\"},\"layers\"", 1)),
                ..good()
            },
        ),
    ]
}
