//! Uploads a blob: mounted if another repository has it, else sent in one request, or in chunks
//! if the registry or a proxy before it limits the body; resumed from the offset that the
//! registry reports.

use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use qyvol_store::{Open, StoreError, VerifyReader};
use qyvol_types::{Algorithm, Descriptor};
use ureq::Body;
use ureq::http::{HeaderMap, Method, Response, header};

use super::inner::Inner;
use super::transfer::{Attempt, content};
use crate::RemoteError;
use crate::error::Operation;
use crate::request::{Request, RequestBody, header};
use crate::retry::{AttemptError, AttemptFailure};
use crate::url::Url;

/// Bytes of a chunk at first: what GitHub's registry takes at most in one
/// `PATCH`.
const CHUNK_SIZE: u64 = 4 << 20;
/// Chunks that are refused as too large are halved down to this.
const MIN_CHUNK: u64 = 512 << 10;
/// The largest minimum that a registry may state for its chunks.
const MAX_MIN_CHUNK: u64 = 1 << 30;
/// How often the registry is asked for an upload's offset because it refused one.
const MAX_REPOSITIONS: u32 = 3;
/// Bytes of progress after which all retries are available again.
const PROGRESS_BYTES: u64 = 1 << 20;
/// Bytes of a blob for which a registry gets another second to store it.
const BYTES_PER_STORE_SECOND: u64 = 16 << 20;
const OCTET_STREAM: (&str, &str) = ("content-type", "application/octet-stream");

/// The upload session that a registry has opened.
#[derive(Clone, Debug)]
struct Session {
    /// Where the next bytes go.
    location: Url,
    /// Bytes that the registry has.
    offset: u64,
    /// The smallest chunk that the registry accepts, except for the last.
    min_chunk: u64,
}

/// The state of an upload.
#[derive(Debug)]
enum State {
    /// The registry has no session for it.
    New,
    /// The registry expects the bytes from the session's offset on.
    Open(Session),
    /// A request of the session failed: how many bytes arrived is unknown.
    Interrupted(Session),
    /// The registry has the blob.
    Done,
}

/// How the bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// All in the request that ends the upload.
    Whole,
    /// In requests of this many bytes.
    Chunks(u64),
    /// All in one request again: every chunk size was refused.
    WholeAtLast,
}

/// Writes a blob.
pub(super) struct Upload<'a> {
    inner: &'a Inner,
    descriptor: &'a Descriptor,
    state: State,
    mode: Mode,
    /// Another repository that has the blob; tried once.
    mount: Option<String>,
    /// A session that the registry has forgotten is replaced once.
    is_restarted: bool,
    repositions: u32,
    /// The most bytes that the registry ever had.
    furthest: u64,
}

impl<'a> Upload<'a> {
    pub(super) fn new(inner: &'a Inner, descriptor: &'a Descriptor) -> Upload<'a> {
        Upload {
            mount: inner.mount_source(&descriptor.digest),
            inner,
            descriptor,
            state: State::New,
            mode: Mode::Whole,
            is_restarted: false,
            repositions: 0,
            furthest: 0,
        }
    }

    /// Sends content that can be read once.
    pub(super) fn send_once(mut self, body: &mut dyn Read) -> Result<(), StoreError> {
        let mut retry = self.inner.client.retry(&self.inner.endpoint);
        let sent = retry.run(|_| self.begin()).and_then(|()| match self.session() {
            Some(session) => match self.send(session, body) {
                Err(AttemptFailure::Remote(failed)) => Err(failed.error.into()),
                Err(AttemptFailure::Final(error)) => Err(error),
                Ok(()) => Ok(()),
            },
            None => Ok(()),
        });
        sent.map_err(|error| error.into_store(self.action()))
    }

    /// Sends content that can be opened again.
    pub(super) fn run(mut self, open: &Open<'_>) -> Result<(), StoreError> {
        let mut retry = self.inner.client.retry(&self.inner.endpoint);
        let sent = retry.run(|retry| -> Attempt<()> {
            loop {
                match self.step(open) {
                    Ok(()) => {}
                    Err(AttemptFailure::Remote(failed)) => self.recover(failed)?,
                    Err(failed) => return Err(failed),
                }
                match &self.state {
                    State::Done => return Ok(()),
                    // Compared with the highest offset so far: otherwise a registry that loses
                    // bytes would be retried for ever.
                    State::Open(session) if session.offset >= self.furthest.saturating_add(PROGRESS_BYTES) => {
                        self.furthest = session.offset;
                        retry.reset();
                    }
                    _ => {}
                }
            }
        });
        sent.map_err(|error| error.into_store(self.action()))
    }

    fn action(&self) -> String {
        format!("write blob {}", self.descriptor.digest)
    }

    fn session(&self) -> Option<Session> {
        match &self.state {
            State::Open(session) | State::Interrupted(session) => Some(session.clone()),
            State::New | State::Done => None,
        }
    }

    /// One step towards `Done`.
    fn step(&mut self, open: &Open<'_>) -> Attempt<()> {
        match &self.state {
            State::New => self.begin(),
            State::Open(session) => {
                let session = session.clone();
                self.send(session, &mut open(0).map_err(content)?)
            }
            State::Interrupted(session) => {
                let session = session.clone();
                self.query_offset(session);
                Ok(())
            }
            State::Done => Ok(()),
        }
    }

    /// Decides how to continue after a failed request; returns the failure if that takes
    /// another attempt.
    fn recover(&mut self, failed: AttemptError) -> Result<(), AttemptError> {
        let status = failed.error.status();
        match (self.mode, status) {
            // Too much at once, for the registry or for a proxy before it.
            (Mode::Whole, Some(411 | 413)) => {
                self.mode = Mode::Chunks(CHUNK_SIZE);
                self.state = State::New;
                return Ok(());
            }
            // A limit of chunks: GitHub's registry says 416, others 413.
            (Mode::Chunks(size), Some(413)) => {
                self.use_smaller_chunks(size);
                return Ok(());
            }
            _ => {}
        }
        if let Some(session) = self.session() {
            if status == Some(416) && self.repositions < MAX_REPOSITIONS {
                // Or an earlier request still used the session.
                self.repositions += 1;
                match self.mode {
                    Mode::Chunks(size) => self.use_smaller_chunks(size),
                    _ => {
                        self.mode = Mode::Chunks(CHUNK_SIZE);
                        self.state = State::Interrupted(session);
                    }
                }
                thread::sleep(self.inner.client.options().retry.backoff);
                return Ok(());
            }
            let is_forgotten = matches!(failed.error, RemoteError::NotFound { .. }) || status == Some(416);
            if is_forgotten && !self.is_restarted {
                self.is_restarted = true;
                self.state = State::New;
                return Ok(());
            }
        }
        if self.mode == Mode::Whole && matches!(failed.error, RemoteError::Unreachable { .. }) {
            self.mode = Mode::Chunks(CHUNK_SIZE);
        }
        Err(failed)
    }

    /// Halves the chunks; below the smallest, all is sent at once.
    fn use_smaller_chunks(&mut self, size: u64) {
        match self.session() {
            Some(session) if size / 2 >= MIN_CHUNK => {
                self.mode = Mode::Chunks(size / 2);
                self.state = State::Interrupted(session);
            }
            _ => {
                self.mode = Mode::WholeAtLast;
                self.state = State::New;
            }
        }
    }

    fn request(&self, method: Method, url: Url) -> Request<'a> {
        let operation = Operation::WriteBlob(self.descriptor.digest);
        Request::new(method, url, &self.inner.endpoint, operation)
    }

    /// Opens a session, or mounts the blob from another repository.
    fn begin(&mut self) -> Attempt<()> {
        let client = &self.inner.client;
        let digest = self.descriptor.digest;
        let mount = self.mount.take();
        let mut url = self.inner.endpoint.url("blobs/uploads/");
        if let Some(from) = &mount {
            url = url.with_query([("mount", digest.to_string().as_str()), ("from", from)]);
        } else if digest.algorithm() != Algorithm::Sha256 {
            url = url.with_query([("digest-algorithm", digest.algorithm().name())]);
        }
        let request = self.request(Method::POST, url);
        let response = match client.attempt(&request, RequestBody::Bytes(&[])) {
            // The other repository may not be readable: then the blob is sent.
            Ok(response) if mount.is_some() && matches!(response.status().as_u16(), 401 | 403) => {
                return self.begin();
            }
            Err(failed) if mount.is_some() && matches!(failed.error, RemoteError::Denied { .. }) => {
                return self.begin();
            }
            Err(failed) => {
                // Another attempt may mount it.
                self.mount = mount;
                return Err(failed.into());
            }
            Ok(response) => response,
        };
        match response.status().as_u16() {
            201 => self.state = State::Done,
            202 => {
                let stated = header(response.headers(), "oci-chunk-min-length").and_then(|v| v.parse::<u64>().ok());
                let session = Session {
                    location: next_location(&request, response.headers())?,
                    offset: 0,
                    min_chunk: stated.unwrap_or(0).min(MAX_MIN_CHUNK),
                };
                client.drain(&request, response);
                self.state = State::Open(session);
            }
            _ => return Err(client.error_of(&request, response).into()),
        }
        Ok(())
    }

    /// Sends what the registry does not have yet.
    fn send(&mut self, session: Session, body: &mut dyn Read) -> Attempt<()> {
        let mut source = SourceReader {
            inner: VerifyReader::new(body, self.descriptor),
            error: None,
        };
        let sent = self.send_from(session, &mut source);
        match source.error {
            Some(error) => Err(content(StoreError::from_io(error).unwrap_or_else(|source| {
                StoreError::Read {
                    digest: self.descriptor.digest,
                    source,
                }
            }))),
            None => sent,
        }
    }

    /// The same; how reading failed is in `source`.
    fn send_from(&mut self, mut session: Session, source: &mut SourceReader<'_>) -> Attempt<()> {
        let client = &self.inner.client;
        let size = self.descriptor.size;
        self.state = State::Interrupted(session.clone());
        // Bytes that the registry has already are hashed nevertheless.
        if io::copy(&mut source.take(session.offset), &mut io::sink()).is_err() {
            return Ok(());
        }
        if let Mode::Chunks(chunk) = self.mode {
            while session.offset < size {
                let n = chunk.max(session.min_chunk).min(size - session.offset);
                let range = format!("{}-{}", session.offset, session.offset + n - 1);
                let request = self
                    .request(Method::PATCH, session.location.clone())
                    .with_header(OCTET_STREAM.0, OCTET_STREAM.1)
                    .with_header("content-range", range);
                let response = client.attempt(&request, RequestBody::Stream(n, &mut source.take(n)))?;
                if response.status() != 202 {
                    return Err(client.error_of(&request, response).into());
                }
                session.location = next_location(&request, response.headers())?;
                session.offset += n;
                self.state = State::Interrupted(session.clone());
                client.drain(&request, response);
            }
            // The reader reports only at its end whether everything was right.
            if io::copy(source, &mut io::sink()).is_err() {
                return Ok(());
            }
        }
        let digest = self.descriptor.digest.to_string();
        let url = session.location.clone().with_query([("digest", digest.as_str())]);
        let mut request = self
            .request(Method::PUT, url)
            .with_header(OCTET_STREAM.0, OCTET_STREAM.1);
        request.response_timeout = Some(self.response_timeout());
        let rest = size - session.offset;
        if rest > 0 && session.offset > 0 {
            request = request.with_header("content-range", format!("{}-{}", session.offset, size - 1));
        }
        let payload = match rest {
            0 => RequestBody::Bytes(&[]),
            rest => RequestBody::Stream(rest, source),
        };
        let response = client.attempt(&request, payload)?;
        if !matches!(response.status().as_u16(), 201 | 204) {
            return Err(client.error_of(&request, response).into());
        }
        client.drain(&request, response);
        self.state = State::Done;
        Ok(())
    }

    /// How long the registry may take to store the blob: it may copy all of it
    /// before it answers.
    fn response_timeout(&self) -> Duration {
        let usual = self.inner.client.timeout(&self.inner.endpoint) * 4;
        usual + Duration::from_secs(self.descriptor.size / BYTES_PER_STORE_SECOND)
    }

    /// Queries the offset of an interrupted upload; restarts it if the registry
    /// can't tell, unless the blob exists by now.
    fn query_offset(&mut self, session: Session) {
        self.state = match self.position(&session) {
            Some(session) => State::Open(session),
            // The last answer may be all that was lost.
            None if self.blob_exists() => State::Done,
            None => State::New,
        };
    }

    fn position(&self, session: &Session) -> Option<Session> {
        let client = &self.inner.client;
        let request = self.request(Method::GET, session.location.clone());
        let response = client.attempt(&request, RequestBody::None).ok()?;
        if !matches!(response.status().as_u16(), 200 | 204) {
            return None;
        }
        // `0-N`, both ends included. `0-0` is also what registries say that
        // have nothing: then that one byte doesn't count.
        let range = header(response.headers(), header::RANGE).unwrap_or_default();
        let last = range
            .trim_start_matches("bytes=")
            .strip_prefix("0-")?
            .parse::<u64>()
            .ok()?;
        if last == 0 || last >= self.descriptor.size {
            return None;
        }
        let location = next_location(&request, response.headers()).ok()?;
        client.drain(&request, response);
        Some(Session {
            location,
            offset: last + 1,
            min_chunk: session.min_chunk,
        })
    }

    /// Whether the registry has the blob by now. One that can't tell is sent
    /// the blob again.
    fn blob_exists(&self) -> bool {
        let url = self.inner.endpoint.url(&format!("blobs/{}", self.descriptor.digest));
        let request = self.request(Method::HEAD, url);
        let response = self.inner.client.attempt(&request, RequestBody::None);
        response.is_ok_and(|response: Response<Body>| {
            let length = header(response.headers(), header::CONTENT_LENGTH);
            response.status() == 200 && length.is_some_and(|v| v.parse() == Ok(self.descriptor.size))
        })
    }
}

/// Where the next request of an upload goes (distribution-spec, "Pushing a blob
/// in chunks").
fn next_location(request: &Request<'_>, headers: &HeaderMap) -> Result<Url, RemoteError> {
    let location = header(headers, header::LOCATION).ok_or_else(|| RemoteError::Protocol {
        what: "no location to send the blob to".to_string(),
    })?;
    request.url.follow(location)
}

/// The content, keeping the error of a failed read: to HTTP it would be a
/// broken connection.
struct SourceReader<'a> {
    inner: VerifyReader<&'a mut dyn Read>,
    error: Option<io::Error>,
}

impl SourceReader<'_> {
    fn take(&mut self, limit: u64) -> io::Take<&mut Self> {
        Read::take(self, limit)
    }
}

impl Read for SourceReader<'_> {
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
