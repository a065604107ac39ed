//! Moving an image: children first, then the manifest, then what refers to it.
//!
//! So that a target never shows a manifest whose blobs it lacks, and a copy
//! that was interrupted is simply repeated. Trust is not judged here: every
//! signature travels, good or bad.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Read};

use qyvol_types::{Descriptor, Digest, ImageManifest, limits, media_type};
use thiserror::Error;

use crate::{Exists, Fetch, Push, Referrers, Reporter, StoreError};

/// Referrers of referrers that are followed.
const DEPTH: usize = 4;
/// Referrers of one manifest that are copied.
const REFERRERS: usize = 1024;

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

/// Copies what `root` reaches. Blobs that the target has are skipped;
/// manifests are always written, since a target learns its referrers from
/// them. A referrer that is not a manifest of this subject is left out with a
/// warning: junk beside an image must not make the image fail.
pub fn copy<S, D>(src: &S, dst: &D, root: &Descriptor, report: &dyn Reporter) -> Result<(), CopyError>
where
    S: Fetch + Referrers + ?Sized,
    D: Exists + Push + ?Sized,
{
    let mut copy = Copy {
        src,
        dst,
        report,
        seen: HashSet::new(),
    };
    if root.media_type != media_type::IMAGE_MANIFEST {
        return copy.blob(root);
    }
    let manifest = copy.manifest(root)?;
    copy.graph(root, &manifest, 0)
}

struct Copy<'a, S: ?Sized, D: ?Sized> {
    src: &'a S,
    dst: &'a D,
    report: &'a dyn Reporter,
    seen: HashSet<Digest>,
}

impl<S, D> Copy<'_, S, D>
where
    S: Fetch + Referrers + ?Sized,
    D: Exists + Push + ?Sized,
{
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

    fn graph(&mut self, d: &Descriptor, manifest: &ImageManifest, depth: usize) -> Result<(), CopyError> {
        if !self.seen.insert(d.digest) {
            return Ok(());
        }
        self.blob(manifest.config())?;
        for layer in manifest.layers() {
            self.blob(layer)?;
        }
        self.dst.push(d, &mut manifest.raw()).map_err(|e| to_target(d, e))?;
        if depth == DEPTH {
            return Ok(());
        }
        let referrers = self.src.referrers(&d.digest).map_err(|e| from_source(d, e))?;
        if referrers.len() > REFERRERS {
            self.report.warned(&format!(
                "{} has {} referrers: the first {REFERRERS} are copied",
                d.digest,
                referrers.len()
            ));
        }
        for referrer in referrers.iter().take(REFERRERS) {
            let manifest = match self.manifest(referrer) {
                Ok(manifest) => manifest,
                Err(e)
                    if matches!(
                        e.store_error(),
                        StoreError::Manifest { .. } | StoreError::TooLarge { .. }
                    ) =>
                {
                    self.report
                        .warned(&format!("referrer {} left out: {}", referrer.digest, e.store_error()));
                    continue;
                }
                Err(e) => return Err(e),
            };
            if manifest.subject().is_none_or(|s| s.digest != d.digest) {
                self.report.warned(&format!(
                    "referrer {} left out: its subject is another manifest",
                    referrer.digest
                ));
                continue;
            }
            self.graph(referrer, &manifest, depth + 1)?;
        }
        Ok(())
    }

    fn blob(&mut self, d: &Descriptor) -> Result<(), CopyError> {
        if !self.seen.insert(d.digest) {
            return Ok(());
        }
        let name = d.digest.short();
        if self.dst.exists(d).map_err(|e| to_target(d, e))? {
            self.report.skipped(&name);
            return Ok(());
        }
        // Unchecked, since `push` checks: once is enough.
        let inner = self.src.fetch_unverified(d).map_err(|e| from_source(d, e))?;
        self.report.started(&name, Some(d.size));
        let failed = Cell::new(false);
        let mut body = Watched {
            inner,
            failed: &failed,
            report: self.report,
        };
        let pushed = self.dst.push(d, &mut body);
        self.report.finished();
        pushed.map_err(|e| {
            if failed.get() || e.is_content() {
                from_source(d, e)
            } else {
                to_target(d, e)
            }
        })
    }
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

/// Tells the reporter what passes, and remembers that it was the reading that
/// failed: the target hands the same error back as its own.
struct Watched<'a, R> {
    inner: R,
    failed: &'a Cell<bool>,
    report: &'a dyn Reporter,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(n) => {
                self.report.advanced(n as u64);
                Ok(n)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.failed.set(true);
                }
                Err(error)
            }
        }
    }
}
