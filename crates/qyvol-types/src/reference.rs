//! Names of images: `[registry/]repository[:tag][@digest]`, with the grammar
//! of the OCI distribution-spec 1.1 and Docker's rule for the registry: the
//! first component is one if it has a dot or a colon or is `localhost`.
//!
//! There is no default registry: `hello:1.0.0` is an image of this machine's
//! store and nothing else.
//!
//! Invariant: a [`Reference`] has a tag or a digest. Parsing makes the default
//! tag `latest` explicit, so that two spellings of a name are one value and
//! nothing below the command line has to remember the default.
//! [`RepositoryName`] is a name without either.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::{Digest, DigestError};

/// The tag of a reference that is spelled without tag and digest.
pub const DEFAULT_TAG: &str = "latest";

/// The name of a repository, with the registry that it is in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName {
    registry: Option<String>,
    repository: String,
}

/// The name of an image: a repository and a tag, a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Option<String>,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not a reference.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The registry is not `host` or `host:port`.
    #[error("not a registry: expected host or host:port")]
    Registry,
    /// The repository breaks the grammar.
    #[error(
        "not a repository name: expected lower-case letters and digits, separated by `.`, `_`, `-` or `/`, at most 255"
    )]
    Repository,
    /// The tag breaks the grammar.
    #[error("not a tag: expected up to 128 letters, digits, `_`, `.` and `-`, the first not `.` or `-`")]
    Tag,
    /// The part after `@` is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The name of a repository was expected.
    #[error("expected the name of a repository, without tag and digest")]
    NotRepository,
}

/// Whether `s` is a repository name of the distribution-spec.
pub(crate) fn is_repository(s: &str) -> bool {
    fn component(s: &str) -> bool {
        let bytes = s.as_bytes();
        let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if !bytes.first().is_some_and(alnum) || !bytes.last().is_some_and(alnum) {
            return false;
        }
        // Runs of separators: one dot, one or two underscores, any dashes.
        bytes
            .split(|b| alnum(b))
            .all(|run| matches!(run, b"" | b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-'))
    }
    !s.is_empty() && s.len() <= 255 && s.split('/').all(component)
}

/// Whether `s` is a tag of the distribution-spec.
pub(crate) fn is_tag(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    s.len() <= 128 && s.bytes().next().is_some_and(word) && s.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_registry(s: &str) -> bool {
    let (host, port) = match s.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((v6, port)) => {
                if v6.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                ("v6", port.strip_prefix(':').or(port.is_empty().then_some("1")))
            }
            None => return false,
        },
        None => match s.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (s, Some("1")),
        },
    };
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let port_ok = port.is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p > 0));
    s.len() <= 255 && host.split('.').all(label) && port_ok
}

impl Reference {
    /// A name of this machine's store.
    pub fn local(repository: &str, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_repository(repository) {
            return Err(ReferenceError::Repository);
        }
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            registry: None,
            repository: repository.to_string(),
            tag: Some(tag.to_string()),
            digest: None,
        })
    }

    /// The registry, `host` or `host:port`; none for names of the store alone.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if given: it decides, whatever the tag says.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository with its registry.
    pub fn repository_name(&self) -> RepositoryName {
        RepositoryName {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
        }
    }

    /// The same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            tag: Some(tag.to_string()),
            digest: None,
            ..self.clone()
        })
    }
}

/// Splits `[registry/]rest` by Docker's rule and checks the registry.
fn split_registry(s: &str) -> Result<(Option<String>, &str), ReferenceError> {
    match s.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
            if !is_registry(first) {
                return Err(ReferenceError::Registry);
            }
            Ok((Some(first.to_ascii_lowercase()), rest))
        }
        _ => Ok((None, s)),
    }
}

impl FromStr for RepositoryName {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<RepositoryName, ReferenceError> {
        if s.contains('@') {
            return Err(ReferenceError::NotRepository);
        }
        let (registry, repository) = split_registry(s)?;
        if repository.contains(':') {
            return Err(ReferenceError::NotRepository);
        }
        if !is_repository(repository) {
            return Err(ReferenceError::Repository);
        }
        Ok(RepositoryName {
            registry,
            repository: repository.to_string(),
        })
    }
}

impl RepositoryName {
    /// The registry, `host` or `host:port`; none for names of the store alone.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The repository's path in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The image that the default tag names.
    pub fn latest(&self) -> Reference {
        Reference {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: Some(DEFAULT_TAG.to_string()),
            digest: None,
        }
    }

    /// An image of this repository.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: Some(tag.to_string()),
            digest: None,
        })
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(s: &str) -> Result<Reference, ReferenceError> {
        let (rest, digest) = match s.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (s, None),
        };
        let (registry, rest) = split_registry(rest)?;
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, digest.is_none().then_some(DEFAULT_TAG)),
        };
        if !is_repository(repository) {
            return Err(ReferenceError::Repository);
        }
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(ReferenceError::Tag);
        }
        Ok(Reference {
            registry,
            repository: repository.to_string(),
            tag: tag.map(str::to_string),
            digest,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_that_docker_reads() {
        let hex = "0".repeat(64);
        for (text, registry, repository, tag) in [
            ("hello", None, "hello", Some("latest")),
            ("acme/hello:1.0.0", None, "acme/hello", Some("1.0.0")),
            ("localhost/hello", Some("localhost"), "hello", Some("latest")),
            ("127.0.0.1:5000/a/b:x", Some("127.0.0.1:5000"), "a/b", Some("x")),
            ("[::1]:5000/a", Some("[::1]:5000"), "a", Some("latest")),
            (
                "Registry.Example/a__b",
                Some("registry.example"),
                "a__b",
                Some("latest"),
            ),
            ("hello:5000", None, "hello", Some("5000")),
        ] {
            let r: Reference = text.parse().expect(text);
            assert_eq!(
                (r.registry(), r.repository(), r.tag()),
                (registry, repository, tag),
                "{text}"
            );
            assert_eq!(r.to_string().parse::<Reference>().unwrap(), r);
        }
        let pinned: Reference = format!("r.example/a:t@sha256:{hex}").parse().unwrap();
        assert!(pinned.digest().is_some() && pinned.tag() == Some("t"));
        // A digest needs no tag: then none is added.
        let pinned: Reference = format!("r.example/a@sha256:{hex}").parse().unwrap();
        assert_eq!(pinned.tag(), None);
    }

    #[test]
    fn equivalent_references_are_equal() {
        let short: Reference = "R.Example/acme/app".parse().unwrap();
        assert_eq!(short, "r.example/acme/app:latest".parse().unwrap());
        assert_eq!(short.to_string(), "r.example/acme/app:latest");
    }

    #[test]
    fn repository_name_has_no_tag_and_no_digest() {
        let name: RepositoryName = "R.Example:5000/acme/app".parse().unwrap();
        assert_eq!(
            (name.registry(), name.repository()),
            (Some("r.example:5000"), "acme/app")
        );
        assert_eq!(name.to_string(), "r.example:5000/acme/app");
        for text in ["app:1", "r.example/app:1", "app@sha256:00"] {
            assert_eq!(
                text.parse::<RepositoryName>(),
                Err(ReferenceError::NotRepository),
                "{text}"
            );
        }
        assert!("r.example/A".parse::<RepositoryName>().is_err());
    }

    #[test]
    fn invalid_reference_is_refused() {
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/../b",
            "A",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:0",
            "-a",
            "a.",
            "a___b",
            "a..b",
            "a b",
            "é",
            "r.example:0/a",
            "r.example:99999/a",
            "-r.example/a",
            "r..example/a",
            "[::1/a",
            "a:x:y",
            "http://a/b",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
