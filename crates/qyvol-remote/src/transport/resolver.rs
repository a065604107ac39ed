//! Looking up host names.
//!
//! The standard library reports a failed lookup as text. Whether it may succeed
//! at another time (`EAI_AGAIN`: the name server did not answer) is in the
//! error code, so the lookup is made here, where the code is available.

use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;

/// Addresses of one host that are tried.
const MAX_ADDRESSES: usize = 16;

/// A failed lookup.
#[derive(Debug)]
pub(super) struct ResolveError(LookupError);

impl ResolveError {
    /// Whether the same lookup may succeed at another time.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self.0.kind(), LookupErrorKind::Again)
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.kind() {
            LookupErrorKind::Again => f.write_str("the name server did not answer"),
            LookupErrorKind::NoName | LookupErrorKind::NoData => f.write_str("no such host"),
            _ => write!(f, "{}", self.0),
        }
    }
}

impl std::error::Error for ResolveError {}

/// Looks names up with the system's resolver.
#[derive(Debug)]
pub(super) struct Resolver;

impl UreqResolver for Resolver {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let (scheme, authority) = uri.scheme().zip(uri.authority()).ok_or(Error::HostNotFound)?;
        let named = DefaultResolver::host_and_port(scheme, authority).ok_or(Error::HostNotFound)?;
        let (send, receive) = mpsc::sync_channel(1);
        // A lookup can't be interrupted: one that takes too long is abandoned.
        thread::spawn(move || send.send(look_up(&named)));
        let found = match receive.recv_timeout(*timeout.after) {
            Ok(found) => found.map_err(|error| Error::Other(Box::new(ResolveError(error))))?,
            Err(_) => return Err(Error::Timeout(timeout.reason)),
        };
        let mut addresses = self.empty();
        for address in config.ip_family().keep_wanted(found.into_iter()).take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        match addresses.is_empty() {
            true => Err(Error::HostNotFound),
            false => Ok(addresses),
        }
    }
}

/// The addresses of `host:port`.
fn look_up(named: &str) -> Result<Vec<SocketAddr>, LookupError> {
    let (host, port) = named.rsplit_once(':').unwrap_or((named, "0"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let mut found = Vec::new();
    for address in getaddrinfo(Some(host), None, Some(hints))? {
        let mut address = address?.sockaddr;
        address.set_port(port.parse().unwrap_or_default());
        found.push(address);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    // [REG-015]
    #[test]
    fn lookup_that_the_name_server_did_not_answer_is_temporary() {
        let error = |code| ResolveError(LookupError::new(code));
        // The codes of `netdb.h` on Linux.
        assert!(error(-3).is_temporary());
        assert!(!error(-2).is_temporary());
        assert_eq!(error(-2).to_string(), "no such host");
    }

    #[test]
    fn addresses_are_found_for_names_and_literals() {
        for (named, due) in [("127.0.0.1:5000", "127.0.0.1:5000"), ("[::1]:5000", "[::1]:5000")] {
            assert_eq!(look_up(named).unwrap(), [due.parse().unwrap()]);
        }
        assert!(
            look_up("localhost:80")
                .unwrap()
                .iter()
                .all(|a| a.ip().is_loopback() && a.port() == 80)
        );
    }
}
