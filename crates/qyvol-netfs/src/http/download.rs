//! A file's content: fetched whole, resumed where it broke off.
//!
//! A download is resumed with a range request that is valid only for the same strong
//! entity tag (RFC 9110, 13.1.5). Without a tag, or if it has changed, the whole file is
//! fetched again, so the content is always of one version. An announced length is always
//! checked.

use std::fs::File;
use std::io::{Seek, Write};

use qyvol_types::{Algorithm, Digest, Hasher};
use ureq::http::{HeaderMap, header};

use super::client::{Client, Request};
use super::incoming::Incoming;
use crate::error::{ErrorKind, Failure, FsError};
use crate::meta::Meta;

/// Bytes of progress after which all retries are available again.
const PROGRESS_BYTES: u64 = 1 << 20;
/// How often a download starts again from the beginning.
const MAX_RESTARTS: u32 = 3;
/// How often a connection is opened for one file, whatever the progress.
const MAX_OPENS: u32 = 1000;

/// The result of a download.
#[derive(Debug)]
pub(crate) enum Download {
    /// The content is in the file.
    Content {
        /// With the length as counted.
        meta: Meta,
        digest: Digest,
    },
    /// The cached content is still the server's.
    NotModified,
    /// There is no file.
    Absent,
    /// The server redirects from `a` to `a/`, which means a directory.
    Directory,
}

/// Fetches into `file`, which is empty. `request` is a `GET`, with `condition` if there
/// is a copy already. More than `limit` bytes are refused.
pub(crate) fn download(
    client: &Client,
    request: &Request<'_>,
    condition: Option<&(&'static str, String)>,
    file: &mut File,
    limit: u64,
) -> Result<Download, FsError> {
    let mut state = State {
        client,
        request,
        file,
        limit,
        at: 0,
        hasher: Hasher::new(Algorithm::Sha256),
        meta: Meta::default(),
        restarts: 0,
        opens: 0,
        failed_at: 0,
    };
    client.retrying(|progressed| {
        let done = state.attempt(condition);
        if state.at >= state.failed_at + PROGRESS_BYTES {
            *progressed = true;
        }
        state.failed_at = state.at;
        done
    })
}

struct State<'a> {
    client: &'a Client,
    request: &'a Request<'a>,
    file: &'a mut File,
    limit: u64,
    /// The next byte.
    at: u64,
    hasher: Hasher,
    /// The metadata of the version that is being read.
    meta: Meta,
    restarts: u32,
    opens: u32,
    failed_at: u64,
}

impl State<'_> {
    fn error(&self, kind: ErrorKind, what: &str) -> FsError {
        FsError::new(kind, format!("{}: {what}", self.request.what))
    }

    fn attempt(&mut self, condition: Option<&(&'static str, String)>) -> Result<Download, Failure> {
        self.opens += 1;
        if self.opens > MAX_OPENS {
            return Err(self
                .error(ErrorKind::Unreachable, "the connection broke too many times")
                .into());
        }
        let mut request = self.request.clone();
        let resumed = match self.meta.strong_etag() {
            Some(etag) if self.at > 0 => {
                request.headers.push(("range", format!("bytes={}-", self.at)));
                request.headers.push(("if-range", etag.to_string()));
                true
            }
            _ => {
                request.headers.extend(condition.cloned());
                false
            }
        };
        let (response, path) = self.client.attempt(&request)?;
        if path == format!("{}/", request.path) {
            return Ok(Download::Directory);
        }
        let headers = response.headers();
        let status = response.status().as_u16();
        if matches!(status, 200 | 206)
            && let Some(coding) = headers.get(header::CONTENT_ENCODING)
            && coding != "identity"
        {
            return Err(self
                .error(
                    ErrorKind::Io,
                    "the server sends it compressed, though it was asked not to",
                )
                .into());
        }
        match status {
            200 => {
                let meta = Meta::from_headers(headers);
                self.begin(meta)?;
            }
            206 if resumed => {
                if let Err(why) = self.check_range(headers) {
                    self.restart()?;
                    return Err(Failure::temporary(self.error(ErrorKind::Io, &why)));
                }
            }
            // There is nothing after what was received: it is another file now.
            416 if resumed => {
                self.restart()?;
                return Err(Failure::temporary(
                    self.error(ErrorKind::Io, "it became shorter while it was read"),
                ));
            }
            304 if !resumed && condition.is_some() => return Ok(Download::NotModified),
            404 | 410 => return Ok(Download::Absent),
            _ => {
                let what = &self.request.what;
                return Err(self.client.error_of(response, what).into());
            }
        }
        let incoming = Incoming::new(response, &self.request.what, self.client.timeout());
        self.read(incoming)
    }

    /// A complete response: what was received before no longer counts.
    fn begin(&mut self, meta: Meta) -> Result<(), Failure> {
        if self.at > 0 {
            self.restart()?;
        }
        if let Some(length) = meta.length.filter(|length| *length > self.limit) {
            return Err(self.too_long(&format!("it has {length} bytes")).into());
        }
        self.meta = meta;
        Ok(())
    }

    fn too_long(&self, what: &str) -> FsError {
        let what = format!("{what}, and the limits of this mount allow at most {}", self.limit);
        self.error(ErrorKind::TooLarge, &what)
    }

    /// Starts again from the beginning, which a server may cause a few times.
    fn restart(&mut self) -> Result<(), FsError> {
        self.restarts += 1;
        if self.restarts > MAX_RESTARTS {
            return Err(self.error(ErrorKind::Io, "it changes faster than it can be read"));
        }
        self.at = 0;
        self.failed_at = 0;
        self.hasher = Hasher::new(Algorithm::Sha256);
        self.meta = Meta::default();
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| FsError::local(&self.request.what, &error))
    }

    /// Whether a partial response is the requested one: `bytes AT-LAST/LENGTH` of the
    /// same version (RFC 9110, 14.4).
    fn check_range(&self, headers: &HeaderMap) -> Result<(), String> {
        let field = |name| {
            headers
                .get(name)
                .and_then(|value: &header::HeaderValue| value.to_str().ok())
        };
        let range = field(header::CONTENT_RANGE).unwrap_or_default();
        let parsed = range.strip_prefix("bytes ").and_then(|range| {
            let (span, total) = range.split_once('/')?;
            let (first, last) = span.split_once('-')?;
            Some((
                first.parse::<u64>().ok()?,
                last.parse::<u64>().ok()?,
                total.parse::<u64>().ok(),
            ))
        });
        let fits = |first: u64, last: u64, total: Option<u64>| {
            let whole = self.meta.length.or(total);
            first == self.at && last >= first && whole.is_none_or(|whole| last.checked_add(1) == Some(whole))
        };
        match parsed {
            Some((first, last, total)) if fits(first, last, total) => {}
            _ => {
                let range = qyvol_types::escape(range.get(..100).unwrap_or_default()).to_string();
                return Err(format!(
                    "the server sends the range `{range}` when asked for the bytes from {} on",
                    self.at
                ));
            }
        }
        let now = Meta::from_headers(headers).etag;
        match now.is_some() && now != self.meta.etag {
            true => Err("it changed while it was read".to_string()),
            false => Ok(()),
        }
    }

    fn read(&mut self, mut incoming: Incoming<'_>) -> Result<Download, Failure> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = incoming.read(&mut buffer)?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if n == 0 {
                break;
            }
            if self.at + n as u64 > self.limit {
                return Err(self.too_long("it is too long").into());
            }
            self.file
                .write_all(bytes)
                .map_err(|error| FsError::local(&self.request.what, &error))?;
            self.hasher.update(bytes);
            self.at += n as u64;
        }
        if let Some(length) = self.meta.length.filter(|length| *length != self.at) {
            let why = format!("the connection ended after {} of {length} bytes", self.at);
            let error = FsError::outage(ErrorKind::Unreachable, format!("{}: {why}", self.request.what));
            return Err(Failure::temporary(error));
        }
        let meta = Meta {
            length: Some(self.at),
            ..self.meta.clone()
        };
        let digest = self.hasher.clone().finish();
        Ok(Download::Content { meta, digest })
    }
}
