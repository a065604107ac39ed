//! The name of an image, which errors name too; `target.rs` reads it.

use std::fmt;

use qyvol_types::{DigestPrefix, Reference};

/// The name of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// `[registry/]repository[:tag][@digest]`.
    Reference(Reference),
    /// `sha256:` and at least twelve digits: an image of the store.
    Digest(DigestPrefix),
}

impl ImageName {
    /// The reference, unless it is a digest.
    pub fn reference(&self) -> Option<&Reference> {
        match self {
            ImageName::Reference(name) => Some(name),
            ImageName::Digest(_) => None,
        }
    }

    /// The reference of an image in a registry.
    pub fn in_registry(&self) -> Option<&Reference> {
        self.reference().filter(|name| name.registry().is_some())
    }
}

impl From<Reference> for ImageName {
    fn from(name: Reference) -> ImageName {
        ImageName::Reference(name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageName::Reference(name) => name.fmt(f),
            ImageName::Digest(digest) => digest.fmt(f),
        }
    }
}
