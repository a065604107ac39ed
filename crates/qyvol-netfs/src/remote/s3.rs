//! Amazon S3's REST interface: objects by key, directories by common prefixes of keys.
//!
//! An empty object `a/` marks an empty directory, as other tools create it. If there are
//! both an object `a` and keys below `a/`, the object is what the guest sees.
//!
//! Deliberately absent: versions, multipart uploads, and any other bucket.

use ureq::http::Method;

use super::s3_list::{self, Page};
use super::{ANSWER_BYTES, listing_bytes, text};
use crate::error::{ErrorKind, FsError};
use crate::http::{Client, Request};
use crate::meta::{Found, Listing, Meta};
use crate::url;

/// Maximum number of empty pages of one listing: a store with many delete markers has some.
const EMPTY_PAGES: u32 = 100;
/// Keys of one page.
const PAGE: usize = 1000;

/// What is at a path: an object, else a directory if any key is below it.
pub(super) fn stat(client: &Client, path: &str) -> Result<Found, FsError> {
    let what = client.what("look up", path);
    if !path.is_empty() {
        let request = Request::new(Method::HEAD, client.base().path_of(path), what.clone());
        let answer = client.call(&request, ANSWER_BYTES)?;
        match answer.status {
            200 => {
                let meta = Meta::from_headers(&answer.headers);
                return Ok(if meta.length.is_some() {
                    Found::File(meta)
                } else {
                    Found::Unknown
                });
            }
            404 => {}
            _ => return Err(answer.error(&what)),
        }
    }
    let prefix = prefix(client, path);
    let page = page(client, &prefix, None, 1, &what)?;
    Ok(
        match page.listing.entries.is_empty() && page.listing.skipped == 0 && !page.has_marker {
            true => Found::Absent,
            false => Found::Directory,
        },
    )
}

/// The objects and common prefixes directly below a path.
pub(super) fn list(client: &Client, path: &str, limit: usize) -> Result<Listing, FsError> {
    let what = client.what("list", path);
    let prefix = prefix(client, path);
    let mut all = Listing::default();
    let mut token: Option<String> = None;
    let mut is_there = path.is_empty();
    let mut empty_pages = 0;
    loop {
        let page = page(client, &prefix, token.as_deref(), PAGE, &what)?;
        is_there |= page.has_marker || !page.listing.entries.is_empty() || page.listing.skipped > 0;
        let before = all.entries.len() + all.skipped;
        all.skipped += page.listing.skipped;
        all.entries.extend(page.listing.entries);
        if all.entries.len() + all.skipped > limit {
            return Err(super::too_many(&what, limit));
        }
        if before == all.entries.len() + all.skipped {
            empty_pages += 1;
        }
        match page.next {
            None => break,
            // With empty or repeated pages, the listing would never end.
            Some(next) if token.as_ref() == Some(&next) || empty_pages > EMPTY_PAGES => {
                let message = format!("{what}: the listing does not end");
                return Err(FsError::new(ErrorKind::Io, message));
            }
            Some(next) => token = Some(next),
        }
    }
    if !is_there {
        return Err(FsError::new(ErrorKind::NotFound, format!("{what}: no key is below it")));
    }
    // Objects hide keys below them.
    all.entries
        .sort_by(|a, b| (&a.name, a.found == Found::Directory).cmp(&(&b.name, b.found == Found::Directory)));
    all.entries.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(all)
}

fn prefix(client: &Client, path: &str) -> String {
    let prefix = client.base().key_prefix();
    if path.is_empty() {
        prefix
    } else {
        format!("{prefix}{path}/")
    }
}

/// One page of keys (ListObjectsV2).
fn page(client: &Client, prefix: &str, token: Option<&str>, keys: usize, what: &str) -> Result<Page, FsError> {
    // In the order of their names, as a signature has them.
    let mut query = String::new();
    if let Some(token) = token {
        query.push_str(&format!("continuation-token={}&", url::encode(token)));
    }
    query.push_str(&format!(
        "delimiter=%2F&encoding-type=url&list-type=2&max-keys={keys}&prefix={}",
        url::encode(prefix)
    ));
    let mut request = Request::new(Method::GET, client.base().bucket_path(), what.to_string());
    request.query = query;
    let answer = client.call(&request, listing_bytes(PAGE))?;
    if answer.status != 200 {
        let mut error = answer.error(what);
        if error.kind() == ErrorKind::NotFound {
            error = FsError::new(ErrorKind::Io, format!("{error}; expected a bucket that exists"));
        }
        return Err(error);
    }
    let page = s3_list::read(text(&answer, what)?, prefix);
    page.map_err(|why| FsError::new(ErrorKind::Io, format!("{what}: {why}")))
}

/// Marks a directory, so that it exists without a file in it; succeeds if it is marked
/// already.
pub(super) fn make_directory(client: &Client, path: &str) -> Result<(), FsError> {
    let what = client.what("make directory", path);
    let mut request = Request::new(Method::PUT, client.base().directory_of(path), what.clone())
        .with_header("content-length", "0")
        .with_header("if-none-match", "*")
        .with_payload(crate::http::Payload::Bytes(b""));
    let mut answer = client.call(&request, ANSWER_BYTES)?;
    if answer.status == 501 && stat(client, path)? == Found::Absent {
        // The store does not support conditional writes.
        request.headers.retain(|(name, _)| *name != "if-none-match");
        answer = client.call(&request, ANSWER_BYTES)?;
    }
    match answer.status {
        200 | 201 | 204 | 412 => Ok(()),
        _ => Err(answer.error(&what)),
    }
}
