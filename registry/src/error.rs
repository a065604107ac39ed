//! Errors: those a client sees, with the distribution-spec's codes, and those
//! the operator sees.
//!
//! A client never sees a path of this machine or the text of an I/O error: these go to the log
//! through [`ApiError::cause`].

use std::io;
use std::path::PathBuf;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Response, StatusCode, header};
use serde::Serialize;

/// Why the hub could not open, bind or serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A file or directory under the data directory could not be used.
    #[error("{what}: {path}: {source}")]
    Storage {
        /// What was being done.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has the data directory open.
    #[error("{0} is in use by another registry")]
    InUse(PathBuf),
    /// The data directory has the format of another version.
    #[error(
        "{path} holds {}, expected format {expected}: start with an empty directory and push the images again, \
         or use the version that wrote it",
        form(.found)
    )]
    Version {
        /// The data directory.
        path: PathBuf,
        /// The format found, if it has a number.
        found: Option<String>,
        /// The format that this version reads and writes.
        expected: &'static str,
    },
    /// A file of the data directory has invalid content.
    #[error("{path} is damaged: {reason}: restore its repository from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The address could not be bound.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The certificate or key can't be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The access file can't be used.
    #[error("access file: {0}")]
    Access(String),
    /// The system gives no random numbers.
    #[error("the system's random numbers are not available")]
    Random,
}

fn form(found: &Option<String>) -> String {
    match found {
        Some(found) => format!("data of format {found}"),
        None => "data of an earlier version, without a format number".to_string(),
    }
}

impl HubError {
    pub(crate) fn storage(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> HubError {
        let path = path.into();
        move |source| HubError::Storage { what, path, source }
    }
}

/// The distribution-spec's error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    TooManyRequests,
    // Not in the specification's list, which has none for these two.
    Internal,
    TagInvalid,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Code::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::SizeInvalid => "SIZE_INVALID",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::Denied => "DENIED",
            Code::Unsupported => "UNSUPPORTED",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Internal => "UNKNOWN",
            Code::TagInvalid => "TAG_INVALID",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BlobUnknown
            | Code::BlobUploadUnknown
            | Code::ManifestBlobUnknown
            | Code::ManifestUnknown
            | Code::NameUnknown => StatusCode::NOT_FOUND,
            Code::BlobUploadInvalid
            | Code::DigestInvalid
            | Code::ManifestInvalid
            | Code::NameInvalid
            | Code::TagInvalid
            | Code::SizeInvalid => StatusCode::BAD_REQUEST,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::Denied => StatusCode::FORBIDDEN,
            Code::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    code: Code,
    message: String,
    detail: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    pub(crate) cause: Option<String>,
    /// Whether the connection must not be used again: the body was not read.
    pub(crate) close: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    errors: [Entry<'a>; 1],
}

#[derive(Serialize)]
struct Entry<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl ApiError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> ApiError {
        ApiError {
            status: code.status(),
            code,
            message: message.into(),
            detail: None,
            headers: Vec::new(),
            cause: None,
            close: false,
        }
    }

    pub(crate) fn internal(cause: impl std::fmt::Display) -> ApiError {
        let mut error = ApiError::new(Code::Internal, "internal error");
        error.cause = Some(cause.to_string());
        error
    }

    pub(crate) fn status(mut self, status: StatusCode) -> ApiError {
        self.status = status;
        self
    }

    pub(crate) fn detail(mut self, detail: impl std::fmt::Display) -> ApiError {
        self.detail = Some(detail.to_string());
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> ApiError {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(crate) fn closing(mut self) -> ApiError {
        self.close = true;
        self
    }

    pub(crate) fn response(&self) -> Response<Vec<u8>> {
        let document = Document {
            errors: [Entry {
                code: self.code.name(),
                message: &self.message,
                detail: self.detail.as_deref(),
            }],
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<io::Error> for ApiError {
    fn from(error: io::Error) -> ApiError {
        match error.raw_os_error() {
            // No space, or a disk quota: the client can only try again later.
            Some(28 | 122) => {
                let mut out = ApiError::new(Code::Internal, "the registry has no room left")
                    .status(StatusCode::INSUFFICIENT_STORAGE);
                out.cause = Some(error.to_string());
                out
            }
            _ => ApiError::internal(error),
        }
    }
}
