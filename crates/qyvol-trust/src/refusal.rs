//! Why an image was refused: one reason of many, the one that stands nearest
//! to acceptance.

use thiserror::Error;

use crate::{Form, Report, SignatureReport, Verdict};

/// Why an image was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no signature.
    Unsigned,
    /// No rule covers it.
    NoRule,
    /// None of its signatures is by a key that the policy names for it.
    NoTrustedKey,
    /// A signature that names a trusted key is not that key's over this image.
    BadSignature,
    /// Too few distinct keys.
    Threshold,
    /// What the rule wants to be attested is not.
    Attestation,
    /// A signature or key has expired, or is not valid yet.
    Expired,
    /// Key or image is revoked.
    Revoked,
    /// It is older than what was accepted before.
    Rollback,
    /// No signature can be read.
    Malformed,
    /// Past a limit.
    Limit,
    /// It is signed for another name or version.
    Identity,
}

impl Refusal {
    /// The command's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Refusal::Unsigned => 10,
            Refusal::NoRule | Refusal::NoTrustedKey => 11,
            Refusal::BadSignature => 12,
            Refusal::Threshold | Refusal::Attestation => 13,
            Refusal::Expired | Refusal::Revoked => 14,
            Refusal::Rollback => 15,
            Refusal::Malformed => 16,
            Refusal::Limit => 17,
            Refusal::Identity => 18,
        }
    }
}

/// An image was refused.
#[derive(Debug, Error)]
#[error("refused: {detail}")]
pub struct VerifyError {
    refusal: Refusal,
    detail: String,
    report: Box<Report>,
}

impl VerifyError {
    pub(crate) fn new(refusal: Refusal, detail: impl Into<String>, report: Report) -> VerifyError {
        VerifyError {
            refusal,
            detail: detail.into(),
            report: Box::new(report),
        }
    }

    /// Why.
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// What was found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// From a report none of whose signatures meets the rule.
    pub(crate) fn nearest(report: Report) -> VerifyError {
        let (refusal, detail) = nearest(&report);
        VerifyError::new(refusal, detail, report)
    }
}

fn nearest(report: &Report) -> (Refusal, String) {
    if report.signatures.iter().any(|s| s.verdict == Verdict::Good) {
        let short = report.requirements.iter().filter(|r| r.have < r.threshold);
        let text: Vec<String> = short
            .map(|r| {
                let form = match r.form {
                    Some(Form::Cosign) => " in cosign's form",
                    _ => "",
                };
                format!("{} of {} keys as {}{form}", r.have, r.threshold, r.role)
            })
            .collect();
        return (
            Refusal::Threshold,
            format!("too few trusted keys have signed: {}", text.join("; ")),
        );
    }
    for (verdict, refusal, detail) in ORDER {
        let Some(found) = report.signatures.iter().find(|s| s.verdict == verdict) else {
            continue;
        };
        return match &report.key_given {
            Some(given) if refusal == Refusal::NoTrustedKey => {
                (refusal, format!("it is not signed by the key that was given ({given})"))
            }
            _ => (refusal, joined(detail, found)),
        };
    }
    let reason = report.signatures.iter().find_map(|s| s.reason.clone());
    (
        Refusal::Malformed,
        format!("none of its signatures can be read: {}", reason.unwrap_or_default()),
    )
}

fn joined(detail: &str, found: &SignatureReport) -> String {
    match (&found.reason, detail) {
        (None, detail) => detail.to_string(),
        (Some(reason), "") => reason.clone(),
        (Some(reason), detail) => format!("{detail}: {reason}"),
    }
}

const ORDER: [(Verdict, Refusal, &str); 10] = [
    (Verdict::Rollback, Refusal::Rollback, "rollback"),
    (Verdict::Identity, Refusal::Identity, ""),
    (Verdict::Expired, Refusal::Expired, "its signature has expired"),
    (Verdict::NotYetValid, Refusal::Expired, "its signature is not valid yet"),
    (Verdict::Revoked, Refusal::Revoked, "its signature does not count"),
    (
        Verdict::OtherImage,
        Refusal::BadSignature,
        "its signature is about another image",
    ),
    (
        Verdict::BadSignature,
        Refusal::BadSignature,
        "a signature claims a trusted key but was not made by it",
    ),
    (
        Verdict::OverLimit,
        Refusal::Limit,
        "too many of its signatures claim to be by a trusted key",
    ),
    (Verdict::OtherForm, Refusal::NoTrustedKey, ""),
    (
        Verdict::UnknownKey,
        Refusal::NoTrustedKey,
        "it is signed, but not by a key that the trust policy names for it",
    ),
];
