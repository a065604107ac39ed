//! WebDAV (RFC 4918): `PROPFIND` with depth 0 and 1, `MKCOL`.
//!
//! Deliberately absent: locks, `MOVE`, and depth infinity, which servers may refuse.

use ureq::http::Method;

use super::webdav_list::{self, Member};
use super::{ANSWER_BYTES, listing_bytes, text};
use crate::error::{ErrorKind, FsError};
use crate::http::{Client, Payload, Request};
use crate::meta::{Found, Listing};

/// The properties that are requested of each member (RFC 4918, 15).
const PROPFIND: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?><propfind xmlns=\"DAV:\"><prop><resourcetype/>\
                        <getcontentlength/><getetag/><getlastmodified/></prop></propfind>";

/// What is at a path.
pub(super) fn stat(client: &Client, path: &str) -> Result<Found, FsError> {
    let what = client.what("look up", path);
    let Some(listing) = propfind(client, path, "0", &what, 8)? else {
        return Ok(Found::Absent);
    };
    match listing.own {
        Some(found) => Ok(found),
        None => {
            let message = format!("{what}: the response says nothing about it");
            Err(FsError::new(ErrorKind::Io, message))
        }
    }
}

/// The members of a collection.
pub(super) fn list(client: &Client, path: &str, limit: usize) -> Result<Listing, FsError> {
    let what = client.what("list", path);
    let error = |kind, why: &str| FsError::new(kind, format!("{what}: {why}"));
    let members = propfind(client, path, "1", &what, limit)?;
    let members = members.ok_or_else(|| error(ErrorKind::NotFound, "it does not exist"))?;
    if matches!(members.own, Some(Found::File(_))) {
        return Err(error(ErrorKind::NotADirectory, "it is a file"));
    }
    // Such a response says nothing, and must not be read as an empty collection.
    if members.own.is_none() && members.listing.entries.is_empty() && members.listing.skipped == 0 {
        return Err(error(ErrorKind::Io, "the response says nothing about it"));
    }
    Ok(members.listing)
}

fn propfind(
    client: &Client,
    path: &str,
    depth: &str,
    what: &str,
    limit: usize,
) -> Result<Option<webdav_list::Members>, FsError> {
    let method = Method::from_bytes(b"PROPFIND").unwrap_or_default();
    // Depth 1 is used only for collections.
    let target = match depth {
        "1" => client.base().directory_of(path),
        _ => client.base().path_of(path),
    };
    let request = Request::new(method, target, what.to_string())
        .with_header("depth", depth)
        .with_header("content-type", "application/xml; charset=utf-8")
        .with_payload(Payload::Bytes(PROPFIND.as_bytes()));
    let answer = client.call(&request, listing_bytes(limit))?;
    match answer.status {
        207 => {}
        404 | 410 => return Ok(None),
        405 | 501 | 200 => {
            let why = format!(
                "{what}: the server answers {} to PROPFIND, so it does not speak WebDAV here; expected 207",
                answer.status
            );
            return Err(FsError::new(ErrorKind::Io, why));
        }
        _ => return Err(answer.error(what)),
    }
    let base = client.base();
    let place = webdav_list::Place {
        host: base.host(),
        root: base.parts(),
        path,
    };
    let mut members = webdav_list::Members::default();
    let mut overflow = false;
    let read = webdav_list::read(text(&answer, what)?, &place, |member| {
        match member {
            Member::Own(found) => members.own = Some(found),
            Member::Entry(entry) => {
                overflow |= members.listing.entries.len() >= limit;
                if !overflow {
                    members.listing.entries.push(entry);
                }
            }
            Member::Outside => members.listing.skipped += 1,
        }
        !overflow
    });
    if overflow {
        return Err(super::too_many(what, limit));
    }
    read.map_err(|why| FsError::new(ErrorKind::Io, format!("{what}: {why}")))?;
    Ok(Some(members))
}

/// Creates a collection (RFC 4918, 9.3); succeeds if it exists already.
pub(super) fn make_directory(client: &Client, path: &str) -> Result<(), FsError> {
    let what = client.what("make directory", path);
    let method = Method::from_bytes(b"MKCOL").unwrap_or_default();
    let request = Request::new(method, client.base().directory_of(path), what.clone());
    let answer = client.call(&request, ANSWER_BYTES)?;
    match answer.status {
        200 | 201 | 204 => Ok(()),
        // Something is there: a collection or something else.
        405 if stat(client, path)? == Found::Directory => Ok(()),
        405 => Err(FsError::new(
            ErrorKind::Conflict,
            format!("{what}: something else is there"),
        )),
        _ => Err(answer.error(&what)),
    }
}
