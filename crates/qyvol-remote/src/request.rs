//! One HTTP request about a registry, and its answer held in memory.

use std::io::Read;
use std::time::{Duration, Instant};

use qyvol_types::Digest;
use serde::Deserialize;
use ureq::Body;
use ureq::http::header::{self, AsHeaderName};
use ureq::http::{HeaderMap, Method, Response};

use crate::RemoteError;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::transport::connection_error;
use crate::url::Url;

/// Bytes of an error's body that are read.
const ERROR_BYTES: u64 = 8 << 10;

/// Which redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// None: the redirect is the answer.
    Never,
    /// Those that stay on the origin: any other is the answer.
    SameOrigin,
    /// All, except from HTTPS to HTTP.
    Follow,
}

/// A request without its body.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Where the operation began, wherever the request leads: credentials are only for this
    /// origin.
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) operation: Operation,
    pub(crate) redirects: Redirects,
    /// How long the answer may take, if longer than usual.
    pub(crate) response_timeout: Option<Duration>,
}

/// A body that is sent.
pub(crate) enum RequestBody<'a> {
    None,
    Bytes(&'a [u8]),
    /// Of this length.
    Stream(u64, &'a mut dyn Read),
}

impl<'a> RequestBody<'a> {
    /// The same payload once more; a stream can't be sent twice.
    pub(crate) fn again(&self) -> Option<RequestBody<'a>> {
        match self {
            RequestBody::None => Some(RequestBody::None),
            RequestBody::Bytes(bytes) => Some(RequestBody::Bytes(bytes)),
            RequestBody::Stream(..) => None,
        }
    }
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, url: Url, endpoint: &'a Endpoint, operation: Operation) -> Request<'a> {
        let reads = matches!(method, Method::GET | Method::HEAD);
        Request {
            method,
            url,
            headers: Vec::new(),
            endpoint,
            operation,
            redirects: if reads { Redirects::Follow } else { Redirects::Never },
            response_timeout: None,
        }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name, value.into()));
        self
    }

    /// Accepts content of these media types.
    pub(crate) fn accepting(self, types: &[&str]) -> Request<'a> {
        self.with_header("accept", types.join(", "))
    }

    /// Whether it goes to the origin that credentials are for.
    pub(crate) fn is_on_endpoint(&self) -> bool {
        self.url.same_origin(&self.endpoint.origin)
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct BufferedResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// A header field, if it is there and text.
pub(crate) fn header(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3). The form with a date
/// needs a clock that agrees with the server's, and is not used.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = header(headers, header::RETRY_AFTER)?.trim();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    // A number past the range of u64 is a very long wait, not an invalid one.
    digits.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

impl BufferedResponse {
    /// Reads an answer. With status 200, the complete body of at most `limit` bytes is read;
    /// with another status, the body only explains it.
    pub(crate) fn read(
        request: &Request<'_>,
        response: Response<Body>,
        limit: u64,
        timeout: Duration,
    ) -> Result<BufferedResponse, RemoteError> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let bytes = if request.method == Method::HEAD {
            Vec::new()
        } else if status == 200 {
            read_bounded(&request.url, response, limit, timeout)?.ok_or_else(|| RemoteError::Protocol {
                what: format!("more than {limit} bytes when asked to {}", request.operation),
            })?
        } else {
            let body = read_bounded(&request.url, response, ERROR_BYTES, timeout);
            body.ok().flatten().unwrap_or_default()
        };
        Ok(BufferedResponse { status, headers, bytes })
    }

    pub(crate) fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The media type, in lower case and without parameters.
    pub(crate) fn media_type(&self) -> String {
        let field = self.header(header::CONTENT_TYPE).unwrap_or_default();
        field.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// Checks the digest that the registry states for a manifest, if it does.
    pub(crate) fn check_stated_digest(&self, bytes: &[u8]) -> Result<(), RemoteError> {
        let stated = self.header("docker-content-digest");
        match stated.and_then(|digest| digest.parse::<Digest>().ok()) {
            Some(stated) if !stated.matches(bytes) => Err(RemoteError::Protocol {
                what: format!("the digest {stated} for a manifest of {}", Digest::of(bytes)),
            }),
            _ => Ok(()),
        }
    }

    /// The error for an unexpected answer.
    pub(crate) fn into_error(self, request: &Request<'_>, authenticated: bool) -> RemoteError {
        let host = request.url.authority().to_string();
        let operation = request.operation.clone();
        let why = messages(&self.bytes);
        match self.status {
            401 | 403 => RemoteError::Denied {
                host,
                operation,
                why: match why.as_str() {
                    "" => format!("it answered {}", self.status),
                    _ => why,
                },
                authenticated: authenticated || self.status == 403,
            },
            404 => RemoteError::NotFound { host, operation },
            status => RemoteError::Status {
                host,
                operation,
                status,
                why,
            },
        }
    }
}

/// The messages in an error's body (distribution-spec, "Error Codes").
fn messages(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<OneError>,
    }
    #[derive(Deserialize)]
    struct OneError {
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(Errors { errors }) = serde_json::from_slice(body) else {
        return String::new();
    };
    let messages: Vec<String> = errors
        .iter()
        .take(3)
        .map(|e| format!("{} {}", e.code, e.message).trim().to_string())
        .collect();
    qyvol_types::escape(&messages.join(", ")).to_string()
}

/// Reads a body of at most `limit` bytes; none where there are more.
fn read_bounded(
    url: &Url,
    response: Response<Body>,
    limit: u64,
    timeout: Duration,
) -> Result<Option<Vec<u8>>, RemoteError> {
    let begin = Instant::now();
    let mut body = response.into_body().into_reader();
    let mut bytes = Vec::new();
    let mut chunk = [0; 8 << 10];
    loop {
        let n = body.read(&mut chunk).map_err(|e| connection_error(url, e))?;
        if n == 0 {
            return Ok(Some(bytes));
        }
        bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if bytes.len() as u64 > limit {
            return Ok(None);
        }
        if begin.elapsed() > timeout * 2 {
            return Err(RemoteError::TimedOut {
                host: url.authority().to_string(),
                why: "the response is too slow".to_string(),
            });
        }
    }
}
