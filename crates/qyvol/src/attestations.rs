//! Attestations between store, archive and registry. Small ones are transferred like
//! signatures; those larger than a signature's bundle are blobs of a store or registry, and
//! archives don't have them.

use qyvol_image::{ImageSignature, SignedImage};
use qyvol_store::{Exists, LocalStore, Referrers};
use qyvol_types::{Descriptor, ImageManifest, limits};

use crate::image_source::referrer_manifest;
use crate::{Context, Error};

/// Leaves out what an archive can't contain.
pub(crate) fn for_archive(ctx: &Context<'_>, image: &mut SignedImage) {
    let (mut room, before) = (limits::ATTESTATIONS_IN_ARCHIVE, image.attestations.len());
    image.attestations.retain(|attestation| {
        let left = room.checked_sub(attestation.bundle.len() as u64);
        room = left.unwrap_or(room);
        left.is_some()
    });
    let large = std::mem::take(&mut image.large_attestations).len();
    let left_out = large + before - image.attestations.len();
    if left_out > 0 {
        ctx.report.warned(&format!(
            "{}: {left_out} of its attestations left out of the file, which holds such of at most {} KiB, {} KiB together",
            image.manifest.digest(),
            limits::BUNDLE_BYTES >> 10,
            limits::ATTESTATIONS_IN_ARCHIVE >> 10
        ));
    }
}

fn size(manifest: &ImageManifest) -> u64 {
    manifest.layers().iter().map(|layer| layer.size).sum()
}

/// Leaves out the large attestations for which the stored image has no room: anyone may attach
/// some to an image in a registry.
pub(crate) fn keep_large(
    ctx: &Context<'_>,
    store: &LocalStore,
    label: &str,
    image: &mut SignedImage,
) -> Result<(), Error> {
    if image.large_attestations.is_empty() {
        return Ok(());
    }
    let mut room = limits::LARGE_ATTESTATIONS_BYTES;
    for referrer in store.referrers(&image.manifest.digest())? {
        let manifest = referrer_manifest(store, &referrer).ok();
        if let Some(manifest) = manifest.filter(ImageSignature::is_attestation) {
            let size = size(&manifest);
            room = room.saturating_sub(if size > limits::BUNDLE_BYTES { size } else { 0 });
        }
    }
    let mut dropped = 0;
    let mut kept = Vec::new();
    for manifest in std::mem::take(&mut image.large_attestations) {
        let layers: &[Descriptor] = manifest.layers();
        let there = layers
            .iter()
            .try_fold(true, |all, layer| Ok::<_, Error>(all && store.exists(layer)?))?;
        match room.checked_sub(size(&manifest)) {
            _ if there => kept.push(manifest),
            Some(left) => {
                room = left;
                kept.push(manifest);
            }
            None => dropped += 1,
        }
    }
    image.large_attestations = kept;
    if dropped > 0 {
        ctx.report.warned(&format!(
            "{label}: {dropped} of its large attestations not stored: an image keeps at most {} MiB of them",
            limits::LARGE_ATTESTATIONS_BYTES >> 20
        ));
    }
    Ok(())
}
