//! What a failure below HTTP means.

use std::io;

use super::resolver::ResolveError;
use crate::RemoteError;
use crate::error::TlsFailure;
use crate::url::Url;

/// A failure below HTTP.
pub(super) fn transport_error(url: &Url, error: ureq::Error) -> RemoteError {
    let host = url.authority().to_string();
    let unreachable = |why: &str, temporary| RemoteError::Unreachable {
        host: url.authority().to_string(),
        why: why.to_string(),
        temporary,
    };
    let tls = |failure, why| RemoteError::Tls {
        host: url.authority().to_string(),
        failure,
        why,
    };
    match error {
        ureq::Error::Timeout(phase) => RemoteError::TimedOut {
            host,
            why: format!("timed out ({phase})"),
        },
        ureq::Error::Io(error) => connection_error(url, error),
        ureq::Error::HostNotFound => unreachable("no such host", false),
        ureq::Error::ConnectionFailed => unreachable("no connection", false),
        ureq::Error::Tls(why) => tls(TlsFailure::Other, why.to_string()),
        ureq::Error::Rustls(why) => tls(tls_failure(&why), why.to_string()),
        ureq::Error::Http(error) => RemoteError::Protocol {
            what: format!("a URL that can't be requested: {error}"),
        },
        ureq::Error::Other(error) => match error.downcast::<ResolveError>() {
            Ok(error) => unreachable(&error.to_string(), error.is_temporary()),
            Err(error) => unreachable(&qyvol_types::escape(&error.to_string()).to_string(), false),
        },
        other => RemoteError::NotHttp {
            host,
            why: qyvol_types::escape(&other.to_string()).to_string(),
        },
    }
}

/// What a failure of TLS means.
pub(crate) fn tls_failure(error: &rustls::Error) -> TlsFailure {
    use rustls::{CertificateError, Error};
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => TlsFailure::UnknownIssuer,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            let webpki = other.0.downcast_ref::<webpki::Error>();
            match webpki {
                Some(webpki::Error::CaUsedAsEndEntity) => TlsFailure::CaUsedAsServer,
                _ => TlsFailure::Other,
            }
        }
        Error::InvalidMessage(_) => TlsFailure::NotTls,
        _ => TlsFailure::Other,
    }
}

/// A connection that failed.
pub(crate) fn connection_error(url: &Url, error: io::Error) -> RemoteError {
    use io::ErrorKind;
    // The reader of a body wraps errors other than I/O errors: a timeout, malformed framing.
    let error = match error.downcast::<ureq::Error>() {
        Ok(inner) => return transport_error(url, inner),
        Err(error) => error,
    };
    let host = url.authority().to_string();
    let why = qyvol_types::escape(&error.to_string()).to_string();
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => RemoteError::TimedOut { host, why },
        // Errors of rustls come this way.
        ErrorKind::InvalidData => RemoteError::Tls {
            host,
            failure: match error.downcast::<rustls::Error>() {
                Ok(error) => tls_failure(&error),
                Err(_) => TlsFailure::Other,
            },
            why,
        },
        kind => RemoteError::Unreachable {
            host,
            why,
            temporary: matches!(
                kind,
                // Refused: perhaps by a registry that is just starting.
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::NotConnected
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::HostUnreachable
                    | ErrorKind::Other
            ),
        },
    }
}
