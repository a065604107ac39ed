//! Which of an image's signatures are kept: anyone may put signatures beside an
//! image in a registry, and none of them may crowd out the good ones.
//!
//! A signature that a key of the policy has made can't be forged, so all of
//! those are kept. Of the others a stored image takes only a few, over all
//! pulls and loads together.

use qyvol_image::{Head, HeadImage, HeadSignature};
use qyvol_store::{LocalStore, Referrers};
use qyvol_trust::{Envelope, TrustPolicy};
use qyvol_types::{Digest, limits};

use crate::output::{Output, Place};
use crate::policy::load_policy;
use crate::{Context, Error, Source, Target};

/// Leaves out of `image` the signatures that the store is not to take, by the
/// keys of `policy`, or of the host's where there is none. This is no verdict:
/// where the host's policy can't be read, every key is unknown.
pub(crate) fn keep(
    ctx: &Context<'_>,
    store: &LocalStore,
    policy: Option<&TrustPolicy>,
    label: &str,
    image: &mut HeadImage,
) -> Result<(), Error> {
    let host = match policy {
        Some(_) => None,
        None => load_policy(ctx).ok(),
    };
    let policy = policy.or(host.as_ref());
    let subject = image.manifest.digest();
    let there = store.referrers(&subject)?;
    let mut room = limits::UNKNOWN_SIGNATURES.saturating_sub(there.len());
    let mut dropped = 0;
    image.signatures.retain(|signature| {
        let digest = signature.manifest.digest();
        if policy.is_some_and(|policy| policy.has_signed(&subject, &signature.bundle))
            || there.iter().any(|there| there.digest == digest)
        {
            return true;
        }
        let kept = room > 0;
        room = room.saturating_sub(1);
        dropped += usize::from(!kept);
        kept
    });
    if dropped > 0 {
        ctx.report.warned(&format!(
            "{label}: {dropped} signatures by keys that the trust policy does not name were not stored: an image keeps \
             at most {} of them",
            limits::UNKNOWN_SIGNATURES
        ));
    }
    Ok(())
}

/// A signature that was removed.
#[derive(Clone, Debug)]
pub struct Removed {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The fingerprint that it names, if it is readable.
    pub fingerprint: Option<String>,
}

/// Removes from an archive or a stored image the signatures that no key of the
/// trust policy has made. The image stays as it is.
pub fn clean(ctx: &Context<'_>, target: &Target, dry_run: bool) -> Result<Vec<Removed>, Error> {
    let policy = load_policy(ctx)?;
    let source = Source::open(ctx, target)?;
    let label = source.label();
    let image = source.single()?;
    let subject = image.manifest.digest();
    let (kept, dropped): (Vec<HeadSignature>, Vec<HeadSignature>) = image
        .signatures
        .iter()
        .cloned()
        .partition(|signature| policy.has_signed(&subject, &signature.bundle));
    let removed = dropped.iter().map(|signature| Removed {
        digest: signature.manifest.digest(),
        fingerprint: Envelope::parse(&signature.bundle)
            .ok()
            .and_then(|e| e.hinted_fingerprint()),
    });
    let removed: Vec<Removed> = removed.collect();
    if dry_run || removed.is_empty() {
        return Ok(removed);
    }
    match &source {
        Source::Archive { archive } => {
            let mut image = image.clone();
            image.signatures = kept;
            let head = Head::new(vec![image]).map_err(Error::image(&label))?;
            let file = archive.file_id().map_err(Error::file("read", archive.path()))?;
            let mut file = Output::create(ctx, Place::of(archive.path(), file)?)?;
            archive.rewrite(&head, &mut file).map_err(Error::image(&label))?;
            file.finish()?;
        }
        Source::Stored { store, .. } => {
            for removed in &removed {
                store.remove_referrer(&subject, &removed.digest)?;
            }
        }
    }
    Ok(removed)
}
