//! Images and registries, one file per verb. Shared code is here: the report of a transfer, its
//! destination, and which side a failure belongs to.
//!
//! Each is a copy between stores. A verb that opens a connection takes the
//! client as an argument; what doesn't take one can't.

mod copy;
mod encode;
mod inspect;
mod places;
mod pull;
mod push;
mod remove;
mod tags;
mod verify;

use std::sync::Arc;
use std::thread;

use qyvol_image::{ImageError, SignedImage};
use qyvol_remote::{Access, Client, Operation, RemoteError, Repository};
use qyvol_store::{CopyError, Exists, Fetch, Referrers, StoreError, copy_graph, copy_referrers};
use qyvol_types::{Algorithm, DEFAULT_TAG, Descriptor, Digest, ImageManifest, Reference};
use serde::Serialize;

pub use self::copy::copy;
pub use self::encode::{EncodeReport, EncodeRequest, EncodedRow, encode};
pub use self::inspect::inspect_remote;
pub use self::pull::{PullRequest, pull};
pub use self::push::{PushRequest, push};
pub use self::remove::remove_remote;
pub use self::tags::tags;
pub(crate) use self::verify::verify_remote;
use crate::encodings::{Listing, Publisher};
use crate::image_source::{own_name, read_image};
use crate::{Context, Error};

/// A blob of an image that is transferred, or would be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferredBlob {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the destination has it already; set only by a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// Bytes that a pull fetched for it: fewer than its size if a smaller representation was
    /// used, or if an earlier pull had fetched a part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched: Option<u64>,
    /// The encoding of the representation that it was decoded from, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encoding: Option<&'static str>,
    /// What that representation was applied to, if it is a patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
}

/// The result of a transfer, or of its dry run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferReport {
    /// The image manifest's digest.
    pub digest: Digest,
    /// The image's own name.
    pub image: Reference,
    /// Its names at the destination.
    pub names: Vec<Reference>,
    /// Its manifest, config and layers.
    pub parts: Vec<TransferredBlob>,
    /// Signatures that were transferred too.
    pub signatures: usize,
    /// Nothing was written.
    pub dry_run: bool,
    /// Blobs of the image that the destination lacked; none for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<usize>,
}

impl TransferReport {
    /// The report on `image` before anything has moved.
    fn new(label: &str, image: &SignedImage, dry_run: bool) -> Result<TransferReport, Error> {
        Ok(TransferReport {
            digest: image.manifest.digest(),
            image: own_name(label, &image.config)?,
            names: Vec::new(),
            parts: parts(image),
            signatures: image.signatures.len(),
            dry_run,
            copied: None,
        })
    }
}

fn parts(image: &SignedImage) -> Vec<TransferredBlob> {
    let descriptor = image.descriptor();
    let all = [&descriptor, image.manifest.config()];
    all.into_iter()
        .chain(image.manifest.layers())
        .map(|d| TransferredBlob {
            media_type: d.media_type.clone(),
            digest: d.digest,
            size: d.size,
            present: None,
            fetched: None,
            encoding: None,
            base: None,
        })
        .collect()
}

fn layers_size(manifest: &ImageManifest) -> u64 {
    let all = [manifest.config()].into_iter().chain(manifest.layers());
    all.fold(0, |sum, blob| blob.size.saturating_add(sum))
}

/// Where an image is to go: names by the repository that they are in.
fn by_repository(names: &[Reference]) -> Result<Vec<Vec<Reference>>, Error> {
    let mut groups: Vec<Vec<Reference>> = Vec::new();
    for name in names {
        if name.registry().is_none() {
            return Err(RemoteError::NoRegistry(name.to_string()).into());
        }
        if name.digest().is_some() {
            return Err(Error::Usage(format!(
                "{name} has a digest: the destination must not include a digest"
            )));
        }
        let same = |group: &&mut Vec<Reference>| {
            group
                .first()
                .is_some_and(|g| g.repository_name() == name.repository_name())
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(name.clone()),
            None => groups.push(vec![name.clone()]),
        }
    }
    Ok(groups)
}

/// Copies an image with its referrers, then tags it: a tag never appears before
/// its signatures. `publisher` adds other referrers meanwhile, from another repository of the
/// registry that has the image, if there is one.
fn copy_and_tag<S: Fetch + Referrers + Sync>(
    ctx: &Context<'_>,
    from: &S,
    image: &SignedImage,
    to: &Repository,
    tags: &[Reference],
    publisher: Option<(&Publisher<'_>, Option<&Repository>)>,
) -> Result<usize, Error> {
    let root = image.descriptor();
    // If the client keeps the lists of referrers, writing them takes long: it runs while the
    // layers are transferred. So does making other referrers.
    let copied = thread::scope(|scope| {
        let more = publisher.map(|(publisher, known)| scope.spawn(move || publisher.publish(to, known)));
        let root = &root;
        let referrers = scope.spawn(move || -> Result<(), Error> {
            copy_referrers(from, to, root, &|_| true, ctx.report)?;
            if let Some(more) = more {
                joined(more);
            }
            Ok(to.publish_referrers()?)
        });
        let copied = copy_graph(from, to, root, ctx.report);
        if let Some((publisher, _)) = publisher {
            publisher.blobs_sent(copied.is_ok());
        }
        let copied = copied?;
        joined(referrers)?;
        Ok::<_, Error>(copied)
    })?;
    for name in tags {
        to.tag(name.tag().unwrap_or(DEFAULT_TAG), &image.manifest)?;
    }
    Ok(copied)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Checks which parts exist.
fn mark_present(to: &Repository, parts: &mut [TransferredBlob]) -> Result<(), Error> {
    for part in parts {
        let there = to.exists(&Descriptor::new(&part.media_type, part.digest, part.size))?;
        part.present = Some(part.present.unwrap_or(true) && there);
    }
    Ok(())
}

/// Turns wrong or missing content from a registry into the registry's error:
/// nothing on this host is damaged.
pub(crate) fn attribute_to_registry(error: Error, repository: &Repository) -> Error {
    let store = match &error {
        Error::Store(store) => Some(store),
        Error::Copy(CopyError::Source { source, .. }) => Some(&**source),
        Error::Image {
            source: ImageError::Store(store),
            ..
        } => Some(store),
        Error::Image {
            source: ImageError::Read(read),
            ..
        } => read.get_ref().and_then(|e| e.downcast_ref()),
        _ => None,
    };
    match store {
        Some(StoreError::NotFound { digest }) => RemoteError::NotFound {
            host: repository.registry().to_string(),
            operation: Operation::ReadBlob(*digest),
        }
        .into(),
        Some(store) if store.is_content_error() => RemoteError::Protocol {
            what: format!("wrong content: {store}"),
        }
        .into(),
        _ => error,
    }
}

/// Resolves a name on its registry, once, and reads the small blobs of the image.
pub(crate) fn find(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    name: &Reference,
) -> Result<(Repository, SignedImage), Error> {
    let (repository, image, _) = find_with_encodings(ctx, client, name)?;
    Ok((repository, image))
}

/// The same, with those of the image's referrers that list smaller representations, by what
/// the registry says of them.
fn find_with_encodings(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    name: &Reference,
) -> Result<(Repository, SignedImage, Vec<Descriptor>), Error> {
    if name.digest().is_some_and(|d| d.algorithm() != Algorithm::Sha256) {
        return Err(Error::Usage(format!("{name}: images are named by their sha256 digest")));
    }
    let repository = Repository::new(client, name, Access::Pull)?;
    let descriptor = repository
        .resolve(name)?
        .ok_or_else(|| manifest_not_found(&repository, name))?;
    let listing = Listing::new(&repository);
    let image =
        read_image(ctx, &listing, &name.to_string(), &descriptor).map_err(|e| attribute_to_registry(e, &repository))?;
    let encodings = listing.encodings.into_inner();
    Ok((repository, image, encodings))
}

pub(crate) fn manifest_not_found(repository: &Repository, name: &Reference) -> RemoteError {
    RemoteError::NotFound {
        host: repository.registry().to_string(),
        operation: Operation::ReadManifest(match (name.tag(), name.digest()) {
            (_, Some(digest)) => format!("{}@{digest}", name.repository()),
            (tag, None) => format!("{}:{}", name.repository(), tag.unwrap_or(DEFAULT_TAG)),
        }),
    }
}

impl Error {
    /// The registry's part in this error, if it has one.
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            Error::Remote(error) => Some(error),
            Error::Store(error) => RemoteError::of(error),
            Error::Copy(CopyError::Source { source, .. } | CopyError::Target { source, .. }) => RemoteError::of(source),
            Error::Image {
                source: ImageError::Store(error),
                ..
            } => RemoteError::of(error),
            _ => None,
        }
    }
}
