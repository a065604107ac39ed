//! Copying an image: children first, then the manifest, then its referrers.
//!
//! So a target never shows a manifest whose blobs it lacks, and an interrupted
//! copy is simply repeated. Trust is not checked here: every signature is
//! copied, good or bad.
//!
//! The blobs of a manifest are copied concurrently, and so are its referrers:
//! over a network most of the time is waiting.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use qyvol_types::{Descriptor, Digest, ImageManifest, limits, media_type};
use thiserror::Error;

use crate::{Exists, Fetch, Push, Referrers, Reporter, StoreError};

/// Levels of referrers of referrers that are followed.
const MAX_REFERRER_DEPTH: usize = 4;
/// Referrers of one manifest that are copied.
const MAX_REFERRERS: usize = 1024;
/// Referrers that are copied with one image, at whatever depth.
const MAX_TOTAL_REFERRERS: usize = 4096;
/// Which end of a copy failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The store that was read.
    #[error("can't read blob {digest} from the source")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why.
        source: Box<StoreError>,
    },
    /// The store that was written.
    #[error("can't write blob {digest} to the target")]
    Target {
        /// The blob.
        digest: Digest,
        /// Why.
        source: Box<StoreError>,
    },
}

impl CopyError {
    /// The failing store's error.
    pub fn store_error(&self) -> &StoreError {
        match self {
            CopyError::Source { source, .. } | CopyError::Target { source, .. } => source,
        }
    }

    /// The failing store's error.
    pub fn into_store_error(self) -> StoreError {
        match self {
            CopyError::Source { source, .. } | CopyError::Target { source, .. } => *source,
        }
    }
}

/// Decides which referrers of an image are copied.
pub type ReferrerFilter<'a> = &'a (dyn Fn(&ImageManifest) -> bool + Sync);

/// Copies the graph of `root`, and those of its referrers that `keep` accepts.
/// Blobs that the target has are skipped. A referrer that is not a manifest with
/// this subject is skipped with a warning: an invalid referrer must not fail the
/// image.
pub fn copy<S, D>(
    src: &S,
    dst: &D,
    root: &Descriptor,
    keep: ReferrerFilter<'_>,
    report: &dyn Reporter,
) -> Result<(), CopyError>
where
    S: Fetch + Referrers + Sync + ?Sized,
    D: Exists + Push + Sync + ?Sized,
{
    copy_graph(src, dst, root, report)?;
    copy_referrers(src, dst, root, keep, report)
}

/// The first half of [`copy()`]: everything that `root` references. Returns how many blobs
/// the target did not have.
pub fn copy_graph<S, D>(src: &S, dst: &D, root: &Descriptor, report: &dyn Reporter) -> Result<usize, CopyError>
where
    S: Fetch + Referrers + Sync + ?Sized,
    D: Exists + Push + Sync + ?Sized,
{
    let copy = Copy::new(src, dst, &|_| false, report);
    if root.media_type == media_type::IMAGE_MANIFEST {
        copy.image(root, &copy.manifest(root)?, copy.concurrency())?;
    } else {
        copy.blob(root)?;
    }
    Ok(copy.copied.into_inner())
}

/// The second half of [`copy()`]: the referrers of `root`. A registry accepts
/// them before the image itself, so both halves can run concurrently.
pub fn copy_referrers<S, D>(
    src: &S,
    dst: &D,
    root: &Descriptor,
    keep: ReferrerFilter<'_>,
    report: &dyn Reporter,
) -> Result<(), CopyError>
where
    S: Fetch + Referrers + Sync + ?Sized,
    D: Exists + Push + Sync + ?Sized,
{
    Copy::new(src, dst, keep, report).referrers(root, 0)
}

struct Copy<'a, S: ?Sized, D: ?Sized> {
    src: &'a S,
    dst: &'a D,
    keep: ReferrerFilter<'a>,
    report: &'a dyn Reporter,
    // Digests that the target has. Blobs that are still being sent are not included: another
    // manifest that needs one sends it too.
    present: Mutex<HashSet<Digest>>,
    // Blobs that the target did not have.
    copied: AtomicUsize,
    // Referrers visited, by digest and claimed size: a hostile source can list
    // them without end.
    seen: Mutex<HashSet<(Digest, u64)>>,
}

impl<'a, S, D> Copy<'a, S, D>
where
    S: Fetch + Referrers + Sync + ?Sized,
    D: Exists + Push + Sync + ?Sized,
{
    fn new(src: &'a S, dst: &'a D, keep: ReferrerFilter<'a>, report: &'a dyn Reporter) -> Copy<'a, S, D> {
        Copy {
            src,
            dst,
            keep,
            report,
            present: Mutex::default(),
            copied: AtomicUsize::new(0),
            seen: Mutex::default(),
        }
    }

    /// Transfers at a time: no more than either store wants.
    fn concurrency(&self) -> usize {
        self.src.concurrency().min(self.dst.concurrency())
    }

    fn manifest(&self, d: &Descriptor) -> Result<ImageManifest, CopyError> {
        let bytes = self
            .src
            .fetch_bytes(d, limits::MANIFEST_BYTES)
            .map_err(|e| from_source(d, e))?;
        ImageManifest::parse(bytes).map_err(|source| {
            let digest = d.digest;
            from_source(d, StoreError::Manifest { digest, source })
        })
    }

    fn present(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn image(&self, d: &Descriptor, manifest: &ImageManifest, concurrency: usize) -> Result<(), CopyError> {
        if self.present().contains(&d.digest) {
            return Ok(());
        }
        if self.dst.has_manifest(manifest).map_err(|e| to_target(d, e))? {
            for blob in manifest.layers() {
                self.report.part_skipped(&blob.digest.short(), blob.size);
            }
        } else {
            let blobs: Vec<&Descriptor> = [manifest.config()].into_iter().chain(manifest.layers()).collect();
            each(&blobs, concurrency, |blob| self.blob(blob))?;
            self.dst.push(d, &mut manifest.raw()).map_err(|e| to_target(d, e))?;
        }
        self.present().insert(d.digest);
        Ok(())
    }

    fn referrers(&self, d: &Descriptor, depth: usize) -> Result<(), CopyError> {
        if depth == MAX_REFERRER_DEPTH {
            return Ok(());
        }
        let referrers = self.src.referrers(&d.digest).map_err(|e| from_source(d, e))?;
        if referrers.len() > MAX_REFERRERS {
            self.report.warned(&format!(
                "{} has {} referrers: the first {MAX_REFERRERS} are copied",
                d.digest,
                referrers.len()
            ));
        }
        let referrers: Vec<&Descriptor> = referrers.iter().take(MAX_REFERRERS).collect();
        let concurrency = if depth == 0 { self.concurrency() } else { 1 };
        each(&referrers, concurrency, |referrer| self.referrer(d, referrer, depth))
    }

    fn referrer(&self, subject: &Descriptor, referrer: &Descriptor, depth: usize) -> Result<(), CopyError> {
        let left_out = |why: &dyn std::fmt::Display| {
            self.report
                .warned(&format!("referrer {} left out: {why}", referrer.digest));
            Ok(())
        };
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.len() == MAX_TOTAL_REFERRERS || !seen.insert((referrer.digest, referrer.size)) {
                return Ok(());
            }
            if seen.len() == MAX_TOTAL_REFERRERS {
                self.report
                    .warned(&format!("no more than {MAX_TOTAL_REFERRERS} referrers are copied"));
            }
        }
        let manifest = match self.manifest(referrer) {
            Ok(manifest) => manifest,
            // The registry's list may name manifests that are gone or never existed.
            Err(e) if e.store_error().is_content_error() || matches!(e.store_error(), StoreError::NotFound { .. }) => {
                return left_out(e.store_error());
            }
            Err(e) => return Err(e),
        };
        if manifest.subject().is_none_or(|s| s.digest != subject.digest) {
            return left_out(&"its subject is another manifest");
        }
        if !(self.keep)(&manifest) {
            return Ok(());
        }
        // Referrers are already copied concurrently; their blobs are not.
        self.image(referrer, &manifest, 1)?;
        self.referrers(referrer, depth + 1)
    }

    fn blob(&self, d: &Descriptor) -> Result<(), CopyError> {
        if self.present().contains(&d.digest) {
            return Ok(());
        }
        let name = d.digest.short();
        if self.dst.exists(d).map_err(|e| to_target(d, e))? {
            self.present().insert(d.digest);
            self.report.part_skipped(&name, d.size);
            return Ok(());
        }
        self.report.part_started(&name, d.size);
        let failed = AtomicBool::new(false);
        let open = |at| {
            failed.store(false, Ordering::Relaxed);
            // Unverified, because `push` verifies: once is enough.
            let inner = self.src.fetch_unverified_from(d, at).inspect_err(|_| {
                failed.store(true, Ordering::Relaxed);
            })?;
            self.report.advanced(at);
            self.report.part_advanced(&name, at);
            let watched = ProgressReader {
                inner,
                failed: &failed,
                report: self.report,
                part: &name,
            };
            Ok(Box::new(watched) as Box<dyn Read + Send + '_>)
        };
        let pushed = self.dst.push_from(d, &open);
        self.report.part_finished(&name);
        if pushed.is_ok() {
            self.copied.fetch_add(1, Ordering::Relaxed);
            self.present().insert(d.digest);
        }
        pushed.map_err(|e| {
            if failed.load(Ordering::Relaxed) || e.is_content_error() {
                from_source(d, e)
            } else {
                to_target(d, e)
            }
        })
    }
}

/// Runs an action on each item, `concurrency` of them at a time, until one fails: then no more
/// are started, and the first failure is returned.
fn each<T: Sync, E: Send>(items: &[T], concurrency: usize, work: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    if items.len() <= 1 || concurrency <= 1 {
        return items.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let lock = || failure.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..concurrency.min(items.len()) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if lock().is_some() {
                        return;
                    }
                    if let Err(error) = work(item) {
                        lock().get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

fn from_source(d: &Descriptor, source: StoreError) -> CopyError {
    CopyError::Source {
        digest: d.digest,
        source: Box::new(source),
    }
}

fn to_target(d: &Descriptor, source: StoreError) -> CopyError {
    CopyError::Target {
        digest: d.digest,
        source: Box::new(source),
    }
}

/// Reports progress, and records whether reading failed: the target returns that
/// error as its own.
struct ProgressReader<'a, R> {
    inner: R,
    failed: &'a AtomicBool,
    report: &'a dyn Reporter,
    part: &'a str,
}

impl<R: Read> Read for ProgressReader<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(n) => {
                self.report.advanced(n as u64);
                self.report.part_advanced(self.part, n as u64);
                Ok(n)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.failed.store(true, Ordering::Relaxed);
                }
                Err(error)
            }
        }
    }
}
