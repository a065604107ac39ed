//! Names of packages and interfaces of WIT: `acme:calc/ops@1.2.0`.
//!
//! Source: the component model's `plainname`s and `interfacename`s (Explainer.md, "Import and
//! Export Definitions"), without nested namespaces.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The longest name that is read, in bytes.
const MAX_BYTES: usize = 255;

/// A package, or an interface of one, with or without a version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WitName {
    /// `acme:calc`.
    package: String,
    interface: Option<String>,
    version: Option<Version>,
}

/// Why a text is not such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "not the name of a WIT interface or package: expected namespace:package/interface@version, such as acme:calc/ops@1.0.0, where the interface and the version may be left out"
)]
pub struct WitNameError;

impl WitName {
    /// The version.
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Whether an import of this name is one of those that `self` names: the interface itself or,
    /// if `self` is a package, any of its interfaces; in the version of `self`, if it has one.
    pub fn covers(&self, import: &str) -> bool {
        let Ok(import) = import.parse::<WitName>() else {
            return false;
        };
        import.interface.is_some()
            && self.package == import.package
            && (self.interface.is_none() || self.interface == import.interface)
            && (self.version.is_none() || self.version == import.version)
    }

    /// Those of some covered imports that are one interface in several versions.
    pub fn ambiguous_among(&self, imports: &[String]) -> Option<Vec<String>> {
        let interface = |import: &'_ String| import.split('@').next().unwrap_or_default().to_string();
        let mut versions: BTreeMap<String, usize> = BTreeMap::new();
        for import in imports {
            *versions.entry(interface(import)).or_default() += 1;
        }
        let several = imports
            .iter()
            .filter(|import| versions.get(&interface(import)) > Some(&1));
        let several: Vec<String> = several.cloned().collect();
        (!several.is_empty()).then_some(several)
    }

    /// Whether both are one interface, in versions that are compatible by SemVer: with the same first part
    /// that is not 0, and no pre-release. Without a version, both must be.
    pub fn is_compatible(&self, other: &WitName) -> bool {
        let track = |version: &Version| match version {
            Version { pre, .. } if !pre.is_empty() => (version.major, Some(version.minor), Some(version.clone())),
            Version { major: 0, minor: 0, .. } => (0, Some(0), Some(Version::new(0, 0, version.patch))),
            Version { major: 0, minor, .. } => (0, Some(*minor), None),
            Version { major, .. } => (*major, None, None),
        };
        self.package == other.package
            && self.interface == other.interface
            && self.version.as_ref().map(track) == other.version.as_ref().map(track)
    }
}

impl FromStr for WitName {
    type Err = WitNameError;

    fn from_str(text: &str) -> Result<WitName, WitNameError> {
        if text.len() > MAX_BYTES {
            return Err(WitNameError);
        }
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(Version::parse(version).map_err(|_| WitNameError)?)),
            None => (text, None),
        };
        let (package, interface) = match name.split_once('/') {
            Some((package, interface)) => (package, Some(interface)),
            None => (name, None),
        };
        let (namespace, own) = package.split_once(':').ok_or(WitNameError)?;
        if ![namespace, own].into_iter().chain(interface).all(is_label) {
            return Err(WitNameError);
        }
        Ok(WitName {
            package: package.to_string(),
            interface: interface.map(str::to_string),
            version,
        })
    }
}

/// Words of lower-case letters, or of upper-case ones, and digits, separated by `-`.
fn is_label(label: &str) -> bool {
    let word = |word: &str| {
        let lower = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let upper = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        !word.is_empty() && (lower || upper)
    };
    label.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && label.split('-').all(word)
}

impl fmt::Display for WitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.package)?;
        if let Some(interface) = &self.interface {
            write!(f, "/{interface}")?;
        }
        match &self.version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

impl Serialize for WitName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WitName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WitName, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WitName {
        text.parse().unwrap()
    }

    #[test]
    fn name_is_read_and_written_the_same() {
        for text in [
            "acme:calc",
            "acme:calc/ops",
            "acme:calc@1.0.0",
            "a-b:c/d-e2@0.2.0-rc.1",
            "a:HTTP/x",
        ] {
            assert_eq!(name(text).to_string(), text);
        }
        for bad in [
            "",
            "acme",
            "acme/ops",
            "acme:calc/",
            "acme:calc/ops@",
            "acme:calc/ops@1",
            "a:b:c/d",
            "A:b c",
            "a:b/c/d",
            "a:-b",
            "a:b-",
            "a:1b",
            "a:bC",
        ] {
            assert_eq!(bad.parse::<WitName>(), Err(WitNameError), "{bad}");
        }
    }

    #[test]
    fn key_covers_an_interface_or_those_of_a_package() {
        for (key, import, covered) in [
            ("acme:calc/ops", "acme:calc/ops@1.0.0", true),
            ("acme:calc/ops", "acme:calc/ops", true),
            ("acme:calc", "acme:calc/ops@1.0.0", true),
            ("acme:calc@1.0.0", "acme:calc/ops@1.0.0", true),
            ("acme:calc@1.0.0", "acme:calc/ops@1.0.1", false),
            ("acme:calc/ops@2.0.0", "acme:calc/ops@1.0.0", false),
            ("acme:calc/op", "acme:calc/ops@1.0.0", false),
            ("acme:cal", "acme:calc/ops@1.0.0", false),
            ("acme:calc", "acme:calculator/ops", false),
        ] {
            assert_eq!(name(key).covers(import), covered, "{key} {import}");
        }
    }

    #[test]
    fn versions_are_compatible_up_to_the_first_part_that_is_not_zero() {
        for (a, b, compatible) in [
            ("1.0.0", "1.9.3", true),
            ("1.0.0", "2.0.0", false),
            ("0.2.0", "0.2.6", true),
            ("0.2.0", "0.3.0", false),
            ("0.0.1", "0.0.2", false),
            ("1.0.0-rc.1", "1.0.0", false),
            ("1.0.0-rc.1", "1.0.0-rc.1", true),
        ] {
            let of = |version| name(&format!("a:b/c@{version}"));
            assert_eq!(of(a).is_compatible(&of(b)), compatible, "{a} {b}");
        }
        assert!(!name("a:b/c").is_compatible(&name("a:b/c@1.0.0")));
    }
}
