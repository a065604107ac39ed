//! Requests over HTTP that a guest sends, by `wasi:http` of 0.2 and of 0.3: the guest's
//! requests and answers are wasmtime-wasi-http's, the connections are hyper's.
//!
//! The rules are those of sockets: the name is checked before it is looked up, each of
//! its addresses before it is connected to, and the connection is made to exactly the
//! address that was checked. A connection is kept for the next request to the same
//! origin. There are no proxies, redirects or cookies: requests are sent as the guest
//! made them.

mod body;
mod connect;

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::http::uri::Scheme;
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpCtx, WasiHttpHooks};

use self::body::Paced;
use self::connect::{ConnectError, Connector, InTime};
use crate::cut::{Cut, CutBody};
use crate::limits::Places;
use crate::net::{Network, Refused};

/// How long each step of a request may take, unless the guest says otherwise.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long a connection waits for its next request.
const IDLE: Duration = Duration::from_secs(30);
/// Idle connections that are kept for each origin; none if sockets are limited, because
/// each connection counts as a socket.
const IDLE_CONNECTIONS: usize = 8;
/// Maximum size of the fields of one request or response, in bytes.
const FIELDS: usize = 32 << 10;
/// Maximum size of the pieces in which a guest passes a body, in bytes; two can wait.
const CHUNK: usize = 64 << 10;
/// Bytes of an HTTP/2 connection, or of one response, that can wait to be read.
const WINDOW: u32 = 256 << 10;
/// Maximum size of a response's head, in bytes.
const HEAD: u16 = u16::MAX;

type Sender = Client<InTime<HttpsConnector<Connector>>, WasiBody>;

/// The state of the calls of `wasi:http`.
pub(crate) struct Http {
    pub(crate) context: WasiHttpCtx,
    pub(crate) hooks: Hooks,
}

impl Http {
    /// `sockets` limits the connections together with the guest's own sockets; `lookups`
    /// limits how many names are looked up at once.
    pub(crate) fn new(network: Network, sockets: Places, lookups: Places, cut: Cut) -> Http {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS);
        Http {
            context,
            hooks: Hooks {
                shared: Arc::new(Shared {
                    connector: Connector::new(network, sockets, lookups),
                    plain: OnceLock::new(),
                    secure: OnceLock::new(),
                }),
                cut,
            },
        }
    }
}

impl Hooks {
    /// Requests that are sent from now on belong to another incoming request.
    pub(crate) fn begin_request(&mut self, cut: Cut) {
        self.cut = cut;
    }
}

/// Sends requests for wasmtime-wasi-http.
pub(crate) struct Hooks {
    shared: Arc<Shared>,
    cut: Cut,
}

struct Shared {
    connector: Connector,
    plain: OnceLock<Sender>,
    secure: OnceLock<Result<Sender, &'static str>>,
}

/// Drives a connection while its response is read.
type Driver = Box<dyn Future<Output = Result<()>> + Send>;

impl WasiHttpHooks for Hooks {
    // The connection decides whether there is such a header: HTTP/2 has none.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driver,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Driver)>> + Send> {
        let shared = Arc::clone(&self.shared);
        // A body that a guest was writing when it was cut off must not look complete to the
        // server.
        let terminated = || Error::ConnectionTerminated;
        let request = request.map(|body| CutBody::new(body, self.cut.clone(), terminated).boxed_unsync());
        Box::new(async move {
            let response = shared.send(request, options.unwrap_or_default()).await?;
            // Each connection has a task of its own.
            let driver: Driver = Box::new(async { Ok(()) });
            Ok((response, driver))
        })
    }
}

impl Shared {
    async fn send(&self, mut request: Request<WasiBody>, options: RequestOptions) -> Result<Response<WasiBody>> {
        self.check(&request)?;
        let sender = self.sender(request.uri())?;
        let mut connection = capture_connection(&mut request);
        let connected = async {
            connection.wait_for_connection_metadata().await;
        };
        let mut response = std::pin::pin!(sender.request(request));
        let early = tokio::select! {
            biased;
            response = &mut response => Some(response),
            in_time = timeout(options.connect_timeout.unwrap_or(TIMEOUT), connected) => {
                in_time.map_err(|_| Error::ConnectionTimeout)?;
                None
            }
        };
        let response = match early {
            Some(response) => response,
            None => timeout(options.first_byte_timeout.unwrap_or(TIMEOUT), response)
                .await
                .map_err(|_| Error::ConnectionReadTimeout)?,
        };
        let between = options.between_bytes_timeout.unwrap_or(TIMEOUT);
        response
            .map(|response| response.map(|body| Paced::new(body, between).boxed_unsync()))
            .map_err(|error| failure(&error))
    }

    /// Checks a request against the lists, also if a connection is open already.
    fn check(&self, request: &Request<WasiBody>) -> Result<()> {
        // It would turn the connection into a tunnel to any destination.
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let uri = request.uri();
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        // The guest chooses the text of the method.
        let method = match request.method().as_str() {
            method @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH" | "TRACE") => method,
            _ => "OTHER",
        };
        let scheme = uri.scheme_str().unwrap_or_default();
        let what = format!("{method} {scheme}://{authority}");
        let network = self.connector.network();
        let checked = network.allows_request(connect::host(uri), connect::port(uri), &what);
        checked.map_err(|refused| match refused {
            Refused::Host => Error::HttpRequestDenied,
            Refused::Address => Error::DestinationIpProhibited,
        })
    }

    /// The client for an origin. Certificates are read when they are first needed.
    fn sender(&self, uri: &Uri) -> Result<&Sender> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(self.plain.get_or_init(|| self.build(RootCertStore::empty())));
        }
        let secure = self.secure.get_or_init(|| {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            match roots.is_empty() {
                true => Err("this host has no certificates of authorities"),
                false => Ok(self.build(roots)),
            }
        });
        secure
            .as_ref()
            .map_err(|why| Error::InternalError(Some((*why).to_string())))
    }

    fn build(&self, roots: RootCertStore) -> Sender {
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(self.connector.clone());
        let connector = InTime(connector);
        let idle = match self.connector.is_limited() {
            true => 0,
            false => IDLE_CONNECTIONS,
        };
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(idle)
            .http1_max_buf_size(HEAD.into())
            .http2_max_header_list_size(HEAD.into())
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW)
            .build(connector)
    }
}

/// The error that a guest gets for a request or a response that failed.
fn failure(error: &(dyn StdError + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(known) = known(error) {
            return known;
        }
        cause = error.source();
    }
    Error::HttpProtocolError
}

fn known(error: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(error) = error.downcast_ref::<ConnectError>() {
        return Some(error.error_code());
    }
    // The guest's own body.
    if let Some(Error::HttpRequestBodySize(size)) = error.downcast_ref() {
        return Some(Error::HttpRequestBodySize(*size));
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls_failure(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The error of TLS is inside this one, not its source.
        let inner = error.get_ref();
        return Some(inner.map_or(Error::ConnectionTerminated, |inner| failure(inner)));
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_incomplete_message() {
        Some(Error::HttpResponseIncomplete)
    } else if error.is_parse_too_large() {
        Some(Error::HttpResponseHeaderSectionSize(None))
    } else {
        None
    }
}

fn tls_failure(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    }
}
