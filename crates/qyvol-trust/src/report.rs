//! What was found: every signature with its verdict, for people and for
//! `--format json`. Fields only ever grow.

use qyvol_types::{Digest, Timestamp, escape};
use serde::Serialize;

use crate::{Form, Identity, IdentityReport, KeyId, Names, TrustPolicy};

/// The whole of a judgement.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What rules were matched against: `registry/repository`, or `file:` and
    /// the image's own name.
    pub scope: String,
    /// The name with a registry that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// The image's own name.
    pub application: String,
    /// The image's own version.
    pub version: String,
    /// The fingerprint of the key that was named in place of a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_given: Option<String>,
    /// The rule that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleReport>,
    /// The policy's serial.
    pub serial: u64,
    /// Whether the policy is published, so that its next document replaces it whole.
    #[serde(skip)]
    pub followed: bool,
    /// Every signature, in the order given, each once.
    pub signatures: Vec<SignatureReport>,
    /// Every attestation that was read, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<AttestationReport>,
    /// What the rule asks for.
    pub requirements: Vec<RequirementReport>,
}

impl Report {
    /// Whether a policy revokes the image that was accepted with this report, or a key whose
    /// signature counted then. What a rule asks for now, or whether there is one, has no
    /// effect on this: it does not tell whether the image is accepted.
    pub fn is_revoked_by(&self, policy: &TrustPolicy, image: &Digest) -> bool {
        let revoked = &policy.revoked;
        // An identity has another id as soon as the policy describes it otherwise.
        let is_forbidden = |signature: &SignatureReport| {
            let identity = signature.identity.as_ref();
            signature.id.is_some_and(|id| revoked.forbids(id, image))
                || identity.is_some_and(|identity| revoked.forbids_identity(identity, image))
        };
        revoked.image_by(image).is_some() || self.signatures.iter().any(is_forbidden)
    }
}

/// One attestation, as `verify` found it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationReport {
    /// The verdict. Where it is not `good`, what the attestation says is a claim.
    pub verdict: Verdict,
    /// Why, where it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The type of its predicate.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub predicate_type: Option<String>,
    /// The key's name in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The fingerprint of the policy's key, or the one hinted at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Who built the image, as a provenance says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builder: Option<String>,
    /// Where its source is, as a provenance says: a repository's URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The branch or tag of the source, as a provenance says.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub source_ref: Option<String>,
    #[serde(skip)]
    pub(crate) id: Option<KeyId>,
}

/// The rule that decided.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleReport {
    /// Its scope.
    pub scope: String,
    /// Whether the signed name and version must be those asked for.
    pub identity: Identity,
    /// How much of the asked repository the signed name must repeat.
    pub names: Names,
    /// Whether an older image than one accepted before is refused.
    pub deny_rollback: bool,
    /// The requested repository as the publisher names it: `remap` may rename
    /// it. None where no registry was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// A requirement and how far it is met.
#[derive(Clone, Debug, Serialize)]
pub struct RequirementReport {
    /// The role.
    pub role: String,
    /// Whose form the signatures must have, where it is not Qyvol's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// The names of the keys and identities that count.
    pub keys: Vec<String>,
    /// Distinct keys that signed well.
    pub have: usize,
    /// Distinct keys asked for.
    pub threshold: usize,
}

/// One signature.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureReport {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, where it is not good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason as one word, for a verdict that has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The key's or identity's name in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The fingerprint of the policy's key, or the one hinted at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Who signed, where a certificate vouches for it; only once it was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityReport>,
    /// Whose form it has, where it is not Qyvol's own; only once it was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// What the statement says; only once its signature was checked. cosign's says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementReport>,
    /// Of a signature that counts, whose it is.
    #[serde(skip)]
    pub(crate) id: Option<KeyId>,
}

/// A statement whose signature was checked.
#[derive(Clone, Debug, Serialize)]
pub struct StatementReport {
    /// The image's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// The role.
    pub role: String,
    /// Place among the releases of its name.
    pub sequence: u64,
    /// When it was signed.
    pub created: Timestamp,
    /// When it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// The verdict on a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It counts.
    Good,
    /// Its key is not one of the rule's.
    UnknownKey,
    /// The rule takes no signatures of its form from its key.
    OtherForm,
    /// It is not the key's over these bytes.
    BadSignature,
    /// It is, but about another image.
    OtherImage,
    /// It or its key has expired or is too old; see its cause.
    Expired,
    /// It or its key is dated in the future.
    NotYetValid,
    /// The policy revokes its key.
    Revoked,
    /// It is for another name or version.
    Identity,
    /// It is older than what was accepted before.
    Rollback,
    /// It can't be read.
    Malformed,
    /// It was not looked at.
    OverLimit,
}

/// Why a signature has expired, or is one of a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its key was good until an earlier time.
    Key,
    /// It expired by itself.
    Statement,
    /// It is older than the rule allows.
    MaxAge,
    /// It has no date, and the rule limits its age.
    Undated,
    /// Its version is below the policy's floor for the name.
    Floor,
}

impl Report {
    /// A line for each signature.
    pub fn lines(&self) -> Vec<String> {
        let line = |s: &SignatureReport| {
            let verdict = serde_json::to_value(s.verdict)
                .ok()
                .and_then(|v| v.as_str().map(str::to_string))
                .unwrap_or_default();
            let mut text = format!("  signature: {verdict}");
            if let Some(key) = &s.key {
                text.push_str(&format!(", key {}", escape(key)));
            }
            if let Some(fingerprint) = &s.fingerprint {
                text.push_str(&format!(" {fingerprint}"));
            }
            if let Some(identity) = &s.identity {
                text.push_str(&format!(
                    " ({} of {}, {})",
                    escape(&identity.subject),
                    escape(&identity.issuer),
                    identity.signed
                ));
            }
            if s.form == Some(Form::Cosign) {
                text.push_str(", in cosign's form");
            }
            if let Some(statement) = &s.statement {
                text.push_str(&format!(
                    ", {} of {} {}",
                    escape(&statement.role),
                    escape(&statement.name),
                    escape(&statement.version)
                ));
            }
            if let Some(reason) = &s.reason {
                text.push_str(&format!(": {reason}"));
            }
            text
        };
        let attestations = self.attestations.iter().map(AttestationReport::line);
        self.signatures.iter().map(line).chain(attestations).collect()
    }

    /// Names and versions of the statements that counted.
    pub fn accepted(&self) -> impl Iterator<Item = &StatementReport> {
        self.signatures
            .iter()
            .filter(|s| s.verdict == Verdict::Good)
            .filter_map(|s| s.statement.as_ref())
    }
}
