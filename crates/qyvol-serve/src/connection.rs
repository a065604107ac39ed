//! One connection and its requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::http::uri::Authority;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use qyvol_runtime::{Incomplete, ServiceError};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::stalled::Stalled;
use crate::{Server, ServerEvent};

/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// How long a client may take for a request's head, or leave its connection idle.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may take nothing of what it is sent.
const STALL: Duration = Duration::from_secs(30);
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(1);
/// At the end, how long an open connection waits for one more request that may be on its
/// way.
const LINGER: Duration = Duration::from_secs(1);

type Body = UnsyncBoxBody<Bytes, Incomplete>;

impl Server {
    /// Serves requests until the client leaves, a timeout strikes, or the end has come.
    pub(crate) async fn connection(self: Arc<Server>, stream: TcpStream, address: SocketAddr) {
        // Without it, small responses may wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let server = &self;
        let service = service_fn(async |request| Ok::<_, Infallible>(server.response(request, address).await));
        let stream = TokioIo::new(Stalled::new(stream, STALL));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD);
        let mut connection = pin!(builder.serve_connection(stream, service));
        // Its errors are the client's: it left, or spoke something else.
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = self.stop.begun() => {}
        }
        tokio::select! {
            biased;
            _ = connection.as_mut() => return,
            () = sleep(LINGER) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }

    async fn response(&self, request: Request<Incoming>, address: SocketAddr) -> Response<Body> {
        let mut response = match self.answer(request, address).await {
            Ok(response) => response,
            Err(status) => refusal(status),
        };
        if self.stop.has_begun() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// The guest's response, or the status of a refusal.
    async fn answer(&self, mut request: Request<Incoming>, address: SocketAddr) -> Result<Response<Body>, StatusCode> {
        if request.method() == Method::CONNECT {
            return Err(StatusCode::NOT_IMPLEMENTED);
        }
        if request.body().size_hint().lower() > self.limits.body as u64 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        name_host(&mut request, address)?;
        let turn = Arc::clone(&self.requests).acquire_owned();
        let Ok(Ok(turn)) = timeout(TURN, turn).await else {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        };
        let sink = Arc::clone(&self.sink);
        let ended = move |ended: &Result<(), ServiceError>| {
            // The next request begins when this guest is gone, not when its response is.
            drop(turn);
            if let Err(error) = ended {
                sink(&ServerEvent::Failed(error));
            }
        };
        self.service
            .handle(request, ended)
            .await
            .map_err(|error| status(&error))
    }
}

/// What a client is told of a guest that failed.
fn status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::Time(_) | ServiceError::CpuTime(_) => StatusCode::GATEWAY_TIMEOUT,
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
    // What is left of the request's body is not read.
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Sees to it that a request names one host (RFC 9112, 3.2). Requests of HTTP/1.0 may
/// leave it out, and are for this server's address then.
fn name_host<B>(request: &mut Request<B>, address: SocketAddr) -> Result<(), StatusCode> {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let is_authority = |host: &str| {
        host.parse::<Authority>()
            .is_ok_and(|authority| !host.contains('@') && authority.as_str() == host)
    };
    let named = match hosts.as_slice() {
        [] if request.version() < Version::HTTP_11 => false,
        [host] if host.to_str().is_ok_and(is_authority) => true,
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    if request
        .uri()
        .authority()
        .is_some_and(|authority| !is_authority(authority.as_str()))
    {
        return Err(StatusCode::BAD_REQUEST);
    }
    if !named {
        let address = HeaderValue::try_from(address.to_string()).map_err(|_| StatusCode::BAD_REQUEST)?;
        request.headers_mut().insert(HOST, address);
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
