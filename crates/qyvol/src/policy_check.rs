//! `trust check --all`: what a policy makes of the images that the store has, before it is in
//! force. Reads heads alone, and writes nothing.

use std::path::Path;

use qyvol_trust::TrustPolicy;
use qyvol_types::{Digest, Reference, Timestamp};

use crate::policy::policy_in_force;
use crate::verify::verify_source;
use crate::{Context, Error, ImageName, ImageSource, load_policy, policy_path};

/// How a stored image would be judged, under one of its names.
#[derive(Debug)]
pub struct ImageCheck {
    /// The name in the store.
    pub name: Reference,
    /// The image manifest's digest.
    pub digest: Digest,
    /// Whether this host's policy accepts it now.
    pub accepted_now: bool,
    /// Why it would be refused, if it would.
    pub refused: Option<Error>,
}

/// Judges every name of the store by a policy (that of a file, or the one in force) at a time
/// (or now). How long ago somebody said that the policy is the newest does not count: a policy
/// that is not yet published has no such statement.
///
/// # Errors
/// The policy can't be used, or will have expired by then; the store can't be read. An image
/// that can't be read is in the result, as one that would be refused.
pub fn check_images(ctx: &Context<'_>, policy: Option<&Path>, at: Option<Timestamp>) -> Result<Vec<ImageCheck>, Error> {
    let other = |policy: Option<&Path>, now: Timestamp| Context {
        home: ctx.home.clone(),
        policy: policy.map(Path::to_path_buf),
        now,
        ..*ctx
    };
    let own = other(None, ctx.now);
    let in_force = policy_in_force(&own).unwrap_or_else(|error| {
        ctx.report
            .warned(&format!("this host's policy accepts nothing now: {error}"));
        TrustPolicy::reject_all()
    });
    let then = other(policy.or(ctx.policy.as_deref()), at.unwrap_or(ctx.now));
    let policy = load_policy(&then)?;
    if let Some(why) = policy.lapsed(then.now, Some(then.now)) {
        let path = policy_path(&then);
        return Err(Error::Policy { path, why });
    }
    let mut names = ctx.store()?.references()?;
    names.sort_by_cached_key(|(name, _)| name.to_string());
    let checked = names.into_iter().map(|(name, descriptor)| {
        let source = ImageSource::stored(ctx, &ImageName::Reference(name.clone()));
        let judged = |ctx: &Context<'_>, policy: &TrustPolicy, source: &ImageSource| {
            verify_source(ctx, policy, source, source.single()?).map(drop)
        };
        let (accepted_now, refused) = match source {
            Ok(source) => (
                judged(&own, &in_force, &source).is_ok(),
                judged(&then, &policy, &source).err(),
            ),
            Err(error) => (false, Some(error)),
        };
        ImageCheck {
            name,
            digest: descriptor.digest,
            accepted_now,
            refused,
        }
    });
    Ok(checked.collect())
}
