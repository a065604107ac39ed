//! Images of the layout: several in a file, and the manifest's fields.

use super::{CONFIG, OPEN, Row, files, good, index, manifest, named, row};
use crate::common::Case;

/// An archive whose one image has these names, refused.
fn names_row(name: &'static str, what: &'static str, names: &'static [&'static str]) -> Row {
    let case = Case {
        index: named(names),
        ..good()
    };
    row(name, what, "BIN-003 BIN-004", OPEN, case)
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "two-images-one-name",
            "two images of one name",
            "BIN-004",
            OPEN,
            Case {
                others: vec![Case {
                    manifest: Box::new(|m| m.replacen("\"layers\"", "\"annotations\":{\"x\":\"y\"},\"layers\"", 1)),
                    ..good()
                }],
                ..good()
            },
        ),
        row(
            "images-unsorted",
            "images in another order than their names'",
            "BIN-003",
            OPEN,
            Case {
                name: "b",
                others: vec![good()],
                ..good()
            },
        ),
        row(
            "images-disagree",
            "two images that give one blob two sizes",
            "BIN-040 BIN-032",
            OPEN,
            Case {
                others: vec![Case {
                    name: "b",
                    manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":9}")),
                    ..good()
                }],
                ..good()
            },
        ),
        row(
            "images-disagree-on-type",
            "a component that is another image's assets",
            "BIN-040",
            OPEN,
            Case {
                name: "a",
                others: vec![Case {
                    name: "b",
                    layer: Box::new(|_| crate::common::COMPONENT.to_vec()),
                    ..files(&[("a", b"a")])
                }],
                ..good()
            },
        ),
        row(
            "layer-is-config",
            "a component that is the config",
            "BIN-001 BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let d = m
                        .split("\"digest\":\"")
                        .nth(1)
                        .unwrap()
                        .split('}')
                        .next()
                        .unwrap()
                        .to_string();
                    format!(
                        "{}\"layers\":[{{\"mediaType\":\"application/wasm\",\"digest\":\"{d}}}]}}",
                        m.split_once("\"layers\"").unwrap().0
                    )
                }),
                content: Box::new(|_| Vec::new()),
                ..good()
            },
        ),
        row(
            "index-many-times",
            "one manifest listed 2,500 times",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| {
                    let (start, rest) = i.split_once('[').unwrap();
                    format!("{start}[{}]}}", vec![rest.strip_suffix("]}").unwrap(); 2_500].join(","))
                }),
                ..good()
            },
        ),
        row(
            "index-name-of-another",
            "an image that the index names otherwise than its config",
            "BIN-004",
            CONFIG,
            index("\"a:1.0.0\"", "\"b:1.0.0\""),
        ),
        row(
            "index-name-version",
            "an image whose version is another in the index",
            "BIN-004",
            CONFIG,
            index("\"a:1.0.0\"", "\"a:1.0.1\""),
        ),
        row(
            "index-name-no-version",
            "an image without version in the index",
            "BIN-004",
            OPEN,
            index("\"a:1.0.0\"", "\"a\""),
        ),
        names_row(
            "names-unsorted",
            "two names of an image, not sorted",
            &["r.example/a:1", "a:1.0.0"],
        ),
        names_row("name-twice", "one name of an image twice", &["a:1.0.0", "a:1.0.0"]),
        names_row(
            "name-default-tag",
            "a name in a registry without a tag",
            &["r.example/a"],
        ),
        names_row("name-upper-case", "a registry's name in upper case", &["R.example/a:1"]),
        names_row("name-tag-and-digest", "a name with tag and digest", &["r.example/a:1@"]),
        names_row(
            "name-local-digest",
            "a name without a registry that is a digest",
            &["a@"],
        ),
        names_row(
            "name-other-digest",
            "a name by the digest of something else",
            &["r.example/a@sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        ),
        row(
            "name-behind-signatures",
            "an image's second name behind its signatures",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|index| {
                    let (start, rest) = index.split_once('[').unwrap();
                    let entry = rest.split_once("}}").unwrap().0;
                    let again = entry.replace("a:1.0.0", "r.example/a:1");
                    format!("{start}[{},{again}}}}}]}}", rest.strip_suffix("]}").unwrap())
                }),
                ..super::signed()
            },
        ),
        row(
            "name-of-two-images",
            "a name in a registry that two images have",
            "BIN-004",
            OPEN,
            Case {
                others: vec![Case { name: "b", ..good() }],
                index: Box::new(|i| {
                    i.replace("a:1.0.0", "r.example/a:1")
                        .replace("b:1.0.0", "r.example/a:1")
                }),
                ..good()
            },
        ),
        row(
            "index-image-artifact-type",
            "an image's entry with an artifactType",
            "BIN-003",
            OPEN,
            index(",\"annotations\"", ",\"artifactType\":\"x\",\"annotations\""),
        ),
        row(
            "index-annotation",
            "an image's entry with a second annotation",
            "BIN-003",
            OPEN,
            index("{\"org.", "{\"a\":\"b\",\"org."),
        ),
        row(
            "index-urls",
            "an image's entry with urls",
            "BIN-003",
            OPEN,
            index(",\"annotations\"", ",\"urls\":[\"http://r.example/\"],\"annotations\""),
        ),
        row(
            "index-media-type",
            "a manifest of Docker's type",
            "BIN-003 BIN-040",
            OPEN,
            index("vnd.oci.image.manifest.v1", "vnd.docker.distribution.manifest.v2"),
        ),
        row(
            "index-own-type",
            "an index of another type",
            "BIN-003",
            OPEN,
            index("image.index.v1", "image.manifest.v1"),
        ),
        row(
            "index-schema",
            "an index of schemaVersion 1",
            "BIN-003",
            OPEN,
            index("\"schemaVersion\":2", "\"schemaVersion\":1"),
        ),
        row(
            "index-escape",
            "index.json with an escape that is not needed",
            "BIN-003",
            OPEN,
            index("schemaVersion", "\\u0073chemaVersion"),
        ),
        row(
            "index-deep",
            "index.json nested 100,000 deep",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|_| "[".repeat(100_000)),
                ..good()
            },
        ),
        row(
            "index-subject",
            "an index with a subject",
            "BIN-003",
            OPEN,
            index("{\"", "{\"subject\":null,\""),
        ),
        row(
            "digest-short",
            "a digest of 63 digits",
            "BIN-002",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let at = m.find("sha256:").unwrap() + 7;
                    format!("{}{}", &m[..at], &m[at + 1..])
                }),
                ..good()
            },
        ),
        row(
            "digest-not-hexadecimal",
            "a digest with a letter that is no digit",
            "BIN-002",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let at = m.find("sha256:").unwrap() + 7;
                    format!("{}g{}", &m[..at], &m[at + 1..])
                }),
                ..good()
            },
        ),
        row(
            "digest-upper-case-digits",
            "a digest whose digits are in upper case",
            "BIN-002",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let at = m.find("sha256:").unwrap() + 7;
                    format!("{}{}{}", &m[..at], m[at..at + 64].to_uppercase(), &m[at + 64..])
                }),
                ..good()
            },
        ),
        row(
            "digest-sha512",
            "a component named by SHA-512",
            "BIN-002",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let at = m.rfind("sha256:").unwrap();
                    format!("{}sha512:{}{}", &m[..at], "0".repeat(128), &m[at + 71..])
                }),
                ..good()
            },
        ),
        row(
            "manifest-subject",
            "an image with a subject",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let d = m
                        .split_once("\"config\":")
                        .unwrap()
                        .1
                        .split_once('}')
                        .unwrap()
                        .0
                        .to_string();
                    m.replacen("\"layers\"", &format!("\"subject\":{d}}},\"layers\""), 1)
                }),
                ..good()
            },
        ),
        row(
            "manifest-schema-version",
            "a manifest of schemaVersion 1",
            "BIN-040",
            OPEN,
            manifest("\"schemaVersion\":2", "\"schemaVersion\":1"),
        ),
        row(
            "manifest-no-media-type",
            "a manifest without mediaType",
            "BIN-040",
            OPEN,
            manifest("\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",", ""),
        ),
        row(
            "manifest-fs-layers",
            "a manifest with the layers of Docker's first schema",
            "BIN-040",
            OPEN,
            manifest("\"layers\"", "\"fsLayers\":[],\"layers\""),
        ),
        row(
            "manifest-byte-order-mark",
            "a manifest behind a byte order mark",
            "BIN-040",
            OPEN,
            manifest("{\"s", "\u{feff}{\"s"),
        ),
        row(
            "manifest-too-large",
            "a manifest of 300 KiB",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m + &" ".repeat(300 << 10)),
                ..good()
            },
        ),
        row(
            "manifest-deep",
            "a manifest nested 33 levels deep",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(32), "]".repeat(32)), 1)),
                ..good()
            },
        ),
        row(
            "three-layers",
            "two layers of assets",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let at = m.rfind(",{").unwrap();
                    let last = m[at..].strip_suffix("]}").unwrap().to_string();
                    m.replace("]}", &format!("{last}]}}"))
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "assets-alone",
            "a layer of assets and no component",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| {
                    let at = m.rfind(",{").unwrap();
                    format!("{}\"layers\":[{}", m.split_once("\"layers\"").unwrap().0, &m[at + 1..])
                }),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "component-too-large",
            "component of a byte more than 256 MiB, as it says",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":268435457}")),
                ..good()
            },
        ),
        row(
            "layer-size-negative",
            "component of -1 bytes",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":-1}")),
                ..good()
            },
        ),
        row(
            "layer-size-fraction",
            "component of 8.0 bytes",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":8.0}")),
                ..good()
            },
        ),
    ]
}
