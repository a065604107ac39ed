//! What was accepted before, where the rule denies rollback.

use serde_json::{Value, json};

use super::{Case, Row, keys, policy_with, row};
use crate::make;

const NAME: &str = "file:acme/app";
const SEQUENCE: u64 = 1_000_000_000_000;

fn seen(name: &str, sequence: u64, image: &[u8], created: &str) -> Value {
    json!({
        "name": name,
        "sequence": sequence,
        "version": "1.0.0",
        "digest": qyvol_types::Digest::of(image).to_string(),
        "created": created,
    })
}

fn denying(seen: Option<Value>) -> Case {
    Case {
        policy: policy_with("    require", "    rollback: deny\n    require"),
        seen,
        ..Case::default()
    }
}

/// Another image was accepted before, with this sequence.
fn after(sequence: u64) -> Case {
    denying(Some(seen(NAME, sequence, b"another image", "2026-01-01T00:00:00Z")))
}

/// Two keys are due, and sign these sequences, after `SEQUENCE`.
fn two(a: u64, b: u64) -> Case {
    let signed = |key, sequence: u64| {
        let text = make::changed(&[("\"sequence\":1000000000000", &format!("\"sequence\":{sequence}"))]);
        make::signed(key, &text).into()
    };
    let rule = "rules:\n  - scope: \"file:\"\n    rollback: deny\n    require: [{ role: release, keys: [k1, k2], threshold: 2 }]\n";
    Case {
        policy: keys(&[1, 2]) + rule,
        bundles: vec![signed(1, a), signed(2, b)],
        ..after(SEQUENCE)
    }
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "rollback-first",
            "the first image of its name",
            "SIGN-032",
            0,
            "1 good",
            denying(None),
        ),
        row(
            "rollback-newer",
            "an image of a higher sequence than the one before",
            "SIGN-032",
            0,
            "1 good",
            after(SEQUENCE - 1),
        ),
        row(
            "rollback-older",
            "an image of a lower sequence than the one before",
            "SIGN-032",
            15,
            "1 rollback",
            after(SEQUENCE + 1),
        ),
        row(
            "rollback-equivocation",
            "another image of the same sequence",
            "SIGN-032",
            15,
            "1 rollback",
            after(SEQUENCE),
        ),
        row(
            "rollback-same",
            "the same image again, of which a higher sequence is known",
            "SIGN-032",
            0,
            "1 good",
            denying(Some(seen(NAME, SEQUENCE + 1, b"an image", "2026-01-01T00:00:00Z"))),
        ),
        row(
            "rollback-allowed",
            "an image of a lower sequence, where the rule allows it",
            "SIGN-032",
            0,
            "1 good",
            Case {
                seen: after(SEQUENCE + 1).seen,
                ..Case::default()
            },
        ),
        row(
            "rollback-two-keys",
            "two keys are due, and sign two sequences: the lower counts",
            "SIGN-032",
            0,
            "2 good",
            two(SEQUENCE + 5, SEQUENCE + 9),
        ),
        row(
            "rollback-one-of-two-keys",
            "two keys are due, and only one signs a higher sequence",
            "SIGN-032",
            13,
            "1 good, 1 rollback",
            two(SEQUENCE + 5, SEQUENCE - 5),
        ),
        row(
            "rollback-of-a-tag",
            "a registry's image is remembered by its tag",
            "SIGN-032",
            0,
            "1 good",
            Case {
                policy: policy_with(
                    "\"file:\"\n",
                    "\"r.example/**\"\n    identity: repository\n    rollback: deny\n",
                ),
                asked: Some("r.example/acme/app:latest"),
                ..Case::default()
            },
        ),
        row(
            "rollback-time",
            "a key whose time is over for a signature that was accepted before, whatever the clock says",
            "SIGN-033",
            14,
            "1 expired",
            Case {
                policy: denying(None)
                    .policy
                    .replacen("rules:", "    until: 2027-06-01\nrules:", 1),
                ..denying(Some(seen(NAME, SEQUENCE - 1, b"another image", "2027-06-01T00:00:00Z")))
            },
        ),
    ]
}
