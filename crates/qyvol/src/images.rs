//! `images`, `tag`, `rm`, `prune`, `check`: the store's own verbs.

use qyvol_store::{Damage, Fetch, PrunePlan, Pruned};
use qyvol_types::{Descriptor, ImageConfig, ImageManifest, Reference, limits};
use serde::Serialize;

use crate::image_source::resolve;
use crate::{Context, Error, ImageName, signatures};

/// An image in the store.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageRow {
    /// Its name in the store.
    pub name: String,
    /// The image manifest's digest.
    pub digest: String,
    /// Bytes of manifest, config and layers.
    pub size: u64,
    /// When it was made.
    pub created: String,
    /// Number of signatures.
    pub signatures: usize,
}

/// The store's images, sorted by name. An unreadable one is reported and skipped.
pub fn images(ctx: &Context<'_>) -> Result<Vec<ImageRow>, Error> {
    let store = ctx.store()?;
    let mut rows = Vec::new();
    for (name, descriptor) in store.references()? {
        match row(&store, &name, &descriptor) {
            Ok(row) => rows.push(row),
            Err(error) => ctx.report.warned(&format!("image {name} can't be read: {error}")),
        }
    }
    ctx.report_notices(&store);
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn row(store: &qyvol_store::LocalStore, name: &Reference, descriptor: &Descriptor) -> Result<ImageRow, Error> {
    let label = name.to_string();
    let raw = store.fetch_bytes(descriptor, limits::MANIFEST_BYTES)?;
    let manifest = ImageManifest::parse(raw).map_err(Error::malformed(&label))?;
    let config = store.fetch_bytes(manifest.config(), limits::CONFIG_BYTES)?;
    let config = ImageConfig::parse(&config).map_err(Error::malformed(&label))?;
    let layers: u64 = manifest.layers().iter().map(|l| l.size).sum();
    Ok(ImageRow {
        name: label,
        digest: descriptor.digest.to_string(),
        size: descriptor.size + manifest.config().size + layers,
        created: config.created.to_string(),
        signatures: signatures::number(store, &descriptor.digest)?,
    })
}

/// Gives an image another name.
pub fn tag(ctx: &Context<'_>, from: &ImageName, to: &Reference) -> Result<Descriptor, Error> {
    if to.digest().is_some() {
        return Err(Error::Usage(format!("{to} has a digest: a tag is a name alone")));
    }
    let store = ctx.store()?;
    let descriptor = resolve(&store, from)?;
    let mut stage = store.begin()?;
    stage.tag(to, &descriptor);
    stage.commit()?;
    Ok(descriptor)
}

/// Removes names; for a digest, every name of that image. Blobs stay until `prune`. If one of
/// them doesn't exist, nothing is removed.
pub fn remove(ctx: &Context<'_>, names: &[ImageName]) -> Result<Vec<Reference>, Error> {
    let store = ctx.store()?;
    let mut removed = Vec::new();
    for name in names {
        let image = resolve(&store, name)?;
        match name {
            ImageName::Reference(name) if name.digest().is_some() => {
                return Err(Error::Usage(format!(
                    "{name} has a tag and a digest: remove a name, or every name of a digest"
                )));
            }
            ImageName::Reference(name) => removed.push(name.clone()),
            ImageName::Digest(_) => {
                let all = store.references()?.into_iter();
                removed.extend(all.filter(|(_, d)| d.digest == image.digest).map(|(name, _)| name));
            }
        }
    }
    for name in &removed {
        store.remove_reference(name)?;
    }
    Ok(removed)
}

/// What `prune` would remove.
pub fn prune_plan(ctx: &Context<'_>) -> Result<PrunePlan, Error> {
    Ok(ctx.store()?.prune_plan()?)
}

/// Removes what the plan names and nothing reaches now.
pub fn prune(ctx: &Context<'_>, plan: &PrunePlan) -> Result<Pruned, Error> {
    Ok(ctx.store()?.prune(plan)?)
}

/// Re-hashes everything. With `repair`, damaged blobs are quarantined so that the next `load`
/// restores them.
pub fn check(ctx: &Context<'_>, repair: bool) -> Result<Vec<Damage>, Error> {
    Ok(ctx.store()?.check(ctx.report, repair)?)
}
