//! Requests with authorisation, same-origin redirects and retries.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use qyvol_types::{Digest, Timestamp, escape};
use ureq::http::{self, HeaderMap, HeaderValue, Method, Response, header};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, AsSendBody, Body, SendBody};

use super::early_response::EarlyResponseConnector;
use super::failure::{is_temporary, reason, retry_after, status_error, transport_failure};
use super::incoming::{Incoming, MIN_BYTES_PER_TIMEOUT};
use super::resolver::Resolver;
use super::tls;
use crate::config::{Config, Host, Limits};
use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Failure, FsError, Retry};
use crate::protocol::Protocol;
use crate::remote::sigv4;
use crate::url::{self, Base};

/// Maximum number of redirects that are followed for one request.
const MAX_REDIRECTS: usize = 3;
/// Maximum bytes of an error's body that are read.
const ERROR_BYTES: usize = 8 << 10;
/// Maximum bytes of a response's fields.
const HEADER_BYTES: usize = 32 << 10;
/// Bytes that are read or written at once.
const BUFFER: usize = 128 << 10;
/// The head of a response may take this many times the server's time limit.
const RESPONSE_FACTOR: u32 = 4;

/// The longest delay or time limit, small enough to add to any time.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// Limits whose durations can be added and multiplied without overflow.
fn bounded(mut limits: Limits) -> Limits {
    let retry = &mut limits.retry;
    for duration in [
        &mut limits.timeout,
        &mut limits.outage,
        &mut retry.backoff,
        &mut retry.max_wait,
    ] {
        *duration = (*duration).min(MAX_DURATION);
    }
    limits
}

/// A body to send. It can be sent again.
#[derive(Clone, Copy)]
pub(crate) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// A file from its start, with its length and digest.
    File(&'a File, u64, &'a Digest),
}

impl Payload<'_> {
    /// SHA-256 in hex, which S3's signatures have.
    fn sha256(&self) -> String {
        match self {
            Payload::None => Digest::of(b"").hex(),
            Payload::Bytes(bytes) => Digest::of(bytes).hex(),
            Payload::File(_, _, digest) => digest.hex(),
        }
    }
}

/// A request on the origin of the tree.
#[derive(Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Encoded path.
    pub(crate) path: String,
    /// Encoded query, or empty.
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    /// What is attempted, as the start of a message: `can't read a.txt at https://…`.
    pub(crate) what: String,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, path: String, what: String) -> Request<'a> {
        Request {
            method,
            path,
            query: String::new(),
            headers: Vec::new(),
            payload: Payload::None,
            what,
        }
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Request<'a> {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_payload(mut self, payload: Payload<'a>) -> Request<'a> {
        self.payload = payload;
        self
    }

    /// Whether it changes nothing (RFC 9110, 9.2.1), so that it may be redirected.
    fn is_safe(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "PROPFIND")
    }
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The path that answered, after redirects.
    pub(crate) path: String,
}

impl Answer {
    /// The error for a response that was not expected.
    pub(crate) fn error(&self, what: &str) -> FsError {
        status_error(what, self.status, &reason(&self.body))
    }
}

/// Sends requests to one origin.
pub(crate) struct Client {
    agent: Agent,
    base: Base,
    credentials: Credentials,
    /// The region, for requests that are signed.
    region: Option<String>,
    host: Arc<dyn Host>,
    limits: Limits,
    /// Until when the server is assumed to be unreachable, and why.
    outage: Mutex<Option<(Instant, FsError)>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client. It does not connect yet.
    pub(crate) fn new(config: &Config, credentials: Credentials, host: Arc<dyn Host>) -> Result<Client, Error> {
        let base = Base::parse(&config.url, &config.protocol)?;
        credentials.check(&config.protocol)?;
        let is_private = base.is_secure() || base.is_loopback() || config.allow_plain_credentials;
        if !is_private && !matches!(credentials, Credentials::None) {
            let why = format!(
                "{} is not encrypted, so no credentials are sent there: use https or davs",
                base.origin()
            );
            return Err(Error::Credentials(why));
        }
        let limits = bounded(config.limits);
        let timeout = limits.timeout;
        let mut settings = Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("qyv/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .accept("")
            .proxy(None)
            .max_response_header_size(HEADER_BYTES)
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout * RESPONSE_FACTOR))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout));
        if base.is_secure() {
            settings = settings.tls_config(tls::config(&config.certificates)?);
        }
        let connector = DefaultConnector::default().chain(EarlyResponseConnector);
        Ok(Client {
            agent: Agent::with_parts(settings.build(), connector, Resolver(host.clone())),
            region: match &config.protocol {
                Protocol::S3 { region } => Some(region.clone()),
                _ => None,
            },
            base,
            credentials,
            host,
            limits,
            outage: Mutex::default(),
        })
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.limits.timeout
    }

    /// How a message about this begins: `can't read a.txt at https://…`.
    pub(crate) fn what(&self, verb: &str, path: &str) -> String {
        let named = if path.is_empty() { "the root" } else { path };
        format!("can't {verb} {} at {}", escape(named), self.base.origin())
    }

    /// Makes a request, with retries, and reads the response. If it succeeds, a body longer
    /// than `limit` is an error; of any other body, only the start is read.
    pub(crate) fn call(&self, request: &Request<'_>, limit: usize) -> Result<Answer, FsError> {
        self.retrying(|_| {
            let (response, path) = self.attempt(request)?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            let incoming = Incoming::new(response, &request.what, self.limits.timeout);
            let body = match (request.method == Method::HEAD, (200..300).contains(&status)) {
                (true, _) => Vec::new(),
                (false, true) => incoming.read_all(limit)?.ok_or_else(|| {
                    let message = format!("{}: the response is longer than {limit} bytes", request.what);
                    FsError::new(ErrorKind::TooLarge, message)
                })?,
                // The text of an error may be truncated.
                (false, false) => incoming.read_all(ERROR_BYTES).ok().flatten().unwrap_or_default(),
            };
            Ok(Answer {
                status,
                headers,
                body,
                path,
            })
        })
    }

    /// Makes attempts until one succeeds, fails permanently, or none are left. An attempt
    /// that made progress sets its argument: then all retries are available again.
    pub(crate) fn retrying<T>(&self, mut attempt: impl FnMut(&mut bool) -> Result<T, Failure>) -> Result<T, FsError> {
        if let Some(error) = self.known_outage() {
            return Err(error);
        }
        let policy = self.limits.retry;
        let (mut left, mut wait) = (policy.retries, policy.backoff);
        loop {
            let mut progressed = false;
            let failure = match attempt(&mut progressed) {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            if progressed {
                (left, wait) = (policy.retries, policy.backoff);
            }
            let pause = match failure.retry {
                Retry::Never => return Err(failure.error),
                Retry::After(asked) if asked > policy.max_wait => {
                    let message = format!("{}; the server asks to wait {} s", failure.error, asked.as_secs());
                    let error = FsError::outage(failure.error.kind(), message);
                    return Err(match failure.error.is_server_away() {
                        true => self.ended(error.server_away()),
                        false => error,
                    });
                }
                Retry::After(asked) => asked,
                // Jitter, so that many hosts don't come back at the same moment.
                Retry::Usual => wait.mul_f64(0.75 + (RandomState::new().hash_one(left) % 512) as f64 / 1024.0),
            };
            if left == 0 || !self.host.wait(pause) {
                return Err(self.ended(failure.error));
            }
            left -= 1;
            wait = (wait * 2).min(policy.max_wait);
        }
    }

    /// Remembers that the server is unreachable, so that the next path does not wait as
    /// long.
    fn ended(&self, error: FsError) -> FsError {
        if error.is_server_away() && !self.limits.outage.is_zero() {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            *outage = Some((Instant::now() + self.limits.outage, error.clone()));
        }
        error
    }

    /// Lets the next request be made even if the server was unreachable before.
    pub(crate) fn forget_outage(&self) {
        *self.outage.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn known_outage(&self) -> Option<FsError> {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match &*outage {
            Some((until, error)) if Instant::now() < *until => Some(error.clone()),
            _ => {
                *outage = None;
                None
            }
        }
    }

    /// Sends a request once, and follows redirects to the same path. A temporary status is
    /// a failure; every other response is returned with the path that it came from.
    pub(crate) fn attempt(&self, request: &Request<'_>) -> Result<(Response<Body>, String), Failure> {
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&request)?;
            let status = response.status().as_u16();
            if is_temporary(status) {
                let retry = match retry_after(response.headers()) {
                    Some(asked) => Retry::After(asked),
                    None => Retry::Usual,
                };
                let error = self.error_of(response, &request.what);
                return Err(Failure { error, retry });
            }
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok((response, request.path));
            }
            let location = response.headers().get(header::LOCATION);
            let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
            // A signature is for one path; if S3 redirects, the region is wrong.
            let next = self
                .base
                .follow(&request.path, location)
                .filter(|_| request.is_safe() && self.region.is_none());
            let Some(next) = next else {
                let message = format!(
                    "{}: the server answers {status} and redirects to `{}`: redirects are followed only when reading, \
                     and only to the same path, with or without a slash at its end; use that URL, if it is the \
                     right one{}",
                    request.what,
                    url::shown(location),
                    if self.region.is_some() {
                        ", or the bucket's own region"
                    } else {
                        ""
                    },
                );
                return Err(FsError::new(ErrorKind::Io, message).into());
            };
            request.path = next;
        }
        let message = format!("{}: more than {MAX_REDIRECTS} redirects", request.what);
        Err(FsError::new(ErrorKind::Io, message).into())
    }

    fn send(&self, request: &Request<'_>) -> Result<Response<Body>, Failure> {
        let mut target = request.path.clone();
        if !request.query.is_empty() {
            target = format!("{target}?{}", request.query);
        }
        let mut headers = request.headers.clone();
        if let (
            Some(region),
            Credentials::S3 {
                access_key,
                secret_key,
                session_token,
            },
        ) = (&self.region, &self.credentials)
        {
            let payload = request.payload.sha256();
            headers.push(("host", self.base.authority()));
            headers.push(("x-amz-content-sha256", payload));
            headers.push((
                "x-amz-date",
                crate::date::format_basic(Timestamp::from_system(self.host.now())),
            ));
            if let Some(token) = session_token {
                headers.push(("x-amz-security-token", token.expose().to_string()));
            }
            let signed = sigv4::authorization(
                &sigv4::Request {
                    method: request.method.as_str(),
                    path: &request.path,
                    query: &request.query,
                    headers: &headers,
                },
                &sigv4::Key {
                    access_key,
                    secret_key: secret_key.expose(),
                    region,
                },
            );
            headers.push(("authorization", signed));
        }
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{target}", self.base.origin()));
        for (name, value) in &headers {
            builder = builder.header(*name, value);
        }
        if let Some(value) = self.credentials.authorization()
            && let Ok(mut value) = HeaderValue::from_str(&value)
        {
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let sent = match request.payload {
            Payload::None => self.run(builder.body(())),
            Payload::Bytes(bytes) => self.run(builder.body(bytes)),
            Payload::File(file, length, _) => {
                let mut file = file;
                file.rewind()
                    .map_err(|error| FsError::local("can't read what is to be sent", &error))?;
                let builder = builder.header(header::CONTENT_LENGTH, length);
                let mut reader = file.take(length);
                let built = builder.body(SendBody::from_reader(&mut reader));
                built.map_err(ureq::Error::from).and_then(|built| {
                    let bounded = self
                        .agent
                        .configure_request(built)
                        .timeout_send_body(Some(self.upload_time(length)));
                    self.agent.run(bounded.build())
                })
            }
        };
        sent.map_err(|error| {
            let failure = transport_failure(&request.what, error);
            Failure {
                error: failure.error.server_away(),
                ..failure
            }
        })
    }

    /// How long sending a body of this length may take: as long as receiving it.
    fn upload_time(&self, length: u64) -> Duration {
        let windows = u32::try_from(length / MIN_BYTES_PER_TIMEOUT + 2).unwrap_or(u32::MAX);
        self.limits.timeout.saturating_mul(windows).min(MAX_DURATION)
    }

    /// The error for a response whose body was not read.
    pub(super) fn error_of(&self, response: Response<Body>, what: &str) -> FsError {
        let status = response.status().as_u16();
        let incoming = Incoming::new(response, what, self.limits.timeout);
        let body = incoming.read_all(ERROR_BYTES).ok().flatten().unwrap_or_default();
        status_error(what, status, &reason(&body))
    }

    fn run<B: AsSendBody>(&self, built: Result<http::Request<B>, http::Error>) -> Result<Response<Body>, ureq::Error> {
        self.agent.run(built?)
    }
}
