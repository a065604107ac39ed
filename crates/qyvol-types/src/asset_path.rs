//! Names of assets: paths that mean the same on every host.
//!
//! A path is relative, `/`-separated, in UTF-8 and Unicode NFC, without `.`,
//! `..`, empty components, backslashes, control or direction characters, names
//! that Windows reserves, or a trailing dot or space. So an unpacked tree can't
//! leave its directory, and no file system folds two of its names into one.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::escape::is_deceptive;
use crate::yaml::{Node, Reader};
use crate::{escape, limits};

/// Longest path in bytes.
const PATH_BYTES: usize = 1024;
/// Longest component in bytes.
const COMPONENT_BYTES: usize = 255;

/// A checked relative path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssetPath(String);

/// Why a name can't be an asset's path.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AssetPathError {
    /// Nothing, or nothing between two slashes.
    #[error("has an empty component")]
    Empty,
    /// Starts with `/` or a drive.
    #[error("is absolute")]
    Absolute,
    /// A `.` or `..` component.
    #[error("has a `{0}` component")]
    Dots(&'static str),
    /// A character that is not allowed.
    #[error("has the character {0:?}, which is not allowed in a name")]
    Character(char),
    /// Not in normal form C.
    #[error("is not in Unicode normal form C")]
    NotNfc,
    /// Not UTF-8.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// A component ends in a dot or space, or starts with a space.
    #[error("has a component that starts with a space or ends in a dot or space")]
    Edge,
    /// A name that Windows keeps for devices.
    #[error("has the component `{0}`, which Windows reserves")]
    Reserved(String),
    /// Path or component past its bound.
    #[error("is too long: at most {PATH_BYTES} bytes, and {COMPONENT_BYTES} a component")]
    TooLong,
    /// More components than are allowed.
    #[error("is too deep: at most {} components", limits::ASSET_DEPTH)]
    TooDeep,
    /// The directories of all paths together.
    #[error("needs too many directories: at most {} in an image", limits::ASSET_DIRECTORIES)]
    TooManyDirectories,
    /// Equal to another path, or so after case folding and normalisation.
    #[error("clashes with `{}`: some file systems can't hold both", escape(.0))]
    Clash(String),
}

impl AssetPath {
    /// Reads a path inside the manifest's directory; a leading `./` is dropped.
    pub(crate) fn from_yaml(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<AssetPath> {
        let text = r.text(node, what)?;
        let mut path = text;
        while let Some(rest) = path.strip_prefix("./") {
            path = rest;
        }
        match AssetPath::parse(path) {
            Ok(path) => Some(path),
            Err(why) => {
                let message = format!("{what} `{}` {why}", escape(text));
                r.problem_with_help(node.place, message, "a relative path inside the manifest's directory");
                None
            }
        }
    }

    /// Checks a path.
    pub fn parse(path: &str) -> Result<AssetPath, AssetPathError> {
        if path.len() > PATH_BYTES {
            return Err(AssetPathError::TooLong);
        }
        if path.starts_with('/') {
            return Err(AssetPathError::Absolute);
        }
        if let Some(c) = path.chars().find(|c| is_forbidden(*c)) {
            if c == ':' && path.find(':') == Some(1) {
                return Err(AssetPathError::Absolute);
            }
            return Err(AssetPathError::Character(c));
        }
        if path.split('/').count() > limits::ASSET_DEPTH {
            return Err(AssetPathError::TooDeep);
        }
        if !is_nfc(path) {
            return Err(AssetPathError::NotNfc);
        }
        for component in path.split('/') {
            check_component(component)?;
        }
        Ok(AssetPath(path.to_string()))
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for AssetPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// What Windows can't have in a name, and what hides or moves text.
fn is_forbidden(c: char) -> bool {
    matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') || is_deceptive(c)
}

fn check_component(component: &str) -> Result<(), AssetPathError> {
    match component {
        "" => return Err(AssetPathError::Empty),
        "." => return Err(AssetPathError::Dots(".")),
        ".." => return Err(AssetPathError::Dots("..")),
        _ => {}
    }
    if component.len() > COMPONENT_BYTES {
        return Err(AssetPathError::TooLong);
    }
    if component.starts_with(' ') || component.ends_with(['.', ' ']) {
        return Err(AssetPathError::Edge);
    }
    let stem = component.split('.').next().unwrap_or(component).trim_end();
    let stem = stem.to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|n| {
            matches!(
                n,
                "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
            )
        })
    };
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$")
        || numbered("COM")
        || numbered("LPT")
    {
        return Err(AssetPathError::Reserved(component.to_string()));
    }
    Ok(())
}

/// The form under which two names are one to some file system: compatibility
/// decomposition around full lower- and upper-casing, so that `ß` and `ẞ` meet
/// `ss` and NFD meets NFC. Lower case first: `ẞ` has no other upper case.
fn fold(component: &str) -> String {
    let lower: String = component.nfkd().flat_map(char::to_lowercase).collect();
    let upper = lower.to_uppercase();
    upper.to_lowercase().nfkc().collect()
}

/// The paths of one image; refuses the second of two that can't stand side by
/// side: equal, equal after folding, or one a file where the other needs a
/// directory. The directories of all of them are bounded.
#[derive(Debug, Default)]
pub struct PathSet {
    // Folded path → the path as written and whether it is a directory.
    seen: BTreeMap<String, (String, bool)>,
    directories: usize,
}

impl PathSet {
    /// An empty set.
    pub fn new() -> PathSet {
        PathSet::default()
    }

    /// Adds a file's path.
    pub fn insert(&mut self, path: &AssetPath) -> Result<(), AssetPathError> {
        let mut folded = String::new();
        let mut end = 0;
        for component in path.components() {
            if end > 0 {
                folded.push('/');
            }
            folded.push_str(&fold(component));
            end += component.len();
            let is_directory = end < path.0.len();
            let written = path.0.get(..end).unwrap_or(&path.0);
            match self.seen.get(&folded) {
                // The same directory written the same way is shared.
                Some((other, true)) if is_directory && other == written => {}
                Some((other, _)) => return Err(AssetPathError::Clash(other.clone())),
                None => {
                    self.directories += usize::from(is_directory);
                    if self.directories > limits::ASSET_DIRECTORIES {
                        return Err(AssetPathError::TooManyDirectories);
                    }
                    self.seen.insert(folded.clone(), (written.to_string(), is_directory));
                }
            }
            end += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [BIN-051]
    #[test]
    fn path_that_escapes_or_is_not_portable_is_refused() {
        for bad in [
            "",
            "/",
            "/abs",
            "a//b",
            "a/",
            "./a",
            "a/./b",
            "..",
            "../x",
            "a/../../x",
            "C:\\x",
            "C:x",
            "\\\\srv\\x",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{1b}[2J",
            "a\u{202e}b",
            "a.",
            "a ",
            "a /b",
            " a",
            "CON",
            "con.txt",
            "aux",
            "COM1",
            "com¹.log",
            "LPT9",
            "nul .txt",
            "a:b",
            "a*",
            "cafe\u{301}",
            "zero\u{200b}width",
        ] {
            assert!(AssetPath::parse(bad).is_err(), "{bad:?}");
        }
        assert!(AssetPath::parse(&"a".repeat(256)).is_err());
        assert!(AssetPath::parse(&"a/".repeat(600)).is_err());
        assert!(AssetPath::parse(&format!("{}x", "d/".repeat(10_000))).is_err());
    }

    #[test]
    fn ordinary_names_pass() {
        for good in [
            "a",
            "public/a.css",
            "ñandú/café.txt",
            ".hidden",
            "a..b",
            "console.log",
            "com10",
            "日本/語.txt",
            "a b",
        ] {
            AssetPath::parse(good).expect(good);
        }
        AssetPath::parse(&"a".repeat(255)).unwrap();
    }

    // [BIN-051]
    #[test]
    fn path_of_more_than_32_components_is_refused() {
        AssetPath::parse(&format!("{}x", "d/".repeat(31))).unwrap();
        assert_eq!(
            AssetPath::parse(&format!("{}x", "d/".repeat(32))),
            Err(AssetPathError::TooDeep)
        );
    }

    // [BIN-052]
    #[test]
    fn directories_of_all_paths_together_are_bounded() {
        let mut set = PathSet::new();
        let mut insert = |n: usize| set.insert(&AssetPath::parse(&format!("d{n}/f")).unwrap());
        for n in 0..limits::ASSET_DIRECTORIES {
            insert(n).unwrap();
        }
        assert_eq!(
            insert(limits::ASSET_DIRECTORIES),
            Err(AssetPathError::TooManyDirectories)
        );
    }

    fn clash(paths: &[&str]) -> bool {
        let mut set = PathSet::new();
        paths.iter().any(|p| set.insert(&AssetPath::parse(p).unwrap()).is_err())
    }

    // [BIN-052]
    #[test]
    fn names_that_fold_into_one_clash() {
        for pair in [
            ["a", "a"],
            ["A", "a"],
            ["straße", "STRASSE"],
            ["ẞ", "ß"],
            ["ẞ", "ss"],
            ["ﬁ", "fi"],
            ["a", "a/b"],
            ["a/b", "a"],
            ["A/x", "a/y"],
            ["Σ", "ς"],
        ] {
            assert!(clash(&pair), "{pair:?}");
        }
        for fine in [["a/b", "a/c"], ["a", "b"], ["a/b", "ab"], ["x/a", "y/a"]] {
            assert!(!clash(&fine), "{fine:?}");
        }
    }
}
