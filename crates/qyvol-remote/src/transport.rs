//! What lies below HTTP: proxies, certificates, time limits, and what it means
//! when a connection fails.

use std::io;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use crate::url::Url;
use crate::{Options, RemoteError};

/// Idle connections that are kept to one registry.
const CONNECTIONS: usize = 8;

/// What sends requests, set up once for a scheme, through the proxy for it if
/// there is one.
pub(crate) fn agent(options: &Options, secure: bool, proxied: bool) -> Result<Agent, String> {
    let proxy = match (proxied, secure) {
        (false, _) => &None,
        (true, true) => &options.https_proxy,
        (true, false) => &options.http_proxy,
    };
    let proxy = proxy
        .as_deref()
        .map(|url| proxy_of(url, &options.no_proxy))
        .transpose()?;
    let patience = Some(options.patience);
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("qyv/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .accept("")
        .proxy(proxy)
        .max_idle_connections_per_host(CONNECTIONS)
        .input_buffer_size(256 << 10)
        .output_buffer_size(256 << 10)
        .timeout_resolve(patience)
        .timeout_connect(patience)
        .timeout_recv_response(Some(options.patience * 4))
        .timeout_per_read(patience)
        .timeout_per_write(patience);
    if secure {
        config = config.tls_config(TlsConfig::builder().root_certs(roots(options)?).build());
    }
    Ok(config.build().new_agent())
}

fn proxy_of(url: &str, no_proxy: &[String]) -> Result<Proxy, String> {
    let bad = |e: ureq::Error| format!("the proxy {} can't be used: {e}", without_password(url));
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
        for pattern in past_proxy(host) {
            proxy = proxy.no_proxy(&pattern);
        }
    }
    proxy.build().map_err(bad)
}

/// What an entry of `NO_PROXY` means to those who write it, for curl and Go's
/// clients: the host on any port, and all below it. Networks (`10.0.0.0/8`) are
/// not known.
fn past_proxy(entry: &str) -> Vec<String> {
    let entry = match entry.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => host,
        _ => entry,
    };
    if entry.starts_with(['.', '*', '[']) {
        return vec![entry.to_string()];
    }
    vec![entry.to_string(), format!(".{entry}")]
}

fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, host)) => host.to_string(),
        None => url.to_string(),
    }
}

/// The system's certificates and the operator's; Mozilla's where the system has
/// none (a bare edge box).
fn roots(options: &Options) -> Result<RootCerts, String> {
    let mut certificates: Vec<Certificate<'static>> = rustls_native_certs::load_native_certs()
        .certs
        .iter()
        .map(|der| Certificate::from_der(der.as_ref()).to_owned())
        .collect();
    if let Some(pem) = &options.ca {
        let before = certificates.len();
        for item in parse_pem(pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| format!("the CA file can't be read: {e}"))? {
                certificates.push(certificate);
            }
        }
        if certificates.len() == before {
            return Err("the CA file has no certificate in PEM form".to_string());
        }
    } else if certificates.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// A failure below HTTP.
pub(crate) fn transport(url: &Url, error: ureq::Error) -> RemoteError {
    let host = url.authority().to_string();
    match error {
        ureq::Error::Timeout(what) => RemoteError::TimedOut {
            host,
            why: format!("time is over ({what})"),
        },
        ureq::Error::Io(error) => broken(url, error),
        ureq::Error::HostNotFound => RemoteError::Unreachable {
            host,
            why: "no such host".to_string(),
            temporary: false,
        },
        ureq::Error::ConnectionFailed => RemoteError::Unreachable {
            host,
            why: "no connection".to_string(),
            temporary: false,
        },
        ureq::Error::Tls(why) => RemoteError::Tls {
            host,
            why: why.to_string(),
        },
        ureq::Error::Rustls(why) => RemoteError::Tls {
            host,
            why: why.to_string(),
        },
        other => RemoteError::Protocol {
            what: format!(
                "an answer that is not HTTP: {}",
                qyvol_types::escape(&other.to_string())
            ),
        },
    }
}

/// A connection that failed.
pub(crate) fn broken(url: &Url, error: io::Error) -> RemoteError {
    use io::ErrorKind;
    // A body's reader wraps what is no I/O error: time that is over, framing
    // that can't be read.
    let error = match error.downcast::<ureq::Error>() {
        Ok(inner) => return transport(url, inner),
        Err(error) => error,
    };
    let host = url.authority().to_string();
    let why = qyvol_types::escape(&error.to_string()).to_string();
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => RemoteError::TimedOut { host, why },
        // What rustls has to say comes this way.
        ErrorKind::InvalidData => RemoteError::Tls { host, why },
        kind => RemoteError::Unreachable {
            host,
            why,
            temporary: matches!(
                kind,
                // A registry that is just starting, too.
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
