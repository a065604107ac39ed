//! The server's side: the requests and responses of each protocol, over one HTTP client.
//!
//! A write is always conditional on what the guest saw. If a server might ignore the
//! condition, it is asked once more just before the write.

mod plain;
mod s3;
mod s3_list;
pub(crate) mod sigv4;
mod webdav;
mod webdav_list;

use std::fs::File;

use qyvol_types::Digest;
use ureq::http::Method;

use crate::date;
use crate::error::{ErrorKind, FsError};
use crate::http::{Answer, Client, Payload, Request};
use crate::meta::{Found, Listing, Meta};
use crate::protocol::Protocol;

/// Bytes of a listing for each possible entry, and for the rest.
const LISTING_BYTES_PER_ENTRY: usize = 2 << 10;
const LISTING_BYTES: usize = 64 << 10;
/// Maximum bytes of a response whose content is not used.
const ANSWER_BYTES: usize = 64 << 10;

/// The tree on the server.
#[derive(Debug)]
pub(crate) struct Remote {
    client: Client,
    protocol: Protocol,
    max_entries: usize,
}

/// Content to send: a file of ours that nobody else writes to.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) file: File,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
}

/// The names that a text gives when it is read as each kind of listing.
#[cfg(fuzzing)]
pub(crate) fn names_of_any_listing(text: &str) -> Vec<String> {
    let mut entries = s3_list::read(text, "p/").map_or_else(|_| Vec::new(), |page| page.listing.entries);
    let _ = s3_list::error_text(text);
    let root = ["dav".to_string()];
    let place = webdav_list::Place {
        host: "server.example",
        root: &root,
        path: "a",
    };
    let _ = webdav_list::read(text, &place, |member| {
        if let webdav_list::Member::Entry(entry) = member {
            entries.push(entry);
        }
        true
    });
    entries.into_iter().map(|entry| entry.name).collect()
}

impl Remote {
    pub(crate) fn new(client: Client, protocol: Protocol, max_entries: usize) -> Remote {
        Remote {
            client,
            protocol,
            max_entries,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether directories exist only as parts of the paths of files.
    pub(crate) fn takes_directories_for_granted(&self) -> bool {
        self.protocol == Protocol::Http
    }

    /// What is at a path.
    pub(crate) fn stat(&self, path: &str) -> Result<Found, FsError> {
        match self.protocol {
            Protocol::Http => plain::stat(&self.client, path),
            Protocol::WebDav => webdav::stat(&self.client, path),
            Protocol::S3 { .. } => s3::stat(&self.client, path),
        }
    }

    /// The entries of a directory; none if the protocol has no listings.
    pub(crate) fn list(&self, path: &str) -> Result<Option<Listing>, FsError> {
        let limit = self.max_entries;
        match self.protocol {
            Protocol::Http => Ok(None),
            Protocol::WebDav => webdav::list(&self.client, path, limit).map(Some),
            Protocol::S3 { .. } => s3::list(&self.client, path, limit).map(Some),
        }
    }

    /// The request for a file's content.
    pub(crate) fn get(&self, path: &str) -> Request<'static> {
        let target = self.client.base().path_of(path);
        Request::new(Method::GET, target, self.client.what("read", path))
    }

    /// Sends a file's content to replace `seen`, which is the file that the guest saw or
    /// nothing. [`ErrorKind::Conflict`] if something else is there.
    pub(crate) fn put(&self, path: &str, content: &Content, seen: Option<&Meta>) -> Result<Meta, FsError> {
        let what = self.client.what("write", path);
        self.check_unchanged(path, &what, seen)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => FsError::new(ErrorKind::Conflict, error.to_string()),
                _ => error,
            })?;
        let mut request = Request::new(Method::PUT, self.client.base().path_of(path), what.clone())
            .with_payload(Payload::File(&content.file, content.length, &content.digest));
        request.headers.extend(condition(seen));
        let mut answer = self.client.call(&request, ANSWER_BYTES)?;
        if answer.status == 501 && matches!(self.protocol, Protocol::S3 { .. }) {
            // The store does not support conditional writes. What it has was compared just
            // before.
            request.headers.clear();
            answer = self.client.call(&request, ANSWER_BYTES)?;
        }
        match answer.status {
            200 | 201 | 204 => self.written(path, &what, content, &answer),
            // S3's responses to a condition if the object is gone, or if another write is in
            // progress.
            404 if seen.is_some() => Err(FsError::new(ErrorKind::Conflict, answer.error(&what).to_string())),
            409 if matches!(self.protocol, Protocol::S3 { .. }) => {
                Err(FsError::new(ErrorKind::Conflict, answer.error(&what).to_string()))
            }
            _ => Err(answer.error(&what)),
        }
    }

    /// What the server says about a file that it accepted.
    fn written(&self, path: &str, what: &str, content: &Content, answer: &Answer) -> Result<Meta, FsError> {
        let said = Meta::from_headers(&answer.headers);
        if said.strong_etag().is_some() {
            return Ok(Meta {
                length: Some(content.length),
                modified: None,
                ..said
            });
        }
        match self.stat(path)? {
            // What the server says now may be about content that somebody else has sent since,
            // so it does not identify this content.
            Found::File(meta) if meta.length.is_none_or(|length| length == content.length) => Ok(Meta {
                length: Some(content.length),
                ..Meta::default()
            }),
            Found::Unknown => Ok(Meta::default()),
            found => Err(FsError::new(
                ErrorKind::Io,
                format!(
                    "{what}: the server accepted {} bytes, but now has {}",
                    content.length,
                    shown(&found)
                ),
            )),
        }
    }

    /// Removes the file that the guest saw.
    pub(crate) fn remove_file(&self, path: &str, seen: &Meta) -> Result<(), FsError> {
        let what = self.client.what("remove", path);
        match self.check_unchanged(path, &what, Some(seen)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            checked => checked?,
        }
        let mut request = Request::new(Method::DELETE, self.client.base().path_of(path), what.clone());
        request.headers.extend(condition(Some(seen)));
        let mut answer = self.client.call(&request, ANSWER_BYTES)?;
        if answer.status == 501 {
            request.headers.clear();
            answer = self.client.call(&request, ANSWER_BYTES)?;
        }
        match answer.status {
            200 | 202 | 204 | 404 | 410 => Ok(()),
            // The response to this same request may have been lost.
            412 if self.stat(path)? == Found::Absent => Ok(()),
            _ => Err(answer.error(&what)),
        }
    }

    /// Creates a directory; succeeds if it exists already.
    pub(crate) fn make_directory(&self, path: &str) -> Result<(), FsError> {
        match self.protocol {
            Protocol::Http => Ok(()),
            Protocol::WebDav => webdav::make_directory(&self.client, path),
            Protocol::S3 { .. } => s3::make_directory(&self.client, path),
        }
    }

    /// Removes a directory, if it is empty on the server too.
    pub(crate) fn remove_directory(&self, path: &str) -> Result<(), FsError> {
        let listing = match self.list(path) {
            Ok(Some(listing)) => listing,
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let what = self.client.what("remove", path);
        if let count @ 1.. = listing.entries.len() + listing.skipped {
            let message =
                format!("{what}: the directory has {count} entries on the server, which nobody asked to remove");
            return Err(FsError::new(ErrorKind::Conflict, message));
        }
        let request = Request::new(Method::DELETE, self.client.base().directory_of(path), what.clone());
        let answer = self.client.call(&request, ANSWER_BYTES)?;
        match answer.status {
            200 | 202 | 204 | 404 | 410 => Ok(()),
            _ => Err(answer.error(&what)),
        }
    }

    /// Whether there is nothing at a path, if only a request for its content can show that.
    fn is_absent(&self, path: &str) -> Result<bool, FsError> {
        match self.client.call(&self.get(path), ANSWER_BYTES) {
            Ok(answer) if matches!(answer.status, 404 | 410) => Ok(true),
            Ok(answer) if answer.status == 200 => Ok(false),
            Ok(answer) => Err(answer.error(&self.client.what("look up", path))),
            Err(error) if error.kind() == ErrorKind::TooLarge => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Compares what the server has with what the guest saw: not every server respects the
    /// condition of a request.
    fn check_unchanged(&self, path: &str, what: &str, seen: Option<&Meta>) -> Result<(), FsError> {
        let now = self.stat(path)?;
        let is_unchanged = match (&now, seen) {
            (Found::Absent, None) | (Found::Unknown, Some(_)) => true,
            (Found::Unknown, None) => self.is_absent(path)?,
            (Found::File(now), Some(seen)) => {
                now.is_same(seen) || (!now.is_other(seen) && now.length == seen.length && !seen.has_validator())
            }
            (Found::Absent, Some(_)) => {
                let message = format!("{what}: it existed when it was opened, and is gone");
                // For a removal, that is not a conflict.
                return Err(FsError::new(ErrorKind::NotFound, message));
            }
            _ => false,
        };
        if is_unchanged {
            return Ok(());
        }
        let was = seen.map_or_else(|| "nothing".to_string(), |seen| shown(&Found::File(seen.clone())));
        let message = format!(
            "{what}: it was changed in the meantime, and is not overwritten: the application saw {was}, now there is {}; \
             fetch it again and repeat the change",
            shown(&now)
        );
        Err(FsError::new(ErrorKind::Conflict, message))
    }
}

impl Meta {
    /// Whether another version could be told apart from it.
    pub(crate) fn has_validator(&self) -> bool {
        self.etag.is_some() || self.modified.is_some()
    }
}

/// The condition of a write (RFC 9110, 13.1): a strong entity tag if there is one,
/// because a weak one never matches.
fn condition(seen: Option<&Meta>) -> Option<(&'static str, String)> {
    let Some(seen) = seen else {
        return Some(("if-none-match", "*".to_string()));
    };
    match (seen.strong_etag(), seen.modified) {
        (Some(etag), _) => Some(("if-match", etag.to_string())),
        (None, Some(modified)) => Some(("if-unmodified-since", date::format_http(modified))),
        (None, None) => None,
    }
}

/// What is at a path, in words.
fn shown(found: &Found) -> String {
    match found {
        Found::Absent => "nothing".to_string(),
        Found::Directory => "a directory".to_string(),
        Found::Unknown => "something that can't be examined".to_string(),
        Found::File(meta) => {
            let length = meta
                .length
                .map_or_else(|| "an unknown number of".to_string(), |n| n.to_string());
            let etag = meta
                .etag
                .as_deref()
                .map(|etag| format!(", {}", qyvol_types::escape(etag)));
            format!("a file of {length} bytes{}", etag.unwrap_or_default())
        }
    }
}

/// The text of an XML body.
fn text<'a>(answer: &'a Answer, what: &str) -> Result<&'a str, FsError> {
    let text = std::str::from_utf8(&answer.body);
    text.map_err(|_| FsError::new(ErrorKind::Io, format!("{what}: the response is not UTF-8")))
}

/// The largest listing that is read.
fn listing_bytes(max_entries: usize) -> usize {
    max_entries
        .saturating_mul(LISTING_BYTES_PER_ENTRY)
        .saturating_add(LISTING_BYTES)
}

/// The error for a listing with too many entries.
fn too_many(what: &str, limit: usize) -> FsError {
    FsError::new(
        ErrorKind::TooLarge,
        format!("{what}: more than {limit} entries, the limit of this mount"),
    )
}

pub(crate) use s3_list::error_text as s3_error;

#[cfg(test)]
mod tests {
    use qyvol_types::Timestamp;

    use super::*;

    #[test]
    fn write_is_conditional_on_what_was_seen() {
        let meta = |etag: &str, modified: Option<u64>| Meta {
            length: Some(1),
            etag: Some(etag.to_string()).filter(|etag| !etag.is_empty()),
            modified: modified.and_then(|n| Timestamp::from_unix(n).ok()),
        };
        let of = |meta: &Meta| condition(Some(meta)).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(of(&meta("\"a\"", Some(0))).as_deref(), Some("if-match: \"a\""));
        let since = "if-unmodified-since: Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(of(&meta("W/\"a\"", Some(0))).as_deref(), Some(since));
        assert_eq!(of(&meta("", None)), None);
        assert_eq!(condition(None), Some(("if-none-match", "*".to_string())));
    }
}
