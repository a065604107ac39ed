//! Names that a client may send: repositories, tags, digests.
//!
//! The grammar is the distribution-spec's and is in `qyvol-types`; a
//! [`Name`] can only be made through it, so a name is always safe as a path:
//! no component is empty, starts with a dot or an underscore, or holds
//! anything but lower-case letters, digits, `.`, `_` and `-`.

use std::borrow::Borrow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_types::{Digest, Reference};

/// The directory that holds a repository's image layout. No component of a name
/// starts with an underscore, so `a` and `a/_layout` can't clash.
pub(crate) const LAYOUT: &str = "_layout";

/// A checked repository name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(Arc<str>);

impl Name {
    pub(crate) fn parse(text: &str) -> Option<Name> {
        Reference::local(text, "any").ok()?;
        Some(Name(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory of this repository below `root`.
    pub(crate) fn directory(&self, root: &Path) -> PathBuf {
        let mut directory = root.to_path_buf();
        directory.extend(self.0.split('/'));
        directory
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether `text` is a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    Reference::local("any", text).is_ok()
}

/// What follows `/manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestRef {
    Tag(String),
    Digest(Digest),
}

impl ManifestRef {
    pub(crate) fn parse(text: &str) -> Option<ManifestRef> {
        // No tag has a colon and every digest has one.
        if text.contains(':') {
            return text.parse().ok().map(ManifestRef::Digest);
        }
        is_tag(text).then(|| ManifestRef::Tag(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_could_leave_their_directory_or_clash_with_the_layout() {
        for bad in [
            "",
            ".",
            "..",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "_layout",
            "a/_layout",
            "A",
            "a\\b",
            "a%2fb",
            "a\0",
            "é",
        ] {
            assert!(Name::parse(bad).is_none(), "{bad}");
        }
        assert!(Name::parse(&"a".repeat(255)).is_some());
        assert!(Name::parse(&"a".repeat(256)).is_none());
    }

    #[test]
    fn reference_with_a_colon_must_be_a_digest() {
        assert!(ManifestRef::parse("sha256:abc").is_none());
        assert_eq!(ManifestRef::parse("v1"), Some(ManifestRef::Tag("v1".to_string())));
        let digest = Digest::of(b"x");
        assert_eq!(
            ManifestRef::parse(&digest.to_string()),
            Some(ManifestRef::Digest(digest))
        );
    }
}
