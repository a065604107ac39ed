//! Makes representations of an image's component and publishes them beside it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use qyvol_encoding::{Base, Blob, Effort, List, Representation, artifact, encode};
use qyvol_image::SignedImage;
use qyvol_remote::Repository;
use qyvol_store::{Body, Fetch, LocalStore, MemoryStore, NoopReporter, Referrers, copy_graph};
use qyvol_types::{Descriptor, ImageConfig, ImageManifest, Reference, RepositoryName, Timestamp, limits, media_type};

use super::{blob, components, is_encodings};
use crate::{Context, Error, ImageSource, Target};

/// Time after which no further representation is begun.
const TIME: Duration = Duration::from_secs(10);
/// Memory of zstd, with the base of a patch.
const MEMORY: u64 = 512 << 20;
/// Stored images that are considered as the base of a patch.
const CANDIDATES: usize = 256;
/// Bases that patches are made from, if none were named.
const BASES: usize = 2;
/// Bases that can be named.
const NAMED_BASES: usize = 8;
/// Components of at most this many bytes are compressed as well as zstd can.
const SMALL: u64 = 1 << 20;
const LEVEL: i32 = 3;
const LEVEL_OF_SMALL: i32 = 19;

/// Which smaller representations a push publishes.
#[derive(Clone, Copy, Debug, Default)]
pub enum Encodings<'a> {
    /// The component compressed, and patches from the latest stored images of the same
    /// repository; nothing if the registry has a list for the image already.
    #[default]
    FromStore,
    /// The component compressed, and patches from these images.
    From(&'a [Target]),
    /// None.
    None,
}

/// Publishes representations of one image, made when the first repository needs them.
pub(crate) struct Publisher<'a> {
    ctx: &'a Context<'a>,
    blobs: &'a (dyn Fetch + Sync),
    image: &'a SignedImage,
    bases: Bases,
    made: OnceLock<Option<Artifact>>,
}

/// Where bases are looked for.
enum Bases {
    /// Stored images of these repositories.
    Store(Vec<RepositoryName>),
    /// These.
    Named(Vec<ImageSource>),
    /// Nothing is published.
    Nowhere,
}

/// The artifact with everything that it names.
struct Artifact {
    store: MemoryStore,
    manifest: Descriptor,
}

impl<'a> Publisher<'a> {
    /// Opens the bases that were named. `names` are where the image is to go.
    pub(crate) fn new(
        ctx: &'a Context<'a>,
        blobs: &'a (dyn Fetch + Sync),
        image: &'a SignedImage,
        names: &[Reference],
        encodings: &Encodings<'_>,
    ) -> Result<Publisher<'a>, Error> {
        let bases = match encodings {
            Encodings::None => Bases::Nowhere,
            Encodings::FromStore => {
                let all = names.iter().chain(&image.names);
                Bases::Store(all.map(Reference::repository_name).collect())
            }
            Encodings::From(targets) if targets.len() > NAMED_BASES => {
                return Err(Error::Usage(format!(
                    "{} images to make patches from: at most {NAMED_BASES}",
                    targets.len()
                )));
            }
            Encodings::From(targets) => {
                let opened = targets.iter().map(|target| {
                    let source = ImageSource::open(ctx, target)?;
                    source.single()?;
                    Ok(source)
                });
                Bases::Named(opened.collect::<Result<_, Error>>()?)
            }
        };
        Ok(Publisher {
            ctx,
            blobs,
            image,
            bases,
            made: OnceLock::new(),
        })
    }

    /// Publishes them in a repository that has none, or if bases were named. A failure is a
    /// warning: the image is complete without them.
    pub(crate) fn publish(&self, to: &Repository) {
        if let Err(why) = self.try_publish(to) {
            self.ctx.report.warned(&format!(
                "smaller representations of {} were not published: {why}",
                self.image.manifest.digest()
            ));
        }
    }

    fn try_publish(&self, to: &Repository) -> Result<(), Error> {
        let mut components = components(self.image.manifest.layers());
        let (Some(component), None) = (components.next(), components.next()) else {
            return Ok(());
        };
        match &self.bases {
            Bases::Nowhere => return Ok(()),
            Bases::Store(_) => {
                let there = to.referrers(&self.image.manifest.digest())?;
                if there.iter().any(is_encodings) {
                    return Ok(());
                }
            }
            Bases::Named(_) => {}
        }
        let made = match self.made.get() {
            Some(made) => made,
            None => {
                let made = self.make(component)?;
                self.made.get_or_init(|| made)
            }
        };
        if let Some(made) = made {
            copy_graph(&made.store, to, &made.manifest, &NoopReporter)?;
        }
        Ok(())
    }

    /// Makes what is worth it; none if nothing is.
    fn make(&self, component: &Descriptor) -> Result<Option<Artifact>, Error> {
        let end = Instant::now() + TIME;
        let store = MemoryStore::new();
        let mut entries: Vec<Representation> = Vec::new();
        let mut smallest = component.size;
        let mut add = |base: Option<&Base>| -> Result<(), Error> {
            let mut bytes = Vec::new();
            let effort = Effort {
                level: if component.size <= SMALL { LEVEL_OF_SMALL } else { LEVEL },
                // A third less than what is fetched without it.
                largest: smallest.saturating_mul(2) / 3,
                memory: MEMORY,
                proceed: &|| Instant::now() < end,
            };
            match encode(self.blobs.fetch(component)?, blob(component), base, &effort, &mut bytes) {
                Ok(made) => {
                    if base.is_none() {
                        smallest = made.blob.size;
                    }
                    store.add(media_type::ENCODED, &bytes)?;
                    entries.push(made);
                }
                Err(why) => self.ctx.report.detailed(&format!(
                    "no {} representation of {}: {why}",
                    if base.is_some() { "zstd-patch" } else { "zstd" },
                    component.digest
                )),
            }
            Ok(())
        };
        add(None)?;
        for (base, from) in self.bases(component)? {
            match Base::read(from, base) {
                Ok(base) => add(Some(&base))?,
                Err(why) => self
                    .ctx
                    .report
                    .detailed(&format!("no patch from {}: {why}", base.digest)),
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let list = List::new(entries).map_err(malformed)?;
        let (manifest, list) = artifact(&self.image.descriptor(), &list).map_err(malformed)?;
        store.add(media_type::ENCODINGS, &list)?;
        store.add(media_type::EMPTY, b"{}")?;
        let manifest = store.add(media_type::IMAGE_MANIFEST, manifest.raw())?;
        Ok(Some(Artifact { store, manifest }))
    }

    /// Components to make patches from, each once.
    fn bases(&self, component: &Descriptor) -> Result<Vec<(Blob, Body)>, Error> {
        let mut found: Vec<(Blob, Body)> = Vec::new();
        let mut add = |base: &Descriptor, from: &dyn Fetch| {
            let base_blob = blob(base);
            if base.digest != component.digest && found.iter().all(|(other, _)| *other != base_blob) {
                match from.fetch_unverified(base) {
                    Ok(body) => found.push((base_blob, body)),
                    Err(why) => self
                        .ctx
                        .report
                        .detailed(&format!("no patch from {}: {why}", base.digest)),
                }
            }
        };
        match &self.bases {
            Bases::Nowhere => {}
            Bases::Named(images) => {
                for source in images {
                    for base in components(source.single()?.manifest.layers()) {
                        add(base, source.blobs());
                    }
                }
            }
            Bases::Store(repositories) => {
                let store = self.ctx.store()?;
                for base in self.stored(&store, repositories, component)? {
                    add(&base, &store);
                }
            }
        }
        Ok(found)
    }

    /// The components of the latest stored images of these repositories.
    fn stored(
        &self,
        store: &LocalStore,
        repositories: &[RepositoryName],
        component: &Descriptor,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut images: Vec<(Timestamp, Reference, Descriptor)> = Vec::new();
        let names = store.references()?.into_iter();
        let names = names.filter(|(name, _)| repositories.contains(&name.repository_name()));
        for (name, image) in names.take(CANDIDATES) {
            // An image that can't be read is no base.
            let Ok(raw) = store.fetch_bytes(&image, limits::MANIFEST_BYTES) else {
                continue;
            };
            let Ok(manifest) = ImageManifest::parse(raw) else {
                continue;
            };
            let Ok(config) = store.fetch_bytes(manifest.config(), limits::CONFIG_BYTES) else {
                continue;
            };
            let Ok(config) = ImageConfig::parse(&config) else {
                continue;
            };
            for base in components(manifest.layers()).filter(|base| base.digest != component.digest) {
                images.push((config.created, name.clone(), base.clone()));
            }
        }
        // Reproducible builds may all have the same time: then the version decides, 1.10 after 1.9.
        let key = |(created, name, base): &(Timestamp, Reference, Descriptor)| {
            let tag = name.tag().unwrap_or_default();
            (*created, tag.len(), tag.to_string(), base.digest)
        };
        images.sort_by_cached_key(|image| std::cmp::Reverse(key(image)));
        let mut bases: Vec<Descriptor> = Vec::new();
        for (_, _, base) in images {
            if bases.len() < BASES && bases.iter().all(|other| other.digest != base.digest) {
                bases.push(base);
            }
        }
        Ok(bases)
    }
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::malformed("the list of representations")(why)
}
