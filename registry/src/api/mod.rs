//! The HTTP API: from a request to its answer.
//!
//! A path is split by hand, because a repository's name may have any number of
//! components; no part of it is percent-decoded but the colon of a digest, so
//! a name can't smuggle a slash. Each request is identified, authorised for each repository
//! that it touches, carried out, counted and logged, in that order.

mod blobs;
mod body;
mod lists;
mod manifests;
mod pages;
mod referrers;
mod uploads;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, header};
use qyvol_types::Digest;

pub(crate) use self::body::Body;

use self::body::IncomingBody;
use crate::access::{Action, Authorizer, Caller};
use crate::connections::{Connections, Exchange, SMALL_BLOCK};
use crate::error::{ApiError, Code};
use crate::fair_queue::FairQueue;
use crate::front::{Forwarding, Origin};
use crate::log::{Event, Level, LogSink, RequestEvent};
use crate::metrics::Metrics;
use crate::names::{ManifestRef, Name};
use crate::pages::Pages;
use crate::peer::Peer;
use crate::query::Query;
use crate::quotas::Quotas;
use crate::storage::{Store, StoredRepository};
use crate::{Clock, Limits};

/// Read and dropped of a body that was refused, so that its sender sees why.
const DRAIN: u64 = 8 << 20;

/// Bytes of memory that a download has at least.
pub(crate) const MIN_DOWNLOAD: usize = body::BLOCKS * SMALL_BLOCK;
/// An answer's bytes in memory that are not counted.
const SMALL: usize = 16 << 10;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) gate: Authorizer,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) log: LogSink,
    pub(crate) clock: Clock,
    pub(crate) front: Forwarding,
    pub(crate) connections: Arc<Connections>,
    /// Open uploads, by who started them.
    pub(crate) uploads: Arc<Quotas>,
    /// For lists that take long to make.
    pub(crate) lists: Arc<FairQueue>,
    /// Makes pages for people.
    pub(crate) pages: Option<Arc<dyn Pages>>,
    pub(crate) page_turns: Arc<FairQueue>,
}

pub(crate) type ApiResult = Result<Response<Body>, ApiError>;

/// One request, without its body.
pub(crate) struct RequestContext<'a> {
    hub: &'a Arc<Shared>,
    method: Method,
    headers: HeaderMap,
    query: Query,
    caller: Caller,
    origin: Origin,
    client: Peer,
    exchange: Arc<Exchange>,
}

enum Route<'a> {
    Root,
    /// Nothing of the API.
    Page(&'a str),
    Health,
    Metrics,
    Token,
    Base,
    Catalog,
    Blob(Name, &'a str),
    Uploads(Name),
    Upload(Name, &'a str),
    Manifest(Name, &'a str),
    Tags(Name),
    Referrers(Name, &'a str),
}

/// The route of a path. None if there is none; an error if the route exists but the
/// repository's name is invalid.
fn route(path: &str) -> Result<Option<Route<'_>>, ApiError> {
    let rest = match path {
        "/" => return Ok(Some(Route::Root)),
        "/healthz" => return Ok(Some(Route::Health)),
        "/metrics" => return Ok(Some(Route::Metrics)),
        "/token" => return Ok(Some(Route::Token)),
        "/v2" | "/v2/" => return Ok(Some(Route::Base)),
        "/v2/_catalog" => return Ok(Some(Route::Catalog)),
        _ => match path.strip_prefix("/v2/") {
            Some(rest) => rest,
            None => return Ok(None),
        },
    };
    let name = |text: &str| {
        Name::parse(text)
            .ok_or_else(|| ApiError::new(Code::NameInvalid, "not a repository name").detail(text.escape_debug()))
    };
    // From the end: the last components decide, whatever the name contains.
    let (head, last) = match rest.rsplit_once('/') {
        Some(split) => split,
        None => return Ok(None),
    };
    if let Some(of) = head.strip_suffix("/blobs/uploads") {
        let of = name(of)?;
        return Ok(Some(match last {
            "" => Route::Uploads(of),
            id => Route::Upload(of, id),
        }));
    }
    if last == "uploads"
        && let Some(of) = head.strip_suffix("/blobs")
    {
        return Ok(Some(Route::Uploads(name(of)?)));
    }
    if let Some(of) = head.strip_suffix("/blobs") {
        return Ok(Some(Route::Blob(name(of)?, last)));
    }
    if let Some(of) = head.strip_suffix("/manifests") {
        return Ok(Some(Route::Manifest(name(of)?, last)));
    }
    if let Some(of) = head.strip_suffix("/referrers") {
        return Ok(Some(Route::Referrers(name(of)?, last)));
    }
    if last == "list"
        && let Some(of) = head.strip_suffix("/tags")
    {
        return Ok(Some(Route::Tags(name(of)?)));
    }
    Ok(None)
}

/// Whether a path is of the API, whatever it leads to there: no page has it.
fn is_api(path: &str) -> bool {
    path == "/v2" || path.starts_with("/v2/")
}

impl Route<'_> {
    fn label(&self) -> &'static str {
        match self {
            Route::Root => "front",
            Route::Page(_) => "page",
            Route::Health => "health",
            Route::Metrics => "metrics",
            Route::Token => "token",
            Route::Base => "base",
            Route::Catalog => "catalog",
            Route::Blob(..) => "blob",
            Route::Uploads(..) | Route::Upload(..) => "upload",
            Route::Manifest(..) => "manifest",
            Route::Tags(..) => "tags",
            Route::Referrers(..) => "referrers",
        }
    }
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Answers a request.
pub(crate) async fn serve(
    hub: Arc<Shared>,
    request: Request<Incoming>,
    remote: SocketAddr,
    secure: bool,
    exchange: Arc<Exchange>,
) -> Result<Response<Body>, Infallible> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_string();
    let mut inflow = IncomingBody::new(body, hub.limits.idle, exchange.clone());
    let origin = hub.front.origin(remote.ip(), secure, &parts);
    let client = hub.front.client(remote.ip(), &parts.headers);
    if hub.front.unknown_proxy(remote.ip(), &parts.headers) {
        (hub.log)(&Event {
            time: (hub.clock)(),
            level: Level::Warning,
            message: format!(
                "an unknown proxy at {} forwards requests: set --trusted-proxy or --public-url",
                remote.ip()
            ),
            request: None,
        });
    }
    let mut call = RequestContext {
        hub: &hub,
        method: parts.method,
        headers: parts.headers,
        query: Query::none(),
        caller: Caller::Anonymous,
        origin,
        client: Peer::of(client),
        exchange,
    };
    let mut label = "none";
    let answer = call.answer(&path, parts.uri.query(), &mut inflow, &mut label).await;
    // Lists and manifests; small answers are not worth counting.
    let answer = answer.and_then(|response| match response.body().in_memory() {
        ..=SMALL => Ok(response),
        large => call.exchange.reserve(large).map(|()| response),
    });
    let mut cause = None;
    let mut response = match answer {
        Ok(response) => response,
        Err(mut error) => {
            // A client that sent `Expect` and no body will not send one now.
            let asks = call.headers.contains_key(header::EXPECT) && inflow.received == 0;
            if !inflow.is_over() && (asks || !inflow.drain(DRAIN).await) {
                error.close = true;
            }
            cause = error.cause.take();
            error.response().map(Body::full)
        }
    };
    if call.method == Method::HEAD {
        strip(&mut response);
    }
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("docker-distribution-api-version"),
        HeaderValue::from_static("registry/2.0"),
    );
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    let took = started.elapsed();
    let status = response.status().as_u16();
    let sent = response.body().length();
    hub.metrics.request(label, method_label(&call.method), status, took);
    hub.metrics.received(inflow.received);
    hub.metrics.sent(sent);
    let level = match status {
        500.. => Level::Error,
        401 | 403 | 408 | 413 | 429 => Level::Warning,
        _ => Level::Info,
    };
    (hub.log)(&Event {
        time: (hub.clock)(),
        level,
        message: cause.unwrap_or_else(|| "request".to_string()),
        request: Some(RequestEvent {
            remote: client,
            method: call.method.to_string(),
            path,
            status,
            user: call.caller.user().map(str::to_string),
            received: inflow.received,
            sent,
            duration: took,
        }),
    });
    response.body_mut().of(call.exchange);
    Ok(response)
}

/// An answer to HEAD: the length of what GET would send, without the body.
fn strip(response: &mut Response<Body>) {
    if !response.headers().contains_key(header::CONTENT_LENGTH) {
        let length = HeaderValue::from(response.body().length());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
    }
    *response.body_mut() = Body::empty();
}

impl RequestContext<'_> {
    async fn answer(
        &mut self,
        path: &str,
        query: Option<&str>,
        inflow: &mut IncomingBody,
        label: &mut &'static str,
    ) -> ApiResult {
        let route = match route(path)? {
            None | Some(Route::Root) if self.hub.pages.is_some() && !is_api(path) => Route::Page(path),
            Some(route) => route,
            None => {
                return Err(ApiError::new(Code::Unsupported, "no such endpoint").status(StatusCode::NOT_FOUND));
            }
        };
        *label = route.label();
        self.query = Query::parse(query)
            .ok_or_else(|| ApiError::new(Code::Unsupported, "malformed query").status(StatusCode::BAD_REQUEST))?;
        if matches!(route, Route::Health) {
            return Ok(text(StatusCode::OK, "ok\n"));
        }
        self.caller = self.hub.gate.identify(&self.headers, &self.origin, self.client).await?;
        let method = self.method.clone();
        let read = method == Method::GET || method == Method::HEAD;
        match route {
            Route::Root if read => Ok(text(
                StatusCode::OK,
                concat!("QyvolHub ", env!("CARGO_PKG_VERSION"), "\n"),
            )),
            Route::Page(path) if read => self.html_page(path).await,
            Route::Metrics if read => {
                self.hub.gate.check_user(&self.caller, &self.origin)?;
                let (uploads, memory) = (self.hub.store.uploads.count(), self.hub.connections.memory_held());
                Ok(text(StatusCode::OK, self.hub.metrics.render(uploads, memory)))
            }
            Route::Token if method == Method::GET => self.token(),
            Route::Base if read => {
                self.hub.gate.check_known(&self.caller, &self.origin)?;
                Ok(json(StatusCode::OK, b"{}".to_vec()))
            }
            Route::Catalog if read => self.catalog().await,
            Route::Tags(name) if read => self.tags(&name),
            Route::Referrers(name, digest) if read => self.referrers(&name, digest).await,
            Route::Blob(name, digest) if read => self.blob(&name, digest).await,
            Route::Blob(name, digest) if method == Method::DELETE => self.delete_blob(&name, digest).await,
            Route::Uploads(name) if method == Method::POST => self.start_upload(&name, inflow).await,
            Route::Upload(name, id) if read => self.upload_status(&name, id),
            Route::Upload(name, id) if method == Method::PATCH => self.upload_chunk(&name, id, inflow).await,
            Route::Upload(name, id) if method == Method::PUT => self.finish_upload(&name, id, inflow).await,
            Route::Upload(name, id) if method == Method::DELETE => self.cancel_upload(&name, id).await,
            Route::Manifest(name, target) if read => self.manifest(&name, target).await,
            Route::Manifest(name, target) if method == Method::PUT => self.put_manifest(&name, target, inflow).await,
            Route::Manifest(name, target) if method == Method::DELETE => self.delete_manifest(&name, target).await,
            other => {
                let allowed = match other {
                    Route::Token => "GET",
                    Route::Blob(..) => "GET, HEAD, DELETE",
                    Route::Uploads(..) => "POST",
                    Route::Upload(..) => "GET, HEAD, PATCH, PUT, DELETE",
                    Route::Manifest(..) => "GET, HEAD, PUT, DELETE",
                    _ => "GET, HEAD",
                };
                Err(ApiError::new(Code::Unsupported, "method not allowed").header(header::ALLOW, allowed))
            }
        }
    }

    fn check(&self, name: &Name, action: Action) -> Result<(), ApiError> {
        self.hub.gate.check(&self.caller, name.as_str(), action, &self.origin)
    }

    fn repository(&self, name: &Name) -> Result<Arc<StoredRepository>, ApiError> {
        self.hub
            .store
            .repository(name)
            .ok_or_else(|| ApiError::new(Code::NameUnknown, "no such repository").detail(name))
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn token(&self) -> ApiResult {
        match self.hub.gate.token(&self.caller, &self.query)? {
            Some(token) => {
                let lifetime = crate::access::TOKEN_LIFETIME.as_secs();
                let body = format!(r#"{{"token":"{token}","access_token":"{token}","expires_in":{lifetime}}}"#);
                let mut response = json(StatusCode::OK, body.into_bytes());
                let no_store = HeaderValue::from_static("no-store");
                response.headers_mut().insert(header::CACHE_CONTROL, no_store);
                Ok(response)
            }
            None => {
                Err(ApiError::new(Code::Unsupported, "this registry does not issue tokens")
                    .status(StatusCode::NOT_FOUND))
            }
        }
    }
}

/// Does blocking work off the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}

fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    // Some clients percent-encode the colon, which isn't necessary.
    let decoded = text.replace("%3A", ":").replace("%3a", ":");
    decoded
        .parse()
        .map_err(|e| ApiError::new(Code::DigestInvalid, "not a digest").detail(e))
}

/// A tag or a digest; `no_tag` is the error for a word that can't be a tag. Pushing to such a
/// word is an error, but reading it only finds nothing.
fn parse_reference(text: &str, no_tag: Code) -> Result<ManifestRef, ApiError> {
    let decoded = text.replace("%3A", ":").replace("%3a", ":");
    ManifestRef::parse(&decoded).ok_or_else(|| match decoded.contains(':') {
        true => ApiError::new(Code::DigestInvalid, "not a digest"),
        false => ApiError::new(no_tag, "not a tag"),
    })
}

fn respond(status: StatusCode, headers: &[(HeaderName, &str)], body: Body) -> ApiResult {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(ApiError::internal)?;
        response.headers_mut().append(name.clone(), value);
    }
    Ok(response)
}

fn with_type(status: StatusCode, body: impl Into<bytes::Bytes>, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

fn text(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<Body> {
    with_type(status, body, "text/plain; charset=utf-8")
}

fn json(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    with_type(status, body, "application/json")
}

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_hold_words_of_the_api_are_routed_by_the_end_of_the_path() {
        let shown = |path: &str| match route(path) {
            Ok(Some(Route::Blob(n, d))) => format!("blob {n} {d}"),
            Ok(Some(Route::Uploads(n))) => format!("uploads {n}"),
            Ok(Some(Route::Upload(n, i))) => format!("upload {n} {i}"),
            Ok(Some(Route::Manifest(n, t))) => format!("manifest {n} {t}"),
            Ok(Some(Route::Tags(n))) => format!("tags {n}"),
            Ok(Some(Route::Referrers(n, d))) => format!("referrers {n} {d}"),
            Ok(Some(_)) => "other".to_string(),
            Ok(None) => "none".to_string(),
            Err(_) => "error".to_string(),
        };
        for (path, expected) in [
            ("/v2/a/b/blobs/x", "blob a/b x"),
            ("/v2/a/blobs/uploads/", "uploads a"),
            ("/v2/a/blobs/uploads", "uploads a"),
            ("/v2/a/blobs/uploads/1", "upload a 1"),
            ("/v2/a/blobs/blobs/x", "blob a/blobs x"),
            ("/v2/a/blobs/uploads/manifests/x", "manifest a/blobs/uploads x"),
            ("/v2/a/manifests/tags/list", "tags a/manifests"),
            ("/v2/manifests/manifests/x", "manifest manifests x"),
            ("/v2/a/referrers/x", "referrers a x"),
            ("/v2/../manifests/x", "error"),
            ("/v2/a%2fb/manifests/x", "error"),
            ("/v2//manifests/x", "error"),
            ("/v2/A/manifests/x", "error"),
            ("/v2/a/tags/lists", "none"),
            ("/v2/a", "none"),
            ("/v3/", "none"),
        ] {
            assert_eq!(shown(path), expected, "{path}");
        }
    }
}
