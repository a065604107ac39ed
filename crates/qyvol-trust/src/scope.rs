//! What a rule covers, and under which name an image was requested.

use std::fmt;
use std::str::FromStr;

use qyvol_types::{Descriptor, Reference};
use thiserror::Error;

/// What is written before the names of files.
const FILE: &str = "file:";

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The image manifest.
    pub descriptor: &'a Descriptor,
    /// The name that the image's config gives it. It selects a rule under
    /// `file:`, and no signature for another name or version counts.
    pub name: &'a str,
    /// The version that the image's config gives it.
    pub version: &'a str,
    /// The name with a registry that was asked for; `None` for archives and
    /// for names of the store alone, which the `file:` rules judge.
    pub asked: Option<&'a Reference>,
    /// Whether a digest was asked for: whoever names the content asks for
    /// nothing newer.
    pub pinned: bool,
}

impl Subject<'_> {
    /// The registry and repository that were asked for, where there was one.
    pub(crate) fn repository(&self) -> Option<String> {
        let asked = self.asked?;
        asked
            .registry()
            .map(|registry| format!("{registry}/{}", asked.repository()))
    }

    /// What rules are matched against: `registry/repository`, or `file:` and
    /// the image's own name.
    pub fn place(&self) -> String {
        self.repository().unwrap_or_else(|| format!("{FILE}{}", self.name))
    }

    /// What the rollback state of this image is kept under: registry,
    /// repository and tag, or `file:` and the image's own name. `None` where a
    /// digest was asked for.
    pub fn state_name(&self) -> Option<String> {
        let tag = match self.asked {
            _ if self.pinned => return None,
            Some(asked) if asked.registry().is_some() => asked.tag()?,
            _ => return Some(self.place()),
        };
        Some(format!("{}:{tag}", self.place()))
    }

    /// Whose data an image's directory on the host is, beside its owner: the
    /// asked `registry/repository`, or the image's own name.
    pub fn application(&self) -> String {
        self.repository().unwrap_or_else(|| self.name.to_string())
    }
}

/// A pattern of whole path segments over `registry/repository`, or over the
/// names of files: `*` is one segment, `**` at the end one or more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub(crate) file: bool,
    /// Empty for every file.
    pub(crate) path: String,
}

/// Why a text is not a scope.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{why}")]
pub struct ScopeError {
    why: &'static str,
    help: String,
}

impl ScopeError {
    /// What to write instead.
    pub fn help(&self) -> &str {
        &self.help
    }
}

impl Scope {
    /// The scope of every file.
    pub fn files() -> Scope {
        Scope {
            file: true,
            path: String::new(),
        }
    }

    /// The scope of every name with a registry.
    pub(crate) fn registries() -> Scope {
        Scope {
            file: false,
            path: "**".to_string(),
        }
    }

    /// Whether it covers files and not registries.
    pub fn is_file(&self) -> bool {
        self.file
    }

    /// Whether it covers what [`Subject::place`] gives.
    pub(crate) fn covers(&self, place: &str) -> bool {
        match place.strip_prefix(FILE) {
            Some(name) => self.file && (self.path.is_empty() || self.covers_path(name)),
            None => !self.file && self.covers_path(place),
        }
    }

    fn covers_path(&self, path: &str) -> bool {
        let mut parts = path.split('/');
        let mut segments = self.path.split('/').peekable();
        while let Some(segment) = segments.next() {
            if segment == "**" && segments.peek().is_none() {
                return parts.next().is_some();
            }
            match parts.next() {
                Some(part) if segment == "*" || segment == part => {}
                _ => return false,
            }
        }
        parts.next().is_none()
    }

    /// Which of two scopes that cover a subject decides: the one with more
    /// literal segments; between equals the one without `**`.
    pub(crate) fn precision(&self) -> (usize, bool) {
        if self.path.is_empty() {
            return (0, false);
        }
        let literal = self.path.split('/').filter(|s| !s.contains('*')).count();
        (literal, self.path.rsplit('/').next() != Some("**"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file {
            f.write_str(FILE)?;
        }
        f.write_str(&self.path)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    /// Reads a scope. One that no name can match is refused, so that a laxer
    /// rule does not decide where its author expects this one to.
    fn from_str(text: &str) -> Result<Scope, ScopeError> {
        let fail = |why, help: String| Err(ScopeError { why, help });
        let form = "file:, file:NAME, or HOST/REPOSITORY by whole segments, with `*` for one and `**` at the end for \
                    the rest";
        if text == FILE {
            return Ok(Scope::files());
        }
        let (file, path) = match text.strip_prefix(FILE) {
            Some(path) => (true, path),
            None => (false, text),
        };
        let segments: Vec<&str> = path.split('/').collect();
        let last = segments.len() - 1;
        let wild = |s: &str| matches!(s, "*" | "**");
        for (index, segment) in segments.iter().enumerate() {
            let misplaced = segment.contains('*') && !wild(segment) || *segment == "**" && index != last;
            if segment.is_empty() || misplaced {
                return fail("it is not a path of whole segments", form.to_string());
            }
        }
        let repository = |path: &[&str]| {
            let filled: Vec<&str> = path.iter().map(|s| if wild(s) { "x" } else { s }).collect();
            Reference::local(&filled.join("/"), "x").is_ok()
        };
        let (host, names) = match (file, segments.split_first()) {
            (false, Some((host, names))) => (Some(*host), names),
            _ => (None, segments.as_slice()),
        };
        if let Some(name) = names.iter().find(|s| s.contains(':') || s.contains('@')) {
            let cut = name.split([':', '@']).next().unwrap_or_default();
            return fail(
                "a scope covers repositories: no tag and no digest can stand in it",
                text.replacen(name, cut, 1),
            );
        }
        if !names.is_empty() && !repository(names) {
            return fail(
                "no repository can have this name",
                "lower-case letters and digits, separated by `.`, `_`, `-` or `/`".to_string(),
            );
        }
        if let Some(host) = host {
            check_host(host, text, names.is_empty())?;
        }
        Ok(Scope {
            file,
            path: path.to_string(),
        })
    }
}

/// Whether a registry's name can match the first segment.
fn check_host(host: &str, text: &str, alone: bool) -> Result<(), ScopeError> {
    let fail = |why, help: String| Err(ScopeError { why, help });
    if host == "**" {
        return Ok(());
    }
    if alone {
        return fail(
            "it names no repository",
            format!("{text}/** if that is a registry, {FILE}{text} if it is the name of archives and local images"),
        );
    }
    if host == "*" {
        return Ok(());
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        let lower = host.to_ascii_lowercase();
        return fail("registries are written in lower case", text.replacen(host, &lower, 1));
    }
    let name: Result<Reference, _> = format!("{host}/x:x").parse();
    if name.is_ok_and(|name| name.registry() == Some(host)) {
        return Ok(());
    }
    fail(
        "it does not start with a registry: expected host or host:port",
        format!("REGISTRY/{text}; names without a registry are covered by {FILE}{text}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(descriptor: &'a Descriptor, name: &'a str, asked: Option<&'a Reference>) -> Subject<'a> {
        Subject {
            descriptor,
            name,
            version: "1",
            asked,
            pinned: asked.is_some_and(|asked| asked.digest().is_some()),
        }
    }

    // [SIGN-022]
    #[test]
    fn pattern_matches_whole_segments_only() {
        let image = Descriptor::of("x/y", b"");
        for (pattern, place, expected) in [
            ("r.example/acme/**", "r.example/acme/app", true),
            ("r.example/acme/**", "r.example/acme/a/b", true),
            ("r.example/acme/**", "r.example/acme", false),
            ("r.example/acme/**", "r.example/acme-evil/app", false),
            ("r.example/*/app", "r.example/x/app", true),
            ("r.example/*/app", "r.example/x/y/app", false),
            ("r.example/acme", "r.example/acme/app", false),
            ("**", "r.example/a", true),
            ("**", "file:a", false),
            ("file:", "file:a", true),
            ("file:", "file:a/b", true),
            ("file:", "r.example/a", false),
            ("file:b/**", "file:b/x", true),
            ("file:b/**", "file:b", false),
            ("file:b/**", "file:bank", false),
            ("file:*", "file:bank", true),
            ("file:bank", "file:bank", true),
            ("file:bank", "file:a/bank", false),
            ("file:**", "r.example/a", false),
        ] {
            let scope: Scope = pattern.parse().unwrap();
            assert_eq!(scope.to_string(), pattern);
            let reference: Reference = place.trim_start_matches(FILE).parse().unwrap();
            let asked = (!place.starts_with(FILE)).then_some(&reference);
            let subject = subject(&image, reference.repository(), asked);
            assert_eq!(scope.covers(&subject.place()), expected, "{pattern} on {place}");
            assert_eq!(subject.place(), place);
        }
    }

    // [SIGN-022]
    #[test]
    fn scope_that_nothing_can_match_is_refused() {
        for (text, help) in [
            ("Registry.Example/acme/**", "registry.example/acme/**"),
            ("r.example/acme/app:1.0.1", "r.example/acme/app"),
            ("r.example/acme/app@sha256:0", "r.example/acme/app"),
            ("acme/**", "file:acme/**"),
            ("r.example", "r.example/**"),
            ("*", "*/**"),
            ("r.example/Acme", "lower-case"),
            ("file:Acme", "lower-case"),
            ("file:app:1", "file:app"),
            ("r.example/a b", "lower-case"),
            ("r.example:0/a", "REGISTRY/"),
            ("", "whole segments"),
            ("r.example//a", "whole segments"),
            ("file:/", "whole segments"),
        ] {
            let error = text.parse::<Scope>().expect_err(text);
            assert!(error.help().contains(help), "{text}: {error}, {}", error.help());
        }
    }

    // [SIGN-032]
    #[test]
    fn rollback_state_is_kept_by_registry_repository_and_tag() {
        let image = Descriptor::of("x/y", b"");
        let name = |text: &str| {
            let asked: Reference = text.parse().unwrap();
            let asked = asked.registry().is_some().then_some(&asked);
            subject(&image, "app", asked).state_name()
        };
        assert_eq!(name("r.example/a/app:latest").unwrap(), "r.example/a/app:latest");
        assert_eq!(name("app:latest").unwrap(), "file:app");
        assert_eq!(name(&format!("r.example/app:1@sha256:{}", "0".repeat(64))), None);
    }
}
