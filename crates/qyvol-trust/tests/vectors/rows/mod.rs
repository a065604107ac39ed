//! The table of signing vectors: defect, rule, what must come of it, and how
//! it is made.

mod attestations;
mod envelopes;
mod keys;
mod predicates;
mod rollback;
mod rules;
mod signatures;
mod statements;
mod times;

use qyvol_types::{Descriptor, Timestamp};
use serde_json::{Value, json};

use crate::make::{self, NOW, P256};
use crate::vector::Vector;

/// A row. Its exit code is 0 where it is accepted.
pub struct Row {
    name: &'static str,
    what: &'static str,
    must: &'static str,
    pub exit: u8,
    pub verdicts: &'static str,
    case: Case,
}

/// What is judged.
pub struct Case {
    policy: String,
    image: (&'static str, &'static str),
    asked: Option<&'static str>,
    seen: Option<Value>,
    now: u64,
    bundles: Vec<Value>,
    subject: Descriptor,
}

impl Default for Case {
    /// One good signature of a file's image by key 1.
    fn default() -> Case {
        Case {
            policy: policy(&[1], 1),
            image: ("acme/app", "1.0.0"),
            asked: None,
            seen: None,
            now: NOW,
            bundles: vec![make::signed(1, &make::statement()).into()],
            subject: make::subject(),
        }
    }
}

impl Row {
    /// The vector, without what came of it.
    pub fn vector(&self) -> Vector {
        let now = Timestamp::from_unix(self.case.now).unwrap();
        let body = json!({
            "asked": self.case.asked,
            "bundles": self.case.bundles,
            "image": { "name": self.case.image.0, "version": self.case.image.1 },
            "now": now.to_string(),
            "policy": self.case.policy,
            "seen": self.case.seen,
            "subject": self.case.subject,
        });
        let header = |key: &str, value: &str| (key.to_string(), value.to_string());
        Vector {
            file: format!("{}.txt", self.name),
            headers: vec![header("what", self.what), header("must", self.must)],
            body: serde_json::to_string_pretty(&body).unwrap() + "\n",
        }
    }
}

fn row(
    name: &'static str,
    what: &'static str,
    must: &'static str,
    exit: u8,
    verdicts: &'static str,
    case: Case,
) -> Row {
    Row {
        name,
        what,
        must,
        exit,
        verdicts,
        case,
    }
}

pub fn rows() -> Vec<Row> {
    let mut rows = envelopes::rows();
    rows.extend(signatures::rows());
    rows.extend(statements::rows());
    rows.extend(predicates::rows());
    rows.extend(times::rows());
    rows.extend(keys::rows());
    rows.extend(rules::rows());
    rows.extend(rollback::rows());
    rows.extend(attestations::rows());
    rows
}

/// One bundle of this text.
fn bundle(text: impl Into<Value>) -> Case {
    Case {
        bundles: vec![text.into()],
        ..Case::default()
    }
}

/// A statement of this text, rightly signed by key 1.
fn payload(text: &str) -> Case {
    bundle(make::signed(1, text))
}

fn key_name(n: u8) -> String {
    match n {
        P256 => "p256".to_string(),
        n => format!("k{n}"),
    }
}

/// The keys of a policy.
fn keys(keys: &[u8]) -> String {
    let key = |n: &u8| {
        let pem = make::public_pem(*n);
        let lines: String = pem.lines().map(|l| format!("      {l}\n")).collect();
        format!("  {}:\n    pem: |\n{lines}", key_name(*n))
    };
    let all: String = keys.iter().map(key).collect();
    format!("version: 1\nkeys:\n{all}")
}

/// A policy that asks so many of these keys for a release of a file.
fn policy(numbers: &[u8], threshold: usize) -> String {
    let names: Vec<String> = numbers.iter().map(|n| key_name(*n)).collect();
    let names = names.join(", ");
    keys(numbers)
        + &format!(
            "rules:\n  - scope: \"file:\"\n    require: [{{ role: release, keys: [{names}], threshold: {threshold} }}]\n"
        )
}

/// The policy of key 1 with some text changed.
fn policy_with(from: &str, to: &str) -> String {
    let good = policy(&[1], 1);
    assert!(good.contains(from), "{from}");
    good.replacen(from, to, 1)
}
