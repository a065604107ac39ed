//! Downloads a blob: opened on the first read, and reopened where it broke off.
//!
//! Only the length is checked here: the reader hashes the blob. Registries that support ranges
//! seldom say so, so a range is always requested; if a registry sends everything again, the
//! bytes that were received already are discarded.
//!
//! Either client can make the request: ours or, for artifacts of other tools, theirs
//! (`foreign`). Mirrors, retries, resuming and the minimum speed are the same.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use qyvol_store::StoreError;
use qyvol_types::{Descriptor, Digest};
use ureq::http::{Method, header};

use super::inner::Inner;
use super::transfer::{Attempt, Bytes, TransferError, content, wrong_size};
use crate::RemoteError;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::request::{Request, RequestBody, header};
use crate::retry::{AttemptFailure, Retry};
use crate::transport::connection_error;

/// Bytes of progress after which all retries are available again.
const PROGRESS_BYTES: u64 = 1 << 20;
/// How often one blob is opened, whatever its progress.
const MAX_OPENS: u32 = 1000;
/// Bytes that must arrive within a host's timeout.
const MIN_BYTES_PER_TIMEOUT: u64 = 16 << 10;
/// Bytes that are discarded at once.
const DISCARD_BUFFER: usize = 16 << 10;

/// Which client reads the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlobClient {
    /// Ours.
    Us,
    /// `oci-distribution`.
    #[cfg(feature = "import")]
    OciDistribution,
}

/// Reads a blob.
pub(super) struct Download {
    stream: Stream,
    retry: Retry,
    has_failed: bool,
}

/// The blob's bytes from the current connection.
struct Stream {
    inner: Arc<Inner>,
    by: BlobClient,
    digest: Digest,
    size: u64,
    /// The next byte.
    at: u64,
    /// Index of the endpoint that is read from.
    source: usize,
    body: Option<Bytes>,
    /// Bytes of the body that were received already.
    discard: u64,
    /// Start of the pace window, and the bytes received in it.
    window: (Instant, u64),
    opens: u32,
    /// Where the last failure was.
    failed_at: u64,
    /// Offset at which a complete body ended short of the blob's size.
    ended_at: Option<u64>,
}

impl Download {
    /// Reads a blob from byte `at` on.
    pub(super) fn new(inner: &Arc<Inner>, d: &Descriptor, at: u64) -> Download {
        Download::by(BlobClient::Us, inner, d, at)
    }

    /// The same with one of the clients.
    pub(super) fn by(by: BlobClient, inner: &Arc<Inner>, d: &Descriptor, at: u64) -> Download {
        Download {
            retry: inner.client.retry(&inner.endpoint),
            has_failed: false,
            stream: Stream {
                inner: inner.clone(),
                by,
                digest: d.digest,
                size: d.size,
                at,
                source: 0,
                body: None,
                discard: 0,
                window: (Instant::now(), 0),
                opens: 0,
                failed_at: at,
                ended_at: None,
            },
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(io::Error::other("the download has failed"));
        }
        if buf.is_empty() {
            return Ok(0);
        }
        let stream = &mut self.stream;
        self.retry.run(|retry| stream.attempt(retry, buf)).map_err(|error| {
            self.has_failed = true;
            let action = format!("read blob {}", self.stream.digest);
            error.into_store(action).into()
        })
    }
}

impl Stream {
    /// One attempt at some bytes. A mirror that fails is passed over at once.
    fn attempt(&mut self, retry: &mut Retry, buf: &mut [u8]) -> Attempt<usize> {
        loop {
            let failed = match self.read_some(buf) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(failed) => failed,
            };
            self.body = None;
            let inner = self.inner.clone();
            if let Some(mirror) = inner
                .read_endpoints()
                .nth(self.source)
                .filter(|source| source.is_mirror)
            {
                self.source += 1;
                inner.skip_mirror(mirror, &failed);
                continue;
            }
            if self.at >= self.failed_at + PROGRESS_BYTES {
                retry.reset();
            }
            self.failed_at = self.at;
            return Err(match failed {
                AttemptFailure::Remote(failed) if self.opens >= MAX_OPENS => AttemptFailure::Final(failed.error.into()),
                failed => failed,
            });
        }
    }

    fn read_some(&mut self, buf: &mut [u8]) -> Attempt<usize> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                self.opens += 1;
                let body = self.open()?;
                self.window = (Instant::now(), 0);
                body
            }
        };
        let mut scratch = [0; DISCARD_BUFFER];
        loop {
            let is_discarding = self.discard > 0;
            let room = usize::try_from(self.discard)
                .unwrap_or(DISCARD_BUFFER)
                .min(DISCARD_BUFFER);
            let into = match is_discarding {
                true => scratch.get_mut(..room).unwrap_or_default(),
                false => &mut *buf,
            };
            let n = match body.read(into) {
                Ok(n) => n,
                // All bytes are here: how the connection ended doesn't matter
                // to content that is judged by its digest.
                Err(_) if self.at == self.size && !is_discarding => 0,
                Err(error) => return Err(connection_error(&self.endpoint().url(""), error).into()),
            };
            if n == 0 && (is_discarding || self.at < self.size) {
                return Err(self.cut_short());
            }
            let is_last = !is_discarding && self.at + n as u64 >= self.size;
            self.check_pace(n as u64, is_last)?;
            if !is_discarding {
                self.body = Some(body);
                return Ok(n);
            }
            self.discard -= n as u64;
        }
    }

    fn endpoint(&self) -> &Endpoint {
        self.inner
            .read_endpoints()
            .nth(self.source)
            .unwrap_or(&self.inner.endpoint)
    }

    fn open(&mut self) -> Attempt<Bytes> {
        match self.by {
            BlobClient::Us => self.open_native(),
            #[cfg(feature = "import")]
            BlobClient::OciDistribution => {
                let opened = super::foreign::open(&self.inner, self.endpoint(), &self.digest, self.size, self.at)?;
                self.discard = opened.1;
                Ok(opened.0)
            }
        }
    }

    fn open_native(&mut self) -> Attempt<Bytes> {
        let inner = self.inner.clone();
        let endpoint = inner.read_endpoints().nth(self.source).unwrap_or(&inner.endpoint);
        let url = endpoint.url(&format!("blobs/{}", self.digest));
        let mut request = Request::new(Method::GET, url, endpoint, Operation::ReadBlob(self.digest));
        if self.at > 0 {
            request = request.with_header("range", format!("bytes={}-", self.at));
        }
        let response = inner.client.attempt(&request, RequestBody::None)?;
        let protocol = |what: String| RemoteError::Protocol { what };
        let headers = response.headers();
        if let Some(coding) = header(headers, header::CONTENT_ENCODING).filter(|coding| *coding != "identity") {
            return Err(protocol(format!("a blob encoded as {}", qyvol_types::escape(coding))).into());
        }
        let length = header(headers, header::CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok());
        match response.status().as_u16() {
            206 if self.at > 0 => {
                let range = header(headers, header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", self.at)) {
                    let range = qyvol_types::escape(range).to_string();
                    let what = format!("the range {range} when asked for the bytes from {} on", self.at);
                    return Err(protocol(what).into());
                }
                // The range may be sent in parts, but not be longer than the
                // rest of the blob.
                if let Some(length) = length.filter(|length| *length > self.size - self.at) {
                    return Err(wrong_size(&self.digest, self.size, self.at.saturating_add(length)));
                }
                self.discard = 0;
            }
            200 => {
                // A body of the wrong length is not read.
                if let Some(length) = length.filter(|length| *length != self.size) {
                    return Err(wrong_size(&self.digest, self.size, length));
                }
                self.discard = self.at;
            }
            404 => return Err(content(StoreError::NotFound { digest: self.digest })),
            // There is nothing after these bytes.
            416 if self.at > 0 => return Err(wrong_size(&self.digest, self.size, self.at)),
            _ => return Err(inner.client.error_of(&request, response).into()),
        }
        Ok(Box::new(
            response.into_body().into_with_config().limit(u64::MAX).reader(),
        ))
    }

    /// The error for a body that ends before the blob: a broken connection,
    /// unless it ends at the same offset twice.
    fn cut_short(&mut self) -> AttemptFailure<TransferError> {
        let at = self.at - self.discard;
        if self.ended_at == Some(at) {
            return wrong_size(&self.digest, self.size, at);
        }
        self.ended_at = Some(at);
        let why = format!(
            "the connection ended after {at} of {} bytes of blob {}",
            self.size,
            self.digest.short()
        );
        AttemptFailure::from(RemoteError::Unreachable {
            host: self.endpoint().host().to_string(),
            why,
            temporary: true,
        })
    }

    /// Whether the bytes come fast enough.
    fn check_pace(&mut self, n: u64, is_last: bool) -> Attempt<()> {
        self.window.1 += n;
        if self.window.0.elapsed() > self.inner.client.timeout(self.endpoint()) {
            if self.window.1 < MIN_BYTES_PER_TIMEOUT && !is_last {
                return Err(AttemptFailure::from(RemoteError::TimedOut {
                    host: self.endpoint().host().to_string(),
                    why: format!("blob {} arrives too slowly", self.digest.short()),
                }));
            }
            self.window = (Instant::now(), 0);
        }
        Ok(())
    }
}
