//! Blobs: GET, HEAD and DELETE.
//!
//! Content is not hashed again when it is read: its name is its hash, and it is never written
//! afterwards. Clients use HEAD to find out whether they may skip a push, so HEAD renews the
//! blob's time.

use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};

use super::body::{BLOCK, BLOCKS, Body};
use super::{ApiResult, CONTENT_DIGEST, RequestContext, blocking, parse_digest, respond};
use crate::access::Action;
use crate::error::{ApiError, Code};
use crate::names::Name;
use crate::storage::{Content, DeleteOutcome};

/// Content under a digest never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// The same, where others may not read it.
const FOREVER_PRIVATE: &str = "private, max-age=31536000, immutable";

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum ByteRange {
    All,
    Some { start: u64, length: u64 },
    Unsatisfiable,
}

/// Several ranges, or a range in another unit, count as none: RFC 9110 lets a server ignore the
/// header. A range that runs backwards can't be satisfied.
fn parse_range(range: Option<&str>, size: u64) -> ByteRange {
    let Some(spec) = range.and_then(|range| range.strip_prefix("bytes=")) else {
        return ByteRange::All;
    };
    let Some((first, last)) = spec.split_once('-') else {
        return ByteRange::All;
    };
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(start), None) if last.is_empty() => match start < size {
            true => ByteRange::Some {
                start,
                length: size - start,
            },
            false => ByteRange::Unsatisfiable,
        },
        (Some(start), Some(end)) => match start <= end && start < size {
            true => ByteRange::Some {
                start,
                length: end.min(size - 1) - start + 1,
            },
            false => ByteRange::Unsatisfiable,
        },
        (None, Some(suffix)) if first.is_empty() => match suffix.min(size) {
            0 => ByteRange::Unsatisfiable,
            length => ByteRange::Some {
                start: size - length,
                length,
            },
        },
        _ => ByteRange::All,
    }
}

impl RequestContext<'_> {
    pub(super) async fn blob(&self, name: &Name, digest: &str) -> ApiResult {
        self.check(name, Action::Read)?;
        let digest = parse_digest(digest)?;
        let repository = self.repository(name)?;
        let unknown = || ApiError::new(Code::BlobUnknown, "no such blob in this repository").detail(digest);
        let store = &self.hub.store;
        if self.method == Method::HEAD {
            let size = match store.blob_in_memory(&repository, &digest) {
                Some(size) => size,
                None => {
                    let store = store.clone();
                    blocking(move || store.blob(&repository, &digest))
                        .await??
                        .ok_or_else(unknown)?
                }
            };
            let digest = digest.to_string();
            return respond(
                StatusCode::OK,
                &[
                    (header::CONTENT_LENGTH, &size.to_string()),
                    (header::CONTENT_TYPE, "application/octet-stream"),
                    (header::ACCEPT_RANGES, "bytes"),
                    (header::ETAG, &format!("\"{digest}\"")),
                    (CONTENT_DIGEST, &digest),
                ],
                Body::empty(),
            );
        }
        let content = match store.content_in_memory(&repository, &digest) {
            Some(bytes) => Content::Bytes(bytes),
            None => {
                let store = store.clone();
                blocking(move || store.content(&repository, &digest))
                    .await??
                    .ok_or_else(unknown)?
            }
        };
        let digest = digest.to_string();
        let etag = format!("\"{digest}\"");
        let cache = match self.hub.gate.is_open() {
            true => FOREVER,
            false => FOREVER_PRIVATE,
        };
        let mut headers: Vec<(HeaderName, &str)> = vec![
            (header::CONTENT_TYPE, "application/octet-stream"),
            (header::ACCEPT_RANGES, "bytes"),
            (header::CACHE_CONTROL, cache),
            (header::ETAG, &etag),
            (CONTENT_DIGEST, &digest),
        ];
        if self.unchanged(&etag) {
            return respond(StatusCode::NOT_MODIFIED, &headers[2..], Body::empty());
        }
        let size = content.size();
        let same = self.header(header::IF_RANGE).is_none_or(|tag| tag == etag);
        let range = self.header(header::RANGE).filter(|_| same);
        let stated;
        let (status, start, length) = match parse_range(range, size) {
            ByteRange::All => (StatusCode::OK, 0, size),
            ByteRange::Some { start, length } => {
                stated = format!("bytes {start}-{}/{size}", start + length - 1);
                headers.push((header::CONTENT_RANGE, &stated));
                (StatusCode::PARTIAL_CONTENT, start, length)
            }
            ByteRange::Unsatisfiable => {
                return Err(ApiError::new(Code::SizeInvalid, "the blob has no such range")
                    .status(StatusCode::RANGE_NOT_SATISFIABLE)
                    .header(header::CONTENT_RANGE, &format!("bytes */{size}")));
            }
        };
        let body = match content {
            Content::Bytes(bytes) => {
                let at = |n: u64| usize::try_from(n).unwrap_or(bytes.len());
                Body::full(bytes.slice(at(start)..at(start + length)))
            }
            Content::File(file, _) => {
                let block = self.exchange.transfer(BLOCKS, BLOCK)?;
                Body::file(file, start, length, block)?
            }
        };
        respond(status, &headers, body)
    }

    /// Whether the client has this content already.
    pub(super) fn unchanged(&self, etag: &str) -> bool {
        self.header(header::IF_NONE_MATCH).is_some_and(|tags| {
            tags.split(',')
                .map(|tag| tag.trim().trim_start_matches("W/"))
                .any(|tag| tag == etag || tag == "*")
        })
    }

    pub(super) async fn delete_blob(&self, name: &Name, digest: &str) -> ApiResult {
        self.check(name, Action::Delete)?;
        let digest = parse_digest(digest)?;
        let repository = self.repository(name)?;
        let store = self.hub.store.clone();
        let refused = |message, needing| Err(ApiError::new(Code::Unsupported, message).detail(needing));
        match blocking(move || store.delete_blob(&repository, &digest)).await?? {
            DeleteOutcome::Done => respond(StatusCode::ACCEPTED, &[], Body::empty()),
            DeleteOutcome::Missing => {
                Err(ApiError::new(Code::BlobUnknown, "no such blob in this repository").detail(digest))
            }
            DeleteOutcome::Manifest => refused("this is a manifest: delete it under /manifests/", digest),
            DeleteOutcome::Needed(by) => refused("a manifest needs this blob: delete the manifest first", by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_reach_past_the_blob() {
        let some = |start, length| ByteRange::Some { start, length };
        for (range, size, expected) in [
            ("bytes=0-0", 10, some(0, 1)),
            ("bytes=2-5", 10, some(2, 4)),
            ("bytes=5-99999999999999999999999", 10, some(5, 5)),
            ("bytes=9-", 10, some(9, 1)),
            ("bytes=10-", 10, ByteRange::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, ByteRange::Unsatisfiable),
            ("bytes=-3", 10, some(7, 3)),
            ("bytes=-30", 10, some(0, 10)),
            ("bytes=-0", 10, ByteRange::Unsatisfiable),
            ("bytes=0-", 0, ByteRange::Unsatisfiable),
            ("bytes=5-2", 10, ByteRange::Unsatisfiable),
            ("bytes=0-1,3-4", 10, ByteRange::All),
            ("bytes=-", 10, ByteRange::All),
            ("bytes=a-b", 10, ByteRange::All),
            ("items=0-1", 10, ByteRange::All),
        ] {
            assert_eq!(parse_range(Some(range), size), expected, "{range}");
        }
        assert_eq!(parse_range(None, 10), ByteRange::All);
    }
}
