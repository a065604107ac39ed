//! Functions over HTTP: `POST /NAME` with the arguments as JSON, answered by JSON. The path
//! before its last component is the server's.
//!
//! A browser sends such a request for a page of another site only after a CORS preflight,
//! because forms can't send `application/json`; and a site whose name resolves to this server's
//! address (DNS rebinding) is refused by the host that the request names, unless TLS has
//! authenticated the server.
//!
//! Details of a failure are for the operator: the client gets only its kind.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{ALLOW, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::{BoxError, NamedHost, ResponseBody, ServiceError};
use crate::call::{ARGUMENT_BYTES, Callee, JsonError};
use crate::{CallError, Peer, RuntimeError, Secure};

const JSON: &str = "application/json";

/// What answers requests by calling functions.
pub(super) struct FunctionService {
    functions: BTreeMap<String, Callee>,
    /// Bytes of a request's body.
    body: usize,
    /// How long the body may take to arrive, and its call to end.
    time: Duration,
}

/// A request that is not answered by a result.
struct Refused {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// The report to the operator, if the guest failed.
    why: Option<ServiceError>,
}

impl Refused {
    fn usage(status: StatusCode, message: impl Into<String>) -> Refused {
        Refused {
            status,
            kind: "usage",
            message: message.into(),
            why: None,
        }
    }
}

impl From<CallError> for Refused {
    fn from(error: CallError) -> Refused {
        let (status, kind, message) = match &error {
            CallError::Trap(_) | CallError::Exit(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "trap", "the function did not return")
            }
            CallError::Time(_) | CallError::CpuTime(_) => {
                (StatusCode::GATEWAY_TIMEOUT, "limit", "the function took too long")
            }
            CallError::Limit(..) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "limit",
                "the function needs more than it may have",
            ),
            CallError::Busy { .. } | CallError::Runtime(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "host", "the call could not be made")
            }
        };
        Refused {
            status,
            kind,
            message: message.to_string(),
            why: Some(error.into()),
        }
    }
}

impl From<CallError> for ServiceError {
    fn from(error: CallError) -> ServiceError {
        match error {
            CallError::Trap(why) => ServiceError::Trap(why),
            CallError::Exit(code) => ServiceError::Exit(code),
            CallError::Limit(limit, why) => ServiceError::Limit(limit, why),
            CallError::Time(limit) => ServiceError::Time(limit),
            CallError::CpuTime(limit) => ServiceError::CpuTime(limit),
            CallError::Runtime(error) => ServiceError::Runtime(error),
            // No call waits here: each has an instance of its own.
            CallError::Busy { .. } => ServiceError::Runtime(RuntimeError::Host(error.to_string())),
        }
    }
}

impl FunctionService {
    pub(super) fn new(functions: BTreeMap<String, Callee>, body: usize, time: Duration) -> FunctionService {
        FunctionService {
            functions,
            body: body.min(ARGUMENT_BYTES),
            time,
        }
    }

    /// Answers a request, also if that fails.
    ///
    /// `ended` is called when the response has been sent or dropped: until then it takes memory
    /// of the host.
    pub(super) async fn handle<B>(
        &self,
        request: Request<B>,
        ended: impl FnOnce(&Result<(), ServiceError>) + Send + 'static,
    ) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut response, result) = match self.call(request).await {
            Ok(text) => (response(StatusCode::OK, text), Ok(())),
            Err(refused) => {
                let text = crate::call::error_body(refused.kind, &refused.message);
                let mut response = response(refused.status, text);
                if refused.status == StatusCode::METHOD_NOT_ALLOWED {
                    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
                }
                (response, refused.why.map_or(Ok(()), Err))
            }
        };
        let body = std::mem::take(response.body_mut());
        response.map(|_| {
            let ended = Box::new(move || ended(&result));
            let body = Kept {
                body,
                ended: Some(ended),
            };
            body.map_err(|never| match never {}).boxed_unsync()
        })
    }

    async fn call<B>(&self, request: Request<B>) -> Result<String, Refused>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let deadline = Instant::now() + self.time;
        let callee = self.callee(&request)?;
        let peer = request.extensions().get::<Peer>().cloned();
        let collected = timeout_at(deadline, Limited::new(request.into_body(), self.body).collect()).await;
        let collected = collected.map_err(|_| {
            let message = format!("the arguments did not arrive within {} s", self.time.as_secs_f64());
            Refused::usage(StatusCode::REQUEST_TIMEOUT, message)
        })?;
        let body = collected.map_err(|error| match error.is::<LengthLimitError>() {
            true => {
                let message = format!("the arguments are more than {} bytes", self.body);
                Refused::usage(StatusCode::PAYLOAD_TOO_LARGE, message)
            }
            false => Refused::usage(StatusCode::BAD_REQUEST, "the arguments did not arrive"),
        })?;
        let body = body.to_bytes();
        let called = timeout_at(deadline, callee.call_json(&body, peer.as_ref())).await;
        let called = called.unwrap_or(Err(JsonError::Call(CallError::Time(self.time))));
        called.map_err(|error| match error {
            JsonError::Arguments(why) => Refused::usage(StatusCode::BAD_REQUEST, why),
            JsonError::Call(error) => error.into(),
        })
    }

    /// The function that a request is for.
    fn callee<B>(&self, request: &Request<B>) -> Result<&Callee, Refused> {
        if !is_for_this_server(request) {
            return Err(Refused::usage(
                StatusCode::MISDIRECTED_REQUEST,
                "without TLS, the host must be an address or localhost",
            ));
        }
        let name = request.uri().path().rsplit('/').next().unwrap_or_default();
        let Some(callee) = self.functions.get(name) else {
            return Err(Refused::usage(StatusCode::NOT_FOUND, "there is no such function"));
        };
        if request.method() != Method::POST {
            return Err(Refused::usage(
                StatusCode::METHOD_NOT_ALLOWED,
                "a function is called by POST",
            ));
        }
        // If there were two, a filter in front might read the other one.
        let contents: Vec<&HeaderValue> = request.headers().get_all(CONTENT_TYPE).iter().collect();
        let content = match contents.as_slice() {
            [content] => content.to_str().ok(),
            _ => None,
        };
        let content = content.map(|value| value.split(';').next().unwrap_or_default().trim());
        if !content.is_some_and(|content| content.eq_ignore_ascii_case(JSON)) {
            let message = format!("the arguments must be of the type {JSON}");
            return Err(Refused::usage(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        Ok(callee)
    }

    /// Makes one instance for each function on trial.
    pub(super) async fn try_out(&self) -> Result<(), ServiceError> {
        for callee in self.functions.values() {
            callee.caller.try_out().await?;
        }
        Ok(())
    }
}

/// A response's body.
struct Kept {
    body: Full<Bytes>,
    ended: Option<Box<dyn FnOnce() + Send>>,
}

impl Body for Kept {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            ended();
        }
    }
}

/// Whether the host that a request names can't be a name that somebody else points at this
/// server's address.
fn is_for_this_server<B>(request: &Request<B>) -> bool {
    let extensions = request.extensions();
    if extensions.get::<Secure>().is_some() || extensions.get::<NamedHost>().is_some() {
        return true;
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    authority.is_some_and(|authority| {
        let host = authority.host();
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::Ipv4Addr>().is_ok()
            || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
    })
}

fn response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallLimits;
    use crate::{Caller, RunSpec};

    /// A body of which nothing arrives.
    struct Late;

    impl Body for Late {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    // [CALL-017]
    #[test]
    fn client_whose_arguments_do_not_arrive_gets_a_timeout() {
        let wasm = wat::parse_str(
            r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "f") (canon lift (core func $i "f"))))"#,
        );
        let program = crate::call::tests::load(&wasm.unwrap());
        let function = program.functions().find("f").unwrap();
        let caller = Caller::new(program, RunSpec::default(), CallLimits::default()).unwrap();
        let functions = BTreeMap::from([("f".to_string(), Callee { function, caller })]);
        let service = FunctionService::new(functions, 1024, Duration::from_secs(30));
        let request = Request::post("/f")
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, JSON)
            .body(Late);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let failed = std::sync::Arc::new(std::sync::Mutex::new(None));
        let seen = std::sync::Arc::clone(&failed);
        let response = runtime
            .unwrap()
            .block_on(service.handle(request.unwrap(), move |result| {
                *seen.lock().unwrap() = Some(result.is_err());
            }));
        assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
        drop(response);
        // It is no failure of the guest.
        assert_eq!(*failed.lock().unwrap(), Some(false));
    }

    #[test]
    fn name_that_anyone_could_point_here_is_refused_without_tls() {
        let request = |host: &str| Request::builder().header(HOST, host).body(()).unwrap();
        for host in ["127.0.0.1", "10.0.0.1:8080", "[::1]:8080", "localhost", "LOCALHOST:80"] {
            assert!(is_for_this_server(&request(host)), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:80", "127.0.0.1.example", ""] {
            assert!(!is_for_this_server(&request(host)), "{host}");
            let mut secure = request(host);
            secure.extensions_mut().insert(Secure);
            assert!(is_for_this_server(&secure), "{host}");
            let mut named = request(host);
            named.extensions_mut().insert(NamedHost);
            assert!(is_for_this_server(&named), "{host}");
        }
    }
}
