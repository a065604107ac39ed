//! Lists of tags and of repositories, in pages.

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::Serialize;

use super::{ApiResult, RequestContext, blocking, json};
use crate::access::Action;
use crate::error::{ApiError, Code};
use crate::fair_queue::Permit;
use crate::names::Name;
use crate::query::encode;
use crate::storage::StoredRepository;

/// Entries of a page at most, whatever the client asks for.
const PAGE: usize = 10_000;

#[derive(Serialize)]
struct Tags<'a> {
    name: &'a str,
    tags: &'a [&'a str],
}

#[derive(Serialize)]
struct Repositories<'a> {
    repositories: &'a [&'a str],
}

impl RequestContext<'_> {
    fn page(&self) -> Result<usize, ApiError> {
        let Some(n) = self.query.get("n") else { return Ok(PAGE) };
        let digits = !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
        if !digits {
            return Err(
                ApiError::new(Code::Unsupported, "the parameter `n` is not a number").status(StatusCode::BAD_REQUEST)
            );
        }
        Ok(n.parse().unwrap_or(PAGE).min(PAGE))
    }

    fn listed(&self, path: &str, body: Vec<u8>, page: usize, next: Option<&str>) -> ApiResult {
        let mut response = json(StatusCode::OK, body);
        if let Some(last) = next {
            let link = format!("<{path}?n={page}&last={}>; rel=\"next\"", encode(last));
            let link = HeaderValue::from_str(&link).map_err(ApiError::internal)?;
            response.headers_mut().insert(header::LINK, link);
        }
        Ok(response)
    }

    pub(super) fn tags(&self, name: &Name) -> ApiResult {
        self.check(name, Action::Read)?;
        let page = self.page()?;
        let repository = self.repository(name)?;
        let state = repository.state();
        let last = self.query.get("last").unwrap_or_default();
        let after = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
        let mut rest = state.tags.range::<str, _>(after).map(|(tag, _)| tag.as_str());
        let tags: Vec<_> = rest.by_ref().take(page).collect();
        let next = tags.last().copied().filter(|_| rest.next().is_some());
        let body = serde_json::to_vec(&Tags {
            name: name.as_str(),
            tags: &tags,
        })
        .map_err(ApiError::internal)?;
        self.listed(&format!("/v2/{name}/tags/list"), body, page, next)
    }

    pub(super) async fn catalog(&self) -> ApiResult {
        self.hub.gate.check_catalog(&self.caller, &self.origin)?;
        let page = self.page()?;
        let last = self.query.get("last").unwrap_or_default().to_string();
        let _turn = self.long_list().await?;
        let (hub, caller) = (self.hub.clone(), self.caller.clone());
        let made = blocking(move || {
            let listed = |repository: &StoredRepository| {
                !repository.state().manifests.is_empty() && hub.gate.may_list(&caller, repository.name.as_str())
            };
            // One more than the page, to find out whether another page follows.
            let found = hub.store.repositories_after(&last, page + 1, listed);
            let names: Vec<_> = found.iter().take(page).map(Name::as_str).collect();
            let next = names.last().filter(|_| found.len() > page).map(|name| name.to_string());
            let body = serde_json::to_vec(&Repositories { repositories: &names })?;
            Ok::<_, serde_json::Error>((body, next))
        });
        let (body, next) = made.await?.map_err(ApiError::internal)?;
        self.listed("/v2/_catalog", body, page, next.as_deref())
    }

    /// Waits for a permit to make a long list.
    pub(super) async fn long_list(&self) -> Result<Permit, ApiError> {
        let busy = || ApiError::new(Code::TooManyRequests, "too many lists at once").header(header::RETRY_AFTER, "1");
        self.hub.lists.acquire(self.client).await.ok_or_else(busy)
    }
}
