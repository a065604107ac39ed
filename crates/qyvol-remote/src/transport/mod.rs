//! HTTP by ureq: connections, proxies, certificates and timeouts.

mod early_response;
mod failure;
mod resolver;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{self, Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector, DefaultConnector};
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use self::early_response::EarlyResponseConnector;
use self::failure::transport_error;
pub(crate) use self::failure::{connection_error, tls_failure};
use self::resolver::Resolver;
use crate::request::{Request, RequestBody};
use crate::url::{Url, is_loopback};
use crate::{Options, RemoteError};

/// Idle connections that are kept to one host.
const IDLE_CONNECTIONS: usize = 8;
/// Bytes that are read or written at once.
const BUFFER: usize = 256 << 10;
/// An answer may take this many times the host's timeout.
pub(crate) const RESPONSE_TIMEOUT_FACTOR: u32 = 4;

/// Hosts with the same options share an agent and its connections.
#[derive(Clone, PartialEq, Eq, Hash)]
struct AgentKey {
    secure: bool,
    loopback: bool,
    /// The host's entry in the options.
    host: Option<String>,
}

/// Sends requests.
pub(crate) struct Transport {
    options: Arc<Options>,
    agents: Mutex<HashMap<AgentKey, Result<Agent, String>>>,
}

impl Transport {
    pub(crate) fn new(options: Arc<Options>) -> Transport {
        Transport {
            options,
            agents: Mutex::default(),
        }
    }

    /// How long a host may send nothing.
    pub(crate) fn timeout(&self, authority: &str) -> Duration {
        self.options.timeout(authority)
    }

    /// Sends a request once.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        authorization: Option<&str>,
        payload: RequestBody<'_>,
    ) -> Result<Response<Body>, RemoteError> {
        let mut builder = http::Request::builder()
            .method(request.method.clone())
            .uri(request.url.to_string());
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        if let Some(value) = authorization {
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let agent = self.agent(&request.url)?;
        let sent = match payload {
            RequestBody::None => self.run(&agent, request, builder.body(())),
            RequestBody::Bytes(bytes) => self.run(&agent, request, builder.body(bytes)),
            RequestBody::Stream(length, body) => {
                let builder = builder.header(header::CONTENT_LENGTH, length);
                self.run(&agent, request, builder.body(SendBody::from_reader(body)))
            }
        };
        sent.map_err(|error| transport_error(&request.url, error))
    }

    fn run<B: AsSendBody>(
        &self,
        agent: &Agent,
        request: &Request<'_>,
        built: Result<http::Request<B>, http::Error>,
    ) -> Result<Response<Body>, ureq::Error> {
        let built = built?;
        let usual = self.timeout(request.url.authority()) * RESPONSE_TIMEOUT_FACTOR;
        match request.response_timeout.filter(|longer| *longer > usual) {
            Some(longer) => agent.run(
                agent
                    .configure_request(built)
                    .timeout_recv_response(Some(longer))
                    .build(),
            ),
            None => agent.run(built),
        }
    }

    fn agent(&self, url: &Url) -> Result<Agent, RemoteError> {
        let authority = url.authority();
        let key = AgentKey {
            secure: url.is_secure(),
            loopback: is_loopback(authority),
            host: self.options.host_key(authority).map(str::to_string),
        };
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let agent = agents.entry(key).or_insert_with(|| agent(&self.options, url));
        agent.clone().map_err(RemoteError::Setup)
    }
}

fn agent(options: &Options, url: &Url) -> Result<Agent, String> {
    let authority = url.authority();
    let proxy = match (is_loopback(authority), url.is_secure()) {
        // To a proxy, "loopback" would be another host; and what goes there
        // may be unencrypted.
        (true, _) => &None,
        (false, true) => &options.https_proxy,
        (false, false) => &options.http_proxy,
    };
    let proxy = proxy.as_deref().map(|url| proxy_of(url, &options.no_proxy));
    let timeout = options.timeout(authority);
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("qyv/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .accept("")
        .proxy(proxy.transpose()?)
        .max_idle_connections_per_host(IDLE_CONNECTIONS)
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .timeout_resolve(Some(timeout))
        .timeout_connect(Some(timeout))
        .timeout_recv_response(Some(timeout * RESPONSE_TIMEOUT_FACTOR))
        .timeout_per_read(Some(timeout))
        .timeout_per_write(Some(timeout));
    if url.is_secure() {
        let roots = roots(options.certificates(authority))?;
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    let connector = DefaultConnector::default().chain(EarlyResponseConnector);
    Ok(Agent::with_parts(config.build(), connector, Resolver))
}

fn proxy_of(url: &str, no_proxy: &[String]) -> Result<Proxy, String> {
    let bad = |e: ureq::Error| format!("the proxy {} can't be used: {e}", shown_proxy(url));
    let parsed = Proxy::new(url).map_err(bad)?;
    let mut proxy = Proxy::builder(parsed.protocol())
        .host(parsed.host())
        .port(parsed.port());
    if let Some(user) = parsed.username() {
        proxy = proxy.username(user);
    }
    if let Some(password) = parsed.password() {
        proxy = proxy.password(password);
    }
    for host in no_proxy {
        for pattern in no_proxy_patterns(host) {
            proxy = proxy.no_proxy(&pattern);
        }
    }
    proxy.build().map_err(bad)
}

/// What an entry of `NO_PROXY` means to curl and Go: the host on any port, and
/// all below it. Networks (`10.0.0.0/8`) are not supported.
pub(crate) fn no_proxy_patterns(entry: &str) -> Vec<String> {
    let entry = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
        _ => entry,
    };
    if entry.starts_with(['.', '*', '[']) {
        return vec![entry.to_string()];
    }
    vec![entry.to_string(), format!(".{entry}")]
}

/// A proxy's URL as it may be shown: its scheme, host and port. Whatever else stands in it may
/// be a secret.
pub fn shown_proxy(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let is_address = |name: &str| {
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let is_scheme = ["http", "https", "socks4", "socks4a", "socks5"].contains(&scheme);
    match is_scheme && (is_name(name) || is_address(name)) {
        true => format!("{scheme}://{host}"),
        false => "(not a proxy's URL)".to_string(),
    }
}

/// The system's certificates and the operator's; Mozilla's where the system has
/// none (a bare edge box).
fn roots<'o>(given: impl Iterator<Item = &'o [u8]>) -> Result<RootCerts, String> {
    let mut certificates = system_certificates();
    certificates.extend(given_certificates(given)?);
    if certificates.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// The system's certificates; it may have none.
pub(crate) fn system_certificates() -> Vec<Certificate<'static>> {
    let loaded = rustls_native_certs::load_native_certs().certs;
    let certificates = loaded.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned());
    certificates.collect()
}

/// How many certificates of authorities the system has. Without any, Mozilla's count.
pub fn count_system_certificates() -> usize {
    system_certificates().len()
}

/// The operator's certificates: at least one in each file.
pub(crate) fn given_certificates<'o>(
    given: impl Iterator<Item = &'o [u8]>,
) -> Result<Vec<Certificate<'static>>, String> {
    let mut certificates = Vec::new();
    for pem in given {
        let before = certificates.len();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| format!("the CA file can't be read: {e}"))? {
                certificates.push(certificate);
            }
        }
        if certificates.len() == before {
            return Err("the CA file has no certificate in PEM form".to_string());
        }
    }
    Ok(certificates)
}
#[cfg(test)]
mod tests {
    use super::*;

    // [CMD-040]
    #[test]
    fn password_of_a_proxy_is_not_shown() {
        for (url, shown) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("proxy", "http://proxy"),
            ("socks5://[::1]:1080", "socks5://[::1]:1080"),
            ("http://user:p@ss@proxy:3128", "http://proxy:3128"),
            ("user:secret@proxy", "http://proxy"),
            ("http://127.0.0.1:1/?token=secret", "http://127.0.0.1:1"),
            ("http://127.0.0.1:1#secret", "http://127.0.0.1:1"),
            ("http://user:secret%40proxy:1", "(not a proxy's URL)"),
            ("user:secret://x@proxy", "(not a proxy's URL)"),
            ("http://user:sec/ret@proxy", "(not a proxy's URL)"),
            ("", "(not a proxy's URL)"),
        ] {
            assert_eq!(shown_proxy(url), shown, "{url}");
        }
    }
}
