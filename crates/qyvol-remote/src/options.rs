//! How registries are talked to.

use std::time::Duration;

use crate::url::is_loopback;

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Hosts that are spoken to in plain HTTP, as `host` or `host:port`.
    /// Loopback addresses are, unless they stand in `tls`.
    pub plain_http: Vec<String>,
    /// Loopback hosts that are spoken to in HTTPS.
    pub tls: Vec<String>,
    /// Certificates to trust beside the system's, as PEM.
    pub ca: Option<Vec<u8>>,
    /// The proxy for `https` addresses, if any.
    pub https_proxy: Option<String>,
    /// The proxy for `http` addresses, if any.
    pub http_proxy: Option<String>,
    /// Hosts that are reached without a proxy.
    pub no_proxy: Vec<String>,
    /// How often what failed for a passing reason is tried again.
    pub retries: u32,
    /// The first wait before another try; each next one is twice as long.
    pub backoff: Duration,
    /// How long the other side may be silent, or drip.
    pub patience: Duration,
    /// The longest wait that a registry may ask for.
    pub longest_wait: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            plain_http: Vec::new(),
            tls: Vec::new(),
            ca: None,
            https_proxy: None,
            http_proxy: None,
            no_proxy: Vec::new(),
            retries: 4,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            longest_wait: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// Whether a registry is spoken to in HTTPS.
    pub(crate) fn is_secure(&self, registry: &str) -> bool {
        let named = |list: &[String]| {
            list.iter()
                .any(|host| registry == host || registry.rsplit_once(':').is_some_and(|(bare, _)| bare == host))
        };
        if named(&self.plain_http) {
            return false;
        }
        named(&self.tls) || !is_loopback(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_hosts_named_are_spoken_to_in_the_clear() {
        let mut options = Options::default();
        assert!(!options.is_secure("localhost:5000") && !options.is_secure("[::1]:5000"));
        assert!(options.is_secure("r.example") && options.is_secure("10.0.0.1:80"));
        options.plain_http = vec!["r.example".to_string(), "s.example:80".to_string()];
        options.tls = vec!["localhost".to_string()];
        assert!(!options.is_secure("r.example:5000") && !options.is_secure("s.example:80"));
        assert!(options.is_secure("s.example") && options.is_secure("evil.r.example"));
        assert!(options.is_secure("localhost:5000"));
    }
}
