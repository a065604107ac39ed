//! The pages with lists: repositories, and the tags of one.

use askama::Template;
use qyvol_hub::{Catalog, PageRequest, Repository};
use qyvol_trust::sequence_of;

use crate::Frame;
use crate::path::has_page;
use crate::shown::short;

/// Entries of a page.
const PAGE: usize = 50;
/// Characters of a parameter that says where a page begins.
const PLACE: usize = 255;

#[derive(Template)]
#[template(path = "start.html")]
struct Start<'a> {
    frame: &'a Frame<'a>,
    host: &'a str,
    repositories: Vec<Listed>,
    /// Where the next page begins, if there is one.
    next: Option<String>,
    is_first: bool,
}

struct Listed {
    name: String,
    tags: usize,
    has_page: bool,
}

/// The list of repositories.
pub(crate) fn start(request: &PageRequest<'_>, catalog: &Catalog, frame: &Frame<'_>) -> Option<String> {
    let after = place(request, "after");
    let mut names = catalog.names_after(after.unwrap_or_default(), PAGE + 1);
    let more = names.len() > PAGE;
    names.truncate(PAGE);
    let next = names.last().filter(|_| more).cloned();
    let listed = |name: String| {
        let repository = catalog.repository(&name)?;
        Some(Listed {
            tags: repository.tags(),
            has_page: has_page(&name),
            name,
        })
    };
    let page = Start {
        frame,
        host: request.host,
        repositories: names.into_iter().filter_map(listed).collect(),
        next,
        is_first: after.is_none(),
    };
    page.render().ok()
}

#[derive(Template)]
#[template(path = "repository.html")]
struct Tags<'a> {
    frame: &'a Frame<'a>,
    name: &'a str,
    host: &'a str,
    plain_http: String,
    tags: Vec<Tag>,
    number: usize,
    next: Option<String>,
}

struct Tag {
    name: String,
    digest: String,
}

/// The tags of a repository, the newest version first.
pub(crate) fn repository(request: &PageRequest<'_>, repository: &Repository, frame: &Frame<'_>) -> Option<String> {
    let mut tags = repository.tags_before(place(request, "before"), PAGE + 1);
    let more = tags.len() > PAGE;
    tags.truncate(PAGE);
    let next = tags.last().filter(|_| more).map(|(tag, _)| tag.clone());
    // Pages are in the order of names; within one, 1.10.0 stands before 1.9.0.
    tags.sort_by_key(|(tag, _)| std::cmp::Reverse(sequence_of(tag)));
    let tag = |(name, digest)| Tag {
        name,
        digest: short(&digest),
    };
    let page = Tags {
        frame,
        name: repository.name(),
        host: request.host,
        plain_http: plain_http(request),
        tags: tags.into_iter().map(tag).collect(),
        number: repository.tags(),
        next,
    };
    page.render().ok()
}

/// Where a page begins, if the query says so.
fn place<'a>(request: &'a PageRequest<'_>, parameter: &str) -> Option<&'a str> {
    let place = request.parameter(parameter)?;
    (!place.is_empty() && place.len() <= PLACE).then_some(place)
}

/// The option that a command needs to reach this hub.
pub(crate) fn plain_http(request: &PageRequest<'_>) -> String {
    let host = request.host;
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name == "localhost"
        || name
            .parse()
            .is_ok_and(|address: std::net::IpAddr| address.to_canonical().is_loopback());
    match request.plain_http && !is_loopback {
        true => format!(" --plain-http {host}"),
        false => String::new(),
    }
}
