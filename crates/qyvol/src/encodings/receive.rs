//! The cheapest way from a registry to the components that the store lacks.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use qyvol_encoding::{Base, Blob, LIST_BYTES, List, Representation, Sink, Size, Wanted, Way, decode, list_of, plan};
use qyvol_image::SignedImage;
use qyvol_remote::Repository;
use qyvol_store::{BlobWriter, Exists, Fetch, Ingest, LocalStore, Open, Push, Spooled, StoreError};
use qyvol_types::{Descriptor, Digest};

use super::{LISTS, blob, components, descriptor};
use crate::image_source::referrer_manifest;
use crate::remote::TransferredBlob;
use crate::{Context, Error};

/// For each component that the store lacks and that has a smaller representation, the smallest.
#[derive(Default)]
pub(crate) struct Ways(HashMap<Digest, Representation>);

impl Ways {
    /// Reads the lists among the image's referrers, if anything is missing that they can have.
    pub(crate) fn find(
        ctx: &Context<'_>,
        repository: &Repository,
        store: &LocalStore,
        image: &SignedImage,
        referrers: &[Descriptor],
    ) -> Result<Ways, Error> {
        let mut wanted = Vec::new();
        for layer in components(image.manifest.layers()) {
            if !store.exists(layer)? {
                wanted.push(Wanted {
                    digest: layer.digest,
                    size: Size::Exactly(layer.size),
                    plain: layer.size,
                });
            }
        }
        let mut ways = Ways::default();
        if wanted.is_empty() {
            return Ok(ways);
        }
        if referrers.len() > LISTS {
            ctx.report.detailed(&format!(
                "{} lists of smaller representations: the first {LISTS} are read",
                referrers.len()
            ));
        }
        let has = |base: &Blob| store.exists(&descriptor(base)).unwrap_or(false);
        for (referrer, list) in lists(repository, &image.descriptor(), referrers) {
            match list {
                Ok(list) => ways.add(&wanted, &plan(&wanted, &list, &has)),
                Err(why) => ctx.report.detailed(&format!(
                    "list of smaller representations {} is not used: {why}",
                    referrer.digest
                )),
            }
        }
        Ok(ways)
    }

    fn add(&mut self, wanted: &[Wanted], found: &[Way<'_>]) {
        for (wanted, way) in wanted.iter().zip(found) {
            let Way::By(new) = way else { continue };
            let old = self.0.get(&wanted.digest);
            if old.is_none_or(|old| new.blob.size < old.blob.size) {
                self.0.insert(wanted.digest, **new);
            }
        }
    }

    /// Bytes that are fetched less.
    pub(crate) fn saved(&self) -> u64 {
        let saved = self.0.values().map(|way| way.target.size.saturating_sub(way.blob.size));
        saved.sum()
    }
}

/// Reads the lists, at the same time.
fn lists<'a>(
    repository: &Repository,
    image: &Descriptor,
    referrers: &'a [Descriptor],
) -> Vec<(&'a Descriptor, Result<List, String>)> {
    thread::scope(|scope| {
        let read = |referrer| scope.spawn(move || (referrer, read_list(repository, image, referrer)));
        let threads: Vec<_> = referrers.iter().take(LISTS).map(read).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}

fn read_list(repository: &Repository, image: &Descriptor, referrer: &Descriptor) -> Result<List, String> {
    let manifest = referrer_manifest(repository, referrer).map_err(|e| e.to_string())?;
    if manifest.subject().is_none_or(|subject| subject.digest != image.digest) {
        return Err("its subject is another manifest".to_string());
    }
    let list = list_of(&manifest).ok_or("it has another form")?;
    let bytes = repository.fetch_bytes(list, LIST_BYTES).map_err(|e| e.to_string())?;
    List::parse(&bytes).map_err(|e| e.to_string())
}

/// What a blob has cost.
#[derive(Clone, Copy, Default)]
struct Fetched {
    bytes: u64,
    by: Option<Representation>,
}

/// The store that a pull writes to: it gets a blob by its representation where there is one, and
/// as it is otherwise.
pub(crate) struct Receiver<'a> {
    ctx: &'a Context<'a>,
    repository: &'a Repository,
    stage: &'a Ingest,
    ways: Ways,
    fetched: Mutex<HashMap<Digest, Fetched>>,
    spools: Mutex<Vec<Spooled>>,
    /// Held while one is decoded: that takes the memory of its base.
    decoding: Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(ctx: &'a Context<'a>, repository: &'a Repository, stage: &'a Ingest, ways: Ways) -> Receiver<'a> {
        Receiver {
            ctx,
            repository,
            stage,
            ways,
            fetched: Mutex::default(),
            spools: Mutex::default(),
            decoding: Mutex::default(),
        }
    }

    /// Ends the transfer.
    pub(crate) fn received(self) -> Received {
        Received {
            fetched: self.fetched.into_inner().unwrap_or_else(PoisonError::into_inner),
            spools: self.spools.into_inner().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn count(&self, target: &Descriptor, bytes: u64, by: Option<Representation>) {
        let mut fetched = lock(&self.fetched);
        let fetched = fetched.entry(target.digest).or_default();
        fetched.bytes += bytes;
        fetched.by = by;
    }

    /// Fetches a representation and stages what it decodes to.
    fn decoded(&self, target: &Descriptor, way: &Representation) -> Result<(), String> {
        let name = target.digest.short();
        let report = self.ctx.report;
        report.part_finished(&name);
        report.part_started(&name, way.blob.size);
        let encoded = descriptor(&way.blob);
        let bytes = AtomicU64::new(0);
        let progress = |n: u64| {
            report.advanced(n);
            report.part_advanced(&name, n);
        };
        let open = |at| {
            let inner = self.repository.fetch_unverified_from(&encoded, at)?;
            progress(at);
            let counted = |n| {
                bytes.fetch_add(n, Ordering::Relaxed);
                progress(n);
            };
            Ok(Box::new(Counted { inner, counted }) as Box<dyn Read + Send + '_>)
        };
        let spooled = self.stage.spool(&encoded, &open);
        self.count(target, bytes.load(Ordering::Relaxed), None);
        let mut spooled = spooled.map_err(|e| explain(&e))?;
        let decoded = self.decode(target, way, &mut spooled);
        match decoded {
            Ok(()) => {
                lock(&self.spools).push(spooled);
                self.count(target, 0, Some(*way));
                Ok(())
            }
            Err(why) => {
                spooled.remove();
                Err(why)
            }
        }
    }

    fn decode(&self, target: &Descriptor, way: &Representation, from: &mut Spooled) -> Result<(), String> {
        let _one = lock(&self.decoding);
        let base = match way.encoding.base() {
            None => None,
            Some(base) => {
                let stored = self.stage.fetch_unverified(&descriptor(&base));
                let stored = stored.map_err(|e| explain(&e))?;
                Some(Base::read(stored, base).map_err(|e| e.to_string())?)
            }
        };
        // The decoder hashes what it writes.
        let writer = self.stage.writer().map_err(|e| explain(&e))?.without_hashing();
        let sink = Staging { writer, target };
        decode(way, from, base.as_ref(), sink).map_err(|e| e.to_string())
    }
}

/// An error with its causes, in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

impl Exists for Receiver<'_> {
    fn exists(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        self.stage.exists(descriptor)
    }
}

impl Push for Receiver<'_> {
    fn push(&self, descriptor: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        self.stage.push(descriptor, body)
    }

    fn push_from(&self, target: &Descriptor, open: &Open<'_>) -> Result<(), StoreError> {
        if let Some(way) = self.ways.0.get(&target.digest).filter(|way| way.target == blob(target)) {
            match self.decoded(target, way) {
                Ok(()) => return Ok(()),
                Err(why) => {
                    let name = target.digest.short();
                    self.ctx.report.part_finished(&name);
                    self.ctx.report.part_started(&name, target.size);
                    self.ctx.report.detailed(&format!(
                        "{} can't be had by its {} representation, and is fetched itself: {}",
                        target.digest,
                        way.encoding.name(),
                        qyvol_types::escape(&why)
                    ));
                }
            }
        }
        let bytes = AtomicU64::new(0);
        let counted = |at| {
            let counted = |n| {
                bytes.fetch_add(n, Ordering::Relaxed);
            };
            let inner = open(at)?;
            Ok(Box::new(Counted { inner, counted }) as Box<dyn Read + Send + '_>)
        };
        let pushed = self.stage.push_from(target, &counted);
        self.count(target, bytes.load(Ordering::Relaxed), None);
        pushed
    }

    fn concurrency(&self) -> usize {
        Push::concurrency(self.stage)
    }
}

/// Where a decoded blob is staged.
struct Staging<'a> {
    writer: BlobWriter,
    target: &'a Descriptor,
}

impl Sink for Staging<'_> {
    type Finished = ();

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    fn finish(self) -> io::Result<()> {
        let Descriptor { media_type, digest, .. } = self.target;
        let staged = self.writer.finish(media_type, Some(digest));
        staged.map(drop).map_err(io::Error::other)
    }
}

/// A reader whose bytes are counted.
struct Counted<R, F> {
    inner: R,
    counted: F,
}

impl<R: Read, F: Fn(u64)> Read for Counted<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.counted)(n as u64);
        Ok(n)
    }
}

/// What a pull has fetched.
pub(crate) struct Received {
    fetched: HashMap<Digest, Fetched>,
    spools: Vec<Spooled>,
}

impl Received {
    /// Says of each part what it has cost. Manifest and config have been fetched whole.
    pub(crate) fn account(&self, parts: &mut [TransferredBlob]) {
        for (index, part) in parts.iter_mut().enumerate() {
            let fetched = self.fetched.get(&part.digest).copied().unwrap_or_default();
            part.fetched = Some(if index < 2 { part.size } else { fetched.bytes });
            part.encoding = fetched.by.map(|way| way.encoding.name());
            part.base = fetched.by.and_then(|way| way.encoding.base()).map(|base| base.digest);
        }
    }

    /// Removes the representations: what they decode to is in the store.
    pub(crate) fn clean_up(self) {
        self.spools.into_iter().for_each(Spooled::remove);
    }
}
