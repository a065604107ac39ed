//! Bringing a verified image's blobs into the store.

use qyvol_image::{Archive, HeadImage};
use qyvol_store::{Exists, Fetch, Ingest, LocalStore, Push};
use qyvol_types::{Descriptor, Reference, media_type};

use crate::{Context, Error};

/// Copies `images` of an archive into the store: content first, each blob
/// hashed on the way, then what refers to it. Nothing shows before all of it
/// is there. `names` are set last.
pub(crate) fn install(
    ctx: &Context<'_>,
    store: &LocalStore,
    archive: &Archive,
    images: &[&HeadImage],
    names: &[(Reference, Descriptor)],
) -> Result<(), Error> {
    let label = archive.path().to_string_lossy().into_owned();
    let mut stage = store.begin()?;
    let mut seen = std::collections::BTreeSet::new();
    for image in images {
        for layer in image.manifest.layers() {
            if seen.insert(layer.digest) && !stage.exists(layer)? {
                let mut body = archive.fetch(layer)?;
                stage.push(layer, &mut Counted { body: &mut body, ctx })?;
            }
        }
    }
    archive.check_end().map_err(Error::image(&label))?;
    for image in images {
        stage_small(&mut stage, image)?;
    }
    for (name, descriptor) in names {
        stage.tag(name, descriptor);
    }
    stage.commit()?;
    Ok(())
}

/// Stages an image's config, manifest and signatures. The store links each
/// signature to its subject by itself.
pub(crate) fn stage_small(stage: &mut Ingest, image: &HeadImage) -> Result<(), Error> {
    stage.push(image.manifest.config(), &mut image.config.as_slice())?;
    let descriptor = image.descriptor();
    stage.push(&descriptor, &mut image.manifest.raw())?;
    for signature in &image.signatures {
        stage.push(&Descriptor::of(media_type::EMPTY, b"{}"), &mut b"{}".as_slice())?;
        let bundle = Descriptor::of(media_type::SIGSTORE_BUNDLE, &signature.bundle);
        stage.push(&bundle, &mut signature.bundle.as_slice())?;
        let referrer = signature.manifest.descriptor();
        stage.push(&referrer, &mut signature.manifest.raw())?;
    }
    Ok(())
}

struct Counted<'a, R> {
    body: &'a mut R,
    ctx: &'a Context<'a>,
}

impl<R: std::io::Read> std::io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.body.read(buffer)?;
        self.ctx.report.advanced(n as u64);
        Ok(n)
    }
}
