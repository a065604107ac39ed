//! What a signature says: an in-toto Statement v1 about one image manifest.

use std::collections::BTreeMap;

use qyvol_types::{Algorithm, Digest, Timestamp, json, limits, media_type};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The type of our predicate: it distinguishes our signatures from all others.
pub const PREDICATE_TYPE: &str = "https://qyvol.dev/release/v1";
pub(crate) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// Largest number that every JSON reader keeps (RFC 7493).
const SEQUENCE_MAX: u64 = (1 << 53) - 1;
/// Extensions of the predicate that this version understands.
const KNOWN_EXTENSIONS: &[&str] = &[];

/// A release, as its signer vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Digest of the image manifest.
    pub subject: Digest,
    /// The image's name.
    pub name: String,
    /// The image's version.
    pub version: String,
    /// What the signer vouches for: `release`, `approve` …
    pub role: String,
    /// Place of this release among its name's.
    pub sequence: u64,
    /// When it was signed.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Option<Timestamp>,
    /// Extensions that a verifier must understand or refuse.
    pub critical: Vec<String>,
}

/// Whose kind of statement a signature is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A [`Statement`]: name, version and role are signed.
    #[default]
    Qyvol,
    /// cosign's: the digest alone is signed.
    Cosign,
}

/// What every in-toto statement has, whatever it states.
#[derive(Deserialize)]
pub(crate) struct AnyStatement {
    #[serde(rename = "_type", default)]
    pub(crate) kind: String,
    subject: Vec<AnySubject>,
    #[serde(rename = "predicateType", default)]
    pub(crate) predicate_type: String,
}

#[derive(Deserialize)]
struct AnySubject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl AnyStatement {
    /// Whether it is about an image.
    pub(crate) fn names(&self, image: &Digest) -> bool {
        let hex = image.hex();
        let mut subjects = self.subject.iter();
        subjects.any(|subject| subject.digest.get(image.algorithm().name()) == Some(&hex))
    }
}

/// Why a payload is not such a statement.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not strict JSON, or a field is missing or of another type.
    #[error("the statement is {0}")]
    Json(#[from] json::JsonError),
    /// A value that isn't allowed.
    #[error("the statement has {0}")]
    Value(String),
    /// Too long to be signed whole by every signer.
    #[error("the signed bytes are {got}: at most {} are allowed", limits::PAE_BYTES)]
    TooLong {
        /// Their number.
        got: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InTotoStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<InTotoSubject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct InTotoSubject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    name: String,
    version: String,
    role: String,
    sequence: u64,
    created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(default)]
    critical: Vec<String>,
}

/// Whether a word can be a role: 1 to 32 of `a-z`, `0-9` and `-`.
pub fn is_role(role: &str) -> bool {
    !role.is_empty()
        && role.len() <= 32
        && role
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The place of a version among its name's, from `major.minor.patch`, a million
/// apart, so that a rollback shows without anyone counting; a pre-release stands
/// just before its release. A version that isn't of that form counts as far as
/// its leading numbers go.
pub fn sequence_of(version: &str) -> u64 {
    let mut parts = version
        .split(['.', '-', '_', '+'])
        .map_while(|p| p.trim_start_matches('v').parse::<u64>().ok());
    let mut next = |limit: u64| parts.next().unwrap_or(0).min(limit);
    let (major, minor, patch) = (next(4_499), next(999_999), next(999_999));
    let core = version.split('+').next().unwrap_or_default();
    let release = u64::from(!core.contains('-'));
    ((major * 1_000_000 + minor) * 1_000_000 + patch) * 2 + release
}

/// Checks a statement's own type.
pub(crate) fn check_type(kind: &str) -> Result<(), StatementError> {
    match kind {
        STATEMENT_TYPE => Ok(()),
        other => Err(StatementError::Value(format!(
            "the type {}",
            qyvol_types::escape(other)
        ))),
    }
}

/// The digest of a statement's one subject. It has one digest, so that no reader can go by
/// another.
pub(crate) fn subject_digest(subjects: &[BTreeMap<String, String>]) -> Result<Digest, StatementError> {
    let value = |what: String| Err(StatementError::Value(what));
    let [digests] = subjects else {
        return value(format!("{} subjects: expected one", subjects.len()));
    };
    let hex = match digests.iter().next() {
        Some((name, hex)) if name == "sha256" && digests.len() == 1 => hex,
        _ => return value("a subject without exactly one digest, sha256".to_string()),
    };
    let digest = format!("sha256:{hex}").parse();
    digest.map_err(|why| StatementError::Value(format!("a subject whose {why}")))
}

impl Statement {
    /// The payload to sign. It is made once; nobody serialises it again.
    pub fn to_json(&self) -> Result<Vec<u8>, StatementError> {
        if !is_role(&self.role) {
            return Err(StatementError::Value(
                "a role that is not up to 32 of a-z, 0-9 and `-`".to_string(),
            ));
        }
        if self.sequence > SEQUENCE_MAX {
            return Err(StatementError::Value(format!(
                "the sequence {}: at most {SEQUENCE_MAX} is allowed",
                self.sequence
            )));
        }
        if self.subject.algorithm() != Algorithm::Sha256 {
            return Err(StatementError::Value("a subject without a sha256 digest".to_string()));
        }
        let digest = BTreeMap::from([("sha256".to_string(), self.subject.hex())]);
        let wire = InTotoStatement {
            kind: STATEMENT_TYPE.to_string(),
            subject: vec![InTotoSubject {
                name: self.name.clone(),
                digest,
            }],
            predicate_type: PREDICATE_TYPE.to_string(),
            predicate: self.predicate(),
        };
        Ok(json::encode(&wire)?)
    }

    /// Its predicate alone, for a tool that makes the statement itself.
    pub fn predicate_json(&self) -> Result<Vec<u8>, StatementError> {
        self.to_json()?;
        Ok(json::encode(&self.predicate())?)
    }

    fn predicate(&self) -> Predicate {
        Predicate {
            name: self.name.clone(),
            version: self.version.clone(),
            role: self.role.clone(),
            sequence: self.sequence,
            created: self.created,
            expires: self.expires,
            critical: self.critical.clone(),
        }
    }

    /// Reads the payload of [`Signed::parse`](crate::signed::Signed::parse).
    pub(crate) fn parse(payload: &[u8]) -> Result<Statement, StatementError> {
        let wire: InTotoStatement = json::decode(payload)?;
        let value = |what: String| Err(StatementError::Value(what));
        check_type(&wire.kind)?;
        let subjects: Vec<_> = wire.subject.into_iter().map(|subject| subject.digest).collect();
        let digest = subject_digest(&subjects)?;
        let p = wire.predicate;
        if !is_role(&p.role) {
            return value("a role that is not up to 32 of a-z, 0-9 and `-`".to_string());
        }
        if p.sequence > SEQUENCE_MAX {
            return value(format!(
                "the sequence {}: at most {SEQUENCE_MAX} is allowed",
                p.sequence
            ));
        }
        if let Some(unknown) = p
            .critical
            .iter()
            .find(|name| !KNOWN_EXTENSIONS.contains(&name.as_str()))
        {
            return value(format!(
                "the critical extension `{}`, which this version does not know",
                qyvol_types::escape(unknown)
            ));
        }
        Ok(Statement {
            subject: digest,
            name: p.name,
            version: p.version,
            role: p.role,
            sequence: p.sequence,
            created: p.created,
            expires: p.expires,
            critical: p.critical,
        })
    }
}

/// DSSE's pre-authentication encoding (DSSE protocol v1): the bytes signed.
pub(crate) fn pae_of(payload: &[u8]) -> Vec<u8> {
    let kind = media_type::IN_TOTO;
    let mut out = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// The same, of a payload that can be a statement of ours.
pub(crate) fn pae(payload: &[u8]) -> Result<Vec<u8>, StatementError> {
    let out = pae_of(payload);
    if out.len() > limits::PAE_BYTES {
        return Err(StatementError::TooLong { got: out.len() });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    // [SIGN-015]
    #[test]
    fn later_version_has_a_higher_sequence() {
        let order = [
            "",
            "0.0.1-rc.1",
            "0.0.1",
            "0.1.0",
            "0.1.1",
            "1.0.0",
            "1.0.10",
            "1.2.0-rc.1",
            "1.2.0",
            "2.0.0",
            "10.0.0",
            "2026.11.21",
        ];
        for pair in order.windows(2) {
            assert!(sequence_of(pair[0]) < sequence_of(pair[1]), "{pair:?}");
        }
        assert!(sequence_of("99999999.99999999.99999999") < 1 << 53);
        assert_eq!(sequence_of("1.2.3"), sequence_of("1.2.3+build-7"));
    }
}
