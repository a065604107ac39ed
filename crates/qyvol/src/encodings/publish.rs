//! Makes representations of an image's component and publishes them beside it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qyvol_encoding::{Blob, List, artifact};
use qyvol_image::SignedImage;
use qyvol_remote::Repository;
use qyvol_store::{Body, Fetch, MemoryStore, NoopReporter, Referrers, copy_graph};
use qyvol_types::{Descriptor, ImageManifest, Reference, RepositoryName, media_type};

use super::bases::stored;
use super::make::{Made, Making};
use super::{LISTS, blob, components, is_encodings};
use crate::image_source::referrer_manifest;
use crate::{Context, Error, ImageSource, Target};

/// Time after which no further frame is begun.
const TIME: Duration = Duration::from_secs(10);
/// The same after the image's own blobs were sent: until then nobody waits for it.
const TIME_AFTER: Duration = Duration::from_secs(2);
/// Bases that can be named.
pub(crate) const NAMED_BASES: usize = 8;

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
    /// When the image's own blobs had been sent for the first time.
    sent: OnceLock<Instant>,
    failed: AtomicBool,
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
pub(crate) struct Artifact {
    pub(crate) store: MemoryStore,
    pub(crate) manifest: Descriptor,
}

impl Artifact {
    /// Of what was made for an image.
    pub(crate) fn of(image: &Descriptor, made: Vec<Made>) -> Result<Artifact, Error> {
        let store = MemoryStore::new();
        let mut entries = Vec::new();
        for (entry, bytes) in made {
            store.add(media_type::ENCODED, &bytes)?;
            entries.push(entry);
        }
        let list = List::new(entries).map_err(malformed)?;
        let (manifest, list) = artifact(image, &list).map_err(malformed)?;
        store.add(media_type::ENCODINGS, &list)?;
        store.add(media_type::EMPTY, b"{}")?;
        let manifest = store.add(media_type::IMAGE_MANIFEST, manifest.raw())?;
        Ok(Artifact { store, manifest })
    }
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
            sent: OnceLock::new(),
            failed: AtomicBool::new(false),
        })
    }

    /// The image's own blobs were sent, or could not be: what is being made beside them may
    /// take little time from now on, or none.
    pub(crate) fn blobs_sent(&self, arrived: bool) {
        self.sent.get_or_init(Instant::now);
        self.failed.fetch_or(!arrived, Ordering::Relaxed);
    }

    /// Publishes them in a repository that has none, or if bases were named. A failure is a
    /// warning: the image is complete without them.
    /// `known` is another repository of the registry that has the image's layers.
    pub(crate) fn publish(&self, to: &Repository, known: Option<&Repository>) {
        if let Err(why) = self.try_publish(to, known) {
            self.ctx.report.warned(&format!(
                "smaller representations of {} were not published: {why}",
                self.image.manifest.digest()
            ));
        }
    }

    fn try_publish(&self, to: &Repository, known: Option<&Repository>) -> Result<(), Error> {
        let mut components = components(self.image.manifest.layers());
        let (Some(component), None) = (components.next(), components.next()) else {
            return Ok(());
        };
        match &self.bases {
            Bases::Nowhere => return Ok(()),
            Bases::Store(_) => {
                let there = to.referrers(&self.image.manifest.digest())?;
                if there.iter().any(is_encodings) || known.is_some_and(|known| self.take_along(known, to)) {
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

    /// Copies the lists that the image has in another repository, whose blobs are mounted;
    /// whether there was one.
    fn take_along(&self, from: &Repository, to: &Repository) -> bool {
        let image = self.image.manifest.digest();
        let Ok(found) = from.referrers(&image) else {
            return false;
        };
        let mut copied = false;
        for list in found.iter().filter(|found| is_encodings(found)).take(LISTS) {
            let is_ours = |manifest: &ImageManifest| manifest.subject().is_some_and(|subject| subject.digest == image);
            if referrer_manifest(from, list).is_ok_and(|manifest| is_ours(&manifest)) {
                copied |= copy_graph(from, to, list, &NoopReporter).is_ok();
            }
        }
        copied
    }

    /// Makes what is worth it; none if nothing is.
    fn make(&self, component: &Descriptor) -> Result<Option<Artifact>, Error> {
        let begun = Instant::now();
        let proceed = || {
            let after = self.sent.get().map_or(Duration::ZERO, Instant::elapsed);
            !self.failed.load(Ordering::Relaxed) && begun.elapsed() < TIME && after < TIME_AFTER
        };
        let making = Making {
            report: self.ctx.report,
            target: blob(component),
            open: &|| self.blobs.fetch_unverified(component),
            proceed: &proceed,
            needed: match self.bases {
                Bases::Named(_) => NAMED_BASES,
                _ => 1,
            },
            leisure: &|| self.sent.get().is_none(),
        };
        let made = making.run(self.bases(component)?);
        match made.is_empty() || self.failed.load(Ordering::Relaxed) {
            true => Ok(None),
            false => Artifact::of(&self.image.descriptor(), made).map(Some),
        }
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
                for base in stored(&store, repositories, component)? {
                    add(&base, &store);
                }
            }
        }
        Ok(found)
    }
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::malformed("the list of representations")(why)
}
