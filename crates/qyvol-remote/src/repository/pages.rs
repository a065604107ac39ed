//! Paged lists of names: the tags of a repository, the repositories of a
//! registry. Names are handed over page by page: nothing grows with the list.

use qyvol_types::Reference;
use serde::Deserialize;
use ureq::http::{HeaderMap, Method, header};

use super::Repository;
use crate::RemoteError;
use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::request::Request;
use crate::url::Url;

/// Largest page, in bytes.
const PAGE_BYTES: u64 = 4 << 20;
/// Names requested per page.
const PAGE_NAMES: &str = "n=1000";
/// Pages of one list that are read, however long it is.
const MAX_PAGES: usize = 100_000;
/// Pages that may be nearly empty; after them, a list without end is recognised by how few
/// names its pages have.
const GRACE_PAGES: usize = 1000;
const MIN_NAMES_PER_PAGE: usize = 50;

impl Repository {
    /// Visits every tag, in the registry's order.
    pub fn visit_tags(&self, visit: &mut dyn FnMut(String)) -> Result<(), RemoteError> {
        let operation = Operation::ListTags(self.inner.name.clone());
        let request = self
            .inner
            .request(Method::GET, &format!("tags/list?{PAGE_NAMES}"), operation);
        let is_tag = |name: &str| Reference::local("x", name).is_ok();
        visit_names(&self.inner.client, request, &is_tag, visit)
    }
}

impl Client {
    /// Visits every repository of a registry, in the registry's order, as far
    /// as the registry lists them for these credentials.
    pub fn visit_repositories(&self, registry: &str, visit: &mut dyn FnMut(String)) -> Result<(), RemoteError> {
        let endpoint = Endpoint::registry(self.options(), registry, "registry:catalog:*");
        let url = endpoint.origin.with_path(&format!("/v2/_catalog?{PAGE_NAMES}"));
        let request = Request::new(Method::GET, url, &endpoint, Operation::ListRepositories);
        let is_repository = |name: &str| Reference::local(name, "x").is_ok();
        visit_names(self, request, &is_repository, visit)
    }
}

#[derive(Deserialize)]
struct Page {
    #[serde(default, alias = "tags", alias = "repositories")]
    names: Option<Vec<String>>,
}

fn visit_names(
    client: &Client,
    mut request: Request<'_>,
    is_name: &dyn Fn(&str) -> bool,
    visit: &mut dyn FnMut(String),
) -> Result<(), RemoteError> {
    let protocol = |what: String| Err(RemoteError::Protocol { what });
    let mut seen = 0;
    for page in 0..MAX_PAGES {
        if page > GRACE_PAGES + seen / MIN_NAMES_PER_PAGE {
            break;
        }
        let answer = client.call(&request, None, PAGE_BYTES)?;
        if answer.status != 200 {
            return Err(client.unexpected(&request, answer));
        }
        let next = next_page(&request, &answer.headers)?;
        let Ok(Page { names }) = serde_json::from_slice(&answer.bytes) else {
            return protocol(format!("an invalid answer when asked to {}", request.operation));
        };
        let names = names.unwrap_or_default();
        if let Some(bad) = names.iter().find(|name| !is_name(name)) {
            let bad = qyvol_types::escape(bad).to_string();
            return protocol(format!("the invalid name `{bad}` when asked to {}", request.operation));
        }
        let is_empty = names.is_empty();
        seen += names.len();
        names.into_iter().for_each(&mut *visit);
        match next {
            None => return Ok(()),
            Some(url) if !is_empty && url != request.url => request.url = url,
            Some(_) => {
                return protocol(format!(
                    "a link to the next page that leads nowhere when asked to {}",
                    request.operation
                ));
            }
        }
    }
    protocol(format!(
        "too many pages when asked to {}: gave up after {seen} names",
        request.operation
    ))
}

/// The URL in `Link: <…>; rel="next"` (RFC 8288), which must stay on the
/// registry.
pub(super) fn next_page(request: &Request<'_>, headers: &HeaderMap) -> Result<Option<Url>, RemoteError> {
    let fields = headers.get_all(header::LINK).iter().filter_map(|v| v.to_str().ok());
    // A URL has no `<` in it: each begins a link.
    let mut links = fields.flat_map(|field| field.split('<').filter_map(|link| link.split_once('>')));
    let Some((target, _)) = links.find(|(_, parameters)| {
        let parameters = parameters.replace(' ', "").to_ascii_lowercase();
        parameters.contains("rel=\"next\"") || parameters.contains("rel=next")
    }) else {
        return Ok(None);
    };
    let url = request.url.join(target)?;
    if !url.same_origin(&request.url) {
        return Err(RemoteError::Protocol {
            what: format!("a next page on another host, {}", url.authority()),
        });
    }
    Ok(Some(url))
}
