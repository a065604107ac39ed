//! One request with its response: what is counted and reported.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Request, Response, StatusCode, Version};
use qyvol_runtime::Incomplete;

use crate::Server;
use crate::activity::Activity;
use crate::route::named_host;
use crate::site::Site;
use crate::socket::Unfinished;

/// The client left before there was a response. Not a status of HTTP, but nginx uses it.
const CLIENT_LEFT: u16 = 499;
/// Bytes of a method that are reported.
const METHOD: usize = 32;
/// Bytes of a host that are reported.
const HOST_NAME: usize = 255;
/// Bytes of a path that are reported.
const PATH: usize = 1024;

/// A request that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Its number, from 1 on. Reports of failed guests have it too.
    pub id: u64,
    /// The application's name; none if no application answers such requests.
    pub application: Option<Arc<str>>,
    /// The client.
    pub peer: SocketAddr,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// The method, cut off after 32 bytes.
    pub method: String,
    /// The host that it names, cut off after 255 bytes.
    pub host: String,
    /// The path, without the query, which may be secret; cut off after 1,024 bytes.
    pub path: String,
    /// The status, or 499 if the client left before there was one.
    pub status: u16,
    /// Bytes of the response's body that were passed on to be sent.
    pub bytes: u64,
    /// From the head of the request to the end of the response.
    pub duration: Duration,
    /// Whether the response has come to its end.
    pub whole: bool,
}

/// Receives a report of each request once it is over, on any thread.
pub type AccessSink = Arc<dyn Fn(Answered) + Send + Sync>;

/// What requests report to their connection.
#[derive(Clone)]
pub(crate) struct Of {
    /// Of HTTP/2.
    pub(crate) activity: Option<Arc<Activity>>,
    pub(crate) unfinished: Unfinished,
}

/// The reported parts of the request itself.
struct Asked {
    peer: SocketAddr,
    protocol: &'static str,
    method: String,
    host: String,
    path: String,
}

/// A request in progress. It is over when this is dropped.
pub(crate) struct Exchange {
    server: Arc<Server>,
    /// What answers it, if anything does.
    pub(crate) site: Option<Arc<Site>>,
    /// Whether the operator has named the host that it names.
    pub(crate) is_named: bool,
    activity: Option<Arc<Activity>>,
    unfinished: Unfinished,
    pub(crate) id: u64,
    begun: Instant,
    asked: Option<Asked>,
    /// Whether the response has no body, whatever its head says.
    is_head: bool,
    /// Whether a response without a length ends where its connection does.
    is_http10: bool,
    status: u16,
    bytes: u64,
    /// The length of the body, if the head says it.
    length: Option<u64>,
    whole: bool,
}

fn cut(text: &str, most: usize) -> String {
    match text.len() > most {
        true => format!("{}…", text.get(..text.floor_char_boundary(most)).unwrap_or_default()),
        false => text.to_string(),
    }
}

impl Asked {
    fn new<B>(request: &Request<B>, peer: SocketAddr) -> Asked {
        Asked {
            peer,
            protocol: match request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            method: cut(request.method().as_str(), METHOD),
            host: cut(named_host(request).unwrap_or_default(), HOST_NAME),
            path: cut(request.uri().path(), PATH),
        }
    }
}

impl Exchange {
    pub(crate) fn new<B>(
        server: &Arc<Server>,
        request: &Request<B>,
        peer: SocketAddr,
        Of { activity, unfinished }: Of,
    ) -> Exchange {
        let routed = server.sites.find(request);
        let is_named = routed.as_ref().is_some_and(|routed| routed.is_named);
        let site = routed.map(|routed| routed.site);
        server.metrics_of(site.as_deref()).open.up();
        if let Some(activity) = &activity {
            activity.begun();
        }
        Exchange {
            id: server.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            begun: Instant::now(),
            asked: server.access.is_some().then(|| Asked::new(request, peer)),
            is_head: request.method() == Method::HEAD,
            is_http10: request.version() == Version::HTTP_10,
            status: CLIENT_LEFT,
            bytes: 0,
            length: None,
            whole: false,
            server: Arc::clone(server),
            site,
            is_named,
            activity,
            unfinished,
        }
    }

    /// From here on, lives as long as the response.
    pub(crate) fn answer(mut self, response: Response<UnsyncBoxBody<Bytes, Incomplete>>) -> Response<Counted> {
        let status = response.status();
        self.status = status.as_u16();
        let length = response.headers().get(CONTENT_LENGTH);
        self.length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let has_no_body = self.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.whole = has_no_body || response.body().is_end_stream();
        let has_length = self.length.is_some() || response.body().size_hint().exact().is_some();
        if self.is_http10 && !self.whole && !has_length {
            self.unfinished.begin();
        }
        if let Some(activity) = &self.activity {
            // Until more of it is requested, the client has not even read the head.
            activity.gave(self.id);
        }
        // HTTP/1 leaves it out on writing.
        if has_no_body && self.activity.is_some() {
            let length = response.body().size_hint().exact();
            let (mut head, _) = response.into_parts();
            if self.is_head
                && let Some(length) = length
            {
                head.headers.entry(CONTENT_LENGTH).or_insert(length.into());
            }
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            return Response::from_parts(head, Counted { body, exchange: self });
        }
        response.map(|body| Counted { body, exchange: self })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.begun.elapsed();
        let site = self.site.take();
        let metrics = self.server.metrics_of(site.as_deref());
        if let Some(activity) = &self.activity {
            activity.ended(self.id);
        }
        metrics.open.down();
        metrics.answered(self.status, self.bytes, duration);
        if let (Some(access), Some(asked)) = (&self.server.access, self.asked.take()) {
            access(Answered {
                id: self.id,
                application: site.map(|site| Arc::clone(&site.name)),
                peer: asked.peer,
                protocol: asked.protocol,
                method: asked.method,
                host: asked.host,
                path: asked.path,
                status: self.status,
                bytes: self.bytes,
                duration,
                whole: self.whole || self.length == Some(self.bytes),
            });
        }
    }
}

/// A response's body.
pub(crate) struct Counted {
    body: UnsyncBoxBody<Bytes, Incomplete>,
    exchange: Exchange,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Incomplete;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Incomplete>>> {
        let activity = self.exchange.activity.clone();
        if let Some(activity) = &activity {
            activity.asked(self.exchange.id);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(activity) = &activity {
                    activity.gave(self.exchange.id);
                }
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.exchange.bytes += bytes as u64;
                self.exchange.whole = self.body.is_end_stream();
            }
            Some(Err(_)) => {}
            None => self.exchange.whole = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_of_a_request_is_bounded_and_has_no_query() {
        let long = "é".repeat(600);
        assert_eq!(cut("short", 32), "short");
        assert_eq!(cut(&long, 1023).len(), 1022 + "…".len());
        let request = Request::get("http://a.example/path?token=secret").body(()).unwrap();
        let asked = Asked::new(&request, ([127, 0, 0, 1], 1).into());
        assert_eq!((asked.host.as_str(), asked.path.as_str()), ("a.example", "/path"));
    }
}
