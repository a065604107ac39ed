//! Pages for people, which a package beside this one makes.

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use qyvol_types::Digest;

use super::{ApiResult, Body, RequestContext, blocking};
use crate::access::Action;
use crate::error::{ApiError, Code};
use crate::pages::{Catalog, PageRequest};

impl RequestContext<'_> {
    pub(super) async fn html_page(&self, path: &str) -> ApiResult {
        let none = || ApiError::new(Code::Unsupported, "this hub has no pages").status(StatusCode::NOT_FOUND);
        let pages = self.hub.pages.clone().ok_or_else(none)?;
        let busy = || ApiError::new(Code::TooManyRequests, "too many pages at once").header(header::RETRY_AFTER, "1");
        let turn = self.hub.page_turns.acquire(self.client).await.ok_or_else(busy)?;
        let (hub, caller, query) = (self.hub.clone(), self.caller.clone(), self.query.clone());
        let (path, host) = (path.to_string(), self.origin.host.clone());
        let plain_http = self.origin.url.as_ref().is_some_and(|url| url.starts_with("http:"));
        let languages = self.header(header::ACCEPT_LANGUAGE).map(str::to_string);
        let made = blocking(move || {
            // Until it is made, even if the client disconnects.
            let _turn = turn;
            let now = (hub.clock)();
            let store = hub.store.clone();
            let catalog = Catalog::new(store, move |name| hub.gate.may(&caller, name, Action::Read));
            let request = PageRequest {
                path: &path,
                languages: languages.as_deref(),
                host: &host,
                plain_http,
                now,
                query: &query,
            };
            pages.page(&request, &catalog)
        });
        let page = made.await?;
        let etag = format!("\"{}\"", Digest::of(&page.body).hex());
        let mut response = match self.unchanged(&etag) {
            true if page.status == 200 => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            _ => {
                let mut response = Response::new(Body::full(page.body));
                *response.status_mut() = StatusCode::from_u16(page.status).map_err(ApiError::internal)?;
                response
            }
        };
        for (name, value) in page.headers {
            let value = HeaderValue::from_str(&value).map_err(ApiError::internal)?;
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let etag = HeaderValue::from_str(&etag).map_err(ApiError::internal)?;
        response.headers_mut().insert(header::ETAG, etag);
        Ok(response)
    }
}
