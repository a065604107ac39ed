//! The traits of a store, one verb each, and the reporter of progress.
//!
//! All synchronous. A remote store bridges to its own runtime inside.

use std::io::{self, Read};

use qyvol_types::{Descriptor, Digest, ImageManifest};

use crate::{StoreError, VerifyReader};

/// A reader of content from a store.
pub type Body = Box<dyn Read + Send>;

/// Transfers at a time, unless a store requires another number.
pub const CONCURRENCY: usize = 4;

/// Bytes reserved at once for content whose size only the descriptor states.
const RESERVE: u64 = 1 << 20;

/// A store that content can be read from.
pub trait Fetch {
    /// The content that the store has under this digest, unverified. Fails with
    /// [`StoreError::NotFound`] if there is none.
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError>;

    /// The same from byte `at` on, which is at most its size.
    fn fetch_unverified_from(&self, descriptor: &Descriptor, at: u64) -> Result<Body, StoreError> {
        let mut body = self.fetch_unverified(descriptor)?;
        let skipped = io::copy(&mut body.by_ref().take(at), &mut io::sink());
        skipped.map_err(|error| StoreError::reading(&descriptor.digest, error))?;
        Ok(body)
    }

    /// The content, with its size and digest verified in the stream: the reader fails before it
    /// returns the last byte of anything else.
    fn fetch(&self, descriptor: &Descriptor) -> Result<VerifyReader<Body>, StoreError> {
        let body = self.fetch_unverified(descriptor)?;
        Ok(VerifyReader::new(body, descriptor))
    }

    /// All of the content, verified. A descriptor over `limit` bytes is refused before anything
    /// is read or allocated.
    fn fetch_bytes(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, StoreError> {
        if descriptor.size > limit {
            return Err(StoreError::TooLarge {
                digest: descriptor.digest,
                size: descriptor.size,
                limit,
            });
        }
        let mut reader = self.fetch(descriptor)?;
        // The size is a claim until the bytes are read.
        let reserve = usize::try_from(descriptor.size.min(RESERVE)).unwrap_or(0);
        let mut bytes = Vec::with_capacity(reserve);
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| StoreError::reading(&descriptor.digest, error))?;
        Ok(bytes)
    }

    /// How many blobs are read from it at a time.
    fn concurrency(&self) -> usize {
        CONCURRENCY
    }
}

/// A store that can say whether it has some content.
pub trait Exists {
    /// Whether content of this digest and size exists.
    fn exists(&self, descriptor: &Descriptor) -> Result<bool, StoreError>;

    /// Whether the store has this manifest with everything it references, as a
    /// referrer of its subject: whether pushing it would change nothing. A store that doesn't
    /// know returns false, and is sent it again.
    fn has_manifest(&self, manifest: &ImageManifest) -> Result<bool, StoreError> {
        let _ = manifest;
        Ok(false)
    }
}

/// Opens content at a byte offset; may be called more than once.
pub type Open<'a> = dyn Fn(u64) -> Result<Box<dyn Read + Send + 'a>, StoreError> + 'a;

/// A store that content can be written to.
pub trait Push {
    /// Stores the content, hashing it on the way; anything that doesn't match the descriptor
    /// exactly is refused and leaves nothing behind. Content that exists already is success. A
    /// manifest with a `subject` becomes its referrer.
    fn push(&self, descriptor: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError>;

    /// The same, opening the content on demand: a store that gets it another way never opens
    /// it, one that lost its connection reopens it, and one that has the first part opens it at
    /// that offset.
    fn push_from(&self, descriptor: &Descriptor, open: &Open<'_>) -> Result<(), StoreError> {
        self.push(descriptor, &mut open(0)?)
    }

    /// How many blobs are written to it at a time.
    fn concurrency(&self) -> usize {
        CONCURRENCY
    }
}

/// A store that knows what refers to an image.
pub trait Referrers {
    /// Descriptors of the manifests whose `subject` is this one, sorted by
    /// digest.
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError>;
}

/// Receives progress. No method returns anything, so that output can't influence
/// the work.
pub trait Reporter: Sync {
    /// Work begins on `what`; `total` is its bytes, where known.
    fn started(&self, what: &str, total: Option<u64>) {
        let _ = (what, total);
    }
    /// This many more bytes of it are done.
    fn advanced(&self, bytes: u64) {
        let _ = bytes;
    }
    /// It is done.
    fn finished(&self) {}
    /// One part of the work, of this many bytes, begins; others may run in parallel.
    fn part_started(&self, part: &str, bytes: u64) {
        let _ = (part, bytes);
    }
    /// This many more bytes of a part are done.
    fn part_advanced(&self, part: &str, bytes: u64) {
        let _ = (part, bytes);
    }
    /// A part is done.
    fn part_finished(&self, part: &str) {
        let _ = part;
    }
    /// A part of this many bytes exists already.
    fn part_skipped(&self, part: &str, bytes: u64) {
        let _ = (part, bytes);
    }
    /// How something was done, for those who want to know. The message is safe to print.
    fn detailed(&self, message: &str) {
        let _ = message;
    }
    /// Something was skipped that does not stop the work. The message is safe to print.
    fn warned(&self, message: &str) {
        let _ = message;
    }
}

/// Reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopReporter;

impl Reporter for NoopReporter {}
