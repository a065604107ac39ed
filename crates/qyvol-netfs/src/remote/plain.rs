//! Plain HTTP: `HEAD` says what is at a path, and there are no listings.

use ureq::http::Method;

use super::ANSWER_BYTES;
use crate::error::FsError;
use crate::http::{Client, Request};
use crate::meta::{Found, Meta};

/// What is at a path: a file if `HEAD` says so, or a directory if the server redirects
/// from `a` to `a/`.
pub(super) fn stat(client: &Client, path: &str) -> Result<Found, FsError> {
    let what = client.what("look up", path);
    let target = client.base().path_of(path);
    let request = Request::new(Method::HEAD, target.clone(), what.clone());
    let answer = client.call(&request, ANSWER_BYTES)?;
    match answer.status {
        200 | 204 if answer.path == format!("{target}/") => Ok(Found::Directory),
        200 => {
            let meta = Meta::from_headers(&answer.headers);
            match meta.length {
                Some(_) => Ok(Found::File(meta)),
                None => Ok(Found::Unknown),
            }
        }
        // A response without content means an empty file.
        204 => Ok(Found::File(Meta {
            length: Some(0),
            ..Meta::from_headers(&answer.headers)
        })),
        403 | 404 | 410 if answer.path == format!("{target}/") => Ok(Found::Directory),
        404 | 410 => Ok(Found::Absent),
        405 | 501 => Ok(Found::Unknown),
        _ => Err(answer.error(&what)),
    }
}
