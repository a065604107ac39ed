//! `save` and `load`: images between the store and one file.

use std::collections::BTreeMap;
use std::path::Path;

use qyvol_image::{Head, ImageError, Layout, SignedImage, write_archive};
use qyvol_store::{Fetch, StoreError};
use qyvol_trust::{TrustPolicy, Verified};
use qyvol_types::{Descriptor, Digest, Reference, escape};

use crate::image_source::RequestedAs;
use crate::image_source::own_name;
use crate::install::{InstallOptions, stage_images};
use crate::output::{Output, OutputPath};
use crate::verify::{Attestations, TrustedImage, bind, check_local_names, verify_image};
use crate::{Context, Destination, Error, ImageName, ImageSource, attestations, policy_or_key};

/// Writes stored images, with their signatures, into one archive, under the requested names.
/// Returns its size in bytes.
pub fn save(ctx: &Context<'_>, names: &[ImageName], output: &Destination<'_>) -> Result<u64, Error> {
    let store = ctx.store()?;
    let mut images: BTreeMap<Digest, SignedImage> = BTreeMap::new();
    let mut taken: BTreeMap<Reference, (Digest, &ImageName)> = BTreeMap::new();
    for name in names {
        let source = ImageSource::stored(ctx, name)?;
        let image = source.single()?;
        let digest = image.manifest.digest();
        let recorded = recorded_name(name, image)?;
        match taken.insert(recorded.clone(), (digest, name)) {
            Some((there, _)) if there == digest => continue,
            Some((_, other)) => {
                return Err(Error::Usage(format!(
                    "{other} and {name} are two images that would both be {recorded} in the file: save them by their names in a registry, or into two files"
                )));
            }
            None => {}
        }
        let saved = images.entry(digest).or_insert_with(|| {
            let mut image = image.clone();
            image.names.clear();
            attestations::for_archive(ctx, &mut image);
            image
        });
        saved.names.push(recorded);
    }
    let label = output.path.to_string_lossy().into_owned();
    let head = Head::new(images.into_values().collect()).map_err(Error::image(&label))?;
    let mut file = Output::create(ctx, OutputPath::new(ctx, output)?)?;
    ctx.report
        .started("saving", Some(head.content().iter().map(|b| b.size).sum()));
    write_archive(&head, &store, &mut file, ctx.report).map_err(|error| match error {
        // A read error is the store's, not the file's.
        ImageError::Read(source) => match StoreError::from_io(source) {
            Ok(error) => Error::Store(error),
            Err(source) => Error::image(&label)(ImageError::Read(source)),
        },
        error => Error::image(&label)(error),
    })?;
    ctx.report.finished();
    file.finish()
}

/// The name that a file records for an image of the store. A registry's name is
/// kept: its tag, or its digest where it has no tag. A name without a registry means nothing on
/// another host, and is replaced by the image's own.
fn recorded_name(asked: &ImageName, image: &SignedImage) -> Result<Reference, Error> {
    let Some(name) = asked.in_registry() else {
        return own_name(&asked.to_string(), &image.config);
    };
    match name.tag() {
        Some(tag) => name.with_tag(tag).map_err(Error::malformed(&name.to_string())),
        None => Ok(name.clone()),
    }
}

/// What to load.
pub struct LoadRequest<'a> {
    /// A `.qyvbin`, or an OCI image layout: a directory, or a tar of one.
    pub path: &'a Path,
    /// Whether the policy must accept every image under every one of its names
    /// before anything is written. Without, each image is stored under its own
    /// `name:version` alone, and trust is decided when it runs.
    pub verify: bool,
    /// Whether a name that refers to another image is moved.
    pub replace: bool,
}

/// Loads the images of an archive, or of an OCI image layout, into the store. All of its
/// content is read and checked against its digests, also what the store has already.
pub fn load(ctx: &Context<'_>, request: &LoadRequest<'_>) -> Result<Vec<(Reference, Descriptor)>, Error> {
    let label = request.path.to_string_lossy().into_owned();
    if Layout::is_layout(request.path).map_err(Error::file("open", request.path))? {
        let layout = Layout::open(request.path).map_err(Error::image(&label))?;
        return load_from(ctx, request, &layout, layout.head(), &|| Ok(()));
    }
    let ImageSource::Archive { archive } = ImageSource::archive(request.path)? else {
        return Err(Error::Usage(format!("{} is not an archive", escape(&label))));
    };
    load_from(ctx, request, &archive, archive.head(), &|| archive.check_end())
}

fn load_from(
    ctx: &Context<'_>,
    request: &LoadRequest<'_>,
    from: &impl Fetch,
    head: &Head,
    check_end: &dyn Fn() -> Result<(), ImageError>,
) -> Result<Vec<(Reference, Descriptor)>, Error> {
    let label = request.path.to_string_lossy().into_owned();
    let policy = request.verify.then(|| policy_or_key(ctx, None)).transpose()?;
    let mut names: BTreeMap<Reference, Descriptor> = BTreeMap::new();
    let mut trusted: Vec<TrustedImage> = Vec::new();
    for image in head.images() {
        let accepted = match &policy {
            Some(policy) => accepted_names(ctx, policy, from, &label, image, &mut trusted)?,
            None => vec![unverified_name(&label, image)?],
        };
        for name in accepted {
            if let Some(other) = names.insert(name.clone(), image.descriptor())
                && other.digest != image.manifest.digest()
            {
                return Err(Error::Usage(format!(
                    "{label} holds two images that are both {name} by their own names: load it without --no-verify"
                )));
            }
        }
    }
    // A damaged file is refused whatever the store has already.
    let how = InstallOptions {
        names: names.into_iter().collect(),
        replace: request.replace,
        read_all: true,
    };
    let images: Vec<&SignedImage> = head.images().iter().collect();
    let content = head.content();
    ctx.report
        .started("loading", Some(content.iter().map(|blob| blob.size).sum()));
    let store = ctx.store()?;
    let stage = stage_images(ctx, &store, from, &label, &images, &how)?;
    check_end().map_err(Error::image(&label))?;
    stage.check()?;
    check_single_release(&label, &trusted)?;
    for image in &mut trusted {
        image.remember(&store, &label)?;
    }
    stage.commit()?;
    ctx.report.finished();
    Ok(how.names)
}

/// Refuses two images of one name whose rule denies rollback: each would be a
/// rollback of the other. Checked before either is recorded.
fn check_single_release(label: &str, trusted: &[TrustedImage]) -> Result<(), Error> {
    let mut newest: BTreeMap<&str, Digest> = BTreeMap::new();
    for image in trusted {
        let (Some(name), digest) = (&image.remembered_as, image.digest) else {
            continue;
        };
        if let Some(other) = newest.insert(name, digest)
            && other != digest
        {
            return Err(Error::State {
                target: label.to_string(),
                why: format!(
                    "the file holds two images of {name}, {other} and {digest}, and under `rollback: deny` only one of \
                     them can be accepted"
                ),
            });
        }
    }
    Ok(())
}

/// The names that the file records for an image, each accepted by its own rule.
fn accepted_names(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    from: &dyn Fetch,
    label: &str,
    image: &SignedImage,
    trusted: &mut Vec<TrustedImage>,
) -> Result<Vec<Reference>, Error> {
    for name in &image.names {
        let (judged_as, asked) = match name.registry() {
            Some(_) => (format!("{label}: {name}"), RequestedAs::Name(name)),
            None => (label.to_string(), RequestedAs::Archive),
        };
        let accepted = verify_image(ctx, policy, &judged_as, asked, image, Attestations::Needed(from))?;
        check_local_names(label, image, &accepted.config)?;
        trusted.push(accepted);
    }
    Ok(image.names.clone())
}

/// The name of an image that is not judged: its own, by which every run judges
/// it by the rules for files.
fn unverified_name(label: &str, image: &SignedImage) -> Result<Reference, Error> {
    let reason = "loading only stores an image; running it verifies it";
    let unjudged = Verified::dangerously_trust(image.descriptor(), reason);
    let (_, config) = bind(label, unjudged, image)?;
    check_local_names(label, image, &config)?;
    own_name(label, &image.config)
}
