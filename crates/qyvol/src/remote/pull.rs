//! `pull`: from a registry into the store, or into a file.

use std::sync::Arc;

use qyvol_image::{Head, ImageError, write_archive};
use qyvol_remote::Client;
use qyvol_store::{Exists, copy_graph};
use qyvol_trust::TrustPolicy;
use qyvol_types::{Descriptor, Reference};

use super::{TransferReport, attribute_to_registry, find_with_encodings, layers_size};
use crate::encodings::{Receiver, Ways};
use crate::image_source::RequestedAs;
use crate::install::stage_metadata;
use crate::output::{Output, OutputPath};
use crate::verify::{Attestations, verify_image};
use crate::{Context, Destination, Error, attestations, signatures};

/// What to pull.
pub struct PullRequest<'a> {
    /// A name with a registry in it.
    pub name: &'a Reference,
    /// A file to write instead of the store.
    pub output: Option<Destination<'a>>,
    /// The policy that must accept the image before any of it is stored.
    pub policy: Option<&'a TrustPolicy>,
    /// A dry run.
    pub dry_run: bool,
}

/// Fetches an image with its signatures, into the store or a file. Without a
/// policy nothing is judged: whoever runs the image does that.
pub fn pull(ctx: &Context<'_>, client: &Arc<Client>, request: &PullRequest<'_>) -> Result<TransferReport, Error> {
    let name = request.name;
    let (repository, image, encodings) = find_with_encodings(ctx, client, name)?;
    let label = name.to_string();
    let trusted = match request.policy {
        Some(policy) => {
            let attestations = Attestations::Needed(&repository);
            let asked = RequestedAs::Name(name);
            Some(verify_image(ctx, policy, &label, asked, &image, attestations)?)
        }
        None => None,
    };
    // The shape of an image, before anything large is fetched. A store takes
    // more signatures than a file's head does.
    let mut shape = image.clone();
    match request.output {
        Some(_) => attestations::for_archive(ctx, &mut shape),
        None => {
            shape.signatures.clear();
            shape.attestations.clear();
        }
    }
    let head = Head::new(vec![shape]).map_err(|error| match error {
        ImageError::Format(why) => Error::malformed(&label)(why),
        error => Error::image(&label)(error),
    })?;
    let mut moved = TransferReport::new(&label, &image, request.dry_run)?;
    moved.names.push(name.clone());
    if request.dry_run {
        let store = ctx.store()?;
        for part in &mut moved.parts {
            let descriptor = Descriptor::new(&part.media_type, part.digest, part.size);
            part.present = Some(request.output.is_none() && store.exists(&descriptor)?);
        }
        return Ok(moved);
    }
    match &request.output {
        Some(path) => {
            ctx.report.started("pulling", Some(layers_size(&image.manifest)));
            let mut file = Output::create(ctx, OutputPath::new(ctx, path)?)?;
            let written = write_archive(&head, &repository, &mut file, ctx.report);
            written.map_err(|e| attribute_to_registry(Error::image(&label)(e), &repository))?;
            moved.copied = Some(moved.parts.len());
            file.finish()?;
        }
        None => {
            let store = ctx.store()?;
            store.check_free_space(image.manifest.layers())?;
            let mut image = image;
            // These two are staged by themselves below.
            let mut copied = 0;
            for small in [&image.descriptor(), image.manifest.config()] {
                copied += usize::from(!store.exists(small)?);
            }
            signatures::keep(ctx, &store, request.policy, &label, &mut image)?;
            attestations::keep_large(ctx, &store, &label, &mut image)?;
            let ways = Ways::find(ctx, &repository, &store, &image, &encodings)?;
            let total = layers_size(&image.manifest).saturating_sub(ways.saved());
            ctx.report.started("pulling", Some(total));
            let mut stage = store.begin()?.resumable();
            // The judged bytes are stored: they are not fetched again.
            stage_metadata(&mut stage, &image)?;
            let receiver = Receiver::new(ctx, &repository, &stage, ways);
            copied += copy_graph(&repository, &receiver, &image.descriptor(), ctx.report)
                .map_err(|e| attribute_to_registry(e.into(), &repository))?;
            let received = receiver.received();
            received.account(&mut moved.parts);
            for manifest in &image.large_attestations {
                copy_graph(&repository, &stage, &manifest.descriptor(), ctx.report)
                    .map_err(|e| attribute_to_registry(e.into(), &repository))?;
            }
            moved.copied = Some(copied);
            stage.tag(name, &image.descriptor());
            if let Some(mut trusted) = trusted {
                trusted.remember(&store, &label)?;
            }
            stage.commit()?;
            received.clean_up();
        }
    }
    ctx.report.finished();
    Ok(moved)
}
