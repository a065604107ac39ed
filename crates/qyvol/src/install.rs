//! Installs a verified image's blobs in the store.

use std::io;

use qyvol_image::SignedImage;
use qyvol_store::{Exists, Fetch, Ingest, LocalStore, Push, StoreError};
use qyvol_types::{Descriptor, Reference, media_type};

use crate::{Context, Error, signatures};

/// How an archive's images are installed.
#[derive(Default)]
pub(crate) struct InstallOptions {
    /// Names, each with its image.
    pub(crate) names: Vec<(Reference, Descriptor)>,
    /// Whether a name that refers to another image is moved.
    pub(crate) replace: bool,
    /// Whether content that the store has already is read nevertheless, so that a damaged
    /// archive is refused.
    pub(crate) read_all: bool,
}

/// Stages the `images` of an archive or layout: content first, each blob
/// hashed, then what refers to it. Nothing is visible before the commit. Free
/// space is checked before the first byte is written: a few kilobytes of frames
/// decode to gigabytes.
pub(crate) fn stage_images(
    ctx: &Context<'_>,
    store: &LocalStore,
    from: &impl Fetch,
    label: &str,
    images: &[&SignedImage],
    how: &InstallOptions,
) -> Result<Ingest, Error> {
    store.check_free_space(images.iter().flat_map(|image| image.manifest.layers()))?;
    let mut stage = store.begin()?;
    let mut seen = std::collections::BTreeSet::new();
    for image in images {
        for layer in image.manifest.layers() {
            if !seen.insert(layer.digest) {
                continue;
            }
            let there = stage.exists(layer)?;
            if there && !how.read_all {
                continue;
            }
            let mut body = from.fetch(layer).map_err(|error| match error {
                StoreError::NotFound { digest } => Error::malformed(label)(format!("it lacks the blob {digest}")),
                error => error.into(),
            })?;
            let mut body = ProgressReader { body: &mut body, ctx };
            if there {
                io::copy(&mut body, &mut io::sink()).map_err(|e| Error::image(label)(e.into()))?;
            } else {
                stage
                    .push(layer, &mut body)
                    .map_err(|e| Error::image(label)(e.into()))?;
            }
        }
    }
    for image in images {
        let mut image = (*image).clone();
        signatures::keep(ctx, store, None, label, &mut image)?;
        stage_metadata(&mut stage, &image)?;
    }
    for (name, descriptor) in &how.names {
        match how.replace {
            true => stage.tag(name, descriptor),
            false => stage.tag_new(name, descriptor),
        }
    }
    Ok(stage)
}

/// Stages an image's config, manifest, signatures and attestations. The store links each
/// of these to its subject by itself.
pub(crate) fn stage_metadata(stage: &mut Ingest, image: &SignedImage) -> Result<(), Error> {
    stage.push(image.manifest.config(), &mut image.config.as_slice())?;
    let descriptor = image.descriptor();
    stage.push(&descriptor, &mut image.manifest.raw())?;
    for signature in image.referrers() {
        stage.push(&Descriptor::of(media_type::EMPTY, b"{}"), &mut b"{}".as_slice())?;
        let bundle = Descriptor::of(media_type::SIGSTORE_BUNDLE, &signature.bundle);
        stage.push(&bundle, &mut signature.bundle.as_slice())?;
        let referrer = signature.manifest.descriptor();
        stage.push(&referrer, &mut signature.manifest.raw())?;
    }
    Ok(())
}

/// Reports progress as bytes are read.
pub(crate) struct ProgressReader<'a, R> {
    pub(crate) body: &'a mut R,
    pub(crate) ctx: &'a Context<'a>,
}

impl<R: std::io::Read> std::io::Read for ProgressReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.body.read(buffer)?;
        self.ctx.report.advanced(n as u64);
        Ok(n)
    }
}
