//! One entry of an allow-list: `HOST:PORT`.
//!
//! A host is a name, `*.` and a name, an address, or a block of addresses. Text that
//! could be read in two ways is refused: `0177.0.0.1` is neither an address nor a
//! name here, `10.0.0.1/8` neither a host nor a block.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use qyvol_types::escape;

/// Longest name (RFC 1035, 2.3.4).
const NAME_BYTES: usize = 253;
/// Longest part of a name.
const LABEL_BYTES: usize = 63;

/// Where a guest may connect to, or listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) host: Host,
    pub(super) port: Port,
}

/// The host of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// A name, in lower case.
    Name(String),
    /// All names below one.
    Below(String),
    /// Addresses.
    Block(IpNet),
}

/// The port of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Any,
    One(u16),
}

impl Port {
    pub(super) fn includes(self, port: u16) -> bool {
        match self {
            Port::Any => true,
            Port::One(own) => own == port,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Any => f.write_str("*"),
            Port::One(port) => port.fmt(f),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{port}"),
            Host::Below(name) => write!(f, "*.{name}:{port}"),
            Host::Block(block) => {
                let single = block.prefix_len() == block.max_prefix_len();
                match (block, single) {
                    (IpNet::V4(block), true) => write!(f, "{}:{port}", block.addr()),
                    (IpNet::V4(block), false) => write!(f, "{block}:{port}"),
                    (IpNet::V6(block), true) => write!(f, "[{}]:{port}", block.addr()),
                    (IpNet::V6(block), false) => write!(f, "[{block}]:{port}"),
                }
            }
        }
    }
}

impl Endpoint {
    /// Reads an endpoint, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let shown = escape(text);
        if let Some((_, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or_default();
            return Err(format!(
                "`{shown}` is a URL: write its host and its port, as in {}",
                escape(if authority.contains(':') {
                    authority
                } else {
                    "example.com:443"
                })
            ));
        }
        if text == "*" || text.starts_with("*:") {
            return Err(format!(
                "`{shown}` names no host: `net: true` in a manifest asks for every connection"
            ));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!(
                "`{shown}` has no port: write {shown}:443, or {shown}:* for every port"
            ));
        };
        let port = match port {
            "*" => Port::Any,
            digits => match digits.parse::<u16>() {
                // In its normal form, without a sign or leading zeros.
                Ok(port) if port != 0 && port.to_string() == digits => Port::One(port),
                _ => {
                    return Err(format!(
                        "`{shown}` has no port from 1 to 65535 after its last `:`, and no `*`"
                    ));
                }
            },
        };
        let host = match host.strip_prefix('[') {
            Some(inner) => match inner.strip_suffix(']').map(parse_block) {
                Some(Some(block @ IpNet::V6(_))) => Host::Block(block),
                _ => return Err(format!("`{shown}` has no IPv6 address or block between `[` and `]`")),
            },
            None if host.contains(':') => {
                return Err(format!(
                    "`{shown}`: an IPv6 address must be in brackets, as in [::1]:443"
                ));
            }
            None => parse_host(host).map_err(|why| format!("`{shown}`: {why}"))?,
        };
        Ok(Endpoint { host, port })
    }

    /// Whether it allows all that `other` allows. A name never covers an address, nor the other way.
    pub(super) fn covers(&self, other: &Endpoint) -> bool {
        let below = |name: &str, of: &str| name.strip_suffix(of).is_some_and(|start| start.ends_with('.'));
        let host = match (&self.host, &other.host) {
            (Host::Below(own), Host::Name(other)) => below(other, own),
            (Host::Below(own), Host::Below(other)) => own == other || below(other, own),
            (Host::Block(own), Host::Block(other)) => own.contains(other),
            (own, other) => own == other,
        };
        host && (self.port == Port::Any || self.port == other.port)
    }

    /// Whether it is an address and a port to listen on.
    pub(super) fn is_address(&self) -> bool {
        matches!(self.host, Host::Block(_)) || self.is_localhost()
    }

    /// `localhost`, which names the loopback addresses themselves.
    fn is_localhost(&self) -> bool {
        matches!(&self.host, Host::Name(name) if name == LOCALHOST)
    }

    /// Whether it includes the address, without looking up any name.
    pub(super) fn includes(&self, address: SocketAddr) -> bool {
        self.includes_address(address.ip()) && self.port.includes(address.port())
    }

    /// Like [`Endpoint::includes`], for any port.
    pub(super) fn includes_address(&self, address: IpAddr) -> bool {
        match &self.host {
            Host::Block(block) => block.contains(&address),
            _ => self.is_localhost() && address.is_loopback(),
        }
    }

    /// Whether it includes a name, which is in lower case.
    pub(super) fn includes_name(&self, name: &str) -> bool {
        match &self.host {
            Host::Name(own) => own == name,
            Host::Below(own) => name
                .strip_suffix(own.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty()),
            Host::Block(_) => false,
        }
    }
}

pub(super) const LOCALHOST: &str = "localhost";

fn parse_host(text: &str) -> Result<Host, String> {
    if text.contains('/') || text.parse::<Ipv4Addr>().is_ok() {
        let block = parse_block(text);
        return block.map(Host::Block).ok_or_else(|| {
            "a block of addresses must end in its prefix length and have no bits set after the prefix, as in 10.0.0.0/8"
                .to_string()
        });
    }
    match text.strip_prefix("*.") {
        Some(name) => parse_name(name).map(Host::Below),
        None => parse_name(text).map(Host::Name),
    }
}

/// An address or a block, in its only accepted form.
fn parse_block(text: &str) -> Option<IpNet> {
    let block = match text.contains('/') {
        true => text.parse::<IpNet>().ok()?,
        false => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    // A block inside ::ffff:0:0/96 would never match: addresses are compared in
    // their IPv4 form.
    let mapped = matches!(block, IpNet::V6(v6) if is_mapped(v6.network()));
    (block.addr() == block.network() && !mapped).then_some(block)
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// A host name of letters, digits, `-` and `_`, in lower case.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    if !text.is_ascii() {
        return Err("a name with other letters than ASCII must be in its xn-- form".to_string());
    }
    let name = text.to_ascii_lowercase();
    let label_is_valid = |label: &str| {
        let byte_is_valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(byte_is_valid)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_BYTES || !name.split('.').all(label_is_valid) {
        return Err("it has no host name, address or block of addresses before its port".to_string());
    }
    if ends_in_number(&name) {
        return Err("it is neither an address nor a name: an IPv4 address has four decimal numbers".to_string());
    }
    Ok(name)
}

/// Whether some resolvers would read a name as an address (URL standard, "ends in a
/// number checker").
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    let hexadecimal = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    (!last.is_empty() && last.bytes().all(|b| b.is_ascii_digit())) || last.strip_prefix("0x").is_some_and(hexadecimal)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_printed_in_canonical_form() {
        for (text, shown) in [
            ("api.example.com:443", "api.example.com:443"),
            ("API.Example.com:443", "api.example.com:443"),
            ("*.example.com:*", "*.example.com:*"),
            ("localhost:8080", "localhost:8080"),
            ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
            ("192.0.2.1/32:1", "192.0.2.1:1"),
            ("0.0.0.0/0:443", "0.0.0.0/0:443"),
            ("[::1]:443", "[::1]:443"),
            ("[2001:DB8::/32]:*", "[2001:db8::/32]:*"),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(Endpoint::parse(shown).unwrap(), endpoint);
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "",
            ":443",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:0443",
            "a b:1",
            "a..b:1",
            "-a:1",
            ".a:1",
            "*:1",
            "*.*.a:1",
            "a*.b:1",
            "a.:1",
            "http://a:1",
            "0177.0.0.1:1",
            "127.1:1",
            "2130706433:1",
            "0x7f000001:1",
            "a.0x7f:1",
            "10.0.0.1/8:1",
            "10.0.0.0/33:1",
            "::1:443",
            "[::1:443",
            "[127.0.0.1]:443",
            "[::ffff:127.0.0.1]:443",
            "[::ffff:0:0/96]:443",
            "[fe80::1%eth0]:443",
            "bücher.example:443",
            &format!("{}:1", "a".repeat(64)),
            &format!("{}:1", "a.".repeat(127) + "a"),
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_below_a_wildcard_match_and_it_does_not() {
        let below = Endpoint::parse("*.example.com:1").unwrap();
        for name in ["a.example.com", "a.b.example.com"] {
            assert!(below.includes_name(name), "{name}");
        }
        for name in ["example.com", ".example.com", "badexample.com", "a.example.com.evil"] {
            assert!(!below.includes_name(name), "{name}");
        }
    }
}
