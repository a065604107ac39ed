//! How registries are reached: the operator's settings.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::retry::RetryPolicy;
use crate::url::is_loopback;

/// The default timeout: how long a registry may send nothing.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Transfers at a time by default.
const CONCURRENCY: usize = 4;

/// The operator's settings for one registry, by its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostOptions {
    /// Certificates to trust for this host beside the system's, PEM.
    pub ca: Option<Vec<u8>>,
    /// Plain HTTP or HTTPS; by default, plain HTTP for loopback hosts and HTTPS for all others.
    pub plain_http: Option<bool>,
    /// Tried first when something is read, in this order: `host[:port]`, and a
    /// prefix of repositories if there is one.
    pub mirrors: Vec<String>,
    /// How long the host may send nothing.
    pub timeout: Option<Duration>,
    /// Transfers at a time.
    pub concurrency: Option<usize>,
}

/// The operator's settings for all registries, and for single ones.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Hosts that are reached by plain HTTP, as `host` or `host:port`.
    pub plain_http: Vec<String>,
    /// Loopback hosts that are reached by HTTPS.
    pub tls: Vec<String>,
    /// Certificates to trust beside the system's, PEM.
    pub ca: Option<Vec<u8>>,
    /// The proxy for `https` addresses, if any.
    pub https_proxy: Option<String>,
    /// The proxy for `http` addresses, if any.
    pub http_proxy: Option<String>,
    /// Hosts that are reached without a proxy.
    pub no_proxy: Vec<String>,
    /// When to retry.
    pub retry: RetryPolicy,
    /// The timeout for every host; overrides `hosts`.
    pub timeout: Option<Duration>,
    /// Single hosts, as `host` or `host:port`; the longer name wins.
    pub hosts: BTreeMap<String, HostOptions>,
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of a bare IPv6 address are in brackets.
        Some((host, _)) if !authority.ends_with(']') => host,
        _ => authority,
    }
}

impl Options {
    /// The entry of a host, by its full name or without the port.
    fn host(&self, authority: &str) -> Option<&HostOptions> {
        let entry = self.hosts.get(authority);
        entry.or_else(|| self.hosts.get(without_port(authority)))
    }

    /// The name of the entry that [`Options::host`] finds.
    pub(crate) fn host_key(&self, authority: &str) -> Option<&str> {
        let named = |name: &str| self.hosts.get_key_value(name).map(|(key, _)| key.as_str());
        named(authority).or_else(|| named(without_port(authority)))
    }

    /// Whether a registry is reached by HTTPS.
    pub(crate) fn is_secure(&self, registry: &str) -> bool {
        let bare = without_port(registry);
        let named = |list: &[String]| list.iter().any(|host| host == registry || host == bare);
        if named(&self.plain_http) {
            return false;
        }
        if named(&self.tls) {
            return true;
        }
        match self.host(registry).and_then(|host| host.plain_http) {
            Some(plain) => !plain,
            None => !is_loopback(registry),
        }
    }

    /// How long a host may send nothing.
    pub(crate) fn timeout(&self, authority: &str) -> Duration {
        let of_host = || self.host(authority).and_then(|host| host.timeout);
        self.timeout.or_else(of_host).unwrap_or(TIMEOUT)
    }

    /// Certificates to trust for a host, beside the system's.
    pub(crate) fn certificates(&self, authority: &str) -> impl Iterator<Item = &[u8]> {
        let of_host = self.host(authority).and_then(|host| host.ca.as_deref());
        self.ca.as_deref().into_iter().chain(of_host)
    }

    pub(crate) fn mirrors(&self, registry: &str) -> &[String] {
        self.host(registry).map_or(&[], |host| &host.mirrors)
    }

    pub(crate) fn concurrency(&self, registry: &str) -> usize {
        let of_host = self.host(registry).and_then(|host| host.concurrency);
        of_host.unwrap_or(CONCURRENCY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_and_named_hosts_alone() {
        let mut options = Options::default();
        assert!(!options.is_secure("localhost:5000") && !options.is_secure("[::1]:5000"));
        assert!(!options.is_secure("[::1]"));
        assert!(options.is_secure("r.example") && options.is_secure("10.0.0.1:80"));
        options.plain_http = vec!["r.example".to_string(), "s.example:80".to_string()];
        options.tls = vec!["localhost".to_string()];
        assert!(!options.is_secure("r.example:5000") && !options.is_secure("s.example:80"));
        assert!(options.is_secure("s.example") && options.is_secure("evil.r.example"));
        assert!(options.is_secure("localhost:5000"));
    }

    #[test]
    fn entry_of_a_host_applies_to_that_host_and_the_command_line_wins() {
        let entry = HostOptions {
            plain_http: Some(true),
            timeout: Some(Duration::from_secs(90)),
            concurrency: Some(2),
            ca: Some(b"pem".to_vec()),
            ..HostOptions::default()
        };
        let mut options = Options {
            hosts: BTreeMap::from([("r.example".to_string(), entry)]),
            ..Options::default()
        };
        for registry in ["r.example", "r.example:5000"] {
            assert!(!options.is_secure(registry));
            assert_eq!(options.timeout(registry), Duration::from_secs(90));
            assert_eq!(options.concurrency(registry), 2);
            assert_eq!(options.certificates(registry).count(), 1);
        }
        assert!(options.is_secure("evil.r.example"));
        assert_eq!(options.certificates("evil.r.example").count(), 0);
        assert_eq!(options.timeout("evil.r.example"), TIMEOUT);
        options.timeout = Some(Duration::from_secs(5));
        options.tls = vec!["r.example".to_string()];
        assert!(options.is_secure("r.example"));
        assert_eq!(options.timeout("r.example"), Duration::from_secs(5));
        let named = HostOptions {
            plain_http: Some(false),
            ..HostOptions::default()
        };
        options.hosts.insert("localhost:5000".to_string(), named);
        assert!(options.is_secure("localhost:5000") && !options.is_secure("localhost:5001"));
    }
}
