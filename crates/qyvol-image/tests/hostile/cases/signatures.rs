//! Signatures as referrers in the layout.

use super::{OPEN, Row, good, row, signed};
use crate::common::Case;

/// One signature.
fn one() -> Case {
    Case {
        signatures: vec!["one".into()],
        ..good()
    }
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "signatures-unsorted",
            "signatures in the wrong order",
            "BIN-043",
            OPEN,
            Case {
                index: Box::new(|i| {
                    let mut parts: Vec<String> = i.split("},{").map(str::to_string).collect();
                    let last = parts.pop().unwrap();
                    let middle = parts.pop().unwrap();
                    let cut = last.strip_suffix("}]}").unwrap().to_string();
                    format!("{}}},{{{cut}}},{{{middle}}}]}}", parts[0])
                }),
                ..signed()
            },
        ),
        row(
            "signature-of-another",
            "a signature whose subject is another image",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| {
                    let at = r.rfind("sha256:").unwrap() + 7;
                    format!("{}{}{}", &r[..at], "0".repeat(64), &r[at + 64..])
                }),
                ..signed()
            },
        ),
        row(
            "signature-subject-type",
            "a signature whose subject has an index's type",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| {
                    r.replace(
                        "\"subject\":{\"mediaType\":\"application/vnd.oci.image.manifest",
                        "\"subject\":{\"mediaType\":\"application/vnd.oci.image.index",
                    )
                }),
                ..signed()
            },
        ),
        row(
            "signature-with-config",
            "a signature whose config isn't the empty one",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| r.replace("\"size\":2}", "\"size\":3}")),
                ..signed()
            },
        ),
        row(
            "referrer-foreign",
            "a referrer that isn't a sigstore bundle",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| r.replace("sigstore.bundle.v0.3+json\",\"config", "sbom+json\",\"config")),
                ..signed()
            },
        ),
        row(
            "signature-no-subject",
            "a signature without subject",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| r.replace("\"subject\"", "\"x\"")),
                ..signed()
            },
        ),
        row(
            "signature-subject-size",
            "a signature whose subject has another size",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| {
                    let (a, b) = r.rsplit_once("\"size\":").unwrap();
                    format!("{a}\"size\":1{b}")
                }),
                ..signed()
            },
        ),
        row(
            "signature-two-layers",
            "a signature of two layers",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| {
                    let (a, b) = r.split_once("\"layers\":[").unwrap();
                    let layer = b.split_once(']').unwrap().0.to_string();
                    format!("{a}\"layers\":[{layer},{b}")
                }),
                ..signed()
            },
        ),
        row(
            "signature-no-layers",
            "a signature without a bundle",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| {
                    let (a, b) = r.split_once("\"layers\":[").unwrap();
                    format!("{a}\"layers\":[{}", &b[b.find(']').unwrap()..])
                }),
                ..signed()
            },
        ),
        row(
            "signature-bundle-size",
            "a signature that gives its bundle another size",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| r.replace("\"size\":3}", "\"size\":4}")),
                ..signed()
            },
        ),
        row(
            "signature-no-artifact-type",
            "a signature's manifest without artifactType",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| r.replacen("\"artifactType\"", "\"x\"", 1)),
                ..signed()
            },
        ),
        row(
            "signature-duplicate-subject",
            "a signature with two subjects",
            "BIN-043",
            OPEN,
            Case {
                referrer: Box::new(|r| r.replace("\"subject\":", "\"subject\":null,\"subject\":")),
                ..signed()
            },
        ),
        row(
            "signature-before-image",
            "a signature before its image",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| {
                    let (start, rest) = i.split_once('[').unwrap();
                    let (a, b) = rest.strip_suffix("]}").unwrap().split_once("}},{").unwrap();
                    format!("{start}[{{{b},{a}}}}}]}}")
                }),
                ..one()
            },
        ),
        row(
            "signature-twice",
            "a signature listed twice",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| {
                    let list = i.strip_suffix("]}").unwrap();
                    let last = list.rsplit_once(",{").unwrap().1;
                    format!("{list},{{{last}]}}")
                }),
                ..one()
            },
        ),
        row(
            "signature-listed-as-other",
            "a signature listed as an SBOM",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| i.replace("dev.sigstore.bundle.v0.3+json", "x.sbom+json")),
                ..one()
            },
        ),
        row(
            "signature-not-listed",
            "a signature that the index doesn't list",
            "BIN-001 BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| format!("{}]}}", i.rsplit_once(",{").unwrap().0)),
                ..one()
            },
        ),
        row(
            "signature-with-a-name",
            "a signature with an image's name",
            "BIN-003",
            OPEN,
            Case {
                index: Box::new(|i| {
                    i.replace(
                        ",\"artifactType\"",
                        ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"b:1.0.0\"},\"artifactType\"",
                    )
                }),
                ..one()
            },
        ),
        row(
            "signature-blob-missing",
            "a signature without its blob",
            "BIN-001",
            OPEN,
            Case {
                files: Box::new(|mut f| {
                    f.pop();
                    f
                }),
                ..one()
            },
        ),
        row(
            "signature-empty-config-missing",
            "a signature without the blob of its config",
            "BIN-001 BIN-043",
            OPEN,
            Case {
                files: Box::new(|mut f| {
                    f.remove(5);
                    f
                }),
                ..one()
            },
        ),
        row(
            "signature-order",
            "a bundle before the signature's manifest",
            "BIN-001",
            OPEN,
            Case {
                files: Box::new(|mut f| {
                    f.swap(4, 6);
                    f
                }),
                ..one()
            },
        ),
        row(
            "signature-of-the-other-image",
            "each image with the other's signature",
            "BIN-003 BIN-043",
            OPEN,
            Case {
                index: Box::new(|i| {
                    let (start, rest) = i.split_once('[').unwrap();
                    let mut e: Vec<String> = rest
                        .strip_suffix("]}")
                        .unwrap()
                        .split(",{\"mediaType\"")
                        .map(str::to_string)
                        .collect();
                    e.swap(1, 3);
                    format!("{start}[{}]}}", e.join(",{\"mediaType\""))
                }),
                others: vec![Case { name: "b", ..one() }],
                ..one()
            },
        ),
    ]
}
