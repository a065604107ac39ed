//! The OCI layout: blobs, index, manifest, config.

use super::{CONFIG, CONTENT, OPEN, Row, files, good, head_files, index, manifest, row};
use crate::common::{Case, blob, entry};

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "blob-not-listed",
            "a blob in the head that nothing names",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| f.push(blob(b"smuggled"))),
        ),
        row(
            "blob-twice",
            "the config twice in the head",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| f.push(f[3].clone())),
        ),
        row(
            "config-missing",
            "no config",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| drop(f.remove(3))),
        ),
        row(
            "manifest-missing",
            "no manifest",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| drop(f.remove(2))),
        ),
        row(
            "content-missing",
            "no component",
            "BIN-001 BIN-030",
            OPEN,
            Case {
                content: Box::new(|_| Vec::new()),
                ..good()
            },
        ),
        row(
            "content-twice",
            "the component twice",
            "BIN-001 BIN-030",
            OPEN,
            Case {
                content: Box::new(|c| [c.clone(), c].concat()),
                ..good()
            },
        ),
        row(
            "content-swapped",
            "assets before the component",
            "BIN-001 BIN-030",
            CONTENT,
            Case {
                content: Box::new(|c| c.into_iter().rev().collect()),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "content-altered",
            "one byte of the component changed",
            "BIN-032",
            CONTENT,
            Case {
                content: Box::new(|mut c| {
                    c[0][515] ^= 1;
                    c
                }),
                ..good()
            },
        ),
        row(
            "content-named-otherwise",
            "component under another blob's name",
            "BIN-012",
            CONTENT,
            Case {
                content: Box::new(|_| vec![entry(&blob(b"x").0, crate::common::COMPONENT)]),
                ..good()
            },
        ),
        row(
            "order-changed",
            "config before manifest",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| f.swap(2, 3)),
        ),
        row(
            "layout-behind-index",
            "index.json before oci-layout",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| f.swap(0, 1)),
        ),
        row(
            "layout-version",
            "another layout version",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| f[0].1 = br#"{"imageLayoutVersion":"1.1.0"}"#.to_vec()),
        ),
        row(
            "blob-wrong-digest",
            "a blob under another's name",
            "BIN-001 BIN-030",
            OPEN,
            head_files(|f| f[3].1.push(b' ')),
        ),
        row(
            "no-image",
            "an index of nothing",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| format!("{}[]}}", i.split_once('[').unwrap().0)),
                ..good()
            },
        ),
        row(
            "image-twice",
            "one image listed twice",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| {
                    let (start, rest) = i.split_once('[').unwrap();
                    let one = rest.strip_suffix("]}").unwrap().to_string();
                    format!("{start}[{one},{one}]}}")
                }),
                ..good()
            },
        ),
        row(
            "index-nested",
            "an index in the index",
            "BIN-003",
            OPEN,
            index("image.manifest.v1", "image.index.v1"),
        ),
        row(
            "index-white-space",
            "index.json with a space",
            "BIN-003",
            OPEN,
            index("{\"", "{ \""),
        ),
        row(
            "index-unknown-key",
            "index.json with a key more",
            "BIN-003",
            OPEN,
            index("{\"", "{\"x\":1,\""),
        ),
        row(
            "index-duplicate-key",
            "index.json with a key twice",
            "BIN-003",
            OPEN,
            index("{\"", "{\"schemaVersion\":2,\""),
        ),
        row(
            "index-name-missing",
            "an image without a name",
            "BIN-003",
            OPEN,
            index("ref.name", "ref.none"),
        ),
        row(
            "index-name-of-registry",
            "an image named by the place it came from",
            "BIN-003",
            OPEN,
            index("\"a:1.0.0\"", "\"../a:1.0.0\""),
        ),
        row(
            "index-size-wrong",
            "index with another size of the manifest",
            "BIN-003",
            OPEN,
            index("\"size\":", "\"size\":1"),
        ),
        row(
            "digest-upper-case",
            "digest in upper case",
            "BIN-002",
            OPEN,
            index("sha256:", "SHA256:"),
        ),
        row(
            "digest-climbs",
            "digest with ../",
            "BIN-002",
            OPEN,
            index("sha256:", "sha256:../"),
        ),
        row(
            "digest-unknown-algorithm",
            "digest of another algorithm",
            "BIN-002",
            OPEN,
            manifest("sha256:", "sha1:"),
        ),
        row(
            "manifest-and-index",
            "manifest with `manifests` too",
            "BIN-040",
            OPEN,
            manifest("\"layers\"", "\"manifests\":[],\"layers\""),
        ),
        row(
            "manifest-artifact-type",
            "image with an artifactType",
            "BIN-040",
            OPEN,
            manifest("\"config\"", "\"artifactType\":\"application/wasm\",\"config\""),
        ),
        row(
            "manifest-media-type",
            "manifest whose mediaType is an index's",
            "BIN-040",
            OPEN,
            manifest("image.manifest.v1", "image.index.v1"),
        ),
        row(
            "manifest-duplicate-key",
            "manifest with two lists of layers",
            "BIN-040",
            OPEN,
            manifest("\"layers\"", "\"layers\":[],\"layers\""),
        ),
        row(
            "config-foreign-type",
            "config of a container image",
            "BIN-040",
            OPEN,
            manifest("vnd.wasm.config.v0", "vnd.oci.image.config.v1"),
        ),
        row(
            "layer-foreign-type",
            "layer of a container image",
            "BIN-040",
            OPEN,
            manifest("\"application/wasm\"", "\"application/vnd.oci.image.layer.v1.tar\""),
        ),
        row(
            "two-components",
            "two layers of application/wasm",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replacen(crate::common::ASSETS, "application/wasm", 1)),
                ..files(&[("a", b"a")])
            },
        ),
        row(
            "no-layers",
            "an image without layers",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| format!("{}\"layers\":[]}}", m.split_once("\"layers\"").unwrap().0)),
                ..good()
            },
        ),
        row(
            "layer-size-larger",
            "component said to be a byte longer",
            "BIN-032",
            CONTENT,
            Case {
                manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":9}")),
                ..good()
            },
        ),
        row(
            "layer-size-smaller",
            "component said to be a byte shorter",
            "BIN-032",
            CONTENT,
            Case {
                manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":7}")),
                ..good()
            },
        ),
        row(
            "layer-size-huge",
            "component of 2^63 bytes",
            "BIN-040",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replace("\"size\":8}", "\"size\":9223372036854775808}")),
                ..good()
            },
        ),
        row(
            "config-size-wrong",
            "config said to be of another size",
            "BIN-032",
            OPEN,
            Case {
                manifest: Box::new(|m| m.replacen("\"size\":", "\"size\":1", 1)),
                ..good()
            },
        ),
        row(
            "config-not-json",
            "config that isn't JSON",
            "BIN-041",
            CONFIG,
            Case {
                config: Box::new(|_| "not json".into()),
                ..good()
            },
        ),
        row(
            "config-duplicate-key",
            "config with a key twice",
            "BIN-041",
            CONFIG,
            Case {
                config: Box::new(|c| c.replacen('{', "{\"os\":\"wasip1\",", 1)),
                ..good()
            },
        ),
        row(
            "config-unknown-qyv-key",
            "config with an unknown key in qyv",
            "BIN-041",
            CONFIG,
            Case {
                config: Box::new(|c| c.replacen("\"version\":1,", "\"version\":1,\"x\":0,", 1)),
                ..good()
            },
        ),
    ]
}
