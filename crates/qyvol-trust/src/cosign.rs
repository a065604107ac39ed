//! What `cosign sign --key` signs: an in-toto Statement v1 that names a digest and states
//! nothing else.
//!
//! The shape is that of cosign's `sign/v1` predicate, as its versions 3 write it: one
//! subject with one SHA-256, and a predicate that is empty or, before 3.0.5, absent.
//! Annotations of the subject are not looked at. cosign's older signatures, which are
//! layers under a tag, are no bundles and are not read.

use std::collections::BTreeMap;

use qyvol_types::{Digest, json};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::StatementError;
use crate::statement::{check_type, subject_digest};

/// The type of its predicate.
pub(crate) const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Deserialize)]
struct CosignStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<CosignSubject>,
    #[serde(default)]
    predicate: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct CosignSubject {
    digest: BTreeMap<String, String>,
}

/// Reads the digest that such a statement is about. The caller has seen its predicate type,
/// and has checked the signature.
pub(crate) fn parse(payload: &[u8]) -> Result<Digest, StatementError> {
    let statement: CosignStatement = json::decode(payload)?;
    check_type(&statement.kind)?;
    if !statement.predicate.is_empty() {
        return Err(StatementError::Value("a predicate that is not empty".to_string()));
    }
    let subjects: Vec<_> = statement.subject.into_iter().map(|subject| subject.digest).collect();
    subject_digest(&subjects)
}
