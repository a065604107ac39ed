//! `encode`: representations of an image that is in a registry already, and the end of those
//! that are of no use any more.

use std::sync::Arc;

use qyvol_encoding::{BASE_BYTES, Blob, Encoding, LIST_BYTES, List, list_of};
use qyvol_remote::{Access, Client, Repository};
use qyvol_store::{Body, Exists, Fetch, Ingest, NoopReporter, Push, Referrers, copy_graph};
use qyvol_types::{Descriptor, Digest, ImageManifest, Reference, limits};
use serde::Serialize;

use super::{attribute_to_registry, manifest_not_found, tags};
use crate::encodings::{Artifact, BASES, Making, NAMED_BASES, blob, components, descriptor, is_encodings, stored};
use crate::image_source::referrer_manifest;
use crate::{Context, Error, ImageSource, Target};

/// Lists that are looked at to see whether they are of use.
const LISTS: usize = 256;
/// Tags that are considered.
const TAGS: usize = 4096;
/// Tags whose images are looked at for another component.
const TRIED_TAGS: usize = 8;

/// What to encode.
pub struct EncodeRequest<'a> {
    /// An image in a registry.
    pub name: &'a Reference,
    /// Images to make patches from: files, stored images, or images in a registry. If empty,
    /// the two latest stored ones of the repository, or else those of its two tags before
    /// `name`'s.
    pub bases: &'a [Target],
}

/// One representation.
#[derive(Clone, Debug, Serialize)]
pub struct EncodedRow {
    /// Its encoding.
    pub encoding: &'static str,
    /// Bytes that a host fetches.
    pub size: u64,
    /// What it is a patch from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
}

/// What became of an image's representations.
#[derive(Clone, Debug, Serialize)]
pub struct EncodeReport {
    /// The image manifest's digest.
    pub digest: Digest,
    /// Its name.
    pub name: Reference,
    /// Bytes of its component, if it has one that is large enough.
    pub size: Option<u64>,
    /// The representations that were published; empty if none saves a third.
    pub encodings: Vec<EncodedRow>,
    /// The artifact that lists them.
    pub artifact: Option<Digest>,
    /// Artifacts of which nothing was of use any more, and which were removed.
    pub removed: Vec<Digest>,
}

/// Makes representations of an image in a registry, publishes them, and removes those that
/// they replace or whose bases are gone.
pub fn encode(ctx: &Context<'_>, client: &Arc<Client>, request: &EncodeRequest<'_>) -> Result<EncodeReport, Error> {
    let name = request.name;
    if request.bases.len() > NAMED_BASES {
        return Err(Error::Usage(format!(
            "{} images to make patches from: at most {NAMED_BASES}",
            request.bases.len()
        )));
    }
    let to = Repository::new(client, name, Access::Push)?;
    let (image, manifest) = find(&to, name)?.ok_or_else(|| manifest_not_found(&to, name))?;
    let mut report = EncodeReport {
        digest: image.digest,
        name: name.clone(),
        size: None,
        encodings: Vec::new(),
        artifact: None,
        removed: Vec::new(),
    };
    let there = to.referrers(&image.digest)?;
    let mut all = components(manifest.layers());
    if let (Some(component), None) = (all.next(), all.next()) {
        report.size = Some(component.size);
        let store = ctx.store()?;
        store.check_free_space([component])?;
        // Only read: what is fetched goes with it.
        let stage = store.begin()?.resumable();
        ctx.report.started("encoding", None);
        fetch(&to, &stage, component)?;
        let bases = match request.bases {
            [] => latest(ctx, client, &to, name, component, &stage)?,
            bases => named(ctx, client, bases, component, &stage)?,
        };
        let making = Making {
            report: ctx.report,
            target: blob(component),
            open: &|| stage.fetch_unverified(component),
            proceed: &|| true,
            needed: NAMED_BASES,
            leisure: &|| true,
        };
        let made = making.run(bases);
        report.encodings.extend(made.iter().map(|(made, _)| EncodedRow {
            encoding: made.encoding.name(),
            size: made.blob.size,
            base: made.encoding.base().map(|base| base.digest),
        }));
        if !made.is_empty() {
            let artifact = Artifact::of(&image, made)?;
            copy_graph(&artifact.store, &to, &artifact.manifest, &NoopReporter)?;
            to.publish_referrers()?;
            report.artifact = Some(artifact.manifest.digest);
        }
        ctx.report.finished();
    }
    let prune = Prune {
        ctx,
        to: &to,
        image: &image,
        manifest: &manifest,
        report: &mut report,
    };
    prune.run(&there);
    Ok(report)
}

/// An image's manifest by its name; none if there is none.
fn find(from: &Repository, name: &Reference) -> Result<Option<(Descriptor, ImageManifest)>, Error> {
    let Some(image) = from.resolve(name)? else {
        return Ok(None);
    };
    let raw = from.fetch_bytes(&image, limits::MANIFEST_BYTES);
    let raw = raw.map_err(|e| attribute_to_registry(e.into(), from))?;
    let manifest = ImageManifest::parse(raw).map_err(Error::malformed(&name.to_string()))?;
    Ok(Some((image, manifest)))
}

/// Brings a blob here, if it isn't.
fn fetch(from: &Repository, stage: &Ingest, wanted: &Descriptor) -> Result<(), Error> {
    if !stage.exists(wanted)? {
        let open = |at| {
            let body = from.fetch_unverified_from(wanted, at)?;
            Ok(body as Box<dyn std::io::Read + Send>)
        };
        let fetched = stage.push_from(wanted, &open);
        fetched.map_err(|e| attribute_to_registry(e.into(), from))?;
    }
    Ok(())
}

/// The components of images that were named.
fn named(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    images: &[Target],
    component: &Descriptor,
    stage: &Ingest,
) -> Result<Vec<(Blob, Body)>, Error> {
    let mut found = Bases::new(component);
    for target in images {
        match ImageSource::open(ctx, target) {
            Ok(source) => {
                for base in components(source.single()?.manifest.layers()) {
                    found.add(base, source.blobs())?;
                }
            }
            Err(Error::NoImage { name, others }) => {
                let Some(reference) = name.in_registry() else {
                    return Err(Error::NoImage { name, others });
                };
                let from = Repository::new(client, reference, Access::Pull)?;
                let image = find(&from, reference)?;
                let (_, manifest) = image.ok_or_else(|| manifest_not_found(&from, reference))?;
                found.add_remote(&from, &manifest, stage)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found.found)
}

/// The components of the latest images before this one.
fn latest(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    from: &Repository,
    name: &Reference,
    component: &Descriptor,
    stage: &Ingest,
) -> Result<Vec<(Blob, Body)>, Error> {
    let mut found = Bases::new(component);
    let store = ctx.store()?;
    for base in stored(&store, &[name.repository_name()], component)? {
        found.add(&base, &store)?;
    }
    if !found.found.is_empty() {
        return Ok(found.found);
    }
    let key = |tag: &str| (tag.len(), tag.to_string());
    let mut earlier = Vec::new();
    tags(client, &name.repository_name(), &mut |tag| {
        let before = name.tag().is_none_or(|own| key(&tag) < key(own));
        if before && earlier.len() < TAGS {
            earlier.push(key(&tag));
        }
    })?;
    earlier.sort_unstable();
    for (_, tag) in earlier.iter().rev().take(TRIED_TAGS) {
        if found.found.len() >= BASES {
            break;
        }
        let Ok(other) = name.with_tag(tag) else { continue };
        // An image that can't be read is no base.
        if let Ok(Some((_, manifest))) = find(from, &other) {
            found.add_remote(from, &manifest, stage)?;
        }
    }
    Ok(found.found)
}

/// Bases, each once.
struct Bases<'a> {
    component: &'a Descriptor,
    found: Vec<(Blob, Body)>,
}

impl Bases<'_> {
    fn new(component: &Descriptor) -> Bases<'_> {
        Bases {
            component,
            found: Vec::new(),
        }
    }

    fn is_new(&self, base: &Descriptor) -> bool {
        let known = self.found.iter().any(|(other, _)| *other == blob(base));
        base.digest != self.component.digest && base.size <= BASE_BYTES && !known
    }

    fn add(&mut self, base: &Descriptor, from: &dyn Fetch) -> Result<(), Error> {
        if self.is_new(base) {
            self.found.push((blob(base), from.fetch_unverified(base)?));
        }
        Ok(())
    }

    fn add_remote(&mut self, from: &Repository, image: &ImageManifest, stage: &Ingest) -> Result<(), Error> {
        for base in components(image.layers()).take(1) {
            if self.is_new(base) {
                fetch(from, stage, base)?;
                self.add(base, stage)?;
            }
        }
        Ok(())
    }
}

/// Removes artifacts that no host has a use for.
struct Prune<'a> {
    ctx: &'a Context<'a>,
    to: &'a Repository,
    image: &'a Descriptor,
    manifest: &'a ImageManifest,
    report: &'a mut EncodeReport,
}

impl Prune<'_> {
    fn run(self, referrers: &[Descriptor]) {
        let others = referrers.iter().filter(|referrer| is_encodings(referrer));
        let others = others.filter(|other| Some(other.digest) != self.report.artifact);
        for other in others.take(LISTS) {
            match self.is_useless(other) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(why) => {
                    let digest = other.digest;
                    let message = format!("list of smaller representations {digest} stays: {why}");
                    self.ctx.report.detailed(&message);
                    continue;
                }
            }
            match self.to.delete_referrer(&self.image.digest, &other.digest) {
                Ok(_) => self.report.removed.push(other.digest),
                // Registries need not let anyone delete.
                Err(error) => {
                    self.ctx.report.warned(&format!(
                        "smaller representations that are of no use any more stay in the registry: {error}"
                    ));
                    break;
                }
            }
        }
    }

    /// Whether each of its entries is replaced by a new one, needs a base that the repository
    /// does not have any more, or is of something else than this image.
    fn is_useless(&self, referrer: &Descriptor) -> Result<bool, String> {
        let manifest = referrer_manifest(self.to, referrer).map_err(|e| e.to_string())?;
        if manifest
            .subject()
            .is_none_or(|subject| subject.digest != self.image.digest)
        {
            return Err("its subject is another manifest".to_string());
        }
        let list = list_of(&manifest).ok_or("it has another form")?;
        let bytes = self.to.fetch_bytes(list, LIST_BYTES).map_err(|e| e.to_string())?;
        let list = List::parse(&bytes).map_err(|e| e.to_string())?;
        for entry in list.entries() {
            let base = entry.encoding.base();
            let is_ours = self.manifest.layers().iter().any(|layer| blob(layer) == entry.target);
            let is_replaced = self
                .report
                .encodings
                .iter()
                .any(|new| new.encoding == entry.encoding.name() && new.base == base.map(|base| base.digest));
            if !is_ours || is_replaced {
                continue;
            }
            let is_there = match entry.encoding {
                Encoding::Zstd => true,
                Encoding::ZstdPatch { base } => self.to.exists(&descriptor(&base)).map_err(|e| e.to_string())?,
            };
            if is_there {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
