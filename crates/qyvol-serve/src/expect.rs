//! `Expect: 100-continue` (RFC 9110, 10.1.1): a client that asks before it sends a body.
//!
//! hyper sends `100 Continue` when a body is read for the first time, unless the head of
//! the response has been sent by then. Many guests answer first and read while they write:
//! their clients would wait for each other. So a body that the guest still holds when it
//! answers is requested before the head is sent. A body that it has dropped is not: the
//! response says that the connection closes, and the client sends nothing.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;
use hyper::{Request, StatusCode, Version};

/// The body of a request.
pub(crate) enum RequestBody {
    /// The client sends it unasked.
    Sent(Incoming),
    /// The client waits for `100 Continue`.
    Expected(Expected),
}

/// The guest's side of a body that its client waits to send. Dropping it abandons the body.
pub(crate) struct Expected(Arc<Mutex<State>>);

/// The server's side of it.
pub(crate) struct Expectation(Arc<Mutex<State>>);

struct State {
    /// None once it is dropped.
    body: Option<Incoming>,
    /// Whether the client has been asked.
    is_asked: bool,
    /// What arrived before the guest asked for it: a part, or the end.
    early: Option<Option<Result<Frame<Bytes>, hyper::Error>>>,
}

/// Checks what the client of a request expects. Fails with a status if it is something else.
pub(crate) fn expected(request: Request<Incoming>) -> Result<(Request<RequestBody>, Option<Expectation>), StatusCode> {
    let mut expects = request.headers().get_all(EXPECT).iter();
    let is_asked_for = match (expects.next(), expects.next()) {
        (None, _) => false,
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"100-continue") => true,
        _ => return Err(StatusCode::EXPECTATION_FAILED),
    };
    if !is_asked_for || request.version() != Version::HTTP_11 || request.body().is_end_stream() {
        return Ok((request.map(RequestBody::Sent), None));
    }
    let (head, body) = request.into_parts();
    let state = Arc::new(Mutex::new(State {
        body: Some(body),
        is_asked: false,
        early: None,
    }));
    let expectation = Expectation(Arc::clone(&state));
    let request = Request::from_parts(head, RequestBody::Expected(Expected(state)));
    Ok((request, Some(expectation)))
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Expectation {
    /// Asks the client for the body if the guest may still read it. Returns whether the
    /// client has been asked.
    pub(crate) async fn ask(self) -> bool {
        let mut has_begun = false;
        poll_fn(|cx| {
            let state = &mut *lock(&self.0);
            let Some(body) = &mut state.body else {
                return Poll::Ready(state.is_asked);
            };
            if has_begun {
                return Poll::Ready(true);
            }
            has_begun = true;
            if !state.is_asked
                && let Poll::Ready(frame) = Pin::new(body).poll_frame(cx)
            {
                state.early = Some(frame);
            }
            state.is_asked = true;
            // hyper writes it when it is polled again, before the head. A guest may have
            // asked a moment ago.
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        (state.body, state.early) = (None, None);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let expected = match &mut *self {
            RequestBody::Sent(body) => return Pin::new(body).poll_frame(cx),
            RequestBody::Expected(expected) => expected,
        };
        let mut state = lock(&expected.0);
        state.is_asked = true;
        if let Some(early) = state.early.take() {
            return Poll::Ready(early);
        }
        match &mut state.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            RequestBody::Sent(body) => body.is_end_stream(),
            RequestBody::Expected(expected) => {
                let state = lock(&expected.0);
                state.early.is_none() && state.body.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            RequestBody::Sent(body) => body.size_hint(),
            RequestBody::Expected(expected) => {
                let state = lock(&expected.0);
                state.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }
        }
    }
}
