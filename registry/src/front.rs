//! Client addresses and the hub's own URL behind reverse proxies.
//!
//! A proxy that terminates TLS reports the client and the requested URL in `X-Forwarded-For`,
//! `X-Forwarded-Proto` and `X-Forwarded-Host`. Anyone can send these fields, so they count only
//! if they come from the address of a configured proxy.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

/// An address, or a network: `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let ((network, width), (address, same)) = (bits(self.address), bits(address.to_canonical()));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
        width == same && (network ^ address) & mask == 0
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let expected = || "expected an IP address or a network such as 10.0.0.0/8".to_string();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let (_, width) = bits(address);
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|n| *n <= width).ok_or_else(expected)?,
            None => width,
        };
        Ok(Network { address, prefix })
    }
}

/// Where challenges send a client.
pub(crate) struct Origin {
    /// `scheme://host`. None if an unknown proxy hides the scheme.
    pub(crate) url: Option<String>,
    pub(crate) host: String,
}

/// The reverse proxies before this hub.
pub(crate) struct Forwarding {
    public_url: Option<String>,
    proxies: Vec<Network>,
    reported: AtomicBool,
}

/// The values of a list header, from all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect()
}

/// An address in the form of `X-Forwarded-For`: some proxies add the port.
fn forwarded_address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next());
    text.parse()
        .ok()
        .or_else(|| bare?.parse().ok())
        .or_else(|| text.parse().ok().map(|address: std::net::SocketAddr| address.ip()))
}

impl Forwarding {
    pub(crate) fn new(public_url: Option<String>, proxies: Vec<Network>) -> Forwarding {
        let trimmed = public_url.map(|url| url.trim_end_matches('/').to_string());
        Forwarding {
            public_url: trimmed,
            proxies,
            reported: AtomicBool::new(false),
        }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// The client's address: the last one before those of our proxies.
    pub(crate) fn client(&self, remote: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = remote;
        for hop in list(headers, FOR).into_iter().rev() {
            if !self.trusts(client) {
                break;
            }
            match forwarded_address(hop) {
                Some(address) => client = address,
                None => break,
            }
        }
        client
    }

    /// Where a client reached this server, as far as that is known.
    pub(crate) fn origin(&self, remote: IpAddr, secure: bool, request: &Parts) -> Origin {
        if let Some(url) = &self.public_url {
            let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host).to_string();
            return Origin {
                url: Some(url.clone()),
                host,
            };
        }
        let headers = &request.headers;
        let trusted = self.trusts(remote);
        let forwarded = list(headers, HOST).first().copied().filter(|_| trusted);
        let stated = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = forwarded
            .or(stated)
            .or_else(|| request.uri.authority().map(|a| a.as_str()));
        let host = host.filter(|host| is_plain(host)).unwrap_or("localhost").to_string();
        let scheme = match (trusted, secure) {
            (true, _) => list(headers, PROTO)
                .first()
                .and_then(|proto| ["http", "https"].into_iter().find(|s| s.eq_ignore_ascii_case(proto)))
                .or(secure.then_some("https")),
            (false, true) => Some("https"),
            (false, false) => (!is_forwarded(headers)).then_some("http"),
        };
        Origin {
            url: scheme.map(|scheme| format!("{scheme}://{host}")),
            host,
        }
    }

    /// Whether to warn the operator, once, of a proxy that is not configured.
    pub(crate) fn unknown_proxy(&self, remote: IpAddr, headers: &HeaderMap) -> bool {
        let unknown = self.public_url.is_none() && !self.trusts(remote) && is_forwarded(headers);
        unknown && !self.reported.swap(true, Ordering::Relaxed)
    }
}

fn is_forwarded(headers: &HeaderMap) -> bool {
    [FOR, PROTO, HOST, "forwarded"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Only what a host and port consist of: it is quoted in headers.
fn is_plain(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'-' | b'[' | b']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn front(proxies: &[&str]) -> Forwarding {
        Forwarding::new(None, proxies.iter().map(|p| network(p)).collect())
    }

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = hyper::Request::builder().uri("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn network_contains_its_addresses_and_no_others() {
        for (text, address, inside) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "192.0.2.1", false),
        ] {
            assert_eq!(
                network(text).contains(address.parse().unwrap()),
                inside,
                "{text} {address}"
            );
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "a/8", "::/129"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn client_is_the_last_address_that_is_no_proxy_of_ours() {
        let chain = request(&[(FOR, "203.0.113.9, 198.51.100.7"), (FOR, "10.0.0.2:4711")]);
        let client = |proxies: &[&str], remote: &str| {
            front(proxies)
                .client(remote.parse().unwrap(), &chain.headers)
                .to_string()
        };
        assert_eq!(client(&[], "10.0.0.1"), "10.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "192.0.2.1"), "192.0.2.1");
        // The client made up the first of them.
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1"), "198.51.100.7");
        assert_eq!(client(&["10.0.0.0/8", "198.51.100.0/24"], "10.0.0.1"), "203.0.113.9");
    }

    #[test]
    fn scheme_comes_from_the_connection_or_a_trusted_proxy_and_is_never_guessed() {
        let url = |front: &Forwarding, secure: bool, headers: &[(&str, &str)]| {
            let mut all = vec![("host", "hub.example")];
            all.extend(headers);
            front.origin("10.0.0.1".parse().unwrap(), secure, &request(&all)).url
        };
        let (none, proxied) = (front(&[]), front(&["10.0.0.1"]));
        let https = Some("https://hub.example".to_string());
        assert_eq!(url(&none, false, &[]).as_deref(), Some("http://hub.example"));
        assert_eq!(url(&none, true, &[]), https);
        assert_eq!(url(&none, false, &[(PROTO, "https")]), None);
        assert_eq!(url(&proxied, false, &[(PROTO, "https")]), https);
        assert_eq!(url(&proxied, false, &[(PROTO, "gopher")]), None);
        assert_eq!(url(&proxied, false, &[]), None);
        assert_eq!(
            url(&proxied, false, &[(PROTO, "https"), (HOST, "r.example:8443")]).as_deref(),
            Some("https://r.example:8443")
        );
        let public = Forwarding::new(Some("https://r.example/".to_string()), Vec::new());
        assert_eq!(
            url(&public, false, &[(PROTO, "http")]).as_deref(),
            Some("https://r.example")
        );
    }
}
