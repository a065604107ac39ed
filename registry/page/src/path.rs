//! The paths of pages: `/`, and after it what names a repository or an image in a command.
//!
//! `/team/app` is a repository, `/team/app:1.0.0` and `/team/app@sha256:…` are images. The hub
//! takes `/v2/`, `/healthz`, `/metrics` and `/token` first, so no page can have these.

use qyvol_types::{Digest, Reference};

/// What a page is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The list of repositories.
    Start,
    /// A repository's tags.
    Repository(&'a str),
    /// An image.
    Image(ImageName<'a>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ImageName<'a> {
    pub(crate) repository: &'a str,
    pub(crate) version: Version<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Version<'a> {
    Tag(&'a str),
    Digest(Digest),
}

impl<'a> Target<'a> {
    /// None for what names nothing. A repository's name is left to the hub's parser.
    pub(crate) fn parse(path: &'a str) -> Option<Target<'a>> {
        let rest = path.strip_prefix('/')?;
        if rest.is_empty() {
            return Some(Target::Start);
        }
        if let Some((repository, digest)) = rest.split_once('@') {
            let version = Version::Digest(digest.parse().ok()?);
            return Some(Target::Image(ImageName { repository, version }));
        }
        if let Some((repository, tag)) = rest.split_once(':') {
            Reference::local("any", tag).ok()?;
            let version = Version::Tag(tag);
            return Some(Target::Image(ImageName { repository, version }));
        }
        Some(Target::Repository(rest))
    }
}

/// Whether a repository's page can be reached: its path is not one of the API.
pub(crate) fn has_page(repository: &str) -> bool {
    !matches!(repository, "v2" | "healthz" | "metrics" | "token") && !repository.starts_with("v2/")
}

#[cfg(test)]
mod tests {
    use super::*;

    // [HUB-041]
    #[test]
    fn path_of_a_page_is_the_name_in_a_command() {
        let digest = Digest::of(b"x");
        let by_digest = format!("/team/app@{digest}");
        let image = |version| {
            Some(Target::Image(ImageName {
                repository: "team/app",
                version,
            }))
        };
        assert_eq!(Target::parse("/"), Some(Target::Start));
        assert_eq!(Target::parse("/team/app"), Some(Target::Repository("team/app")));
        assert_eq!(Target::parse("/team/app:1.0.0"), image(Version::Tag("1.0.0")));
        assert_eq!(Target::parse(&by_digest), image(Version::Digest(digest)));
        for bad in [
            "",
            "team",
            "/a:",
            "/a:b/c",
            "/a:b:c",
            "/a@sha256:1",
            "/a@",
            "/a@b@c",
            "/a:<script>",
        ] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }
}
