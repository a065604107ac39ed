//! QyvolHub's pages: what is in a repository, and what an image is and may do, as HTML.
//!
//! ```text
//!   path --Target--> facts, signatures (from the caller's Catalog) --templates--> Page
//! ```
//!
//! Invariants:
//! - a page holds only what its caller may read: everything comes from the [`Catalog`] of the
//!   request, and what that lacks is not found, whatever the reason;
//! - whatever an image, a manifest or a signature says is [`Inert`](shown::Inert): bounded,
//!   without characters that change how text around them is shown, and escaped by the template;
//! - the work of a request and the size of a page are bounded, whatever an image holds;
//! - a verdict is one of this hub, and is never said to be more.
//!
//! Deliberately absent: JavaScript, cookies, forms, and anything that is loaded from elsewhere.
//! Nothing here decides whether an image is run: hosts do, by their own policy.

mod facts;
mod image_page;
mod interfaces;
mod language;
mod list_pages;
mod path;
mod readme;
mod shown;
mod signatures;
mod text;

use std::sync::Arc;

use askama::Template;
use qyvol_hub::{Cache, Catalog, Page, PageRequest, Pages};
use qyvol_types::Digest;

use crate::facts::ImageFacts;
use crate::language::Language;
use crate::path::{ImageName, Target};
use crate::text::Text;

const STYLE: &str = include_str!("style.css");
const ICON: &str = include_str!("icon.svg");

/// Bytes of facts about images that are kept in memory.
const FACTS: usize = 16 << 20;

/// What a page may load and do: its own style and icon, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The pages of a hub.
pub struct HubPages {
    /// Facts about images, by their digests: neither ever changes.
    facts: Cache<Digest, Arc<ImageFacts>>,
    style: String,
    icon: String,
}

impl Default for HubPages {
    fn default() -> HubPages {
        HubPages::new()
    }
}

/// What every page has around its content.
struct Frame<'a> {
    t: &'static Text,
    language: Language,
    /// What is appended to links, so that a language that was chosen stays.
    chosen: &'static str,
    /// This page's path.
    path: &'a str,
    style: &'a str,
    icon: &'a str,
}

impl Frame<'_> {
    /// A name in parts, between which a line may break.
    fn parts<'n>(&self, name: &'n str) -> Vec<&'n str> {
        name.split_inclusive('/').collect()
    }

    fn other(&self) -> Language {
        self.language.other()
    }
}

impl HubPages {
    /// Pages with nothing in memory yet.
    pub fn new() -> HubPages {
        // Named by their content, so that browsers keep them.
        let name = |content: &str, kind| format!("/-/{}.{kind}", &Digest::of(content.as_bytes()).hex()[..16]);
        HubPages {
            facts: Cache::new(FACTS),
            style: name(STYLE, "css"),
            icon: name(ICON, "svg"),
        }
    }

    fn answer(&self, request: &PageRequest<'_>, catalog: &Catalog, frame: &Frame<'_>) -> Option<String> {
        match Target::parse(request.path)? {
            Target::Start => list_pages::start(request, catalog, frame),
            Target::Repository(name) => list_pages::repository(request, &catalog.repository(name)?, frame),
            Target::Image(ImageName { repository, version }) => {
                let repository = catalog.repository(repository)?;
                image_page::image(request, &repository, &version, &self.facts, frame)
            }
        }
    }

    fn file(&self, path: &str) -> Option<Page> {
        let (kind, content) = match path {
            path if path == self.style => ("text/css; charset=utf-8", STYLE),
            path if path == self.icon => ("image/svg+xml", ICON),
            _ => return None,
        };
        Some(Page {
            status: 200,
            headers: vec![
                ("content-type", kind.to_string()),
                ("cache-control", "public, max-age=31536000, immutable".to_string()),
                ("content-security-policy", "default-src 'none'; sandbox".to_string()),
                ("cross-origin-resource-policy", "same-origin".to_string()),
            ],
            body: content.as_bytes().to_vec(),
        })
    }
}

/// There is no such page, or the caller may not read what it is about.
#[derive(Template)]
#[template(path = "missing.html")]
struct Missing<'a> {
    frame: &'a Frame<'a>,
}

impl Pages for HubPages {
    fn page(&self, request: &PageRequest<'_>, catalog: &Catalog) -> Page {
        if let Some(file) = self.file(request.path) {
            return file;
        }
        let chosen = request.parameter("lang").and_then(Language::named);
        let language = chosen.unwrap_or_else(|| Language::accepted(request.languages));
        let mut frame = Frame {
            t: language.text(),
            language,
            chosen: chosen.map_or("", Language::parameter),
            path: request.path,
            style: &self.style,
            icon: &self.icon,
        };
        let (status, html) = match self.answer(request, catalog, &frame) {
            Some(html) => (200, html),
            None => {
                // The path may be anything.
                frame.path = "/";
                (404, Missing { frame: &frame }.render().unwrap_or_default())
            }
        };
        Page {
            status,
            headers: vec![
                ("content-type", "text/html; charset=utf-8".to_string()),
                ("content-language", language.code().to_string()),
                // Who may read what can change at any time.
                ("cache-control", "private, no-cache".to_string()),
                ("vary", "Accept-Language, Authorization".to_string()),
                ("content-security-policy", POLICY.to_string()),
                ("referrer-policy", "no-referrer".to_string()),
                ("cross-origin-opener-policy", "same-origin".to_string()),
                ("cross-origin-resource-policy", "same-origin".to_string()),
            ],
            body: html.into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    /// What every page is made of.
    const TEMPLATES: [&str; 6] = [
        include_str!("../templates/base.html"),
        include_str!("../templates/image.html"),
        include_str!("../templates/missing.html"),
        include_str!("../templates/other.html"),
        include_str!("../templates/repository.html"),
        include_str!("../templates/start.html"),
    ];

    // [HUB-045]
    #[test]
    fn templates_use_no_filter_and_no_script() {
        for template in TEMPLATES {
            // A filter could leave text as it is.
            let template = template.replace("||", "");
            for never in ["|", "{% filter", "<script", "<style", "style="] {
                assert!(!template.contains(never), "{never}: {template}");
            }
        }
    }
}
