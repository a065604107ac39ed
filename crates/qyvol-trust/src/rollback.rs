//! What a host remembers of an accepted image, so that no older one is
//! accepted in its place.

use qyvol_types::{Digest, Timestamp, json};
use serde::{Deserialize, Serialize};

use crate::Statement;

/// The newest image that was accepted for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackState {
    /// The name, as [`crate::Subject::state_name`] gives it.
    pub name: String,
    /// The sequence that enough keys have signed.
    pub sequence: u64,
    /// The version.
    pub version: String,
    /// Digest of the image manifest.
    pub digest: Digest,
    /// The newest time that an accepted signature gave for itself.
    pub created: Timestamp,
}

impl RollbackState {
    /// As it is stored.
    pub fn to_json(&self) -> Result<Vec<u8>, json::JsonError> {
        json::encode(self)
    }

    /// Reads it back.
    pub fn parse(bytes: &[u8]) -> Result<RollbackState, json::JsonError> {
        json::decode(bytes)
    }

    /// Why a statement about another image is older than what was accepted, if
    /// it is.
    pub(crate) fn forbids(&self, statement: &Statement) -> Option<String> {
        if statement.subject == self.digest || statement.sequence > self.sequence {
            return None;
        }
        let version = qyvol_types::escape(&self.version);
        Some(if statement.sequence == self.sequence {
            format!(
                "two images have the sequence {}: {} was accepted before, this is {}",
                self.sequence, self.digest, statement.subject
            )
        } else {
            format!(
                "its sequence {} is lower than {}, that of {version} ({}), which was accepted before",
                statement.sequence, self.sequence, self.digest
            )
        })
    }

    /// This or the other, whichever is newer; never an earlier time than either.
    pub fn newer(self, other: &RollbackState) -> RollbackState {
        let created = self.created.max(other.created);
        let newest = if other.sequence > self.sequence {
            other.clone()
        } else {
            self
        };
        RollbackState { created, ..newest }
    }
}
