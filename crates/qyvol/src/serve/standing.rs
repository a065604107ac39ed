//! The image that answers, judged again when the policy has changed: by its own digest and the
//! signatures that it was loaded with, whatever its target refers to by now.
//!
//! Deliberately absent: stopping an image because time has passed, or because a rule asks for
//! more than before. It then keeps answering, and is not replaced.

use std::sync::Arc;

use qyvol_trust::{Ceiling, Report};
use qyvol_types::Digest;

use crate::policy::policy_or_key_lapsed;
use crate::run::VerifiedTarget;
use crate::verify::verify_source;
use crate::{Context, Error, ErrorClass, ImageSource};

/// The image that answers, and the signatures that counted when it was accepted.
pub(super) struct Accepted {
    source: Arc<ImageSource>,
    digest: Digest,
    ceiling: Ceiling,
    report: Report,
}

/// How a policy judges the image that answers.
pub(super) enum Standing {
    /// It accepts the image, and grants it the same.
    Accepted,
    /// It revokes the image, or a key without which the image is refused.
    Revoked(Error),
    /// It refuses the image for another reason, or grants it something else.
    Other,
}

impl Accepted {
    /// None for a manifest under development, for which nobody has signed.
    pub(super) fn of(judged: &VerifiedTarget) -> Option<Accepted> {
        Some(Accepted {
            source: Arc::clone(&judged.source),
            digest: judged.trusted.digest,
            ceiling: judged.trusted.ceiling.clone(),
            report: judged.trusted.report.clone()?,
        })
    }

    /// Judges it by the current policy. Fails if that is impossible.
    pub(super) fn judge(&self, ctx: &Context<'_>, key: Option<&str>) -> Result<Standing, Error> {
        let policy = policy_or_key_lapsed(ctx, key)?;
        match verify_source(ctx, &policy, &self.source, self.source.single()?) {
            Ok(trusted) if trusted.ceiling == self.ceiling => Ok(Standing::Accepted),
            Ok(_) => Ok(Standing::Other),
            Err(error) => match error.class() {
                // Of any class: it names one reason of many.
                ErrorClass::Refused(_) if self.report.is_revoked_by(&policy, &self.digest) => {
                    Ok(Standing::Revoked(error))
                }
                ErrorClass::Refused(_) => Ok(Standing::Other),
                _ => Err(error),
            },
        }
    }
}
