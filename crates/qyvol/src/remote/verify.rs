//! `verify --remote`.

use std::sync::Arc;

use qyvol_remote::Client;
use qyvol_store::Fetch;
use qyvol_trust::TrustPolicy;
use qyvol_types::Reference;

use super::{attribute_to_registry, find, layers_size};
use crate::image_source::RequestedAs;
use crate::verify::{Attestations, read_all, verify_image};
use crate::{Context, Error, VerifyReport};

/// Judges an image on its registry, then reads all of it against its digests. Nothing is stored.
pub(crate) fn verify_remote(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    policy: &TrustPolicy,
    name: &Reference,
) -> Result<VerifyReport, Error> {
    let (repository, image) = find(ctx, client, name)?;
    let label = name.to_string();
    let attestations = Attestations::All(&repository);
    let trusted = verify_image(ctx, policy, &label, RequestedAs::Name(name), &image, attestations)?;
    ctx.report.started("verifying", Some(layers_size(&image.manifest)));
    for layer in image.manifest.layers() {
        let failed = |error| attribute_to_registry(error, &repository);
        let mut body = repository.fetch(layer).map_err(|error| failed(error.into()))?;
        read_all(&mut body, ctx).map_err(|error| {
            failed(match qyvol_store::StoreError::from_io(error) {
                Ok(store) => store.into(),
                Err(io) => Error::image(&label)(qyvol_image::ImageError::Read(io)),
            })
        })?;
    }
    ctx.report.finished();
    VerifyReport::new(&label, trusted)
}
