//! The handler of requests that a service exports, in WASI 0.2 or 0.3, and one call of
//! it.
//!
//! A call is over when nothing of the guest is left to run: it has returned, and in
//! WASI 0.3 its tasks have ended, and the body that it answered with has been read or dropped.
//! Until then it may write that body.

use std::fmt::{self, Write};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::header::HOST;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Accessor, InstancePre};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme as Scheme02;
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::{Service, ServicePre};
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView};

use crate::component::ComponentState;
use crate::cut::Cut;
use crate::generation::{CONCURRENT, exports};

/// Maximum size of the reported part of an error that a guest answers with, in bytes.
const REASON: usize = 256;

/// Marks a request that came over TLS, as one of its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Secure;

/// The entry point of a service.
pub(crate) enum Handler {
    Blocking(ProxyPre<ComponentState>),
    Concurrent(ServicePre<ComponentState>),
}

impl Handler {
    /// The handler of a component; if there are two, that of the later version. Fails if it
    /// exports none.
    pub(crate) fn new(pre: InstancePre<ComponentState>) -> wasmtime::Result<Handler> {
        match exports(pre.component(), CONCURRENT) {
            true => Ok(Handler::Concurrent(ServicePre::new(pre)?)),
            false => Ok(Handler::Blocking(ProxyPre::new(pre)?)),
        }
    }

    /// Whether an instance can be called again once a call of it is over. In WASI 0.3, tasks
    /// that a guest has started and not awaited would continue in the next call.
    pub(crate) fn is_reusable(&self) -> bool {
        matches!(self, Handler::Blocking(_))
    }

    /// Instantiates the component and calls nothing.
    pub(crate) async fn instantiate(&self, store: &mut Store<ComponentState>) -> wasmtime::Result<Exports> {
        Ok(match self {
            Handler::Blocking(handler) => Exports::Blocking(handler.instantiate_async(store).await?),
            Handler::Concurrent(handler) => Exports::Concurrent(handler.instantiate_async(store).await?),
        })
    }
}

/// The handler of an instance.
pub(crate) enum Exports {
    Blocking(Proxy),
    Concurrent(Service),
}

impl Exports {
    /// Calls the handler.
    pub(crate) async fn call<B>(
        &self,
        store: &mut Store<ComponentState>,
        mut request: Request<B>,
        answer: Answer,
    ) -> wasmtime::Result<()>
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        match self {
            Exports::Blocking(guest) => {
                let scheme = match is_secure(&request) {
                    true => Scheme02::Https,
                    false => Scheme02::Http,
                };
                let mut http = store.data_mut().http();
                let request = http.new_incoming_request(scheme, request)?;
                let answer = http.new_response_outparam_from_callback(|answered| match answered {
                    Ok(response) => answer.respond(response),
                    Err(code) => answer.decline(&code),
                })?;
                let handler = guest.wasi_http_incoming_handler();
                handler.call_handle(store, request, answer).await
            }
            Exports::Concurrent(guest) => {
                make_absolute(&mut request);
                let (request, sent) = p3::Request::from_http(store.data_mut().http().hooks, request);
                let run = async |accessor: &Accessor<ComponentState>| -> wasmtime::Result<()> {
                    match guest.handle(accessor, request).await? {
                        Ok(response) => {
                            let response = accessor.with(|store| response.into_http(store, sent))?;
                            // The body of another service's response may pass through the
                            // guest, and continue when no task of the guest is left.
                            let (held, released) = oneshot::channel();
                            answer.respond(response.map(|body| Held { body, _held: held }.boxed_unsync()));
                            let _ = released.await;
                        }
                        Err(code) => answer.decline(&code),
                    }
                    poll_fn(|cx| accessor.poll_no_interesting_tasks(cx)).await;
                    Ok(())
                };
                store.run_concurrent(run).await?
            }
        }
    }
}

/// Whether a request came over TLS.
fn is_secure<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Secure>().is_some()
}

/// Puts the host of a request, and the scheme of its connection, into its URI, which a guest of
/// WASI 0.3 reads. A URI that can't be built is left unchanged.
fn make_absolute<B>(request: &mut Request<B>) {
    let mut uri = request.uri().clone().into_parts();
    if uri.authority.is_none() {
        let host = request.headers().get(HOST);
        uri.authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    }
    uri.scheme = Some(match is_secure(request) {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    });
    uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    if let Ok(uri) = Uri::from_parts(uri) {
        *request.uri_mut() = uri;
    }
}

/// The progress of a guest.
#[derive(Default)]
pub(crate) struct Progress {
    /// What it has answered: a response, or an error's name.
    answered: OnceLock<Result<(), String>>,
    /// Whether it was cut off.
    pub(crate) cut: Cut,
}

impl Progress {
    pub(crate) fn answered(&self) -> Option<&Result<(), String>> {
        self.answered.get()
    }
}

/// Marks what a guest has written as incomplete, unless it has returned.
pub(crate) struct Running<'a>(pub(crate) &'a Cut);

impl Running<'_> {
    pub(crate) fn returned(self) {
        std::mem::forget(self);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.off();
    }
}

/// Where a guest's answer goes.
pub(crate) struct Answer {
    pub(crate) sender: oneshot::Sender<Response<HyperOutgoingBody>>,
    pub(crate) progress: Arc<Progress>,
}

impl Answer {
    fn respond(self, response: Response<HyperOutgoingBody>) {
        // These fields are the server's: they concern the connection, which is not the guest's.
        if response.status().is_informational() {
            return self.decline(&format_args!("status {}", response.status().as_u16()));
        }
        let _first = self.progress.answered.set(Ok(()));
        // If it fails, nobody waits for the answer any more.
        let _ = self.sender.send(response);
    }

    fn decline(self, code: &dyn fmt::Debug) {
        let mut name = Short(String::new());
        // The rest is left out.
        let _ = write!(name, "{code:?}");
        let _first = self.progress.answered.set(Err(name.0));
    }
}

/// A text that takes no more than [`REASON`] bytes: a guest may give one of megabytes.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut end = text.len().min(REASON - self.0.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.0.push_str(&text[..end]);
        match end == text.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

/// A body, and something that is dropped with it.
struct Held {
    body: HyperOutgoingBody,
    _held: oneshot::Sender<()>,
}

impl Body for Held {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_is_not_formatted_further() {
        let mut text = Short(String::new());
        assert!(write!(text, "{}", "ä".repeat(200)).is_err());
        assert_eq!(text.0, "ä".repeat(REASON / 2));
        assert!(write!(text, "x").is_err());
    }

    #[test]
    fn uri_names_the_host_and_the_scheme_whatever_the_form_of_the_request() {
        for (uri, host, absolute) in [
            ("/a?b", "example.com:80", "http://example.com:80/a?b"),
            ("http://a/", "a", "http://a/"),
            ("https://a/b", "a", "http://a/b"),
            ("*", "a", "http://a*"),
        ] {
            let mut request = Request::builder().uri(uri).header(HOST, host).body(()).unwrap();
            make_absolute(&mut request);
            assert_eq!(request.uri().to_string(), absolute);
            request.extensions_mut().insert(Secure);
            make_absolute(&mut request);
            assert_eq!(request.uri().to_string(), absolute.replace("http:", "https:"));
        }
    }
}
