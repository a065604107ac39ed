//! What comes of a signing vector.

use qyvol_trust::{Accepted, Report, RollbackState, Subject, TrustPolicy, Verdict, VerifyError, verify};
use qyvol_types::{Descriptor, Reference, Timestamp};
use serde_json::Value;

use crate::vector::{self, Vector};

/// Judges a signing vector.
pub fn judge(vector: &Vector) -> Result<Accepted, VerifyError> {
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

pub fn report(judged: &Result<Accepted, VerifyError>) -> &Report {
    judged.as_ref().map_or_else(|e| e.report(), |a| &a.report)
}

/// The headers that say what came of it.
pub fn outcome(judged: &Result<Accepted, VerifyError>) -> Vec<(&'static str, String)> {
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
    let attested = report.attestations.iter().map(|a| {
        let verdict = serde_json::to_value(a.verdict).unwrap();
        ("attested", verdict.as_str().unwrap().to_string())
    });
    said.extend(attested);
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
