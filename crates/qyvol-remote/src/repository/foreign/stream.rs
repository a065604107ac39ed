//! Streams one blob through `oci-distribution`, within limits.
//!
//! That client reads tokens, errors and redirects without a bound and by its
//! own rules. So it decides nothing:
//!
//! - our own client sends a HEAD for the blob first. It obtains the token, and reports what is
//!   denied, missing or of another size;
//! - the `Authorization` field is put into the other client's cache, so it requests none, and
//!   sends it to that origin only;
//! - its certificates, proxies and encryption are set for this host, and it takes none from the
//!   environment; a redirect from HTTPS to HTTP leads nowhere;
//! - it runs on a runtime of one thread that makes progress only while the blob is read:
//!   nothing is read ahead, and the body of an error is bounded by the number of polls.
//!
//! It hides the header fields of an answer, so `Retry-After` is known only from the HEAD.
//!
//! Deliberately absent: what [`super::super::download`] does for either client,
//! and any check of the content.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use futures_util::StreamExt;
use oci_distribution::client::{
    BlobResponse, Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol, SizedStream,
};
use oci_distribution::errors::{OciDistributionError, OciErrorCode};
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::token_cache::{RegistryToken, RegistryTokenType};
use oci_distribution::{Reference, RegistryOperation};
use qyvol_store::StoreError;
use qyvol_types::{Digest, escape};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use tokio::runtime::Runtime;
use ureq::http::{Method, header};

use super::proxies::proxies;
use crate::endpoint::Endpoint;
use crate::error::Operation;
use crate::repository::inner::Inner;
use crate::repository::transfer::{Attempt, Bytes, TransferError, content, wrong_size};
use crate::request::{Redirects, Request, RequestBody, header};
use crate::retry::AttemptFailure;
use crate::transport::{
    RESPONSE_TIMEOUT_FACTOR, connection_error, given_certificates, system_certificates, tls_failure,
};
use crate::{Options, RemoteError};

/// Polls allowed until the response arrives. Each reads from the connection at
/// most once, so this bounds an error body, which the client reads whole; a
/// response without one takes a dozen.
const MAX_POLLS: u32 = 128;
/// [`super::proxies::DEAD_PROXY`] as it stands in an error.
const DEAD_PROXY_ADDRESS: &str = "127.0.0.1:0";
/// Appended to connection errors: that client follows redirects without saying
/// where they led.
const OR_REDIRECT_TARGET: &str = " (there, or where it redirects to)";
/// Bytes of the other side's message that are shown.
const MESSAGE: usize = 200;

/// Opens a blob at byte `at`; also returns how many leading bytes to discard.
pub(in crate::repository) fn open(
    inner: &Inner,
    endpoint: &Endpoint,
    digest: &Digest,
    size: u64,
    at: u64,
) -> Attempt<(Bytes, u64)> {
    let authorization = probe_endpoint(inner, endpoint, digest, size)?;
    let options = inner.client.options();
    let timeout = inner.client.timeout(endpoint);
    let setup = |why: String| RemoteError::Setup(format!("can't stream from {}: {why}", endpoint.host()));
    // The process's default provider, which that client uses; one that is already set stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        Client::try_from(config(options, endpoint, timeout).map_err(setup)?).map_err(|error| setup(cause(&error)))?;
    let runtime = PolledRuntime::new().map_err(|error| setup(error.to_string()))?;
    let image = Reference::with_digest(
        endpoint.host().to_string(),
        endpoint.repository.clone(),
        digest.to_string(),
    );
    let blob = digest.to_string();
    let pulled = runtime.block_on(async {
        if let Some(authorization) = &authorization {
            preload_auth(&client, &image, authorization).await.map_err(setup)?;
        }
        let request = async {
            match at {
                0 => client
                    .pull_blob_stream(&image, blob.as_str())
                    .await
                    .map(BlobResponse::Full),
                _ => client.pull_blob_stream_partial(&image, blob.as_str(), at, None).await,
            }
        };
        let answered = tokio::time::timeout(timeout * RESPONSE_TIMEOUT_FACTOR, within_poll_limit(request)).await;
        let answered = answered.map_err(|_| RemoteError::TimedOut {
            host: endpoint.host().to_string(),
            why: "the time limit is over (blob)".to_string(),
        })?;
        // An error of unknown cause, which may be gone at the next attempt.
        answered.ok_or_else(|| RemoteError::TimedOut {
            host: endpoint.host().to_string(),
            why: format!(
                "it sent an error in too many pieces when asked to {}",
                Operation::ReadBlob(*digest)
            ),
        })
    });
    let pulled = pulled.map_err(|error| setup(error.to_string()))??;
    let answer = pulled.map_err(|error| failed(endpoint, (digest, size, at), authorization.is_some(), error))?;
    let (stream, discard, most) = match answer {
        BlobResponse::Full(stream) => (stream, at, size),
        BlobResponse::Partial(stream) => (stream, 0, size.saturating_sub(at)),
    };
    // A body of the wrong length is not read.
    let is_whole = discard == at;
    if let Some(length) = stream
        .content_length
        .filter(|length| *length > most || is_whole && *length != most)
    {
        return Err(wrong_size(digest, size, (size - most).saturating_add(length)));
    }
    let body = Blob {
        stream,
        chunk: bytes::Bytes::new(),
        timeout,
        runtime,
    };
    Ok((Box::new(body), discard))
}

/// Sends a HEAD for the blob with our own client, which obtains the
/// authorisation. A redirect counts as found.
fn probe_endpoint(inner: &Inner, endpoint: &Endpoint, digest: &Digest, size: u64) -> Attempt<Option<String>> {
    let url = endpoint.url(&format!("blobs/{digest}"));
    let mut request = Request::new(Method::HEAD, url, endpoint, Operation::ReadBlob(*digest));
    request.redirects = Redirects::Never;
    let response = inner.client.attempt(&request, RequestBody::None)?;
    match response.status().as_u16() {
        200 => {
            let length = header(response.headers(), header::CONTENT_LENGTH).and_then(|v| v.parse::<u64>().ok());
            if let Some(length) = length.filter(|length| *length != size) {
                return Err(wrong_size(digest, size, length));
            }
        }
        404 => return Err(content(StoreError::NotFound { digest: *digest })),
        401 | 403 => return Err(inner.client.error_of(&request, response).into()),
        // A registry that doesn't support HEAD may still send the blob.
        _ => {}
    }
    inner.client.drain(&request, response);
    Ok(inner.client.authorization(&request))
}

/// The other client's configuration for a host.
fn config(options: &Options, endpoint: &Endpoint, timeout: Duration) -> Result<ClientConfig, String> {
    let mut certificates = system_certificates();
    // With an unreadable certificate, or with none, that client would not start: it creates a
    // default client first, and panics.
    certificates.retain(|certificate| {
        let der = CertificateDer::from_slice(certificate.der());
        RootCertStore::empty().add(der).is_ok()
    });
    if certificates.is_empty() {
        return Err("this host has no CA certificates: install ca-certificates".to_string());
    }
    certificates.extend(given_certificates(options.certificates(endpoint.host()))?);
    let (https_proxy, http_proxy, no_proxy) = proxies(options, endpoint);
    Ok(ClientConfig {
        protocol: match endpoint.origin.is_secure() {
            true => ClientProtocol::Https,
            false => ClientProtocol::Http,
        },
        tls_certs_only: certificates
            .iter()
            .map(|certificate| Certificate {
                encoding: CertificateEncoding::Der,
                data: certificate.der().to_vec(),
            })
            .collect(),
        connect_timeout: Some(timeout),
        user_agent: concat!("qyv/", env!("CARGO_PKG_VERSION")),
        https_proxy,
        http_proxy,
        no_proxy,
        platform_resolver: None,
        ..ClientConfig::default()
    })
}

/// Preloads an `Authorization` header into the client's token cache.
async fn preload_auth(client: &Client, image: &Reference, authorization: &str) -> Result<(), String> {
    let bad = || "the credentials do not fit a header field".to_string();
    let (scheme, value) = authorization.split_once(' ').ok_or_else(bad)?;
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad());
    }
    let registry = image.resolve_registry();
    if scheme == "Bearer" {
        // Never requested: the cache is consulted before any token server.
        let auth = RegistryAuth::Bearer(value.to_string());
        client.store_auth_if_needed(registry, &auth).await;
        let token = RegistryToken::Token {
            token: value.to_string(),
        };
        let token = RegistryTokenType::Bearer(token);
        client.tokens.insert(image, RegistryOperation::Pull, token).await;
        return Ok(());
    }
    let pair = STANDARD
        .decode(value)
        .ok()
        .and_then(|pair| String::from_utf8(pair).ok());
    let (user, password) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or_else(bad)?;
    // Kept for good; the entry in the store only says that there is something.
    let pair = RegistryTokenType::Basic(user.to_string(), password.to_string());
    client.tokens.insert(image, RegistryOperation::Pull, pair).await;
    client.store_auth_if_needed(registry, &RegistryAuth::Anonymous).await;
    Ok(())
}

/// A future's output; none if it takes too many polls.
async fn within_poll_limit<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = MAX_POLLS;
    poll_fn(|context| {
        left = match left.checked_sub(1) {
            Some(left) => left,
            None => return Poll::Ready(None),
        };
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Maps the other client's error to ours.
fn failed(
    endpoint: &Endpoint,
    (digest, size, at): (&Digest, u64, u64),
    authenticated: bool,
    error: OciDistributionError,
) -> AttemptFailure<TransferError> {
    let host = endpoint.host().to_string();
    let operation = Operation::ReadBlob(*digest);
    let denied = |why: String| RemoteError::Denied {
        host: host.clone(),
        operation: operation.clone(),
        why,
        authenticated,
    };
    let protocol = |what: String| RemoteError::Protocol { what };
    let error = match error {
        OciDistributionError::UnauthorizedError { .. } => denied("it answered 401".to_string()),
        OciDistributionError::ServerError { code: 403, .. } => denied("it answered 403".to_string()),
        OciDistributionError::ServerError { code: 404, .. } => {
            return content(StoreError::NotFound { digest: *digest });
        }
        // There is nothing after these bytes.
        OciDistributionError::ServerError { code: 416, .. } if at > 0 => return wrong_size(digest, size, at),
        OciDistributionError::ServerError { code, .. } => RemoteError::Status {
            host,
            operation,
            status: code,
            why: String::new(),
        },
        OciDistributionError::RegistryError { envelope, .. } => {
            let first = envelope.errors.into_iter().next();
            let why = first.as_ref().map_or_else(String::new, |error| short(&error.message));
            match first.map(|error| error.code) {
                Some(OciErrorCode::BlobUnknown | OciErrorCode::NameUnknown | OciErrorCode::NotFound) => {
                    return content(StoreError::NotFound { digest: *digest });
                }
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => denied(why),
                Some(OciErrorCode::Toomanyrequests) => RemoteError::Status {
                    host,
                    operation,
                    status: 429,
                    why,
                },
                _ => protocol(format!("an error when asked to {operation}: {why}")),
            }
        }
        OciDistributionError::RequestError(error) => {
            if endpoint.origin.is_secure() && hit_dead_proxy(&error) {
                protocol("a redirect from HTTPS to HTTP".to_string())
            } else if error.is_redirect() {
                protocol(format!("too many redirects when asked to {operation}"))
            } else if error.is_timeout() {
                RemoteError::TimedOut {
                    host,
                    why: format!("the time limit is over (connect){OR_REDIRECT_TARGET}"),
                }
            } else {
                connection(endpoint, &error)
            }
        }
        other => protocol(format!(
            "what can't be read when asked to {operation}: {}",
            short(&other.to_string())
        )),
    };
    error.into()
}

fn short(message: &str) -> String {
    escape(&message.chars().take(MESSAGE).collect::<String>()).to_string()
}

/// The root cause of a failed connection. The client's own message is left out:
/// it repeats the whole URL, and a redirect's URL may be secret.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut text = "the request failed".to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    short(&text)
}

/// Whether the request went to the dead proxy.
fn hit_dead_proxy(error: &(dyn Error + 'static)) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if format!("{error:?}").contains(DEAD_PROXY_ADDRESS) {
            return true;
        }
        next = error.source();
    }
    false
}

fn connection(endpoint: &Endpoint, error: &(dyn Error + 'static)) -> RemoteError {
    let mut next = error.source();
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        let inner = io
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn Error + 'static));
        let rustls = inner.unwrap_or(error).downcast_ref::<rustls::Error>();
        if let Some(rustls) = rustls {
            return RemoteError::Tls {
                host: endpoint.host().to_string(),
                failure: tls_failure(rustls),
                why: format!("{rustls}{OR_REDIRECT_TARGET}"),
            };
        }
        next = error.source();
    }
    match connection_error(&endpoint.url(""), io_error(error)) {
        RemoteError::Unreachable { host, why, temporary } => RemoteError::Unreachable {
            host,
            why: why + OR_REDIRECT_TARGET,
            temporary,
        },
        error => error,
    }
}

/// The same as an I/O error, of the kind of its root cause.
fn io_error(error: &(dyn Error + 'static)) -> io::Error {
    let mut kind = io::ErrorKind::Other;
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            kind = io.kind();
        }
        next = error.source();
    }
    io::Error::new(kind, cause(error))
}

/// A current-thread runtime, which makes progress only inside `block_on`.
struct PolledRuntime(Option<Runtime>);

impl PolledRuntime {
    fn new() -> io::Result<PolledRuntime> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        Ok(PolledRuntime(Some(builder.enable_all().build()?)))
    }

    fn block_on<F: Future>(&self, future: F) -> io::Result<F::Output> {
        let runtime = self.0.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        Ok(runtime.block_on(future))
    }
}

impl Drop for PolledRuntime {
    fn drop(&mut self) {
        // A name lookup that is still running must not be waited for.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The bytes of a blob. The stream is dropped before its runtime.
struct Blob {
    stream: SizedStream,
    chunk: bytes::Bytes,
    timeout: Duration,
    runtime: PolledRuntime,
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            let (timeout, stream) = (self.timeout, &mut self.stream);
            let next = async { tokio::time::timeout(timeout, stream.next()).await };
            let next = self.runtime.block_on(next)?;
            match next {
                Ok(Some(Ok(chunk))) => self.chunk = chunk,
                Ok(Some(Err(error))) => return Err(io_error(&error)),
                Ok(None) => return Ok(0),
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "no byte of the blob came in time",
                    ));
                }
            }
        }
        let n = self.chunk.remaining().min(buf.len());
        self.chunk.copy_to_slice(buf.get_mut(..n).unwrap_or_default());
        Ok(n)
    }
}
