//! `trust revoke`: in the host's own policy, or beside a policy that it follows.

use qyvol_trust::{PolicyEdit, PolicyEditError};
use qyvol_types::Digest;

use crate::policy::{PolicyChange, change_policy_if, check_own, policy_to_change, revocation};
use crate::revocations::{host_revocations, lock_revocations, revocations_path, write_revocations};
use crate::{Context, Error};

/// What to revoke, or to revoke no longer.
struct Asked<'a> {
    what: &'a str,
    keep: &'a [Digest],
    undo: bool,
}

impl Asked<'_> {
    /// The change, by the policy as it is now.
    fn edit(&self, ctx: &Context<'_>) -> Result<PolicyEdit, Error> {
        revocation(ctx, self.what, self.keep.to_vec(), self.undo)
    }
}

/// Revokes something, or undoes that: a digest, a fingerprint, or a key by the policy's name,
/// the keyring's, or its file. Signatures of a key over the images of `keep` still count.
///
/// A policy that this host follows is its publisher's: beside it, the host can revoke what it
/// does not, and nothing else. What the host revokes beside its own policy, since it followed
/// another before, is undone with it.
///
/// # Errors
/// The policy, or what the host revokes beside it, can't be read or written; or what is to be
/// undone is revoked by a policy that this host follows. Then nothing is changed.
pub fn revoke(ctx: &Context<'_>, what: &str, keep: &[Digest], undo: bool) -> Result<PolicyChange, Error> {
    let asked = Asked { what, keep, undo };
    match check_own(ctx) {
        Ok(()) => {
            let edit = asked.edit(ctx)?;
            let change = change_policy_if(ctx, &edit, |_, _| match asked.edit(ctx)? == edit {
                true => Ok(()),
                false => Err(Error::Usage(
                    "nothing was changed: the policy has changed meanwhile, try again".to_string(),
                )),
            })?;
            if !undo {
                return Ok(change);
            }
            let beside = revoke_beside(ctx, &asked, None)?;
            Ok(match beside.notes.is_empty() {
                true => change,
                false => PolicyChange {
                    notes: change.notes.into_iter().chain(beside.notes).collect(),
                    ..change
                },
            })
        }
        Err(followed @ Error::Followed { .. }) => {
            let name = match &followed {
                Error::Followed { name, .. } => name.clone(),
                _ => String::new(),
            };
            let mut change = revoke_beside(ctx, &asked, undo.then_some(followed))?;
            if !change.notes.is_empty() {
                let note = format!("on this host alone: its policy `{name}` stays as its publisher has signed it");
                change.notes.push(note);
            }
            Ok(change)
        }
        Err(error) => Err(error),
    }
}

/// Changes what the host revokes beside its policy; refused with `refusal`, if there is one, where
/// the policy itself revokes it.
fn revoke_beside(ctx: &Context<'_>, asked: &Asked<'_>, refusal: Option<Error>) -> Result<PolicyChange, Error> {
    let path = revocations_path(ctx);
    let _lock = lock_revocations(ctx)?;
    let edit = asked.edit(ctx)?;
    // Without its trusted roots: one that is gone must not keep anything from being revoked.
    let policy = policy_to_change(ctx)?;
    if let Some(refusal) = refusal
        && policy.revokes(&edit)
    {
        return Err(refusal);
    }
    let found = host_revocations(ctx)?;
    let mut revocations = found.revocations;
    let notes = revocations.apply(&edit, &policy).map_err(|error| match error {
        PolicyEditError::Refused(why) => Error::Usage(format!("nothing was changed: {why}")),
        error => Error::Policy {
            path: path.clone(),
            why: error.to_string(),
        },
    })?;
    if !notes.is_empty() {
        write_revocations(ctx, &revocations)?;
    }
    let warnings = match &edit {
        PolicyEdit::RevokeKey { id, .. } if !policy.names(*id) => vec![format!(
            "no key of the policy has this fingerprint now: {} is revoked all the same",
            id.fingerprint()
        )],
        _ => Vec::new(),
    };
    Ok(PolicyChange {
        path,
        created: found.digest.is_none() && !revocations.is_empty(),
        notes,
        warnings,
        // As it is judged by from now on.
        policy: policy_to_change(ctx)?,
    })
}
