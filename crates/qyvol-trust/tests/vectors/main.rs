//! Runs `formats/vectors/keys`, `formats/vectors/policy` and
//! `formats/vectors/signing` through what the crate shows to everyone. The
//! last are written by `cargo xtask vectors`, with keys and signatures that it makes
//! itself; the others stand as they are.
// Clippy knows tests by their attribute alone, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code, reason = "what writes the vectors uses the rest")]

mod judge;
mod make;
mod rows;
mod vector;

use qyvol_trust::{KeyError, PrivateKey, PublicKey, TrustPolicy};
use qyvol_types::Timestamp;
use serde_json::Value;

use judge::{judge, outcome, report};
use vector::Vector;

/// One word for why a key was refused.
fn because(error: &KeyError) -> &'static str {
    match error {
        KeyError::Pem(_) | KeyError::PrivateHalf => "pem",
        KeyError::UnsupportedKey(_) => "form",
        KeyError::SmallOrder => "small-order",
        KeyError::NotCanonical => "not-canonical",
        KeyError::NotOnCurve => "not-on-curve",
        KeyError::Passphrase => "passphrase",
        KeyError::Cost { .. } => "cost",
        KeyError::Encryption => "encryption",
        _ => "library",
    }
}

// [SIGN-001] [SIGN-002] [SIGN-003] [SIGN-004] [SIGN-006]
#[test]
fn key_vectors_hold() {
    let mut wrong = Vec::new();
    for vector in Vector::all("keys") {
        let key = match vector.get("kind") {
            "public" => PublicKey::from_pem(&vector.body),
            "private" => PrivateKey::from_pem(&vector.body).map(|k| k.public().clone()),
            "encrypted" => {
                PrivateKey::from_encrypted_pem(&vector.body, vector.get("passphrase")).map(|k| k.public().clone())
            }
            other => panic!("{}: kind: {other}", vector.file),
        };
        let said = match &key {
            Ok(key) => vec![
                ("expect", "accept".to_string()),
                ("algorithm", key.algorithm().to_string()),
                ("fingerprint", key.fingerprint()),
                ("hint", key.hint()),
            ],
            Err(error) => vec![("expect", "refuse".into()), ("because", because(error).into())],
        };
        for (header, said) in said {
            if vector.get(header) != said {
                wrong.push(format!("{}: {header}: {said} ({key:?})", vector.file));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// [SIGN-020]
#[test]
fn policy_vectors_hold() {
    let mut wrong = Vec::new();
    for vector in Vector::all("policy") {
        let file = &vector.file;
        match (TrustPolicy::parse(&vector.body), vector.get("expect")) {
            (Ok(policy), "accept") => {
                // [SIGN-049]
                let form = policy.to_parsed_form();
                if TrustPolicy::from_parsed_form(&form).as_ref() != Some(&policy) {
                    wrong.push(format!("{file}: its parsed form is another policy"));
                }
                let shown = serde_json::to_value(policy.summary()).unwrap();
                let due: Value = serde_json::from_str(vector.get("shows")).unwrap_or_default();
                if shown != due {
                    wrong.push(format!("{file}: shows: {shown}"));
                }
            }
            (Err(problems), "refuse") => {
                let first = problems.0.first().expect("a refusal says why");
                let at = format!("{}:{}", first.place.line, first.place.column);
                if vector.get("at") != at {
                    wrong.push(format!("{file}: at: {at} ({first})"));
                }
                let shown = format!("{problems}{}", first.snippet());
                if shown.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}') {
                    wrong.push(format!("{file}: shown unescaped: {shown:?}"));
                }
            }
            (got, _) => wrong.push(format!("{file}: {:?}", got.map(|_| "accepted"))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// [SIGN-010] [SIGN-011] [SIGN-012] [SIGN-013] [SIGN-022] [SIGN-023]
// [SIGN-024] [SIGN-025] [SIGN-026] [SIGN-027] [SIGN-030] [SIGN-032] [SIGN-033]
#[test]
fn signing_vectors_hold() {
    let vectors = Vector::all("signing");
    let mut wrong = Vec::new();
    for vector in &vectors {
        let judged = judge(vector);
        let said = outcome(&judged);
        if vector.outcome() != said {
            wrong.push(format!("{}: {said:?}", vector.file));
        }
        let mut lines = report(&judged).lines();
        lines.extend(judged.as_ref().err().map(ToString::to_string));
        if lines
            .iter()
            .any(|l| l.chars().any(|c| c.is_control() || c == '\u{202e}'))
        {
            wrong.push(format!("{}: shown unescaped: {lines:?}", vector.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(vectors.len(), rows::rows().len(), "run `cargo xtask vectors`");
}

/// What the generator signs is what the crate signs.
// [SIGN-012] [SIGN-013]
#[test]
fn bundle_made_by_hand_is_the_one_that_is_signed() {
    let key = PrivateKey::from_pem(&make::private_pem(1)).unwrap();
    let statement = qyvol_trust::Statement {
        subject: make::subject().digest,
        name: "acme/app".into(),
        version: "1.0.0".into(),
        role: "release".into(),
        sequence: 1_000_000_000_000,
        created: Timestamp::from_unix(make::NOW - 1000).unwrap(),
        expires: None,
        critical: Vec::new(),
    };
    let signed = qyvol_trust::Envelope::sign(&key, &statement).unwrap();
    let by_hand = make::signed(1, &make::statement());
    assert_eq!(String::from_utf8_lossy(signed.bytes()), by_hand);
}
