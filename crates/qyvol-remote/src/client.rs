//! The client: authorised requests, redirects, and what is known about registries.
//!
//! Invariants: an `Authorization` field goes to the origin of its endpoint and
//! nowhere else; a redirect never leads from HTTPS to HTTP; every answer that
//! is held in memory is bounded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::Body;
use ureq::http::{Method, Response, header};

use crate::auth::{AuthCache, Challenge};
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{Operation, is_temporary_status};
use crate::request::{BufferedResponse, Redirects, Request, RequestBody, retry_after};
use crate::retry::{AttemptError, AttemptFailure, Notify, Retry, RetryPolicy};
use crate::transport::Transport;
use crate::{Options, RemoteError};

/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;
/// Largest answer of `GET /v2/`, in bytes.
const PING_BYTES: u64 = 64 << 10;

/// Sends requests to registries. A command makes one client, which caches tokens and what each
/// registry supports.
pub struct Client {
    options: Arc<Options>,
    notify: Arc<dyn Fn(&str) + Send + Sync>,
    transport: Transport,
    auth: AuthCache,
    /// Whether a registry has the referrers API.
    referrers: Mutex<HashMap<String, bool>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(options: Options, credentials: Box<dyn Credentials>, notify: Notify) -> Arc<Client> {
        let options = Arc::new(options);
        Arc::new(Client {
            transport: Transport::new(options.clone()),
            auth: AuthCache::new(credentials),
            notify: Arc::from(notify),
            referrers: Mutex::default(),
            options,
        })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// How long the endpoint's host may send nothing.
    pub(crate) fn timeout(&self, endpoint: &Endpoint) -> Duration {
        self.options.timeout(endpoint.host())
    }

    /// Shows the user a message.
    pub(crate) fn notify(&self, message: &str) {
        (self.notify)(message);
    }

    /// The attempts of one operation at an endpoint. A mirror gets one attempt: the next one
    /// goes to the registry itself.
    pub(crate) fn retry(&self, endpoint: &Endpoint) -> Retry {
        let policy = match endpoint.is_mirror || endpoint.is_single_attempt {
            true => RetryPolicy::never(),
            false => self.options.retry,
        };
        Retry::new(policy, self.notify.clone())
    }

    /// Makes a request and reads its answer, with retries. A body of status 200
    /// that is longer than `limit` is an error.
    pub(crate) fn call(
        &self,
        request: &Request<'_>,
        body: Option<&[u8]>,
        limit: u64,
    ) -> Result<BufferedResponse, RemoteError> {
        self.retry(request.endpoint)
            .run(|_| -> Result<BufferedResponse, AttemptFailure<RemoteError>> {
                let response = self.attempt(request, body.map_or(RequestBody::None, RequestBody::Bytes))?;
                let timeout = self.timeout(request.endpoint);
                Ok(BufferedResponse::read(request, response, limit, timeout)?)
            })
    }

    /// Sends a request once and follows redirects; other origins get no
    /// credentials. A temporary status is an error.
    pub(crate) fn attempt(
        &self,
        request: &Request<'_>,
        payload: RequestBody<'_>,
    ) -> Result<Response<Body>, AttemptError> {
        if request.redirects == Redirects::Never {
            return self.attempt_here(request, payload);
        }
        let mut request = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.attempt_here(&request, RequestBody::None)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok());
            let next = match location {
                Some(location) => request.url.follow(location),
                None => Err(RemoteError::Protocol {
                    what: "a redirect without a Location".to_string(),
                }),
            };
            if request.redirects == Redirects::SameOrigin
                && !next.as_ref().is_ok_and(|next| next.same_origin(&request.url))
            {
                return Ok(response);
            }
            request.url = next?;
        }
        Err(RemoteError::Protocol {
            what: format!(
                "more than {MAX_REDIRECTS} redirects when asked to {}",
                request.operation
            ),
        }
        .into())
    }

    /// Makes a request with the cached authorisation, and once more if the registry asks for
    /// another. A stream can't be sent twice: then the attempt fails.
    fn attempt_here(&self, request: &Request<'_>, payload: RequestBody<'_>) -> Result<Response<Body>, AttemptError> {
        let again = payload.again();
        let shown = self.auth.header(request);
        let mut response = self.transport.send(request, shown.as_deref(), payload)?;
        if response.status() == 401
            && request.is_on_endpoint()
            && let Some(challenge) = Challenge::of(response.headers())
        {
            self.drain(request, response);
            let operation = &request.operation;
            self.auth.authorize(
                &self.transport,
                request.endpoint,
                &challenge,
                operation,
                shown.as_deref(),
            )?;
            let payload = again.ok_or_else(|| RemoteError::TimedOut {
                host: request.endpoint.host().to_string(),
                why: "the access token expired during an upload".to_string(),
            })?;
            response = self
                .transport
                .send(request, self.auth.header(request).as_deref(), payload)?;
        }
        if is_temporary_status(response.status().as_u16()) {
            return Err(AttemptError {
                retry_after: retry_after(response.headers()),
                error: self.error_of(request, response),
            });
        }
        Ok(response)
    }

    /// The `Authorization` field of a request, if there is one.
    #[cfg(feature = "import")]
    pub(crate) fn authorization(&self, request: &Request<'_>) -> Option<String> {
        self.auth.header(request)
    }

    /// Reads what is left of an answer, so that its connection can be used
    /// again.
    pub(crate) fn drain(&self, request: &Request<'_>, response: Response<Body>) {
        let _ = BufferedResponse::read(request, response, PING_BYTES, self.timeout(request.endpoint));
    }

    /// The error for an unexpected response.
    pub(crate) fn unexpected(&self, request: &Request<'_>, answer: BufferedResponse) -> RemoteError {
        answer.into_error(request, self.auth.is_authenticated(request.endpoint))
    }

    /// The same for an answer whose body has not been read.
    pub(crate) fn error_of(&self, request: &Request<'_>, response: Response<Body>) -> RemoteError {
        match BufferedResponse::read(request, response, PING_BYTES, self.timeout(request.endpoint)) {
            Ok(answer) => self.unexpected(request, answer),
            Err(error) => error,
        }
    }

    /// Checks that a registry accepts the client's credentials. They are sent
    /// even if it allows anonymous access.
    pub fn ping(&self, registry: &str) -> Result<(), RemoteError> {
        let endpoint = Endpoint::registry(&self.options, registry, "");
        let url = endpoint.origin.with_path("/v2/");
        let mut request = Request::new(Method::GET, url, &endpoint, Operation::Ping);
        request.redirects = Redirects::Never;
        loop {
            let answer = self.call(&request, None, PING_BYTES)?;
            if answer.status != 200 {
                return Err(self.unexpected(&request, answer));
            }
            if !self.auth.authenticate_preemptively(&endpoint)? {
                return Ok(());
            }
        }
    }

    /// Whether the registry has the referrers API, if known.
    pub(crate) fn supports_referrers(&self, registry: &str) -> Option<bool> {
        let known = self.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(registry).copied()
    }

    pub(crate) fn set_supports_referrers(&self, registry: &str, has: bool) {
        let mut known = self.referrers.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(registry.to_string(), has);
    }
}
