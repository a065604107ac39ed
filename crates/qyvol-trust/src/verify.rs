//! The one verification routine.

use std::collections::HashSet;
use std::time::Duration;

use qyvol_types::{Descriptor, Timestamp, limits};
use thiserror::Error;

use crate::policy::{PolicyKey, Rule};
use crate::report::{RequirementReport, StatementReport};
use crate::{Envelope, Identity, Report, Scope, SignatureReport, Statement, TrustPolicy, Verdict, Verified};

/// How far a signer's clock may be ahead.
const SKEW: Duration = Duration::from_secs(300);

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Where the image came from.
    pub scope: Scope<'a>,
    /// The image manifest.
    pub descriptor: &'a Descriptor,
    /// The name, and the version if one was asked for, that `identity: exact`
    /// holds the statement against; `None` where no name was asked for.
    pub asked: Option<(&'a str, Option<&'a str>)>,
}

/// Why an image was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It has no signature.
    Unsigned,
    /// None of its signatures is by a key that the policy names for it.
    NoTrustedKey,
    /// A signature that names a trusted key is not that key's over this image.
    BadSignature,
    /// Too few distinct keys.
    Threshold,
    /// Signature, key or image are over or revoked.
    Expired,
    /// No signature can be read.
    Malformed,
    /// Past a limit.
    Limit,
    /// It is signed for another name or version.
    Identity,
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
    fn new(refusal: Refusal, detail: impl Into<String>, report: Report) -> VerifyError {
        VerifyError {
            refusal,
            detail: detail.into(),
            report: Box::new(report),
        }
    }

    /// An image whose config has another name than its signatures.
    pub fn identity(detail: impl Into<String>, report: Report) -> VerifyError {
        VerifyError::new(Refusal::Identity, detail, report)
    }

    /// Why.
    pub fn refusal(&self) -> Refusal {
        self.refusal
    }

    /// What was found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The command's exit code.
    pub fn exit_code(&self) -> u8 {
        match self.refusal {
            Refusal::Unsigned => 10,
            Refusal::NoTrustedKey => 11,
            Refusal::BadSignature => 12,
            Refusal::Threshold => 13,
            Refusal::Expired => 14,
            Refusal::Malformed => 16,
            Refusal::Limit => 17,
            Refusal::Identity => 18,
        }
    }
}

/// A signature that counts.
struct Good<'p> {
    key: &'p PolicyKey,
    role: String,
}

/// Judges an image by its signatures (sigstore bundles, in any order) at the
/// time `now`. Junk among them is reported and never makes a good image fail.
pub fn verify(
    policy: &TrustPolicy,
    subject: &Subject<'_>,
    envelopes: &[Vec<u8>],
    now: Timestamp,
) -> Result<(Verified<Descriptor>, Report), VerifyError> {
    let mut report = Report {
        scope: subject.scope.text(),
        ..Report::default()
    };
    let rule = policy.rule(&subject.scope);
    report.rule = rule.map(|r| r.scope.clone());
    let mut good = Vec::new();
    let mut bytes = 0u64;
    for (index, envelope) in envelopes.iter().enumerate() {
        bytes = bytes.saturating_add(envelope.len() as u64);
        if index >= limits::SIGNATURES || bytes > limits::SIGNATURES_BYTES {
            report.signatures.push(entry(
                Verdict::OverLimit,
                "not looked at: too many or too large".to_string(),
            ));
            continue;
        }
        let (entry, counted) = judge(policy, rule, subject, envelope, now);
        report.signatures.push(entry);
        good.extend(counted);
    }
    if envelopes.is_empty() {
        return Err(VerifyError::new(Refusal::Unsigned, "it is not signed", report));
    }
    if policy.revoked_images.contains(&subject.descriptor.digest) {
        return Err(VerifyError::new(
            Refusal::Expired,
            "the policy revokes this image",
            report,
        ));
    }
    let Some(rule) = rule else {
        let detail = format!("no rule of the trust policy covers {}", report.scope);
        return Err(VerifyError::new(Refusal::NoTrustedKey, detail, report));
    };
    let mut met = true;
    for requirement in &rule.require {
        // Distinct keys, however often each signed.
        let keys: HashSet<String> = good
            .iter()
            .filter(|g| g.role == requirement.role)
            .filter(|g| {
                requirement
                    .keys
                    .iter()
                    .filter_map(|k| policy.keys.get(*k))
                    .any(|k| k.key == g.key.key)
            })
            .map(|g| g.key.key.fingerprint())
            .collect();
        met &= keys.len() >= requirement.threshold;
        report.requirements.push(RequirementReport {
            role: requirement.role.clone(),
            have: keys.len(),
            threshold: requirement.threshold,
        });
    }
    if met && !rule.require.is_empty() {
        return Ok((Verified::accepted(subject.descriptor.clone()), report));
    }
    let (refusal, detail) = refuse(&report, !good.is_empty());
    Err(VerifyError::new(refusal, detail, report))
}

/// The reason that stands nearest to acceptance, in this order.
fn refuse(report: &Report, some_good: bool) -> (Refusal, String) {
    if some_good {
        let short = report.requirements.iter().filter(|r| r.have < r.threshold);
        let text: Vec<String> = short
            .map(|r| format!("{} of {} keys as {}", r.have, r.threshold, r.role))
            .collect();
        return (
            Refusal::Threshold,
            format!("too few trusted keys have signed: {}", text.join("; ")),
        );
    }
    let order = [
        (
            Verdict::Identity,
            Refusal::Identity,
            "it is signed for another name or version",
        ),
        (
            Verdict::Expired,
            Refusal::Expired,
            "its signature or key is not good at this time",
        ),
        (
            Verdict::OtherImage,
            Refusal::BadSignature,
            "its signature is about another image",
        ),
        (
            Verdict::BadSignature,
            Refusal::BadSignature,
            "a signature that names a trusted key is not that key's",
        ),
        (
            Verdict::UnknownKey,
            Refusal::NoTrustedKey,
            "it is signed, but by no key that the trust policy names for it",
        ),
        (
            Verdict::OverLimit,
            Refusal::Limit,
            "its signatures are too many or too large",
        ),
    ];
    for (verdict, refusal, detail) in order {
        if let Some(found) = report.signatures.iter().find(|s| s.verdict == verdict) {
            let detail = match &found.reason {
                Some(reason) => format!("{detail}: {reason}"),
                None => detail.to_string(),
            };
            return (refusal, detail);
        }
    }
    let reason = report
        .signatures
        .iter()
        .find_map(|s| s.reason.clone())
        .unwrap_or_default();
    (
        Refusal::Malformed,
        format!("none of its signatures can be read: {reason}"),
    )
}

fn entry(verdict: Verdict, reason: String) -> SignatureReport {
    let reason = (!reason.is_empty()).then_some(reason);
    SignatureReport {
        verdict,
        reason,
        key: None,
        fingerprint: None,
        statement: None,
    }
}

/// Judges one signature: key by hint, signature, statement, in this order.
fn judge<'p>(
    policy: &'p TrustPolicy,
    rule: Option<&Rule>,
    subject: &Subject<'_>,
    bytes: &[u8],
    now: Timestamp,
) -> (SignatureReport, Option<Good<'p>>) {
    let envelope = match Envelope::parse(bytes) {
        Ok(envelope) => envelope,
        Err(error) => return (entry(Verdict::Malformed, error.to_string()), None),
    };
    // The hint only finds a key; the rule names those that may be found.
    let named = rule
        .into_iter()
        .flat_map(|r| &r.require)
        .flat_map(|q| &q.keys)
        .filter_map(|i| policy.keys.get(*i));
    let key = envelope
        .hint()
        .and_then(|hint| named.into_iter().find(|k| k.key.hint() == hint));
    let Some(key) = key else {
        let mut unknown = entry(Verdict::UnknownKey, String::new());
        unknown.fingerprint = envelope.hinted_fingerprint();
        return (unknown, None);
    };
    let (verdict, reason, statement) = judge_statement(policy, rule, subject, &envelope, key, now);
    let mut found = entry(verdict, reason);
    found.key = Some(key.name.clone());
    found.fingerprint = Some(key.key.fingerprint());
    let good = match (&statement, verdict) {
        (Some(statement), Verdict::Good) => Some(Good {
            key,
            role: statement.role.clone(),
        }),
        _ => None,
    };
    found.statement = statement.map(|s| StatementReport {
        name: s.name,
        version: s.version,
        role: s.role,
        sequence: s.sequence,
        created: s.created,
        expires: s.expires,
    });
    (found, good)
}

fn judge_statement(
    policy: &TrustPolicy,
    rule: Option<&Rule>,
    subject: &Subject<'_>,
    envelope: &Envelope,
    key: &PolicyKey,
    now: Timestamp,
) -> (Verdict, String, Option<Statement>) {
    let pae = match envelope.pae() {
        Ok(pae) => pae,
        Err(error) => return (Verdict::Malformed, error.to_string(), None),
    };
    if !key.key.verify(&pae, envelope.signature()) {
        return (Verdict::BadSignature, String::new(), None);
    }
    let statement = match Statement::parse(envelope.payload_unverified()) {
        Ok(statement) => statement,
        Err(error) => return (Verdict::Malformed, error.to_string(), None),
    };
    if statement.subject != subject.descriptor.digest {
        let reason = format!("it signs {}", statement.subject);
        return (Verdict::OtherImage, reason, Some(statement));
    }
    if let Some(reason) = over(policy, rule, &statement, key, now) {
        return (Verdict::Expired, reason, Some(statement));
    }
    if let (Some((name, version)), Some(Identity::Exact)) = (subject.asked, rule.map(|r| r.identity))
        && (statement.name != name || version.is_some_and(|v| v != statement.version))
    {
        let asked = version.map_or_else(|| name.to_string(), |v| format!("{name} {v}"));
        let signed = format!("{} {}", statement.name, statement.version);
        let reason = format!(
            "asked for {}, signed for {}",
            qyvol_types::escape(&asked),
            qyvol_types::escape(&signed)
        );
        return (Verdict::Identity, reason, Some(statement));
    }
    (Verdict::Good, String::new(), Some(statement))
}

/// Why a signature is not good at this time, if it isn't.
fn over(
    policy: &TrustPolicy,
    rule: Option<&Rule>,
    statement: &Statement,
    key: &PolicyKey,
    now: Timestamp,
) -> Option<String> {
    if policy.is_revoked(key) {
        return Some("the policy revokes its key".to_string());
    }
    if let Some(from) = key.from.filter(|from| now < *from) {
        return Some(format!("its key is good from {from}"));
    }
    if let Some(until) = key.until.filter(|until| now >= *until) {
        return Some(format!("its key was good until {until}"));
    }
    if statement.created > now.plus(SKEW) {
        return Some(format!("it was made in the future, at {}", statement.created));
    }
    if let Some(expires) = statement.expires.filter(|expires| now >= *expires) {
        return Some(format!("it expired at {expires}"));
    }
    let age = rule.and_then(|r| r.max_age)?;
    (now > statement.created.plus(age)).then(|| {
        format!(
            "it was made at {}, longer ago than the policy allows",
            statement.created
        )
    })
}
