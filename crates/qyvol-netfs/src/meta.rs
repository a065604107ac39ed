//! What a server says about a file.

use qyvol_types::Timestamp;
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, header};

use crate::date;

/// Maximum length of an entity tag that is remembered, in bytes.
const ETAG_BYTES: usize = 256;

/// Length and validators (RFC 9110, 8.6 and 8.8) of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// In bytes, if the server says so.
    pub(crate) length: Option<u64>,
    pub(crate) etag: Option<String>,
    pub(crate) modified: Option<Timestamp>,
}

impl Meta {
    /// From the fields of a response. `Content-Length` is the file's length only in a
    /// complete response.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Meta {
        let field = |name| {
            headers
                .get(name)
                .and_then(|value: &header::HeaderValue| value.to_str().ok())
        };
        Meta {
            length: field(header::CONTENT_LENGTH).and_then(parse_length),
            etag: field(header::ETAG).and_then(parse_etag),
            modified: field(header::LAST_MODIFIED).and_then(date::parse_http),
        }
    }

    /// The entity tag, if it identifies exactly these bytes (RFC 9110, 8.8.1).
    pub(crate) fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| !etag.starts_with("W/"))
    }

    /// Whether both are known to have the same content.
    pub(crate) fn is_same(&self, other: &Meta) -> bool {
        if let (Some(a), Some(b)) = (self.length, other.length)
            && a != b
        {
            return false;
        }
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => weak(a) == weak(b),
            _ => self.modified.is_some() && self.modified == other.modified && self.length == other.length,
        }
    }

    /// Whether both are known to have different content.
    pub(crate) fn is_other(&self, other: &Meta) -> bool {
        match (&self.etag, &other.etag) {
            (Some(a), Some(b)) => weak(a) != weak(b),
            _ => match (self.modified, other.modified) {
                (Some(a), Some(b)) => a != b,
                _ => false,
            },
        }
    }
}

/// An entity tag without its weak prefix (RFC 9110, 8.8.3.2).
fn weak(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

/// Reads an entity tag. One that can't be sent back is ignored.
pub(crate) fn parse_etag(text: &str) -> Option<String> {
    let text = text.trim();
    let opaque = weak(text).strip_prefix('"')?.strip_suffix('"')?;
    let fits = text.len() <= ETAG_BYTES && opaque.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    fits.then(|| text.to_string())
}

/// Reads a length: digits alone.
pub(crate) fn parse_length(text: &str) -> Option<u64> {
    let text = text.trim();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // `set_len` takes no more than an i64.
    text.parse().ok().filter(|n| is_number && i64::try_from(*n).is_ok())
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Absent,
    Directory,
    File(Meta),
    /// Only a request for its content can show whether it exists, and how long it is.
    Unknown,
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// [`Found::File`] or [`Found::Directory`].
    pub(crate) found: Found,
}

/// The entries of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    /// How many were left out, because their name or place can't be in this directory.
    pub(crate) skipped: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(length: u64, etag: &str, modified: u64) -> Meta {
        Meta {
            length: Some(length),
            etag: parse_etag(etag),
            modified: Timestamp::from_unix(modified).ok().filter(|_| modified > 0),
        }
    }

    #[test]
    fn etag_is_kept_if_it_can_be_sent_back() {
        for good in ["\"a\"", "W/\"a\"", "\"\"", "\"a-b:c\""] {
            assert_eq!(parse_etag(good).as_deref(), Some(good));
        }
        let long = format!("\"{}\"", "a".repeat(300));
        for bad in [
            "",
            "a",
            "\"a",
            "\"a\r\nb\"",
            "\"a\"b\"",
            "w/\"a\"",
            "\"a b\"",
            "\"é\"",
            &long,
        ] {
            assert_eq!(parse_etag(bad), None, "{bad}");
        }
        assert_eq!(meta(1, "W/\"a\"", 0).strong_etag(), None);
        assert_eq!(meta(1, "\"a\"", 0).strong_etag(), Some("\"a\""));
    }

    #[test]
    fn length_is_a_number_that_a_file_can_have() {
        assert_eq!(parse_length(" 12 "), Some(12));
        for bad in ["", "-1", "+1", "1.0", "0x1", "9223372036854775808", "12, 12"] {
            assert_eq!(parse_length(bad), None, "{bad}");
        }
    }

    #[test]
    fn same_content_needs_a_validator_that_agrees() {
        assert!(meta(1, "\"a\"", 0).is_same(&meta(1, "W/\"a\"", 0)));
        assert!(!meta(1, "\"a\"", 5).is_same(&meta(1, "\"b\"", 5)));
        assert!(!meta(1, "\"a\"", 0).is_same(&meta(2, "\"a\"", 0)));
        assert!(meta(1, "", 5).is_same(&meta(1, "\"a\"", 5)));
        // No validator at all: nothing is known.
        assert!(!meta(1, "", 0).is_same(&meta(1, "", 0)));
        assert!(!meta(1, "", 0).is_other(&meta(1, "", 0)));
        assert!(meta(1, "", 5).is_other(&meta(1, "", 6)));
    }
}
