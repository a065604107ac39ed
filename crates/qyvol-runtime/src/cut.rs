//! Whether a guest was cut off, for the bodies that outlive it: those of its response and of
//! the requests that it sends. When its store is dropped, they would end like complete ones.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Cuts off the bodies of one guest. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_off: AtomicBool,
    /// Tasks that wait for a body.
    waiting: Mutex<Vec<Waker>>,
}

impl Cut {
    /// From now on each body of the guest's fails.
    pub(crate) fn off(&self) {
        self.shared.is_off.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    fn is_off(&self) -> bool {
        self.shared.is_off.load(Ordering::Acquire)
    }

    fn wait(&self, cx: &Context<'_>) {
        let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
    }
}

/// A body that fails once its guest was cut off.
pub(crate) struct CutBody<B, E> {
    body: B,
    cut: Cut,
    /// The error in that case.
    error: fn() -> E,
}

impl<B, E> CutBody<B, E> {
    pub(crate) fn new(body: B, cut: Cut, error: fn() -> E) -> CutBody<B, E> {
        CutBody { body, cut, error }
    }
}

impl<B, E> Body for CutBody<B, E>
where
    B: Body<Data = Bytes> + Unpin,
    E: From<B::Error>,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if polled.is_pending() {
            self.cut.wait(cx);
        }
        // After that, so that it is not missed.
        if self.cut.is_off() {
            return Poll::Ready(Some(Err((self.error)())));
        }
        polled.map(|frame| frame.map(|frame| frame.map_err(E::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.cut.is_off()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::task::Wake;

    use http_body_util::{BodyExt, Empty, Full};

    use super::*;

    /// A body that never sends anything.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = u8;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, u8>>> {
            Poll::Pending
        }
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    fn poll<B>(body: &mut CutBody<B, u8>, waker: &Waker) -> Poll<Option<Result<Bytes, u8>>>
    where
        B: Body<Data = Bytes, Error = u8> + Unpin,
    {
        let polled = Pin::new(body).poll_frame(&mut Context::from_waker(waker));
        polled.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
    }

    // [SERVE-006]
    #[test]
    fn body_of_a_guest_that_was_cut_off_fails_in_place_of_its_end() {
        let cut = Cut::default();
        let body = Full::new(Bytes::from_static(b"a")).map_err(|never| -> u8 { match never {} });
        let mut whole = CutBody::new(body, cut.clone(), || 7);
        let body = Empty::<Bytes>::new().map_err(|never| -> u8 { match never {} });
        let mut empty = CutBody::new(body, cut.clone(), || 7);
        assert_eq!(
            poll(&mut whole, Waker::noop()),
            Poll::Ready(Some(Ok(Bytes::from_static(b"a"))))
        );
        assert_eq!(poll(&mut whole, Waker::noop()), Poll::Ready(None));
        assert!(empty.is_end_stream());
        cut.off();
        assert!(!empty.is_end_stream());
        assert_eq!(poll(&mut empty, Waker::noop()), Poll::Ready(Some(Err(7))));
    }

    // [SERVE-005]
    #[test]
    fn reader_of_a_body_fails_when_its_guest_is_cut_off() {
        let cut = Cut::default();
        let mut body = CutBody::new(Never, cut.clone(), || 7);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(poll(&mut body, &waker), Poll::Pending);
        assert_eq!(poll(&mut body, &waker), Poll::Pending);
        cut.off();
        assert!(woken.0.load(Ordering::Acquire));
        assert_eq!(poll(&mut body, &waker), Poll::Ready(Some(Err(7))));
    }
}
