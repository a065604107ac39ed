//! Attestations: what is no signature, and what a rule may ask for.

use super::{Case, Row, keys, row};
use crate::make;

const PREDICATE: &str = r#"{"buildDefinition":{"buildType":"https://actions.github.io/buildtypes/workflow/v1","externalParameters":{"workflow":{"ref":"refs/tags/v1.0.0","repository":"https://github.com/acme/app","path":".github/workflows/release.yml"}},"resolvedDependencies":[{"uri":"git+https://github.com/acme/app@refs/tags/v1.0.0"}]},"runDetails":{"builder":{"id":"https://qyvol.dev/builder/ci-env/v1"}}}"#;

fn statement(version: &str, digest: &str, kind: &str, predicate: &str) -> String {
    format!(
        r#"{{"_type":"https://in-toto.io/Statement/{version}","subject":[{{"name":"acme/app","digest":{{"sha256":"{digest}"}}}}],"predicateType":"{kind}","predicate":{predicate}}}"#
    )
}

fn provenance() -> String {
    statement(
        "v1",
        &make::subject().digest.hex(),
        "https://slsa.dev/provenance/v1",
        PREDICATE,
    )
}

/// A release by key 1 and an attestation by this key, under a rule with this condition.
fn asking(by: u8, attestation: &str, condition: &str) -> Case {
    Case {
        policy: keys(&[1, 2])
            + "rules:\n  - scope: \"file:\"\n    require: [{ role: release, keys: [k1], threshold: 1 }]\n"
            + &format!("    attest:\n      - {{ type: {condition} }}\n"),
        bundles: vec![
            make::signed(by, attestation).into(),
            make::signed(1, &make::statement()).into(),
        ],
        ..Case::default()
    }
}

const WHOLE: &str = "https://slsa.dev/provenance/v1, keys: [k2], builder: https://qyvol.dev/builder/ci-env/v1, source: https://github.com/acme/app, ref: refs/tags/v*";

pub fn rows() -> Vec<Row> {
    let digest = make::subject().digest.hex();
    let due = |name, what, exit, case| row(name, what, "SIGN-062", exit, "1 good", case);
    vec![
        row(
            "attest-alone",
            "an attestation and no signature",
            "SIGN-061",
            10,
            "",
            Case {
                bundles: vec![make::signed(1, &provenance()).into()],
                ..Case::default()
            },
        ),
        due(
            "attest-met",
            "every field as the rule asks",
            0,
            asking(2, &provenance(), WHOLE),
        ),
        due(
            "attest-statement-v01",
            "a statement of in-toto's version 0.1, as cosign writes it",
            0,
            asking(
                2,
                &statement("v0.1", &digest, "https://cyclonedx.org/bom", "{}"),
                "https://cyclonedx.org/bom, keys: [k2]",
            ),
        ),
        due(
            "attest-two-subjects",
            "the image as one of two subjects",
            0,
            asking(
                2,
                &provenance().replacen(
                    "\"subject\":[",
                    &format!(
                        "\"subject\":[{{\"name\":\"x\",\"digest\":{{\"sha256\":\"{}\"}}}},",
                        "0".repeat(64)
                    ),
                    1,
                ),
                WHOLE,
            ),
        ),
        due(
            "attest-other-image",
            "an attestation about another image",
            13,
            asking(2, &provenance().replacen(&digest, &"0".repeat(64), 1), WHOLE),
        ),
        due(
            "attest-other-key",
            "an attestation by a key that signs releases",
            13,
            asking(1, &provenance(), WHOLE),
        ),
        due(
            "attest-unknown-key",
            "an attestation by a key that is not in the policy",
            13,
            asking(3, &provenance(), WHOLE),
        ),
        due(
            "attest-other-type",
            "an attestation of another type",
            13,
            asking(
                2,
                &statement("v1", &digest, "https://cyclonedx.org/bom", PREDICATE),
                WHOLE,
            ),
        ),
        due(
            "attest-other-source",
            "a source whose URL begins as the one asked for",
            13,
            asking(2, &provenance().replace("acme/app", "acme/apple"), WHOLE),
        ),
        due(
            "attest-other-builder",
            "another builder",
            13,
            asking(2, &provenance().replace("ci-env", "laptop"), WHOLE),
        ),
        due(
            "attest-branch",
            "a branch where the rule asks for a tag",
            13,
            asking(2, &provenance().replace("refs/tags/v1.0.0", "refs/heads/main"), WHOLE),
        ),
        due(
            "attest-no-builder",
            "a provenance of another shape",
            13,
            asking(
                2,
                &statement("v1", &digest, "https://slsa.dev/provenance/v1", "[]"),
                WHOLE,
            ),
        ),
        due(
            "attest-v02-source",
            "the source of a provenance of SLSA's version 0.2",
            0,
            asking(
                2,
                &statement(
                    "v0.1",
                    &digest,
                    "https://slsa.dev/provenance/v0.2",
                    r#"{"builder":{"id":"b"},"invocation":{"configSource":{"uri":"git+https://github.com/acme/app@refs/heads/main"}}}"#,
                ),
                "https://slsa.dev/provenance/*, keys: [k2], builder: b, source: https://github.com/acme/*, ref: refs/heads/main",
            ),
        ),
        row(
            "attest-duplicate-key",
            "a builder that is said twice: no statement of any type",
            "SIGN-062",
            13,
            "1 unknown-key, 1 good",
            asking(
                2,
                &provenance().replacen("{\"builder\":", "{\"builder\":{\"id\":\"x\"},\"builder\":", 1),
                WHOLE,
            ),
        ),
    ]
}
