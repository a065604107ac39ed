//! What an unexpected status means, or a failure below HTTP.
//!
//! An outage may be temporary, and a cached copy may be used instead. A server with the
//! wrong identity is not an outage.

use std::fmt;
use std::io;
use std::time::Duration;

use qyvol_types::escape;
use ureq::http::{HeaderMap, header};

use crate::config::ResolveError;
use crate::error::{ErrorKind, Failure, FsError};

/// Characters of a server's own words in a message.
const REASON_CHARS: usize = 300;

/// Statuses that may be temporary.
pub(super) fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3). The form with a date needs a clock that
/// agrees with the server's, and is not used.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number past the range of u64 is a very long wait, not an invalid one.
    is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

/// The server's own words about an error: S3's code and message, or a plain text.
pub(super) fn reason(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else {
        return String::new();
    };
    let words = match crate::remote::s3_error(text) {
        Some(words) => words,
        None if text.contains('<') => return String::new(),
        None => text.trim().to_string(),
    };
    let cut: String = words.chars().take(REASON_CHARS).collect();
    escape(&cut).to_string()
}

/// What an unexpected status means.
pub(super) fn status_error(what: &str, status: u16, reason: &str) -> FsError {
    let (kind, hint) = match status {
        401 => (ErrorKind::Access, "; provide credentials, or different ones"),
        403 => (ErrorKind::Access, "; these credentials don't allow it"),
        404 | 410 => (ErrorKind::NotFound, ""),
        409 => (ErrorKind::Io, "; its parent directory may be missing"),
        412 => (ErrorKind::Conflict, "; it was changed in the meantime"),
        413 => (ErrorKind::TooLarge, ""),
        423 => (ErrorKind::Access, "; it is locked"),
        507 => (ErrorKind::NoSpace, "; the server has no space left"),
        _ => (ErrorKind::Io, ""),
    };
    let separator = if reason.is_empty() { "" } else { ", " };
    let message = format!("{what}: the server answers {status}{separator}{reason}{hint}");
    match status {
        // A gateway says that the server is unreachable; any other status is about one path.
        502..=504 => FsError::outage(ErrorKind::Unreachable, message).server_away(),
        _ if is_temporary(status) => FsError::outage(ErrorKind::Unreachable, message),
        _ => FsError::new(kind, message),
    }
}

/// A failure below HTTP.
pub(super) fn transport_failure(what: &str, error: ureq::Error) -> Failure {
    let fatal = |kind, why: &dyn fmt::Display| -> Failure {
        FsError::new(kind, format!("{what}: {}", escape(&why.to_string()))).into()
    };
    let outage = |kind, why: &dyn fmt::Display| {
        Failure::temporary(FsError::outage(kind, format!("{what}: {}", escape(&why.to_string()))))
    };
    match error {
        ureq::Error::Timeout(phase) => outage(ErrorKind::TimedOut, &format!("timed out ({phase})")),
        ureq::Error::Io(error) => connection_failure(what, error),
        ureq::Error::HostNotFound => outage(ErrorKind::Unreachable, &"no such host"),
        ureq::Error::ConnectionFailed => outage(ErrorKind::Unreachable, &"no connection"),
        // The server has the wrong identity: a cached copy must not hide that.
        ureq::Error::Tls(why) => fatal(ErrorKind::Unreachable, &format!("TLS: {why}")),
        ureq::Error::Rustls(why) => fatal(ErrorKind::Unreachable, &format!("TLS: {why}")),
        ureq::Error::Other(error) => match error.downcast_ref::<ResolveError>() {
            Some(ResolveError::Denied) => fatal(ErrorKind::Access, &ResolveError::Denied),
            // As without any network, which may come back later.
            Some(error) => outage(ErrorKind::Unreachable, error),
            None => fatal(ErrorKind::Io, &error),
        },
        other => fatal(ErrorKind::Io, &format!("the response is not valid HTTP: {other}")),
    }
}

/// A connection that failed.
pub(super) fn connection_failure(what: &str, error: io::Error) -> Failure {
    // The reader of a body wraps errors other than I/O: a time limit, bad framing.
    let error = match error.downcast::<ureq::Error>() {
        Ok(inner) => return transport_failure(what, inner),
        Err(error) => error,
    };
    let why = escape(&error.to_string()).to_string();
    let kind = match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ErrorKind::TimedOut,
        // Errors of rustls come this way.
        io::ErrorKind::InvalidData => {
            return FsError::new(ErrorKind::Unreachable, format!("{what}: TLS: {why}")).into();
        }
        _ => ErrorKind::Unreachable,
    };
    Failure::temporary(FsError::outage(kind, format!("{what}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn wait_that_a_server_asks_for_is_a_number_of_seconds() {
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("99999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for bad in ["-1", "1.5", "Sun, 06 Nov 1994 08:49:37 GMT", ""] {
            assert_eq!(asked(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_of_a_server_are_bounded_and_can_not_move_a_cursor() {
        let words = reason(format!("\u{1b}[31m{}", "a".repeat(1000)).as_bytes());
        assert!(words.starts_with("\\u{1b}[31m") && words.len() < 400, "{words}");
        assert_eq!(reason(b"<html>long page</html>"), "");
        let s3 = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>";
        assert_eq!(reason(s3), "NoSuchKey: gone");
        assert_eq!(reason(b"\xff"), "");
    }
}
