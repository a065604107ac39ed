//! `save` and `load`: images between the store and one file.

use std::path::Path;

use qyvol_image::{Head, HeadImage, write_archive};
use qyvol_types::{Descriptor, Reference};

use crate::install::install;
use crate::output::{Output, Place};
use crate::verify::{bind, check_own_name, judge};
use crate::{Context, Destination, Error, ImageName, Source, Target, load_policy};

/// Writes stored images, with their signatures, into one archive. Returns its
/// size in bytes.
pub fn save(ctx: &Context<'_>, names: &[ImageName], output: &Destination<'_>) -> Result<u64, Error> {
    let store = ctx.store()?;
    let mut images: Vec<HeadImage> = Vec::new();
    for name in names {
        let source = Source::stored(ctx, name)?;
        let image = source.single()?.clone();
        if images.iter().all(|i| i.manifest.digest() != image.manifest.digest()) {
            images.push(image);
        }
    }
    let label = output.path.to_string_lossy().into_owned();
    let head = Head::new(images).map_err(Error::image(&label))?;
    let mut file = Output::create(ctx, Place::new(ctx, output)?)?;
    ctx.report
        .started("saving", Some(head.content().iter().map(|b| b.size).sum()));
    write_archive(&head, &store, &mut file, ctx.report).map_err(Error::image(&label))?;
    ctx.report.finished();
    file.finish()
}

/// Takes an archive's images into the store, under their own names. With
/// `verify`, the policy must accept each before anything is written; without,
/// trust is decided when they run.
pub fn load(ctx: &Context<'_>, path: &Path, verify: bool) -> Result<Vec<(Reference, Descriptor)>, Error> {
    let source = Source::open(ctx, &Target::Archive(path.to_path_buf()))?;
    let label = source.label();
    let Source::Archive { archive } = &source else {
        return Err(Error::Usage(format!("{label} is not an archive")));
    };
    let mut names = Vec::new();
    let mut trusted = Vec::new();
    for image in archive.images() {
        if verify {
            trusted.push(judge(ctx, &load_policy(ctx)?, &source, image)?);
        } else {
            own_name_matches(&label, image)?;
        }
        names.push((image.name.clone(), image.descriptor()));
    }
    let images: Vec<&HeadImage> = archive.images().iter().collect();
    ctx.report
        .started("loading", Some(archive.head().content().iter().map(|b| b.size).sum()));
    let store = ctx.store()?;
    for image in &mut trusted {
        image.remember(&store, &label)?;
    }
    install(ctx, &store, archive, &images, &names)?;
    ctx.report.finished();
    Ok(names)
}

/// A file must not load under a name that its image does not have.
fn own_name_matches(label: &str, image: &HeadImage) -> Result<(), Error> {
    let reason = "loading only stores an image; running it verifies it";
    let unjudged = qyvol_trust::Verified::dangerously_trust(image.descriptor(), reason);
    let (_, config) = bind(label, unjudged, image)?;
    check_own_name(label, image, &config)
}
