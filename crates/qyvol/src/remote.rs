//! `push`, `pull`, `copy`, `tags`, and removing a tag: images and registries.
//!
//! Each is a copy between stores. A verb that opens a connection takes the
//! client as an argument; what doesn't take one can't.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use qyvol_image::{Head, ImageError, SignedImage, write_archive};
use qyvol_remote::{Access, Client, Operation, RemoteError, Repository};
use qyvol_store::{
    CopyError, Exists, Fetch, LocalStore, Referrers, StoreError, copy_graph as copy_content, copy_referrers,
};
use qyvol_trust::TrustPolicy;
use qyvol_types::{Algorithm, DEFAULT_TAG, Descriptor, Digest, ImageManifest, Reference, RepositoryName, limits};
use serde::Serialize;

use crate::image_source::{own_name, read_image};
use crate::inspect::view;
use crate::install::stage_metadata;
use crate::output::{Output, OutputPath};

use crate::verify::{RequestedAs, verify_image};
use crate::{Context, Destination, Error, ImageSource, Inspection, Target, signatures};

/// A blob of an image that is moved, or would be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferredBlob {
    /// Its media type.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the destination has it already; set by a dry run alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

/// The result of a transfer, or of its dry run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransferReport {
    /// The image manifest's digest.
    pub digest: Digest,
    /// The image's own name.
    pub image: Reference,
    /// The names it has now where it went.
    pub names: Vec<Reference>,
    /// Its manifest, config and layers.
    pub parts: Vec<TransferredBlob>,
    /// Signatures that went along.
    pub signatures: usize,
    /// Nothing was written.
    pub dry_run: bool,
    /// Blobs of the image that the destination lacked; none for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copied: Option<usize>,
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
/// its signatures.
fn copy_and_tag<S: Fetch + Referrers + Sync>(
    ctx: &Context<'_>,
    from: &S,
    image: &SignedImage,
    to: &Repository,
    tags: &[Reference],
) -> Result<usize, Error> {
    let root = image.descriptor();
    // Where lists of referrers are ours to keep, writing them takes long:
    // it passes while the layers are on their way.
    let copied = thread::scope(|scope| {
        let referrers = scope.spawn(|| -> Result<(), Error> {
            copy_referrers(from, to, &root, &|_| true, ctx.report)?;
            Ok(to.publish_referrers()?)
        });
        let copied = copy_content(from, to, &root, ctx.report)?;
        let sent = referrers.join();
        sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok::<_, Error>(copied)
    })?;
    for name in tags {
        to.tag(name.tag().unwrap_or(DEFAULT_TAG), &image.manifest)?;
    }
    Ok(copied)
}

/// Sends an image, from a file or the store, to every one of the names.
pub fn push(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    target: &Target,
    names: &[Reference],
    dry_run: bool,
) -> Result<TransferReport, Error> {
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let image = source.single()?;
    let own = own_name(&label, &image.config)?;
    let implied = match target {
        Target::Image(name) => name.in_registry(),
        _ => None,
    };
    let names = match (names, implied) {
        ([], Some(name)) => vec![name.clone()],
        ([], None) => {
            return Err(Error::Usage(format!(
                "{label} names no registry: say where it is to go, as HOST/{own}"
            )));
        }
        (names, _) => names.to_vec(),
    };
    let mut moved = TransferReport {
        digest: image.manifest.digest(),
        image: own,
        names: Vec::new(),
        parts: parts(image),
        signatures: image.signatures.len(),
        dry_run,
        copied: None,
    };
    for group in by_repository(&names)? {
        let Some(first) = group.first() else { continue };
        let mounts = match &source {
            ImageSource::Stored { store, .. } => mounts(store, first, &image.manifest)?,
            ImageSource::Archive { .. } => HashMap::new(),
        };
        let repository = Repository::with_mounts(client, first, Access::Push, mounts)?;
        if dry_run {
            mark_present(&repository, &mut moved.parts)?;
        } else {
            ctx.report.started("pushing", Some(layers_size(&image.manifest)));
            let sent = match &source {
                ImageSource::Archive { archive } => copy_and_tag(ctx, archive, image, &repository, &group),
                ImageSource::Stored { store, .. } => copy_and_tag(ctx, store, image, &repository, &group),
            };
            // What can't be read is wrong here, and not with the registry.
            let copied = sent.map_err(|error| match (error, &source) {
                (Error::Copy(CopyError::Source { source, .. }), ImageSource::Archive { .. }) => {
                    Error::image(&label)(ImageError::Store(*source))
                }
                (Error::Copy(CopyError::Source { source, .. }), ImageSource::Stored { .. }) => Error::Store(*source),
                (error, _) => error,
            })?;
            *moved.copied.get_or_insert(0) += copied;
            ctx.report.finished();
        }
        moved.names.extend(group);
    }
    Ok(moved)
}

/// Asks which parts are there.
fn mark_present(to: &Repository, parts: &mut [TransferredBlob]) -> Result<(), Error> {
    for part in parts {
        let there = to.exists(&Descriptor::new(&part.media_type, part.digest, part.size))?;
        part.present = Some(part.present.unwrap_or(true) && there);
    }
    Ok(())
}

/// Other repositories of the same registry that, by the store's names, have
/// some of the image's layers: to mount them instead of sending them.
fn mounts(store: &LocalStore, to: &Reference, image: &ImageManifest) -> Result<HashMap<Digest, String>, Error> {
    let mut found = HashMap::new();
    for (name, descriptor) in store.references()? {
        if name.registry() != to.registry() || name.repository() == to.repository() {
            continue;
        }
        // What can't be read here is just not mounted.
        let Ok(raw) = store.fetch_bytes(&descriptor, limits::MANIFEST_BYTES) else {
            continue;
        };
        if let Ok(manifest) = ImageManifest::parse(raw) {
            let shared = manifest.layers().iter().filter(|layer| image.layers().contains(layer));
            found.extend(shared.map(|layer| (layer.digest, name.repository().to_string())));
        }
    }
    Ok(found)
}

/// What to pull.
pub struct PullRequest<'a> {
    /// A name with a registry in it.
    pub name: &'a Reference,
    /// A file to write instead of the store.
    pub output: Option<Destination<'a>>,
    /// The policy that must accept the image before any of it is stored.
    pub policy: Option<&'a TrustPolicy>,
    /// Only look.
    pub dry_run: bool,
}

/// Fetches an image with its signatures, into the store or a file. Without a
/// policy nothing is judged: that is done by whoever runs it.
pub fn pull(ctx: &Context<'_>, client: &Arc<Client>, request: &PullRequest<'_>) -> Result<TransferReport, Error> {
    let name = request.name;
    let (repository, image) = find(ctx, client, name)?;
    let label = name.to_string();
    let trusted = match request.policy {
        Some(policy) => Some(verify_image(ctx, policy, &label, RequestedAs::Name(name), &image)?),
        None => None,
    };
    // The shape of an image, before anything large is fetched. A store takes
    // more signatures than a file's head does.
    let signatures = match request.output {
        Some(_) => image.signatures.clone(),
        None => Vec::new(),
    };
    let shape = SignedImage {
        signatures,
        ..image.clone()
    };
    let head = Head::new(vec![shape]).map_err(|error| match error {
        ImageError::Format(why) => Error::malformed(&label)(why),
        error => Error::image(&label)(error),
    })?;
    let mut moved = TransferReport {
        digest: image.manifest.digest(),
        image: own_name(&label, &image.config)?,
        names: vec![name.clone()],
        parts: parts(&image),
        signatures: image.signatures.len(),
        dry_run: request.dry_run,
        copied: None,
    };
    if request.dry_run {
        let store = ctx.store()?;
        for part in &mut moved.parts {
            let descriptor = Descriptor::new(&part.media_type, part.digest, part.size);
            part.present = Some(request.output.is_none() && store.exists(&descriptor)?);
        }
        return Ok(moved);
    }
    ctx.report.started("pulling", Some(layers_size(&image.manifest)));
    match &request.output {
        Some(path) => {
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
            let mut stage = store.begin()?.resumable();
            // What was judged is what is stored: it is not asked for again.
            stage_metadata(&mut stage, &image)?;
            copied += copy_content(&repository, &stage, &image.descriptor(), ctx.report)
                .map_err(|e| attribute_to_registry(e.into(), &repository))?;
            moved.copied = Some(copied);
            stage.tag(name, &image.descriptor());
            if let Some(mut trusted) = trusted {
                trusted.remember(&store, &label)?;
            }
            stage.commit()?;
        }
    }
    ctx.report.finished();
    Ok(moved)
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

/// Resolves a name on its registry, once, and reads what is small of the image.
fn find(ctx: &Context<'_>, client: &Arc<Client>, name: &Reference) -> Result<(Repository, SignedImage), Error> {
    if name.digest().is_some_and(|d| d.algorithm() != Algorithm::Sha256) {
        return Err(Error::Usage(format!("{name}: images are named by their sha256 digest")));
    }
    let repository = Repository::new(client, name, Access::Pull)?;
    let descriptor = repository.resolve(name)?.ok_or_else(|| not_there(&repository, name))?;
    let image = read_image(ctx, &repository, &name.to_string(), &descriptor)
        .map_err(|e| attribute_to_registry(e, &repository))?;
    Ok((repository, image))
}

/// Looks at an image on its registry: its manifest, config and signatures, and
/// none of its layers. Nothing is judged or stored.
pub fn inspect_remote(ctx: &Context<'_>, client: &Arc<Client>, name: &Reference) -> Result<Inspection, Error> {
    let (_, image) = find(ctx, client, name)?;
    view(&name.to_string(), &image, None)
}

/// Copies an image from registry to registry with every byte that belongs to
/// it, mounting where both names are on one registry.
pub fn copy_image(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    from: &Reference,
    to: &[Reference],
    dry_run: bool,
) -> Result<TransferReport, Error> {
    let (src, image) = find(ctx, client, from)?;
    let mut moved = TransferReport {
        digest: image.manifest.digest(),
        image: own_name(&from.to_string(), &image.config)?,
        names: Vec::new(),
        parts: parts(&image),
        signatures: image.signatures.len(),
        dry_run,
        copied: None,
    };
    for group in by_repository(to)? {
        let Some(first) = group.first() else { continue };
        let mut mounts = HashMap::new();
        if first.registry() == from.registry() {
            for d in image.manifest.layers().iter().chain([image.manifest.config()]) {
                mounts.insert(d.digest, from.repository().to_string());
            }
        }
        let repository = Repository::with_mounts(client, first, Access::Push, mounts)?;
        if dry_run {
            mark_present(&repository, &mut moved.parts)?;
        } else {
            ctx.report.started("copying", Some(layers_size(&image.manifest)));
            let copied =
                copy_and_tag(ctx, &src, &image, &repository, &group).map_err(|e| attribute_to_registry(e, &src))?;
            *moved.copied.get_or_insert(0) += copied;
            ctx.report.finished();
        }
        moved.names.extend(group);
    }
    Ok(moved)
}

/// Visits the tags of a repository, but for those that stand in for lists of
/// referrers.
pub fn tags(client: &Arc<Client>, name: &RepositoryName, visit: &mut dyn FnMut(String)) -> Result<(), Error> {
    let stands_in = |tag: &str| tag.replacen('-', ":", 1).parse::<Digest>().is_ok();
    let repository = Repository::new(client, &name.latest(), Access::Pull)?;
    repository.visit_tags(&mut |tag| {
        if !stands_in(&tag) {
            visit(tag);
        }
    })?;
    Ok(())
}

/// Removes tags, or by their digest images with all of their tags, from their
/// registries. All must be there before the first goes.
pub fn remove_remote(
    client: &Arc<Client>,
    names: &[Reference],
    removed: &mut dyn FnMut(&Reference),
) -> Result<(), Error> {
    let mut found = Vec::new();
    for name in names {
        let repository = Repository::new(client, name, Access::Delete)?;
        if repository.resolve(name)?.is_none() {
            return Err(not_there(&repository, name).into());
        }
        found.push((repository, name));
    }
    for (repository, name) in found {
        if !repository.delete(name)? {
            return Err(not_there(&repository, name).into());
        }
        removed(name);
    }
    Ok(())
}

pub(crate) fn not_there(repository: &Repository, name: &Reference) -> RemoteError {
    RemoteError::NotFound {
        host: repository.registry().to_string(),
        operation: Operation::ReadManifest(match (name.tag(), name.digest()) {
            (_, Some(digest)) => format!("{}@{digest}", name.repository()),
            (tag, None) => format!("{}:{}", name.repository(), tag.unwrap_or(DEFAULT_TAG)),
        }),
    }
}

/// The registry's error in this one, if that is what it is.
pub(crate) fn remote_error(error: &Error) -> Option<&RemoteError> {
    match error {
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
