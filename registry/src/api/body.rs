//! Bodies: what is sent, from memory or from a file, and what is received.
//!
//! A body is handed over in steps, and each step reports to the connection when the client has
//! read it. A file is read one block ahead of the network, off the event loop; a download holds
//! at most [`BLOCKS`] blocks. Received bytes are passed on as they arrive; a client that stalls
//! a step for the idle time is cut off.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connections::{Exchange, STEP};
use crate::error::{ApiError, Code};

/// Read from a file at once.
pub(super) const BLOCK: usize = 128 << 10;
/// The blocks of a download: one being read, one handed over, and those still in the protocol's
/// queues.
pub(super) const BLOCKS: usize = 3;

type Read = io::Result<(File, Bytes)>;

/// The body of an answer.
pub(crate) struct Body {
    /// Bytes not handed over yet.
    left: u64,
    /// Those of the remaining bytes that are in memory.
    ready: Bytes,
    file: Option<FileBody>,
    exchange: Option<Arc<Exchange>>,
}

struct FileBody {
    /// None while a read is under way.
    file: Option<File>,
    block: usize,
    unread: u64,
    reading: Option<JoinHandle<Read>>,
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body::full(Bytes::new())
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
        let ready = bytes.into();
        Body {
            left: ready.len() as u64,
            ready,
            file: None,
            exchange: None,
        }
    }

    /// `length` bytes of `file` from `start`, read in blocks of `block`.
    pub(crate) fn file(mut file: File, start: u64, length: u64, block: usize) -> io::Result<Body> {
        file.seek(SeekFrom::Start(start))?;
        Ok(Body {
            left: length,
            ready: Bytes::new(),
            file: Some(FileBody {
                file: Some(file),
                block,
                unread: length,
                reading: None,
            }),
            exchange: None,
        })
    }

    pub(crate) fn length(&self) -> u64 {
        self.left
    }

    /// Bytes of memory that this holds until it is sent.
    pub(crate) fn in_memory(&self) -> usize {
        self.ready.len()
    }

    /// From now on, reports to `exchange` what the client reads.
    pub(crate) fn of(&mut self, exchange: Arc<Exchange>) {
        exchange.client_takes();
        self.exchange = Some(exchange);
    }

    /// The next bytes to hand over.
    fn step(&mut self) -> Bytes {
        let bytes = self.ready.split_to(self.ready.len().min(STEP));
        self.left -= bytes.len() as u64;
        let Some(exchange) = self.exchange.clone() else {
            return bytes;
        };
        exchange.step_handed_over();
        Bytes::from_owner(Step { bytes, exchange })
    }
}

/// A part of an answer that the client has not read yet: dropped when it has.
struct Step {
    bytes: Bytes,
    exchange: Arc<Exchange>,
}

impl AsRef<[u8]> for Step {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.exchange.step_taken();
    }
}

impl FileBody {
    /// Starts reading the next block, unless there is none or a read is under way.
    fn read_on(&mut self, exchange: Option<&Arc<Exchange>>) {
        if self.unread == 0 {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        let wanted = self.unread.min(self.block as u64);
        self.unread -= wanted;
        let exchange = exchange.cloned();
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
            let read = (&mut file).take(wanted).read_to_end(&mut bytes);
            // Reported here, because the body is not polled again while the client's window is
            // closed.
            if let Some(exchange) = exchange {
                exchange.client_takes();
            }
            read?;
            if bytes.len() as u64 != wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok((file, Bytes::from(bytes)))
        }));
    }

    fn poll_block(&mut self, cx: &mut Context<'_>, exchange: Option<&Arc<Exchange>>) -> Poll<io::Result<Bytes>> {
        self.read_on(exchange);
        if let Some(exchange) = exchange {
            exchange.server_reads();
        }
        let Some(reading) = self.reading.as_mut() else {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        };
        let Poll::Ready(read) = Pin::new(reading).poll(cx) else {
            return Poll::Pending;
        };
        self.reading = None;
        let (file, bytes) = read.map_err(io::Error::other).and_then(|read| read)?;
        self.file = Some(file);
        self.read_on(exchange);
        Poll::Ready(Ok(bytes))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = self.get_mut();
        if body.left == 0 {
            return Poll::Ready(None);
        }
        if body.ready.is_empty()
            && let Some(file) = &mut body.file
        {
            match ready!(file.poll_block(cx, body.exchange.as_ref())) {
                Ok(bytes) => body.ready = bytes,
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(body.step()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of a request.
pub(crate) struct IncomingBody {
    body: Incoming,
    idle: Duration,
    exchange: Arc<Exchange>,
    pub(crate) received: u64,
    /// Bytes received in the current step, and the time that the server has waited for them.
    step: usize,
    waited: Duration,
    failed: bool,
}

impl IncomingBody {
    pub(crate) fn new(body: Incoming, idle: Duration, exchange: Arc<Exchange>) -> IncomingBody {
        IncomingBody {
            body,
            idle,
            exchange,
            received: 0,
            step: 0,
            waited: Duration::ZERO,
            failed: false,
        }
    }

    /// The length, where the client states it.
    pub(crate) fn stated(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.failed || self.body.is_end_stream()
    }

    /// The next bytes, or none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let start = Instant::now();
            self.exchange
                .client_sends(start.checked_sub(self.waited).unwrap_or(start));
            let frame = tokio::time::timeout(self.idle.saturating_sub(self.waited), self.body.frame()).await;
            self.exchange.server();
            self.waited += start.elapsed();
            let Ok(frame) = frame else {
                self.failed = true;
                return Err(
                    ApiError::new(Code::BlobUploadInvalid, "timed out waiting for the request body")
                        .status(StatusCode::REQUEST_TIMEOUT)
                        .closing(),
                );
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.received += bytes.len() as u64;
                        self.step += bytes.len();
                        if self.step >= STEP {
                            self.step = 0;
                            self.waited = Duration::ZERO;
                        }
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    self.failed = true;
                    let mut out = ApiError::new(Code::BlobUploadInvalid, "the request body ended early").closing();
                    out.cause = Some(error.to_string());
                    return Err(out);
                }
            }
        }
    }

    /// The complete body, if it is no longer than `limit`.
    pub(crate) async fn collect(&mut self, limit: u64) -> Result<Bytes, ApiError> {
        let too_large = || {
            ApiError::new(Code::SizeInvalid, "larger than this registry accepts")
                .status(StatusCode::PAYLOAD_TOO_LARGE)
                .detail(format_args!("at most {limit} bytes"))
        };
        let stated = self.stated();
        if stated.is_some_and(|stated| stated > limit) {
            return Err(too_large());
        }
        let most = stated.unwrap_or(limit);
        self.exchange.reserve(usize::try_from(most).unwrap_or(usize::MAX))?;
        let Some(first) = self.next().await? else {
            return Ok(Bytes::new());
        };
        if stated == Some(first.len() as u64) {
            return Ok(first);
        }
        let room = stated.unwrap_or(0).min(limit);
        let mut all = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        all.extend_from_slice(&first);
        while let Some(bytes) = self.next().await? {
            if (all.len() + bytes.len()) as u64 > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&bytes);
        }
        Ok(Bytes::from(all))
    }

    /// Reads and drops what is left, up to `limit`, for the idle time at most:
    /// a client that is still sending would not see the answer otherwise. False
    /// if there was more.
    pub(crate) async fn drain(&mut self, limit: u64) -> bool {
        let idle = self.idle;
        tokio::time::timeout(idle, self.drain_all(limit)).await.unwrap_or(false)
    }

    async fn drain_all(&mut self, limit: u64) -> bool {
        if self.stated().is_some_and(|rest| rest > limit) {
            return false;
        }
        let mut drained = 0;
        while !self.is_over() {
            match self.next().await {
                Ok(Some(bytes)) => {
                    drained += bytes.len() as u64;
                    if drained > limit {
                        return false;
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        !self.failed
    }
}
