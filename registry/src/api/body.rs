//! Bodies: what is sent, from memory or from a file, and what is received.
//!
//! A file is read a piece ahead of the network, off the event loop; a download
//! holds two pieces at most. Received bytes are handed on as they come; a
//! client that sends nothing for the idle time is cut off.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::task::JoinHandle;

use crate::error::{ApiError, Code};

const PIECE: u64 = 128 << 10;
/// With many downloads at once each gets smaller pieces, so that all of them
/// together stay small.
const MANY: usize = 64;
const SMALL_PIECE: u64 = 32 << 10;

type Read = io::Result<(File, Bytes)>;

/// The body of an answer.
pub(crate) enum Body {
    /// In memory.
    Full(Option<Bytes>),
    /// Streamed from a file.
    File(FileBody),
}

pub(crate) struct FileBody {
    file: Option<File>,
    unread: u64,
    unsent: u64,
    reading: Option<JoinHandle<Read>>,
    active: Arc<AtomicUsize>,
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body::Full(None)
    }

    pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
        Body::Full(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }

    /// `length` bytes of `file` from `start`.
    pub(crate) fn file(mut file: File, start: u64, length: u64, active: Arc<AtomicUsize>) -> io::Result<Body> {
        file.seek(SeekFrom::Start(start))?;
        active.fetch_add(1, Ordering::Relaxed);
        Ok(Body::File(FileBody {
            file: Some(file),
            unread: length,
            unsent: length,
            reading: None,
            active,
        }))
    }

    pub(crate) fn length(&self) -> u64 {
        match self {
            Body::Full(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Body::File(body) => body.unsent,
        }
    }
}

impl FileBody {
    fn read_on(&mut self) {
        if self.unread == 0 {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        let piece = match self.active.load(Ordering::Relaxed) {
            few if few <= MANY => PIECE,
            _ => SMALL_PIECE,
        };
        let wanted = piece.min(self.unread);
        self.unread -= wanted;
        self.reading = Some(tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
            (&mut file).take(wanted).read_to_end(&mut bytes)?;
            if bytes.len() as u64 != wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok((file, Bytes::from(bytes)))
        }));
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        self.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let body = match self.get_mut() {
            Body::Full(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::File(body) => body,
        };
        if body.reading.is_none() {
            body.read_on();
        }
        let Some(reading) = body.reading.as_mut() else {
            return Poll::Ready(None);
        };
        let Poll::Ready(read) = Pin::new(reading).poll(cx) else {
            return Poll::Pending;
        };
        body.reading = None;
        match read.map_err(io::Error::other).and_then(|read| read) {
            Ok((file, bytes)) => {
                body.file = Some(file);
                body.unsent = body.unsent.saturating_sub(bytes.len() as u64);
                body.read_on();
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Full(bytes) => bytes.is_none(),
            Body::File(body) => body.unsent == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length())
    }
}

/// The body of a request.
pub(crate) struct Inflow {
    body: Incoming,
    idle: Duration,
    pub(crate) received: u64,
    failed: bool,
}

impl Inflow {
    pub(crate) fn new(body: Incoming, idle: Duration) -> Inflow {
        Inflow {
            body,
            idle,
            received: 0,
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
            let frame = match tokio::time::timeout(self.idle, self.body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    self.failed = true;
                    return Err(ApiError::new(Code::BlobUploadInvalid, "the body stopped coming")
                        .status(StatusCode::REQUEST_TIMEOUT)
                        .closing());
                }
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.received += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                }
                Some(Err(error)) => {
                    self.failed = true;
                    let mut out = ApiError::new(Code::BlobUploadInvalid, "the body broke off").closing();
                    out.cause = Some(error.to_string());
                    return Err(out);
                }
            }
        }
    }

    /// The whole body, if it is no longer than `limit`.
    pub(crate) async fn collect(&mut self, limit: u64) -> Result<Bytes, ApiError> {
        let too_large = || {
            ApiError::new(Code::SizeInvalid, "larger than this registry takes")
                .status(StatusCode::PAYLOAD_TOO_LARGE)
                .detail(format_args!("at most {limit} bytes"))
        };
        let stated = self.stated();
        if stated.is_some_and(|stated| stated > limit) {
            return Err(too_large());
        }
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

    /// Reads and drops what is left, up to `limit`: a client that is still
    /// sending would not see the answer otherwise. False if there was more.
    pub(crate) async fn drain(&mut self, limit: u64) -> bool {
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
