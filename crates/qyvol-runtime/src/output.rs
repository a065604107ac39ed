//! Stdout and stderr with a limit on what is written to both together.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::sync::Notify;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::limits::{Limit, LimitReached};

/// Bytes that may still be written.
#[derive(Clone, Debug)]
pub(crate) struct OutputBudget {
    limit: u64,
    left: Arc<AtomicU64>,
    over: Arc<Over>,
}

/// Whether the limit was exceeded, and the tasks that wait for that.
#[derive(Debug, Default)]
struct Over {
    is_over: AtomicBool,
    waker: Notify,
}

impl OutputBudget {
    pub(crate) fn new(limit: u64) -> OutputBudget {
        OutputBudget {
            limit,
            left: Arc::new(AtomicU64::new(limit)),
            over: Arc::default(),
        }
    }

    /// All of it may be written again.
    pub(crate) fn renew(&self) {
        self.left.store(self.limit, Ordering::Relaxed);
    }

    /// Bytes that were written.
    pub(crate) fn written(&self) -> u64 {
        self.limit.saturating_sub(self.left.load(Ordering::Relaxed))
    }

    /// Whether the limit was exceeded.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.over.is_over.load(Ordering::Relaxed)
    }

    /// Waits until the limit is exceeded.
    pub(crate) async fn exceeded(&self) -> LimitReached {
        self.over.waker.notified().await;
        self.reached()
    }

    fn exceed(&self) {
        self.over.is_over.store(true, Ordering::Relaxed);
        self.over.waker.notify_one();
    }

    /// Takes up to this many bytes of the rest.
    fn take(&self, bytes: usize) -> usize {
        let after = |left: u64| Some(left.saturating_sub(bytes as u64));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after);
        let left = left.unwrap_or_default();
        usize::try_from(left).map_or(bytes, |left| left.min(bytes))
    }

    pub(crate) fn reached(&self) -> LimitReached {
        LimitReached(Limit::Output(self.limit))
    }
}

/// Runs a guest until it ends or has written more than it may. In WASI 0.3, unlike 0.2, a write
/// beyond the limit doesn't end it.
pub(crate) async fn within<R>(
    budget: Option<&OutputBudget>,
    run: impl Future<Output = wasmtime::Result<R>>,
) -> wasmtime::Result<R> {
    let Some(budget) = budget else {
        return run.await;
    };
    let returned = tokio::select! {
        biased;
        returned = run => returned,
        reached = budget.exceeded() => return Err(reached.into()),
    };
    // It may have ended because of the error that it got.
    match budget.is_exceeded() {
        true => Err(budget.reached().into()),
        false => returned,
    }
}

/// A stream that counts what it writes against a budget.
pub(crate) struct Bounded<S> {
    pub(crate) stream: S,
    pub(crate) budget: OutputBudget,
    /// Whether a terminal is reported as one.
    pub(crate) shows_terminal: bool,
}

impl<S: IsTerminal> IsTerminal for Bounded<S> {
    fn is_terminal(&self) -> bool {
        self.shows_terminal && self.stream.is_terminal()
    }
}

impl<S: StdoutStream> StdoutStream for Bounded<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(BoundedWrite {
            stream: Pin::from(self.stream.async_stream()),
            budget: self.budget.clone(),
        })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(BoundedStream {
            stream: self.stream.p2_stream(),
            budget: self.budget.clone(),
        })
    }
}

struct BoundedStream {
    stream: Box<dyn OutputStream>,
    budget: OutputBudget,
}

impl OutputStream for BoundedStream {
    /// What fits is written; anything more ends the guest.
    fn write(&mut self, mut bytes: bytes::Bytes) -> StreamResult<()> {
        let wanted = bytes.len();
        bytes.truncate(self.budget.take(wanted));
        let fits = bytes.len() == wanted;
        self.stream.write(bytes)?;
        match fits {
            true => Ok(()),
            false => Err(StreamError::Trap(self.budget.reached().into())),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for BoundedStream {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

struct BoundedWrite {
    stream: Pin<Box<dyn AsyncWrite + Send + Sync>>,
    budget: OutputBudget,
}

impl AsyncWrite for BoundedWrite {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = self.budget.take(bytes.len());
        let (fits, _) = bytes.split_at(taken);
        if fits.is_empty() && !bytes.is_empty() {
            // In WASI 0.3, an error of a stream is returned to the guest and does not end it.
            self.budget.exceed();
            return Poll::Ready(Err(io::Error::other(self.budget.reached())));
        }
        self.stream.as_mut().poll_write(cx, fits)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(cx)
    }
}
