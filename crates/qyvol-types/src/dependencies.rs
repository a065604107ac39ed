//! What an application is built with: `dependencies` of a `.qyv`, and the lock, which
//! says what they were resolved to. Source: spec/composition.md.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::reference::is_tag;
use crate::{AssetPath, Digest, Reference, RepositoryName, WitName, limits};

/// The ending by which an image is a file.
const FILE_ENDING: &str = ".qyvbin";
/// Bytes of a fingerprint's text.
const FINGERPRINT_BYTES: usize = 128;

/// One entry of `dependencies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyRule {
    /// The import that it satisfies, or the package of several.
    pub key: WitName,
    /// Where the image is.
    pub image: DependencyImage,
    /// The tag that is asked for, or the version of a file's image.
    pub version: String,
}

/// Where the image of a dependency is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DependencyImage {
    /// In the store, and in a registry if its name has one.
    Repository(RepositoryName),
    /// In a file beside the manifest or below.
    File(AssetPath),
}

impl DependencyImage {
    /// Reads what a manifest or a lock says; returns why it can't be that.
    pub fn parse(text: &str) -> Result<DependencyImage, String> {
        if !text.ends_with(FILE_ENDING) {
            let name = text.parse().map_err(|e| format!("is {e}"))?;
            return Ok(DependencyImage::Repository(name));
        }
        let mut path = text;
        while let Some(rest) = path.strip_prefix("./") {
            path = rest;
        }
        match AssetPath::parse(path) {
            Ok(path) => Ok(DependencyImage::File(path)),
            Err(why) => Err(why.to_string()),
        }
    }
}

impl fmt::Display for DependencyImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DependencyImage::Repository(name) => name.fmt(f),
            DependencyImage::File(path) => f.write_str(path.as_str()),
        }
    }
}

impl Serialize for DependencyImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DependencyImage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<DependencyImage, D::Error> {
        let text = String::deserialize(deserializer)?;
        DependencyImage::parse(&text).map_err(|why| serde::de::Error::custom(format!("an image's name {why}")))
    }
}

/// What the dependencies of an application were resolved to: `qyv.lock`, and `qyvLock` of an
/// image's config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of this form: 1.
    pub version: u64,
    /// Sorted by key.
    pub dependencies: Vec<LockedDependency>,
}

/// A dependency that was resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedDependency {
    /// The key of the manifest.
    #[serde(rename = "for")]
    pub key: WitName,
    /// Where the manifest says the image is.
    pub image: DependencyImage,
    /// The version that the manifest asks for.
    pub version: String,
    /// The image's own `name:version`.
    pub name: Reference,
    /// Digest of the image's manifest.
    pub manifest: Digest,
    /// Digest of its component.
    pub component: Digest,
    /// Fingerprints of the keys whose signatures were accepted, sorted.
    pub signers: Vec<String>,
    /// What the image itself was built with; in an image's config alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<LockedDependency>,
}

impl LockedDependency {
    /// Whether it is what a manifest's entry asks for.
    pub fn is_of(&self, rule: &DependencyRule) -> bool {
        self.key == rule.key && self.image == rule.image && self.version == rule.version
    }

    /// This and all that it was built with, in depth first.
    pub fn with_all(&self) -> Vec<&LockedDependency> {
        let mut all = vec![self];
        let mut next = 0;
        while let Some(one) = all.get(next).copied() {
            all.extend(&one.dependencies);
            next += 1;
        }
        all
    }
}

impl Lock {
    /// A lock of resolved dependencies.
    pub fn new(mut dependencies: Vec<LockedDependency>) -> Lock {
        dependencies.sort_by_key(|one| one.key.to_string());
        Lock {
            version: 1,
            dependencies,
        }
    }

    /// What it says of a key.
    pub fn get(&self, key: &WitName) -> Option<&LockedDependency> {
        self.dependencies.iter().find(|dependency| dependency.key == *key)
    }

    /// Checks what the types don't say; returns what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.version != 1 {
            return Err(format!("its version is {}, and 1 is what is known", self.version));
        }
        let mut left = limits::DEPENDENCIES_ALL;
        check_level(&self.dependencies, limits::DEPENDENCY_DEPTH, &mut left)
    }
}

fn check_level(level: &[LockedDependency], depth: usize, left: &mut usize) -> Result<(), String> {
    if level.is_empty() {
        return Ok(());
    }
    if depth == 0 || level.len() > *left {
        return Err(format!(
            "it has more than {} dependencies in all, or they are nested more than {} deep",
            limits::DEPENDENCIES_ALL,
            limits::DEPENDENCY_DEPTH
        ));
    }
    *left -= level.len();
    if !level.is_sorted_by(|a, b| a.key.to_string() < b.key.to_string()) {
        return Err("its dependencies are not sorted, or one stands twice".to_string());
    }
    for one in level {
        let fingerprint = |text: &String| !text.is_empty() && text.len() <= FINGERPRINT_BYTES && text.is_ascii();
        if !is_tag(&one.version) || !one.signers.iter().all(fingerprint) || !one.signers.is_sorted_by(|a, b| a < b) {
            return Err(format!(
                "its entry for `{}` has a version or signers of no such form",
                one.key
            ));
        }
        if one.name.registry().is_some() || one.name.digest().is_some() {
            return Err(format!("its entry for `{}` has a name that is no image's own", one.key));
        }
        check_level(&one.dependencies, depth - 1, left)?;
    }
    Ok(())
}
