//! A blob on its way to a registry: mounted if another repository has it, else
//! sent in one piece, or in chunks where the registry wants it so; after a
//! break, from where the registry says that it is.

use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qyvol_store::{Open, StoreError, VerifyReader};
use qyvol_types::{Descriptor, Digest};
use ureq::Body;
use ureq::http::{Method, Response, header};

use crate::RemoteError;
use crate::client::{Ask, Payload};
use crate::error::is_temporary_status;
use crate::repository::Inner;
use crate::tries::{Tries, retry_after};
use crate::url::Url;

/// Bytes of a chunk, unless the registry wants larger ones.
const CHUNK: u64 = 16 << 20;
/// How often a registry is asked where an upload stands because it refused its
/// place.
const MISPLACED: u32 = 3;
/// The most that a registry may want a chunk to have.
const LEAST: u64 = 1 << 30;
/// Bytes after which an upload counts as getting on, and is given all of its
/// tries again.
const PROGRESS: u64 = 1 << 20;
/// Bytes of an answer to an upload.
const ANSWER_BYTES: u64 = 64 << 10;

pub(crate) struct Upload<'a> {
    repository: &'a Arc<Inner>,
    digest: Digest,
    descriptor: &'a Descriptor,
    /// Where the next bytes go, once the registry has said.
    location: Option<Url>,
    /// Bytes that the registry has.
    offset: u64,
    chunk: Option<u64>,
    /// Bytes of a chunk that the registry wants at least.
    least: u64,
    /// A mount is tried once.
    mounted: bool,
    /// Beginning anew with what the registry no longer knows is tried once.
    renewed: bool,
    /// How often it was not where it was thought to be.
    misplaced: u32,
    tries: Tries,
    /// The most bytes that the registry ever had.
    furthest: u64,
}

/// Why an attempt ended.
enum Failed {
    /// The content could not be read, or is not what it should be.
    Source(StoreError),
    /// With the wait that the registry asks for.
    Remote(RemoteError, Option<Duration>),
}

impl From<RemoteError> for Failed {
    fn from(error: RemoteError) -> Failed {
        Failed::Remote(error, None)
    }
}

impl<'a> Upload<'a> {
    pub(crate) fn new(repository: &'a Arc<Inner>, descriptor: &'a Descriptor) -> Upload<'a> {
        Upload {
            repository,
            digest: descriptor.digest,
            descriptor,
            location: None,
            offset: 0,
            chunk: None,
            least: 0,
            mounted: false,
            renewed: false,
            misplaced: 0,
            tries: Tries::new(&repository.client),
            furthest: 0,
        }
    }

    /// Sends content that can be read once.
    pub(crate) fn once(mut self, body: &mut dyn Read) -> Result<(), StoreError> {
        if self.begin().map_err(|e| self.failed(e.into()))? {
            return Ok(());
        }
        self.send(body).map_err(|e| self.failed(e))
    }

    /// Sends content that can be opened again.
    pub(crate) fn run(mut self, open: &Open<'_>) -> Result<(), StoreError> {
        let client = &self.repository.client;
        loop {
            let (error, wait) = match self.attempt(open) {
                Ok(()) => return Ok(()),
                Err(Failed::Source(error)) => return Err(error),
                Err(Failed::Remote(error, wait)) => (error, wait),
            };
            if self.chunk.is_none()
                && matches!(
                    &error,
                    RemoteError::Status { status: 413 | 411, .. } | RemoteError::Unreachable { temporary: true, .. }
                )
            {
                // Too much at once: for the registry, or for what is before it.
                let too_large = !error.is_temporary();
                self.chunk = Some(CHUNK);
                if too_large {
                    self.location = None;
                    self.offset = 0;
                    continue;
                }
            }
            let misplaced = matches!(&error, RemoteError::Status { status: 416, .. });
            if misplaced && self.location.is_some() && self.misplaced < MISPLACED {
                // An earlier request may still have been at work there, or the
                // rest is not taken at once.
                self.misplaced += 1;
                self.chunk = Some(CHUNK);
                thread::sleep(client.options().backoff);
                self.recover();
                continue;
            }
            if self.location.is_some() && !self.renewed && is_lost(&error) {
                self.renewed = true;
                self.location = None;
                self.offset = 0;
                continue;
            }
            if let Err(error) = self.tries.again(client, error, wait) {
                return Err(self.failed(error.into()));
            }
            self.recover();
            // The last answer may be all that was lost.
            if self.location.is_none() && self.is_there() {
                return Ok(());
            }
            // Against the most there ever was: a registry that forgets what it
            // had and gets it anew would never be given up.
            if self.offset >= self.furthest.saturating_add(PROGRESS) {
                self.furthest = self.offset;
                self.tries.progressed(client);
            }
        }
    }

    fn failed(&self, error: Failed) -> StoreError {
        match error {
            Failed::Source(error) => error,
            Failed::Remote(error, _) => error.store(format!("write blob {}", self.digest)),
        }
    }

    fn attempt(&mut self, open: &Open<'_>) -> Result<(), Failed> {
        if self.location.is_none() && self.begin()? {
            return Ok(());
        }
        self.send(&mut open(0).map_err(Failed::Source)?)
    }

    fn ask(&self, method: Method, url: Url, what: &str) -> Ask<'a> {
        Ask {
            method,
            url,
            headers: Vec::new(),
            home: &self.repository.home,
            what: format!("{what} blob {}", self.digest.short()),
        }
    }

    /// Begins an upload; true if the registry took the blob from another of its
    /// repositories instead.
    fn begin(&mut self) -> Result<bool, RemoteError> {
        let mut url = self.repository.ask(Method::POST, "blobs/uploads/", String::new()).url;
        self.offset = 0;
        let source = match self.mounted {
            true => None,
            false => self.repository.mount(&self.digest),
        };
        let mounting = source.is_some();
        if let Some(from) = source {
            url = url
                .with_query("mount", &self.digest.to_string())
                .with_query("from", from);
        } else if self.digest.algorithm() != qyvol_types::Algorithm::Sha256 {
            url = url.with_query("digest-algorithm", self.digest.algorithm().name());
        }
        self.mounted = true;
        let ask = self.ask(Method::POST, url, "beginning to write");
        let response = self.repository.client.send_within(&ask, Some(&[]), &mut self.tries);
        let denied = match &response {
            Ok(response) => matches!(response.status().as_u16(), 401 | 403),
            Err(error) => matches!(error, RemoteError::Denied { .. }),
        };
        if mounting && denied {
            // The other repository may not be read: then the blob is sent.
            return self.begin();
        }
        let response = response?;
        match response.status().as_u16() {
            201 => Ok(true),
            202 => {
                let least = field(&response, "oci-chunk-min-length").and_then(|v| v.parse::<u64>().ok());
                self.least = least.unwrap_or(0).min(LEAST);
                self.moved(&ask, response)?;
                Ok(false)
            }
            _ => Err(self.repository.client.failure(&ask, response)),
        }
    }

    /// Takes the place of the next bytes from an answer.
    fn moved(&mut self, ask: &Ask<'_>, response: Response<Body>) -> Result<(), RemoteError> {
        let location = field(&response, header::LOCATION.as_str()).ok_or_else(|| RemoteError::Protocol {
            what: "no place to send the blob to".to_string(),
        })?;
        self.location = Some(ask.url.follow(&location)?);
        let _ = self.repository.client.small(ask, response, ANSWER_BYTES);
        Ok(())
    }

    /// Sends what the registry does not have yet.
    fn send(&mut self, body: &mut dyn Read) -> Result<(), Failed> {
        let mut source = Source {
            inner: VerifyReader::new(body, self.descriptor),
            error: None,
        };
        let sent = self.send_from(&mut source);
        match source.error {
            Some(error) => Err(Failed::Source(StoreError::from_io(error).unwrap_or_else(|source| {
                StoreError::Read {
                    digest: self.digest,
                    source,
                }
            }))),
            None => sent,
        }
    }

    fn send_from(&mut self, source: &mut Source<'_>) -> Result<(), Failed> {
        let size = self.descriptor.size;
        // What is there already is hashed all the same.
        if io::copy(&mut source.take(self.offset), &mut io::sink()).is_err() {
            return Ok(());
        }
        if let Some(chunk) = self.chunk {
            while self.offset < size {
                let n = chunk.max(self.least).min(size - self.offset);
                let url = self.place()?;
                let mut ask = self.ask(Method::PATCH, url, "writing a chunk of");
                ask.headers
                    .push(("content-type", "application/octet-stream".to_string()));
                ask.headers
                    .push(("content-range", format!("{}-{}", self.offset, self.offset + n - 1)));
                let response =
                    self.repository
                        .client
                        .ask(&ask, Payload::Stream(n, &mut source.take(n)), &mut self.tries)?;
                if response.status() != 202 {
                    return Err(self.refused(&ask, response));
                }
                self.moved(&ask, response)?;
                self.offset += n;
            }
            // The reader says only at its end whether all was right.
            if io::copy(source, &mut io::sink()).is_err() {
                return Ok(());
            }
        }
        let url = self.place()?.with_query("digest", &self.digest.to_string());
        let mut ask = self.ask(Method::PUT, url, "writing");
        ask.headers
            .push(("content-type", "application/octet-stream".to_string()));
        let rest = size - self.offset;
        let response = if rest == 0 {
            self.repository.client.ask(&ask, Payload::Bytes(&[]), &mut self.tries)?
        } else {
            if self.offset > 0 {
                ask.headers
                    .push(("content-range", format!("{}-{}", self.offset, size - 1)));
            }
            self.repository
                .client
                .ask(&ask, Payload::Stream(rest, source), &mut self.tries)?
        };
        match response.status().as_u16() {
            201 | 204 => {
                let _ = self.repository.client.small(&ask, response, ANSWER_BYTES);
                Ok(())
            }
            _ => Err(self.refused(&ask, response)),
        }
    }

    fn refused(&self, ask: &Ask<'_>, response: Response<Body>) -> Failed {
        let wait = retry_after(&response);
        Failed::Remote(self.repository.client.failure(ask, response), wait)
    }

    fn place(&self) -> Result<Url, RemoteError> {
        self.location.clone().ok_or_else(|| RemoteError::Protocol {
            what: "no place to send the blob to".to_string(),
        })
    }

    /// Asks where the upload stands; it begins anew if that can't be told.
    fn recover(&mut self) {
        let Some(url) = self.location.take() else { return };
        self.offset = 0;
        let ask = self.ask(Method::GET, url, "where writing stands of");
        let Ok(response) = self.repository.client.ask(&ask, Payload::None, &mut self.tries) else {
            return;
        };
        if !matches!(response.status().as_u16(), 200 | 204) || is_temporary_status(response.status().as_u16()) {
            return;
        }
        // `0-N`, both ends included; `0-0` from registries that have nothing,
        // or one byte: of these none counts.
        let range = field(&response, header::RANGE.as_str()).unwrap_or_default();
        let last = range
            .trim_start_matches("bytes=")
            .strip_prefix("0-")
            .and_then(|last| last.parse::<u64>().ok());
        if let Some(last) = last.filter(|last| *last > 0 && *last < self.descriptor.size)
            && self.moved(&ask, response).is_ok()
        {
            self.offset = last + 1;
        }
    }

    /// Whether the registry has the blob by now. Asked once: a registry that
    /// can't tell is sent the blob again.
    fn is_there(&mut self) -> bool {
        let path = format!("blobs/{}", self.digest);
        let url = self.repository.ask(Method::HEAD, &path, String::new()).url;
        let ask = self.ask(Method::HEAD, url, "whether it has");
        let response = self.repository.client.ask(&ask, Payload::None, &mut self.tries);
        response.is_ok_and(|response| {
            let length = field(&response, header::CONTENT_LENGTH.as_str());
            response.status() == 200 && length.is_some_and(|v| v.parse() == Ok(self.descriptor.size))
        })
    }
}

/// Whether an upload is not where we thought it to be: its time was over, or
/// the registry did not have what it said that it had.
fn is_lost(error: &RemoteError) -> bool {
    matches!(
        error,
        RemoteError::NotFound { .. } | RemoteError::Status { status: 416, .. }
    )
}

fn field(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name).and_then(|v| v.to_str().ok());
    value.map(str::to_string)
}

/// The content, remembering how its reading failed: HTTP would call it a broken
/// connection.
struct Source<'a> {
    inner: VerifyReader<&'a mut dyn Read>,
    error: Option<io::Error>,
}

impl Source<'_> {
    fn take(&mut self, limit: u64) -> io::Take<&mut Self> {
        Read::take(self, limit)
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(n) => Ok(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let told = io::Error::new(error.kind(), "the content could not be read");
                self.error.get_or_insert(error);
                Err(told)
            }
        }
    }
}
