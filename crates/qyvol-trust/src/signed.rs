//! What a signature says, in Qyvol's form or in cosign's.

use qyvol_types::{Digest, json};
use serde::Deserialize;

use crate::cosign;
use crate::statement::{Form, PREDICATE_TYPE, Statement, StatementError};

/// What a signature says, in either form.
#[derive(Clone, Debug)]
pub(crate) enum Signed {
    Release(Statement),
    /// The digest of the image manifest.
    Cosign(Digest),
}

impl Signed {
    /// Reads a payload whose signature has been checked.
    pub(crate) fn parse(payload: &[u8]) -> Result<Signed, StatementError> {
        let Typed { predicate_type } = json::decode(payload)?;
        match predicate_type.as_str() {
            PREDICATE_TYPE => Statement::parse(payload).map(Signed::Release),
            cosign::PREDICATE_TYPE => cosign::parse(payload).map(Signed::Cosign),
            other => Err(StatementError::Value(format!(
                "the predicate type {}: expected {PREDICATE_TYPE} or {}",
                qyvol_types::escape(other),
                cosign::PREDICATE_TYPE
            ))),
        }
    }

    pub(crate) fn form(&self) -> Form {
        match self {
            Signed::Release(_) => Form::Qyvol,
            Signed::Cosign(_) => Form::Cosign,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Typed {
    predicate_type: String,
}
