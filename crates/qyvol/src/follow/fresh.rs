//! When the policy in force was last stated to be the newest, which this host records in a file
//! next to the policy, and whether the policy has lapsed since.

use std::path::{Path, PathBuf};

use qyvol_trust::{PolicyDocument, SignedPolicy, TrustPolicy};
use qyvol_types::{Digest, Timestamp, json};
use serde::{Deserialize, Serialize};

use crate::policy_file::policy_text;
use crate::{Context, Error, secure_file};

/// A file beside the policy.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(end);
    PathBuf::from(name)
}

/// When a document was last stated to be the newest. If this is lost, the policy counts as
/// lapsed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fresh {
    /// The document.
    digest: Digest,
    /// The time of the statement.
    created: Timestamp,
}

/// The file of the newest statement that a policy is the newest.
pub(crate) fn fresh_path(policy: &Path) -> PathBuf {
    beside(policy, ".fresh")
}

/// Records a statement of freshness, unless a newer one about the document is recorded.
pub(super) fn remember_fresh(
    ctx: &Context<'_>,
    path: &Path,
    document: &PolicyDocument,
    newest: Option<&SignedPolicy>,
) -> Result<Option<Timestamp>, Error> {
    let known = fresh(path, document.policy(), document.text());
    let stated = newest.and_then(|step| step.fresh_at(ctx.now));
    let Some(stated) = stated.filter(|stated| known.is_none_or(|known| *stated > known)) else {
        return Ok(known);
    };
    let state = Fresh {
        digest: document.digest(),
        created: stated,
    };
    let file = fresh_path(path);
    let bytes = json::encode(&state).map_err(|error| Error::Policy {
        path: file.clone(),
        why: error.to_string(),
    })?;
    secure_file::replace(&file, &bytes, 0o600).map_err(Error::file("write", &file))?;
    Ok(Some(stated))
}

/// When the policy was last stated to be the newest, by this host's record. An unreadable
/// record counts as none.
fn fresh(path: &Path, policy: &TrustPolicy, text: &str) -> Option<Timestamp> {
    policy.update()?.max_lag?;
    let state = policy_text(&fresh_path(path)).ok()??;
    let state: Fresh = json::decode(state.as_bytes()).ok()?;
    let document = PolicyDocument::parse(text).ok()?;
    (state.digest == document.digest()).then_some(state.created)
}

/// Fails if the policy with this text has lapsed.
pub(crate) fn check_lapsed(ctx: &Context<'_>, path: &Path, policy: &TrustPolicy, text: &str) -> Result<(), Error> {
    match policy.lapsed(ctx.now, fresh(path, policy, text)) {
        Some(why) => Err(Error::Policy {
            path: path.to_path_buf(),
            why: match policy.update() {
                Some(_) => format!("{why}; `qyv trust pull` or `qyv trust import` gets the next one"),
                None => why,
            },
        }),
        None => Ok(()),
    }
}
