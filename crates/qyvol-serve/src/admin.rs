//! Health and counters for the operator, on an address of their own.

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::{ACCEPT_BACKOFF, Server, metrics};

/// Connections that are open at once. Further ones wait.
const CONNECTIONS: usize = 16;
/// How long a connection may last, so that one that is never closed occupies no place for long.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long a client may take for a request's head, or leave its connection idle.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const HEAD: usize = 16 << 10;

impl Server {
    /// Serves until it is dropped.
    pub(crate) async fn administer(self: Arc<Server>, listener: TcpListener) {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            return;
        };
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = Arc::clone(&self);
                    tokio::spawn(async move {
                        // A request that is cut off then is the operator's own, and can be
                        // repeated.
                        let _ = timeout(LIFETIME, server.administer_one(stream)).await;
                        drop(seat);
                    });
                }
                Err(_) => sleep(ACCEPT_BACKOFF).await,
            }
        }
    }

    async fn administer_one(&self, stream: TcpStream) {
        let service = service_fn(async |request: Request<Incoming>| Ok::<_, Infallible>(self.report(&request)));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(HEAD);
        // Its errors are the client's.
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    }

    fn report<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let plain = "text/plain; charset=utf-8";
        let (status, kind, body) = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") if self.stop.has_begun() => {
                (StatusCode::SERVICE_UNAVAILABLE, plain, "ending\n".to_string())
            }
            (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, plain, "ok\n".to_string()),
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                (StatusCode::OK, kind, metrics::page(self))
            }
            (_, "/healthz" | "/metrics") => (
                StatusCode::METHOD_NOT_ALLOWED,
                plain,
                "405 Method Not Allowed\n".to_string(),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                plain,
                "404 Not Found: there are /healthz and /metrics\n".to_string(),
            ),
        };
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }
}
