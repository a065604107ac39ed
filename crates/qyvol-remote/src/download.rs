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
use crate::client::Tries;
use crate::repository::Inner;
use crate::transport::broken;
use crate::url::Url;

/// Bytes after which a download counts as getting on, and is given all of its
/// tries again.
const PROGRESS: u64 = 1 << 20;
/// How often one blob is opened, whatever its progress.
const OPENED: u32 = 1000;
/// Bytes that must arrive within the time that silence is borne.
const FLOOR: u64 = 16 << 10;

pub(crate) struct Download {
    repository: Arc<Inner>,
    digest: Digest,
    size: u64,
    at: u64,
    body: Option<BodyReader<'static>>,
    /// Since when how many bytes came.
    window: (Instant, u64),
    left: u32,
    opened: u32,
    /// Where the last failure was.
    failed_at: u64,
    failed: bool,
}

impl Download {
    pub(crate) fn new(repository: &Arc<Inner>, d: &Descriptor) -> Download {
        Download {
            digest: d.digest,
            size: d.size,
            at: 0,
            body: None,
            window: (Instant::now(), 0),
            left: repository.client.options().retries,
            opened: 0,
            failed_at: 0,
            failed: false,
            repository: repository.clone(),
        }
    }

    fn url(&self) -> Url {
        let path = format!("blobs/{}", self.digest);
        self.repository.ask(Method::GET, &path, String::new()).url
    }

    fn open(&self) -> Result<BodyReader<'static>, StoreError> {
        let (client, digest) = (&self.repository.client, self.digest);
        let action = || format!("read blob {digest}");
        let what = format!("blob {}", digest.short());
        let ask = || {
            let mut ask = self
                .repository
                .ask(Method::GET, &format!("blobs/{digest}"), what.clone());
            if self.at > 0 {
                ask.headers.push(("range", format!("bytes={}-", self.at)));
            }
            ask
        };
        let response = client.follow(ask()).map_err(|e| e.store(action()))?;
        let protocol = |what: String| RemoteError::Protocol { what }.store(action());
        let field = |response: &Response<Body>, name: header::HeaderName| {
            let value = response.headers().get(name).and_then(|v| v.to_str().ok());
            value.map(str::to_string)
        };
        if let Some(coding) = field(&response, header::CONTENT_ENCODING).filter(|c| c != "identity") {
            return Err(protocol(format!("a blob coded as {}", qyvol_types::escape(&coding))));
        }
        let length = field(&response, header::CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok());
        let mut skip = 0;
        let due = match response.status().as_u16() {
            206 if self.at > 0 => {
                let range = field(&response, header::CONTENT_RANGE).unwrap_or_default();
                if !range.starts_with(&format!("bytes {}-", self.at)) {
                    let range = qyvol_types::escape(&range).to_string();
                    return Err(protocol(format!(
                        "the bytes {range} where those from {} were asked for",
                        self.at
                    )));
                }
                self.size - self.at
            }
            200 => {
                skip = self.at;
                self.size
            }
            404 => return Err(StoreError::NotFound { digest }),
            _ => return Err(client.failure(&ask(), response).store(action())),
        };
        // A length that can't be right is not worth reading.
        if let Some(length) = length.filter(|length| *length > due) {
            return Err(StoreError::WrongSize {
                digest,
                expected: self.size,
                got: self.size - due + length,
                more: false,
            });
        }
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        if skip > 0 {
            let seen = io::copy(&mut body.by_ref().take(skip), &mut io::sink());
            let seen = seen.map_err(|e| broken(&self.url(), &e).store(action()))?;
            if seen < skip {
                return Err(self.cut_short());
            }
        }
        Ok(body)
    }

    fn cut_short(&self) -> StoreError {
        let host = self.repository.home.url.authority().to_string();
        let why = format!(
            "the connection ended after {} of {} bytes of blob {}",
            self.at,
            self.size,
            self.digest.short()
        );
        RemoteError::Unreachable {
            host,
            why,
            temporary: true,
        }
        .store(format!("read blob {}", self.digest))
    }

    /// One attempt at some bytes.
    fn attempt(&mut self, buf: &mut [u8]) -> Result<usize, StoreError> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => {
                self.opened += 1;
                self.window = (Instant::now(), 0);
                self.open()?
            }
        };
        let n = body
            .read(buf)
            .map_err(|e| broken(&self.url(), &e).store(format!("read blob {}", self.digest)))?;
        if n == 0 && self.at < self.size {
            return Err(self.cut_short());
        }
        let patience = self.repository.client.options().patience;
        self.window.1 += n as u64;
        if self.window.0.elapsed() > patience {
            if self.window.1 < FLOOR && self.at + (n as u64) < self.size {
                let host = self.repository.home.url.authority().to_string();
                let why = format!("blob {} drips", self.digest.short());
                return Err(RemoteError::TimedOut { host, why }.store(format!("read blob {}", self.digest)));
            }
            self.window = (Instant::now(), 0);
        }
        self.body = Some(body);
        Ok(n)
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
            let error = match self.attempt(buf) {
                Ok(n) => {
                    self.at += n as u64;
                    return Ok(n);
                }
                Err(error) => error,
            };
            self.body = None;
            if self.at >= self.failed_at + PROGRESS {
                self.left = self.repository.client.options().retries;
            }
            self.failed_at = self.at;
            let passing = RemoteError::of(&error).is_some_and(RemoteError::is_temporary);
            // What was asked for with patience of its own is not asked again.
            let answered = matches!(
                RemoteError::of(&error),
                Some(RemoteError::Status { .. } | RemoteError::Busy { .. })
            );
            if !passing || answered || self.left == 0 || self.opened >= OPENED {
                self.failed = true;
                return Err(error.into());
            }
            self.left -= 1;
            if let StoreError::Other { source, .. } = error
                && let Ok(remote) = source.downcast::<RemoteError>()
            {
                let mut tries = Tries::new(&self.repository.client);
                if let Err(remote) = tries.again(*remote, None) {
                    self.failed = true;
                    return Err(remote.store(format!("read blob {}", self.digest)).into());
                }
            }
        }
    }
}
