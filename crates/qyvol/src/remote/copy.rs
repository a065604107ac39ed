//! `copy`: from one registry to another.

use std::sync::Arc;

use qyvol_remote::{Access, Client, Mounts, Repository};
use qyvol_types::Reference;

use super::{
    TransferReport, attribute_to_registry, by_repository, copy_and_tag, find, layers_size, mark_present, places,
};
use crate::{Context, Error};

/// Copies an image with everything that belongs to it from registry to registry, mounting blobs
/// if both names are on one registry.
pub fn copy(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    from: &Reference,
    to: &[Reference],
    dry_run: bool,
) -> Result<TransferReport, Error> {
    let (src, image) = find(ctx, client, from)?;
    let mut moved = TransferReport::new(&from.to_string(), &image, dry_run)?;
    for group in by_repository(to)? {
        let Some(first) = group.first() else { continue };
        let mounts = match first.registry() == from.registry() {
            true => Mounts::All(from.repository().to_string()),
            false => places::mounts(ctx, first, &image.manifest),
        };
        let repository = Repository::with_mounts(client, first, Access::Push, mounts)?;
        if dry_run {
            mark_present(&repository, &mut moved.parts)?;
        } else {
            ctx.report.started("copying", Some(layers_size(&image.manifest)));
            let copied = copy_and_tag(ctx, &src, &image, &repository, &group, None)
                .map_err(|e| attribute_to_registry(e, &src))?;
            *moved.copied.get_or_insert(0) += copied;
            places::remember(ctx, first, &image.manifest);
            ctx.report.finished();
        }
        moved.names.extend(group);
    }
    Ok(moved)
}
