//! Which earlier components patches are made from.

use qyvol_store::{Fetch, LocalStore};
use qyvol_types::{Descriptor, ImageConfig, ImageManifest, Reference, RepositoryName, Timestamp, limits};

use super::components;
use crate::Error;

/// Stored images that are considered as the base of a patch.
const CANDIDATES: usize = 256;
/// Bases that patches are made from, if none were named.
pub(crate) const BASES: usize = 2;

/// The components of the latest stored images of these repositories.
pub(crate) fn stored(
    store: &LocalStore,
    repositories: &[RepositoryName],
    component: &Descriptor,
) -> Result<Vec<Descriptor>, Error> {
    let mut images: Vec<(Timestamp, Reference, Descriptor)> = Vec::new();
    let names = store.references()?.into_iter();
    let names = names.filter(|(name, _)| repositories.contains(&name.repository_name()));
    for (name, image) in names.take(CANDIDATES) {
        // An image that can't be read is no base.
        let Ok(raw) = store.fetch_bytes(&image, limits::MANIFEST_BYTES) else {
            continue;
        };
        let Ok(manifest) = ImageManifest::parse(raw) else {
            continue;
        };
        let Ok(config) = store.fetch_bytes(manifest.config(), limits::CONFIG_BYTES) else {
            continue;
        };
        let Ok(config) = ImageConfig::parse(&config) else {
            continue;
        };
        for base in components(manifest.layers()).filter(|base| base.digest != component.digest) {
            images.push((config.created, name.clone(), base.clone()));
        }
    }
    // Reproducible builds may all have the same time: then the version decides, 1.10 after 1.9.
    let key = |(created, name, base): &(Timestamp, Reference, Descriptor)| {
        let tag = name.tag().unwrap_or_default();
        (*created, tag.len(), tag.to_string(), base.digest)
    };
    images.sort_by_cached_key(|image| std::cmp::Reverse(key(image)));
    let mut bases: Vec<Descriptor> = Vec::new();
    for (_, _, base) in images {
        if bases.len() < BASES && bases.iter().all(|other| other.digest != base.digest) {
            bases.push(base);
        }
    }
    Ok(bases)
}
