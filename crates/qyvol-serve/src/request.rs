//! One request: what the server itself refuses, and the guest that answers the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Version};
use qyvol_runtime::{Incomplete, NamedHost, Peer, RuntimeError, Secure, ServiceError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::app::App;
use crate::exchange::{Counted, Exchange};
use crate::expect::{RequestBody, expected};
use crate::site::Site;
use crate::{Server, ServerEvent};

/// How long a request may wait in the queue.
const TURN: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Incomplete>;

/// The connection that a request has come through.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) peer: SocketAddr,
    /// The server's own address.
    pub(crate) address: SocketAddr,
    /// Whether it has TLS.
    pub(crate) is_secure: bool,
    /// Who the client has proved to be.
    pub(crate) proved: Option<Peer>,
}

/// A guest that exists, or is about to. It has ended when this is dropped.
struct Guest {
    server: Arc<Server>,
    site: Arc<Site>,
    /// Kept as long as the guest exists.
    app: Arc<App>,
    id: u64,
    /// The next request begins when this guest has ended, not when its response has.
    _turn: OwnedSemaphorePermit,
    has_ended: bool,
}

impl Guest {
    fn ended(mut self, ended: &Result<(), ServiceError>) {
        self.has_ended = true;
        self.site.metrics.ended(Some(ended));
        if let Err(error) = ended {
            self.app.keeper.failed(error);
            (self.server.sink)(&ServerEvent::Failed {
                application: &self.site.name,
                id: self.id,
                error,
            });
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.has_ended {
            self.site.metrics.ended(None);
        }
    }
}

impl Server {
    pub(crate) async fn response(
        self: Arc<Server>,
        request: Request<Incoming>,
        caller: Caller,
        exchange: Exchange,
        is_clear: bool,
    ) -> Response<Counted> {
        let is_http2 = request.version() == Version::HTTP_2;
        let mut closes = false;
        let answered = match is_clear {
            true => expected(request),
            false => Err(StatusCode::BAD_REQUEST),
        };
        let answered = match answered {
            Ok((request, expectation)) => {
                let answered = self.answer(request, caller, &exchange).await;
                if let Some(expectation) = expectation {
                    closes |= !expectation.ask().await;
                }
                answered
            }
            Err(status) => {
                closes = true;
                self.metrics_of(exchange.site.as_deref()).refused(status);
                Err(status)
            }
        };
        let mut response = answered.unwrap_or_else(refusal);
        closes |= self.stop.has_begun() || response.status() == StatusCode::PAYLOAD_TOO_LARGE;
        // With HTTP/2, the connection is closed instead.
        if !is_http2 && closes {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        exchange.answer(response)
    }

    /// The guest's response, or the status of a refusal.
    async fn answer(
        self: &Arc<Server>,
        mut request: Request<RequestBody>,
        caller: Caller,
        exchange: &Exchange,
    ) -> Result<Response<Body>, StatusCode> {
        let turn = async {
            check(&mut request, caller, self.limits.body)?;
            if exchange.is_named {
                request.extensions_mut().insert(NamedHost);
            }
            let site = exchange.site.as_ref().ok_or(StatusCode::NOT_FOUND)?;
            if site.is_withheld() {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            Ok((Arc::clone(site), turn(site).await?))
        };
        let metrics = self.metrics_of(exchange.site.as_deref());
        let (site, turn) = turn.await.inspect_err(|status| metrics.refused(*status))?;
        let app = site.current();
        let guest = Guest {
            server: Arc::clone(self),
            site,
            app: Arc::clone(&app),
            id: exchange.id,
            _turn: turn,
            has_ended: false,
        };
        let answered = app.service.handle(request, move |ended| guest.ended(ended)).await;
        answered.map_err(|error| status(&error))
    }
}

/// Waits until one more guest may start.
async fn turn(site: &Site) -> Result<OwnedSemaphorePermit, StatusCode> {
    let turns = Arc::clone(&site.turns);
    if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
        return Ok(turn);
    }
    let _waiting = Waiting::new(site);
    match timeout(TURN, turns.acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// Counts a request that waits in the queue.
struct Waiting<'a>(&'a Site);

impl Waiting<'_> {
    fn new(site: &Site) -> Waiting<'_> {
        site.metrics.waiting.up();
        Waiting(site)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.metrics.waiting.down();
    }
}

/// Refuses requests that no guest gets.
fn check(request: &mut Request<RequestBody>, caller: Caller, body: usize) -> Result<(), StatusCode> {
    if request.method() == Method::CONNECT {
        return Err(StatusCode::NOT_IMPLEMENTED);
    }
    if request.body().size_hint().lower() > body as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    name_host(request, caller.address)?;
    if caller.is_secure {
        request.extensions_mut().insert(Secure);
    }
    if let Some(peer) = caller.proved {
        request.extensions_mut().insert(peer);
    }
    Ok(())
}

/// The status that a client gets if a guest failed.
fn status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::Time(_) | ServiceError::CpuTime(_) => StatusCode::GATEWAY_TIMEOUT,
        ServiceError::Runtime(RuntimeError::NoRoom(_)) => StatusCode::SERVICE_UNAVAILABLE,
        ServiceError::Exit(_) | ServiceError::NoResponse | ServiceError::Declined(_) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A response of the server's own.
fn refusal(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let body = Full::from(format!("{} {reason}\n", status.as_u16()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Ensures that a request names exactly one host (RFC 9112, 3.2; RFC 9113, 8.3.1). Requests of
/// HTTP/1.0 may leave it out, and are for this server's address then; those of HTTP/2 name
/// it as the authority, and may have it once more. A request that names two is refused: the
/// guest, the access log and a proxy in front might each use a different one.
fn name_host<B>(request: &mut Request<B>, address: SocketAddr) -> Result<(), StatusCode> {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let is_authority = |host: &str| {
        host.parse::<Authority>()
            .is_ok_and(|authority| !host.contains('@') && authority.as_str() == host)
    };
    let authority = request.uri().authority();
    let may_lack_host = request.version() != Version::HTTP_11;
    let named = match (hosts.as_slice(), authority) {
        ([], Some(authority)) if may_lack_host => Some(authority.as_str().to_string()),
        ([], None) if request.version() < Version::HTTP_11 => Some(address.to_string()),
        ([host], authority)
            if host.to_str().is_ok_and(|host| {
                is_authority(host) && authority.is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(host))
            }) =>
        {
            None
        }
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    if authority.is_some_and(|authority| !is_authority(authority.as_str())) {
        return Err(StatusCode::BAD_REQUEST);
    }
    if let Some(named) = named {
        let named = HeaderValue::try_from(named).map_err(|_| StatusCode::BAD_REQUEST)?;
        request.headers_mut().insert(HOST, named);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn request_names_one_host() {
        let named = |version, hosts: &[&str]| {
            let mut request = Request::builder().version(version).uri("/");
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let mut request = request.body(()).unwrap();
            name_host(&mut request, ([127, 0, 0, 1], 80).into())?;
            Ok(request.headers()[HOST].to_str().unwrap().to_string())
        };
        let bad = Err(StatusCode::BAD_REQUEST);
        assert_eq!(
            named(Version::HTTP_11, &["a.example:8080"]).as_deref(),
            Ok("a.example:8080")
        );
        assert_eq!(named(Version::HTTP_10, &["[::1]:80"]).as_deref(), Ok("[::1]:80"));
        assert_eq!(named(Version::HTTP_10, &[]).as_deref(), Ok("127.0.0.1:80"));
        let authority = |version, hosts: &[&str]| {
            let mut request = Request::builder().version(version).uri("http://a.example/");
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let mut request = request.body(()).unwrap();
            name_host(&mut request, ([127, 0, 0, 1], 80).into())?;
            Ok(request.headers()[HOST].to_str().unwrap().to_string())
        };
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(authority(version, &["A.example"]).as_deref(), Ok("A.example"));
            for other in ["b.example", "a.example:80"] {
                assert_eq!(authority(version, &[other]), bad, "{version:?} {other}");
            }
        }
        assert_eq!(authority(Version::HTTP_2, &[]).as_deref(), Ok("a.example"));
        assert_eq!(authority(Version::HTTP_10, &[]).as_deref(), Ok("a.example"));
        assert_eq!(authority(Version::HTTP_11, &[]), bad);
        assert_eq!(named(Version::HTTP_2, &[]), bad);
        for hosts in [
            &[] as &[&str],
            &["a", "a"],
            &["a", "b"],
            &["user@a"],
            &["a/b"],
            &[""],
            &["a b"],
        ] {
            assert_eq!(named(Version::HTTP_11, hosts), bad, "{hosts:?}");
        }
    }
}
