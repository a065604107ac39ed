//! What a signature says: an in-toto Statement v1 about one image manifest.

use std::collections::BTreeMap;

use qyvol_types::{Algorithm, Digest, Timestamp, json, limits, media_type};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The type of our predicate: it distinguishes our signatures from all others.
pub const PREDICATE_TYPE: &str = "https://qyvol.dev/release/v1";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
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
            predicate: Predicate {
                name: self.name.clone(),
                version: self.version.clone(),
                role: self.role.clone(),
                sequence: self.sequence,
                created: self.created,
                expires: self.expires,
                critical: self.critical.clone(),
            },
        };
        Ok(json::encode(&wire)?)
    }

    /// Reads a payload whose signature has been checked.
    pub(crate) fn parse(payload: &[u8]) -> Result<Statement, StatementError> {
        let wire: InTotoStatement = json::decode(payload)?;
        let value = |what: String| Err(StatementError::Value(what));
        if wire.kind != STATEMENT_TYPE {
            return value(format!("the type {}", qyvol_types::escape(&wire.kind)));
        }
        if wire.predicate_type != PREDICATE_TYPE {
            return value(format!(
                "the predicate type {}: expected {PREDICATE_TYPE}",
                qyvol_types::escape(&wire.predicate_type)
            ));
        }
        let [subject] = wire.subject.as_slice() else {
            return value(format!("{} subjects: expected one", wire.subject.len()));
        };
        // One digest, so that no reader can go by another.
        let hex = match subject.digest.iter().next() {
            Some((name, hex)) if name == "sha256" && subject.digest.len() == 1 => hex,
            _ => return value("a subject without exactly one digest, sha256".to_string()),
        };
        let digest = format!("sha256:{hex}").parse();
        let digest = digest.map_err(|why| StatementError::Value(format!("a subject whose {why}")))?;
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
