//! A chain of documents as a file: JSON lines, one for each document, in the order of their
//! serials (`formats/trust-chain.schema.json`). The line has all that a host checks, so that
//! it can be carried where no registry is.

use qyvol_types::json;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::update_yaml::UPDATE_KEYS;
use crate::{DocumentError, Envelope, EnvelopeError, PolicyDocument, SignedPolicy};

/// Most documents of a chain that are followed at a time.
pub const CHAIN_DOCUMENTS: usize = 1024;
/// Most signatures of a document in a line: those of its own keys and of the one before.
pub const DOCUMENT_SIGNATURES: usize = 2 * UPDATE_KEYS;
/// Largest file.
pub const CHAIN_BYTES: u64 = 64 << 20;
/// Largest line: a policy whose every byte is escaped, and its signatures.
pub const CHAIN_LINE_BYTES: u64 = 16 << 20;

/// Why a line is no document of a chain.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChainError {
    /// Not strict JSON, or a field is missing or of another type.
    #[error("it is {0}")]
    Json(#[from] json::JsonError),
    /// The policy in it can't be handed out.
    #[error("its policy can't be used: {0}")]
    Document(#[from] DocumentError),
    /// A signature in it can't be read.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// More than is read.
    #[error("it has {got} signatures: at most {DOCUMENT_SIGNATURES} are read")]
    TooMany {
        /// Their number.
        got: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    policy: String,
    signatures: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fresh: Option<String>,
}

impl SignedPolicy {
    /// As a line of a file, without its end.
    pub fn to_line(&self) -> Result<Vec<u8>, ChainError> {
        let text = |envelope: &Envelope| String::from_utf8_lossy(envelope.bytes()).into_owned();
        Ok(json::encode(&Line {
            policy: self.document.text().to_string(),
            signatures: self.signatures.iter().map(text).collect(),
            fresh: self.fresh.as_ref().map(text),
        })?)
    }

    /// Reads such a line. Nothing is verified.
    pub fn parse_line(line: &[u8]) -> Result<SignedPolicy, ChainError> {
        let wire: Line = json::decode(line)?;
        if wire.signatures.len() > DOCUMENT_SIGNATURES {
            return Err(ChainError::TooMany {
                got: wire.signatures.len(),
            });
        }
        let read = |text: String| Envelope::parse(text.as_bytes());
        Ok(SignedPolicy {
            document: PolicyDocument::parse(&wire.policy)?,
            signatures: wire.signatures.into_iter().map(read).collect::<Result<_, _>>()?,
            fresh: wire.fresh.map(read).transpose()?,
        })
    }
}
