//! Addresses, from the only place that may return them.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::NextTimeout;

use crate::config::{Host, ResolveError};

/// Maximum number of addresses of one host that are tried.
const MAX_ADDRESSES: usize = 16;

/// Asks the [`crate::Host`] of the run.
pub(super) struct Resolver(pub(super) Arc<dyn Host>);

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl UreqResolver for Resolver {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let authority = uri.authority().ok_or(Error::HostNotFound)?;
        let name = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_string();
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(default);
        let (send, receive) = mpsc::sync_channel(1);
        let host = self.0.clone();
        // A lookup can't be interrupted: one that takes too long is abandoned.
        thread::Builder::new().spawn(move || send.send(host.resolve(&name, port)))?;
        let found = match receive.recv_timeout(*timeout.after) {
            Ok(found) => found.map_err(|error| Error::Other(Box::new(error)))?,
            Err(_) => return Err(Error::Timeout(timeout.reason)),
        };
        let mut addresses = self.empty();
        for address in found.into_iter().take(MAX_ADDRESSES) {
            addresses.push(address);
        }
        match addresses.is_empty() {
            true => Err(Error::Other(Box::new(ResolveError::NotFound))),
            false => Ok(addresses),
        }
    }
}
