//! Runs `formats/vectors/keys`, `formats/vectors/policy` and
//! `formats/vectors/signing` through what the crate shows to everyone. The
//! last are written by an ignored test, with keys and signatures that it makes
//! itself; the others stand as they are.
// Clippy knows tests by their attribute alone, not their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod make;
mod rows;
mod vector;

use qyvol_trust::{
    Accepted, KeyError, PrivateKey, PublicKey, Report, RollbackState, Subject, TrustPolicy, Verdict, VerifyError,
    verify,
};
use qyvol_types::{Descriptor, Reference, Timestamp};
use serde_json::Value;

use vector::{Vector, directory};

/// One word for why a key was refused.
fn because(error: &KeyError) -> &'static str {
    match error {
        KeyError::Pem(_) => "pem",
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

/// Judges a signing vector.
fn judge(vector: &Vector) -> Result<Accepted, VerifyError> {
    let body: Value = serde_json::from_str(&vector.body).unwrap();
    let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("{}: {key}", vector.file));
    let policy = TrustPolicy::parse(text("policy")).unwrap();
    let descriptor: Descriptor = serde_json::from_value(body["subject"].clone()).unwrap();
    let name: Option<Reference> = body["asked"].as_str().map(|name| name.parse().unwrap());
    let own = |key: &str| body["image"][key].as_str().unwrap();
    let subject = Subject {
        descriptor: &descriptor,
        name: own("name"),
        version: own("version"),
        asked: name.as_ref().filter(|name| name.registry().is_some()),
        pinned: name.as_ref().is_some_and(|name| name.digest().is_some()),
    };
    let now: Timestamp = text("now").parse().unwrap();
    let seen: Option<RollbackState> = serde_json::from_value(body["seen"].clone()).unwrap();
    let accepted = verify(
        &policy,
        &subject,
        &vector::bundles(&body["bundles"]),
        now,
        seen.as_ref(),
    )?;
    assert_eq!(*accepted.image, descriptor, "{}", vector.file);
    Ok(accepted)
}

fn report(judged: &Result<Accepted, VerifyError>) -> &Report {
    judged.as_ref().map_or_else(|e| e.report(), |a| &a.report)
}

/// The headers that say what came of it.
fn outcome(judged: &Result<Accepted, VerifyError>) -> Vec<(&'static str, String)> {
    let mut said = match judged {
        Ok(_) => vec![("expect", "accept".to_string())],
        Err(error) => vec![
            ("expect", "refuse".into()),
            ("exit", error.refusal().exit_code().to_string()),
        ],
    };
    let report = report(judged);
    said.push(("verdicts", verdicts(report)));
    let good = report.signatures.iter().filter(|s| s.verdict == Verdict::Good);
    let good = good.map(|s| (s.key.clone().unwrap(), s.statement.clone().unwrap()));
    said.extend(good.map(|(key, s)| {
        (
            "good",
            format!("{key} {} {} {} {}", s.role, s.name, s.version, s.sequence),
        )
    }));
    let met = report.requirements.iter();
    said.extend(met.map(|r| ("requires", format!("{} {} of {}", r.role, r.have, r.threshold))));
    let seen = judged.as_ref().ok().and_then(|a| a.seen.as_ref());
    said.extend(seen.map(|s| {
        (
            "remembers",
            format!("{} {} {} {} {}", s.name, s.sequence, s.version, s.digest, s.created),
        )
    }));
    said
}

/// The signatures' verdicts in order, equal neighbours counted.
fn verdicts(report: &Report) -> String {
    let mut runs: Vec<(usize, String)> = Vec::new();
    for signature in &report.signatures {
        let word = serde_json::to_value(signature.verdict).unwrap();
        let word = word.as_str().unwrap().to_string();
        match runs.last_mut().filter(|(_, last)| *last == word) {
            Some((count, _)) => *count += 1,
            None => runs.push((1, word)),
        }
    }
    let runs: Vec<String> = runs.iter().map(|(count, word)| format!("{count} {word}")).collect();
    runs.join(", ")
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
    assert_eq!(vectors.len(), rows::rows().len(), "write the vectors anew");
}

#[test]
#[ignore = "writes formats/vectors/signing anew"]
fn write_signing_vectors() {
    std::fs::create_dir_all(directory("signing")).unwrap();
    let mut wrong = Vec::new();
    for row in rows::rows() {
        let vector = row.vector();
        let said = outcome(&judge(&vector));
        let due = [
            match row.exit {
                0 => vec![("expect", "accept".to_string())],
                exit => vec![("expect", "refuse".into()), ("exit", exit.to_string())],
            },
            vec![("verdicts", row.verdicts.to_string())],
        ];
        let due = due.concat();
        if said[..due.len()] != due {
            wrong.push(format!("{}: {said:?}", vector.file));
        }
        std::fs::write(directory("signing").join(&vector.file), vector.write(&said)).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
