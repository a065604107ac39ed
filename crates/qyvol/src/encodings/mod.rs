//! Smaller representations of an image's component in a registry: `push` publishes them, `pull`
//! takes the cheapest (`spec/encodings.md`).
//!
//! Nothing here can fail a push or a pull, and nothing that a registry lists is trusted: what a
//! representation decodes to becomes a blob only if it is the one that the image's manifest
//! names. Whatever goes wrong with it, the blob itself is transferred as without.
//!
//! Deliberately absent: representations of assets.

mod bases;
mod make;
mod publish;
mod receive;

use std::cell::RefCell;

use qyvol_encoding::Blob;
use qyvol_remote::Repository;
use qyvol_store::{Body, Fetch, Referrers, StoreError};
use qyvol_types::{Descriptor, Digest, media_type};

pub(crate) use self::bases::{BASES, stored};
pub(crate) use self::make::Making;
pub use self::publish::Encodings;
pub(crate) use self::publish::{Artifact, NAMED_BASES, Publisher};
pub(crate) use self::receive::{Receiver, Ways};

/// Components of fewer bytes are left as they are: the requests for a list would cost more than
/// it saves.
const MIN_BYTES: u64 = 16 << 10;
/// Lists that are read of one image: each costs requests, and anyone who may push can add some.
const LISTS: usize = 8;

/// The component of an image among its layers, if it is large enough.
pub(crate) fn components(layers: &[Descriptor]) -> impl Iterator<Item = &Descriptor> {
    let large = |layer: &&Descriptor| layer.media_type == media_type::WASM && layer.size >= MIN_BYTES;
    layers.iter().filter(large)
}

pub(crate) fn blob(descriptor: &Descriptor) -> Blob {
    Blob {
        digest: descriptor.digest,
        size: descriptor.size,
    }
}

/// The descriptor by which a store is asked for some bytes.
pub(crate) fn descriptor(blob: &Blob) -> Descriptor {
    Descriptor::new(media_type::ENCODED, blob.digest, blob.size)
}

/// A repository that remembers which of the referrers it lists are lists of representations.
pub(crate) struct Listing<'a> {
    repository: &'a Repository,
    pub(crate) encodings: RefCell<Vec<Descriptor>>,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(repository: &'a Repository) -> Listing<'a> {
        Listing {
            repository,
            encodings: RefCell::default(),
        }
    }
}

impl Fetch for Listing<'_> {
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        self.repository.fetch_unverified(descriptor)
    }
}

impl Referrers for Listing<'_> {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let found = self.repository.referrers(subject)?;
        let encodings = found.iter().filter(|referrer| is_encodings(referrer));
        self.encodings.borrow_mut().extend(encodings.cloned());
        Ok(found)
    }
}

/// Whether a referrer claims to be a list of representations.
pub(crate) fn is_encodings(referrer: &Descriptor) -> bool {
    referrer.artifact_type.as_deref() == Some(media_type::ENCODINGS)
}
