//! A stream of WASI 0.2 into a file under a quota.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rustix::io::Errno;
use wasmtime_wasi::p2::{DynOutputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::{Held, Plan, done};

/// Takes what it writes from the quota first.
pub(crate) struct QuotaStream {
    /// None when it is dropped.
    stream: Option<DynOutputStream>,
    held: Held,
    /// Where it writes next; None is at the end.
    at: Option<u64>,
    /// A minimum size of the file, as long as no more files than these were truncated.
    known: Option<Known>,
    is_closed: bool,
}

/// See [`QuotaStream::known`].
#[derive(Clone, Copy)]
struct Known {
    size: u64,
    cuts: u64,
}

impl QuotaStream {
    pub(crate) fn new(stream: DynOutputStream, held: Held, at: Option<u64>) -> QuotaStream {
        QuotaStream {
            stream: Some(stream),
            held,
            at,
            known: None,
            is_closed: false,
        }
    }

    fn stream(&mut self) -> StreamResult<&mut DynOutputStream> {
        match &mut self.stream {
            Some(stream) if !self.is_closed => Ok(stream),
            _ => Err(StreamError::Closed),
        }
    }

    /// What a write takes, and the file's known size afterwards. Saving the system call for the
    /// file's size makes small writes a tenth faster.
    fn take(&self, length: u64) -> io::Result<(Option<Plan>, Known)> {
        let cuts = self.held.quota.cuts();
        if let (Some(known), Some(_)) = (self.known, self.at)
            && known.cuts == cuts
            && let Ok(plan) = self.held.write_into(known.size, self.at, length)
        {
            return Ok((plan, known));
        }
        // The file may have grown, so that less is taken.
        let size = self.held.size()?;
        let plan = self.held.write_into(size, self.at, length)?;
        Ok((plan, Known { size, cuts }))
    }

    /// Writes all of it, or nothing where it does not fit.
    async fn write_now(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stream()?;
        let length = bytes.len() as u64;
        let (plan, known) = match self.take(length) {
            Ok(taken) => taken,
            Err(error) => {
                // As with any error of writing.
                self.is_closed = true;
                return Err(StreamError::LastOperationFailed(error.into()));
            }
        };
        let end = match self.at.map(|at| at.checked_add(length)) {
            Some(None) => {
                self.is_closed = true;
                return Err(failed(Errno::FBIG));
            }
            Some(end) => end,
            None => None,
        };
        self.stream()?.blocking_write_and_flush(bytes).await?;
        self.at = end;
        self.known = Some(Known {
            size: known.size.max(end.unwrap_or_default()),
            ..known
        });
        done(plan);
        Ok(())
    }
}

fn failed(error: Errno) -> StreamError {
    StreamError::LastOperationFailed(io::Error::from(error).into())
}

#[wasmtime_wasi::async_trait]
impl OutputStream for QuotaStream {
    /// Not passed to another thread: counted bytes must be written when the guest's next call
    /// is counted.
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = pin!(self.write_now(bytes));
        match written.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(written) => written,
            // A guest's thread may block in a call (`allow_blocking_current_thread`).
            Poll::Pending => Err(failed(Errno::IO)),
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_now(bytes).await
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream()?.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream()?.check_write()
    }

    async fn cancel(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.cancel().await;
        }
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for QuotaStream {
    async fn ready(&mut self) {
        if let Ok(stream) = self.stream() {
            stream.ready().await;
        }
    }
}

impl Drop for QuotaStream {
    fn drop(&mut self) {
        // It has the file open too.
        self.stream = None;
        self.held.quota.closing(&self.held.file);
    }
}
