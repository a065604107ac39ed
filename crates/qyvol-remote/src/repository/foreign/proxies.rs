//! The proxies that are passed to `oci-distribution`.
//!
//! One is always set: without any, that client reads the environment. An HTTPS
//! registry gets no exceptions either: one would let a redirect through to
//! plain HTTP.
//!
//! Deliberately absent: our own client's proxies, which are set for each request.

use crate::Options;
use crate::endpoint::Endpoint;
use crate::transport::no_proxy_patterns;
use crate::url::is_loopback;

/// A proxy URL at which nothing can listen.
const DEAD_PROXY: &str = "http://127.0.0.1:0";
/// Hosts that are never reached through a proxy.
const LOOPBACK: &str = "localhost,127.0.0.0/8,::1";

/// The proxies for `https` and for `http`, and the hosts without. One of them is
/// always set: where none is, that client takes them from the environment.
pub(super) fn proxies(options: &Options, endpoint: &Endpoint) -> (Option<String>, Option<String>, Option<String>) {
    let loopback = is_loopback(endpoint.host());
    let given = |proxy: &Option<String>| proxy.clone().filter(|_| !loopback);
    let (https, http) = (given(&options.https_proxy), given(&options.http_proxy));
    let hosts = || {
        let hosts = options.no_proxy.iter().flat_map(|host| no_proxy_patterns(host));
        let hosts = hosts.map(|host| match host.strip_prefix("*.") {
            Some(domain) => format!(".{domain}"),
            None => host.trim_matches(['[', ']']).to_string(),
        });
        // Networks are not supported by our own client either.
        hosts.filter(|host| !host.contains('/'))
    };
    let without = || Some(hosts().chain([LOOPBACK.to_string()]).collect::<Vec<_>>().join(","));
    match (endpoint.origin.is_secure(), https, http) {
        // Exceptions would apply to HTTP too, which must lead nowhere.
        (true, https, _) => {
            let host = bare(endpoint.host());
            let is_exempt = hosts().any(|exempt| match exempt.strip_prefix('.') {
                Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
                None => exempt == "*" || exempt.eq_ignore_ascii_case(&host),
            });
            (https.filter(|_| !is_exempt), Some(DEAD_PROXY.to_string()), None)
        }
        (false, None, None) => (Some(DEAD_PROXY.to_string()), None, Some("*".to_string())),
        (false, https, http) => (https, http, without()),
    }
}

/// A host without port and brackets.
fn bare(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_matches(['[', ']']).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;

    // [REG-028]
    #[test]
    fn proxies_come_from_the_options_never_the_environment() {
        let mut options = Options {
            plain_http: vec!["plain.example".to_string()],
            tls: vec!["localhost".to_string()],
            ..Options::default()
        };
        let of = |options: &Options, registry: &str| {
            let endpoint = Endpoint::repository(options, registry, "app", Access::Pull, []);
            let (https, http, without) = proxies(options, &endpoint);
            // One is always set.
            assert!(https.is_some() || http.is_some(), "{registry}");
            [https, http, without].map(Option::unwrap_or_default)
        };
        // Nothing is configured: HTTPS goes nowhere else, HTTP goes directly.
        assert_eq!(of(&options, "r.example"), ["", DEAD_PROXY, ""]);
        assert_eq!(of(&options, "plain.example"), [DEAD_PROXY, "", "*"]);
        options.https_proxy = Some("http://s.example".to_string());
        options.http_proxy = Some("http://p.example".to_string());
        options.no_proxy = ["a.example:80", "*.b.example", "10.0.0.0/8", "[::2]"]
            .map(String::from)
            .to_vec();
        let without = format!("a.example,.a.example,.b.example,::2,{LOOPBACK}");
        // A host that is exempt from the proxy is not reached by HTTP.
        for registry in ["r.example", "xa.example", "b.example"] {
            assert_eq!(of(&options, registry), ["http://s.example", DEAD_PROXY, ""]);
        }
        for registry in [
            "a.example",
            "A.example:8443",
            "x.a.example",
            "x.b.example:5000",
            "[::2]:443",
            "[::2]",
        ] {
            assert_eq!(of(&options, registry), ["", DEAD_PROXY, ""], "{registry}");
        }
        assert_eq!(
            of(&options, "plain.example"),
            ["http://s.example", "http://p.example", &without]
        );
        // Loopback has none, whatever is configured.
        assert_eq!(of(&options, "127.0.0.1:5000"), [DEAD_PROXY, "", "*"]);
        assert_eq!(of(&options, "localhost:5000"), ["", DEAD_PROXY, ""]);
    }
}
