//! A blob on its way from a registry: opened when it is first read, and opened
//! again where it broke off.
//!
//! What arrives is not checked here but for its length: whoever reads it hashes
//! it. Registries that honour ranges seldom say so, so a range is just asked
//! for; one that sends everything again has what was there already discarded.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Instant;

use qyvol_store::StoreError;
use qyvol_types::{Descriptor, Digest};
use ureq::http::{Method, Response, header};
use ureq::{Body, BodyReader};

use crate::RemoteError;
use crate::client::Ask;
use crate::repository::Inner;
use crate::transport::broken;
use crate::tries::Tries;
use crate::url::Url;

/// Bytes after which a download counts as getting on, and is given all of its
/// tries again.
const PROGRESS: u64 = 1 << 20;
/// How often one blob is opened, whatever its progress.
const OPENED: u32 = 1000;
/// Bytes that must arrive within the time that silence is borne.
const FLOOR: u64 = 16 << 10;

/// Bytes of what is skipped that are read at once.
const SKIPPED: usize = 16 << 10;

pub(crate) struct Download {
    repository: Arc<Inner>,
    digest: Digest,
    size: u64,
    at: u64,
    body: Option<BodyReader<'static>>,
    /// Bytes of the body that were there already.
    skip: u64,
    /// Since when how many bytes came.
    window: (Instant, u64),
    tries: Tries,
    opened: u32,
    /// Where the last failure was.
    failed_at: u64,
    /// Where a body ended too early that was whole in itself.
    ended_at: Option<u64>,
    failed: bool,
}

impl Download {
    /// Of a blob from byte `at` on.
    pub(crate) fn new(repository: &Arc<Inner>, d: &Descriptor, at: u64) -> Download {
        Download {
            digest: d.digest,
            size: d.size,
            at,
            body: None,
            skip: 0,
            window: (Instant::now(), 0),
            tries: Tries::new(&repository.client),
            opened: 0,
            failed_at: at,
            ended_at: None,
            failed: false,
            repository: repository.clone(),
        }
    }

    fn url(&self) -> Url {
        let path = format!("blobs/{}", self.digest);
        self.repository.ask(Method::GET, &path, String::new()).url
    }

    fn ask(&self) -> Ask<'_> {
        let what = format!("blob {}", self.digest.short());
        let mut ask = self
            .repository
            .ask(Method::GET, &format!("blobs/{}", self.digest), what);
        if self.at > 0 {
            ask.headers.push(("range", format!("bytes={}-", self.at)));
        }
        ask
    }

    fn remote(&self, error: RemoteError) -> StoreError {
        error.store(format!("read blob {}", self.digest))
    }

    /// The registry has so many bytes for the blob, and not those that are due.
    fn wrong_size(&self, got: u64) -> StoreError {
        StoreError::WrongSize {
            digest: self.digest,
            expected: self.size,
            got,
            more: false,
        }
    }

    fn open(&mut self) -> Result<BodyReader<'static>, StoreError> {
        let repository = self.repository.clone();
        // The request's own tries are the download's.
        let mut tries = std::mem::replace(&mut self.tries, Tries::new(&repository.client));
        let response = repository.client.follow(self.ask(), &mut tries);
        self.tries = tries;
        let response = response.map_err(|e| self.remote(e))?;
        let protocol = |what: String| self.remote(RemoteError::Protocol { what });
        let field = |response: &Response<Body>, name: header::HeaderName| {
            let value = response.headers().get(name).and_then(|v| v.to_str().ok());
            value.map(str::to_string)
        };
        if let Some(coding) = field(&response, header::CONTENT_ENCODING).filter(|c| c != "identity") {
            return Err(protocol(format!("a blob coded as {}", qyvol_types::escape(&coding))));
        }
        let length = field(&response, header::CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok());
        match response.status().as_u16() {
            206 if self.at > 0 => {
                let range = field(&response, header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", self.at)) {
                    let range = qyvol_types::escape(&range).to_string();
                    return Err(protocol(format!(
                        "the bytes {range} where those from {} were asked for",
                        self.at
                    )));
                }
                // A part may be sent in parts, but not be longer than it is.
                if let Some(length) = length.filter(|length| *length > self.size - self.at) {
                    return Err(self.wrong_size(self.at.saturating_add(length)));
                }
                self.skip = 0;
            }
            200 => {
                // A length that can't be right is not worth reading.
                if let Some(length) = length.filter(|length| *length != self.size) {
                    return Err(self.wrong_size(length));
                }
                self.skip = self.at;
            }
            404 => return Err(StoreError::NotFound { digest: self.digest }),
            // There is nothing behind what came.
            416 if self.at > 0 => return Err(self.wrong_size(self.at)),
            _ => return Err(self.remote(repository.client.failure(&self.ask(), response))),
        }
        Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
    }

    /// What an end of the body before the blob's means: a connection that
    /// broke, unless it ends there each time.
    fn cut_short(&mut self) -> StoreError {
        let at = self.at - self.skip;
        if self.ended_at == Some(at) {
            return self.wrong_size(at);
        }
        self.ended_at = Some(at);
        let host = self.repository.home.url.authority().to_string();
        let why = format!(
            "the connection ended after {at} of {} bytes of blob {}",
            self.size,
            self.digest.short()
        );
        self.remote(RemoteError::Unreachable {
            host,
            why,
            temporary: true,
        })
    }

    /// One attempt at some bytes.
    fn attempt(&mut self, buf: &mut [u8]) -> Result<usize, StoreError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                self.opened += 1;
                let body = self.open()?;
                self.window = (Instant::now(), 0);
                body
            }
        };
        let mut scratch = [0; SKIPPED];
        loop {
            let skipping = self.skip > 0;
            let room = usize::try_from(self.skip).unwrap_or(SKIPPED).min(SKIPPED);
            let into = if skipping {
                scratch.get_mut(..room).unwrap_or_default()
            } else {
                &mut *buf
            };
            let n = match body.read(into) {
                Ok(n) => n,
                // All is here: that the connection did not end well is nothing
                // to the content, which is judged by its digest.
                Err(_) if self.at == self.size && !skipping => 0,
                Err(error) => return Err(self.remote(broken(&self.url(), error))),
            };
            if n == 0 && (skipping || self.at < self.size) {
                return Err(self.cut_short());
            }
            let whole = !skipping && self.at + n as u64 >= self.size;
            self.in_time(n as u64, whole)?;
            if !skipping {
                self.body = Some(body);
                return Ok(n);
            }
            self.skip -= n as u64;
        }
    }

    /// Whether the bytes come fast enough.
    fn in_time(&mut self, n: u64, whole: bool) -> Result<(), StoreError> {
        self.window.1 += n;
        if self.window.0.elapsed() > self.repository.client.options().patience {
            if self.window.1 < FLOOR && !whole {
                let host = self.repository.home.url.authority().to_string();
                let why = format!("blob {} drips", self.digest.short());
                return Err(self.remote(RemoteError::TimedOut { host, why }));
            }
            self.window = (Instant::now(), 0);
        }
        Ok(())
    }

    /// Whether to go on after a failure; the error if not.
    fn again(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.body = None;
        if self.at >= self.failed_at + PROGRESS {
            self.tries.progressed(&self.repository.client);
        }
        self.failed_at = self.at;
        let StoreError::Other { action, source } = error else {
            return Err(error);
        };
        match source.downcast::<RemoteError>() {
            Ok(remote) if self.opened >= OPENED => Err(remote.store(action)),
            Ok(remote) => self
                .tries
                .again(&self.repository.client, *remote, None)
                .map_err(|e| e.store(action)),
            Err(source) => Err(StoreError::Other { action, source }),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.failed {
            return if self.failed {
                Err(io::Error::other("the download has failed"))
            } else {
                Ok(0)
            };
        }
        loop {
            match self.attempt(buf) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(error) => {
                    if let Err(error) = self.again(error) {
                        self.failed = true;
                        return Err(error.into());
                    }
                }
            }
        }
    }
}
