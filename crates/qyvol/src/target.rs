//! What a user names on the command line.
//!
//! The kind of a target follows only from its spelling, never from what is on disk: a user who
//! can write the current directory must not be able to turn the name of a signed image into a
//! file, or an archive into a manifest under development.

use std::fmt;
use std::path::PathBuf;

use qyvol_types::DigestPrefix;

use crate::{Error, ImageName};

/// What a user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An archive: a path that is none of the others.
    Archive(PathBuf),
    /// A manifest under development: a `.qyv`, or a directory, which is spelled
    /// with a trailing `/` or as `.` or `..`.
    Manifest(PathBuf),
    /// A bare component or module: a `.wasm`.
    Wasm(PathBuf),
    /// An image of the store or of a registry.
    Image(ImageName),
}

/// Suffixes that make a path of a target.
const SUFFIXES: [&str; 3] = [".qyvbin", ".qyv", ".wasm"];

impl Target {
    /// Reads a target. Nothing is looked up.
    pub fn parse(text: &str) -> Result<Target, Error> {
        if !is_path(text) {
            return ImageName::parse(text).map(Target::Image);
        }
        let path = PathBuf::from(text);
        Ok(if text.ends_with(".qyv") || is_directory(text) {
            Target::Manifest(path)
        } else if text.ends_with(".wasm") {
            Target::Wasm(path)
        } else {
            Target::Archive(path)
        })
    }
}

/// Whether a text is spelled as a path.
fn is_path(text: &str) -> bool {
    let marked = text.starts_with('/') || text.starts_with("./") || text.starts_with("../");
    let suffixed = SUFFIXES.iter().any(|suffix| text.ends_with(suffix)) && !text.contains('@');
    marked || suffixed || is_directory(text)
}

/// Whether a text is spelled as a directory.
fn is_directory(text: &str) -> bool {
    text.ends_with('/') || matches!(text.rsplit('/').next(), Some("." | ".."))
}

impl ImageName {
    /// Reads the name of an image: a reference or a digest, whole or shortened.
    pub fn parse(text: &str) -> Result<ImageName, Error> {
        let failed = |why: &dyn fmt::Display| Error::InvalidTarget {
            target: text.to_string(),
            why: why.to_string(),
        };
        if DigestPrefix::is_spelled(text) {
            let digest = text.parse().map_err(|e| failed(&e))?;
            return Ok(ImageName::Digest(digest));
        }
        let name = text.parse().map_err(|e| failed(&e))?;
        Ok(ImageName::Reference(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [RUN-001]
    #[test]
    fn target_is_read_by_its_spelling_alone() {
        let manifest = |p: &str| Target::Manifest(p.into());
        let archive = |p: &str| Target::Archive(p.into());
        for (text, expected) in [
            ("app.qyv", manifest("app.qyv")),
            ("dir/", manifest("dir/")),
            (".", manifest(".")),
            ("..", manifest("..")),
            ("../app/.", manifest("../app/.")),
            ("./app/", manifest("./app/")),
            ("app.qyvbin", archive("app.qyvbin")),
            ("registry.example/app.qyvbin", archive("registry.example/app.qyvbin")),
            ("./app", archive("./app")),
            ("./app.yaml", archive("./app.yaml")),
            ("/srv/app:1.0.0", archive("/srv/app:1.0.0")),
            ("a.wasm", Target::Wasm("a.wasm".into())),
        ] {
            assert_eq!(Target::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_spelled_as_a_path_is_a_name() {
        let hex = "0".repeat(64);
        for text in [
            "app".to_string(),
            "app:1.0.0".to_string(),
            "Cargo.toml".to_lowercase(),
            "registry.example/team/app:1.4.0".to_string(),
            format!("registry.example/app.qyv@sha256:{hex}"),
            format!("sha256:{hex}"),
            "sha256:0123456789ab".to_string(),
        ] {
            assert!(matches!(Target::parse(&text).unwrap(), Target::Image(_)), "{text}");
        }
        for bad in ["", "~/app", "App", "sha256:0123", "a b", "-"] {
            assert!(
                matches!(Target::parse(bad), Err(Error::InvalidTarget { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn default_tag_is_explicit() {
        let Target::Image(name) = Target::parse("registry.example/app").unwrap() else {
            panic!("expected a name");
        };
        assert_eq!(name.to_string(), "registry.example/app:latest");
    }
}
