//! URLs as registries use them: an origin and a path.

use ureq::http::Uri;

use crate::RemoteError;

/// Largest URL, in bytes.
const MAX_LENGTH: usize = 8 << 10;

/// An absolute `http` or `https` URL without user information or fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    secure: bool,
    /// `host` or `host:port`, lower case.
    authority: String,
    /// From the first slash on, with the query.
    path: String,
}

impl Url {
    /// A URL on a registry.
    pub(crate) fn new(secure: bool, authority: &str, path: &str) -> Url {
        Url {
            secure,
            authority: authority.to_ascii_lowercase(),
            path: path.to_string(),
        }
    }

    /// Reads an absolute URL.
    pub(crate) fn parse(text: &str) -> Result<Url, RemoteError> {
        let bad = || RemoteError::Protocol {
            what: format!("a URL that can't be followed: {}", qyvol_types::escape(text)),
        };
        if text.len() > MAX_LENGTH {
            return Err(bad());
        }
        let uri: Uri = text.split('#').next().unwrap_or_default().parse().map_err(|_| bad())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?.as_str();
        if authority.contains('@') || authority.is_empty() {
            return Err(bad());
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Url::new(secure, authority, if path.is_empty() { "/" } else { path }))
    }

    /// Follows a `Location` (RFC 9110 section 10.2.2): absolute, or relative to
    /// this URL.
    pub(crate) fn join(&self, location: &str) -> Result<Url, RemoteError> {
        // A colon before the first slash ends a scheme (RFC 3986 section 4.2): an unknown
        // scheme must not become a path.
        let first = location.split(['/', '?', '#']).next().unwrap_or_default();
        if let Some((scheme, _)) = first.split_once(':') {
            let rest = location.get(scheme.len()..).unwrap_or_default();
            return Url::parse(&format!("{}{rest}", scheme.to_ascii_lowercase()));
        }
        let scheme = if self.secure { "https:" } else { "http:" };
        if location.starts_with("//") {
            return Url::parse(&format!("{scheme}{location}"));
        }
        let here = self.path.split('?').next().unwrap_or("/");
        let path = match location.chars().next() {
            Some('/') => location.to_string(),
            Some('?') => format!("{here}{location}"),
            _ => format!(
                "{}/{location}",
                here.rsplit_once('/').map_or("", |(directory, _)| directory)
            ),
        };
        Url::parse(&format!("{scheme}//{}{path}", self.authority))
    }

    /// Where a redirect leads: never from HTTPS to HTTP.
    pub(crate) fn follow(&self, location: &str) -> Result<Url, RemoteError> {
        let next = self.join(location)?;
        if self.secure && !next.secure {
            return Err(RemoteError::Unsafe {
                why: format!("{} leads from HTTPS to HTTP", self.authority),
            });
        }
        Ok(next)
    }

    /// The same with more query parameters.
    pub(crate) fn with_query<'p>(mut self, parameters: impl IntoIterator<Item = (&'p str, &'p str)>) -> Url {
        let start = match self.path.find('?') {
            Some(at) => at + 1,
            None => {
                self.path.push('?');
                self.path.len()
            }
        };
        self.path = form_urlencoded::Serializer::for_suffix(self.path, start)
            .extend_pairs(parameters)
            .finish();
        self
    }

    /// Another path, with its query, of the same origin.
    pub(crate) fn with_path(&self, path: &str) -> Url {
        Url {
            path: path.to_string(),
            ..self.clone()
        }
    }

    /// Whether the connection is encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// Whether both have the same scheme, host and port (RFC 6454).
    pub(crate) fn same_origin(&self, other: &Url) -> bool {
        let port = |url: &Url| {
            let default = if url.secure { ":443" } else { ":80" };
            url.authority
                .strip_suffix(default)
                .unwrap_or(&url.authority)
                .to_string()
        };
        self.secure == other.secure && port(self) == port(other)
    }

    /// `host` or `host:port`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

/// Whether `host` or `host:port` is this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(location: &str) -> String {
        let base = Url::new(true, "r.example:5000", "/v2/a/blobs/uploads/?x=1");
        base.join(location)
            .map_or_else(|_| "refused".to_string(), |url| url.to_string())
    }

    #[test]
    fn location_is_followed_in_each_of_its_forms() {
        for (location, due) in [
            (
                "/v2/a/blobs/uploads/7?s=1",
                "https://r.example:5000/v2/a/blobs/uploads/7?s=1",
            ),
            ("https://cdn.example/x", "https://cdn.example/x"),
            ("http://cdn.example", "http://cdn.example/"),
            ("//cdn.example/x#y", "https://cdn.example/x"),
            ("7", "https://r.example:5000/v2/a/blobs/uploads/7"),
            ("?s=2", "https://r.example:5000/v2/a/blobs/uploads/?s=2"),
            ("https://user:pass@r.example/", "refused"),
            ("https:///x", "refused"),
            ("HTTPS://cdn.example/x", "https://cdn.example/x"),
            ("gopher://cdn.example/x", "refused"),
            ("javascript:x", "refused"),
            ("/a b", "refused"),
            ("/a\r\nx: y", "refused"),
        ] {
            assert_eq!(joined(location), due, "{location}");
        }
        assert_eq!(joined(&format!("/{}", "a".repeat(MAX_LENGTH))), "refused");
    }

    #[test]
    fn redirect_from_https_to_http_is_refused() {
        let base = |text| Url::parse(text).unwrap();
        for location in ["http://r.example/x", "HTTP://r.example/x", "http://cdn.example/x"] {
            let error = base("https://r.example/v2/").follow(location).unwrap_err();
            assert!(matches!(error, RemoteError::Unsafe { .. }), "{location}");
        }
        for location in ["/x", "//cdn.example/x", "https://cdn.example/x"] {
            base("https://r.example/v2/").follow(location).unwrap();
        }
        base("http://r.example/v2/").follow("http://cdn.example/x").unwrap();
    }

    /// What a hostile registry might send as a location.
    fn locations() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[ -~]{0,12}",
            any::<String>(),
            "https?://[a-z.:@/?#\\\\]{0,20}",
            Just("\r\nx: y".to_string()),
            Just("//".to_string()),
            Just("..".to_string()),
        ];
        proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn url_keeps_a_request_intact_and_reads_back_as_itself(location in locations()) {
            let base = Url::new(true, "r.example:5000", "/v2/a/blobs/uploads/?x=1");
            for url in [Url::parse(&location), base.join(&location)].into_iter().flatten() {
                let text = url.to_string();
                prop_assert!(!text.contains(char::is_control), "{text:?}");
                prop_assert!(!text.contains(['\r', '\n', ' ', '#']), "{text:?}");
                prop_assert!(!url.authority.contains(['@', '/', '?', '\\']), "{text:?}");
                prop_assert_eq!(&Url::parse(&text).unwrap(), &url);
                let more = url.clone().with_query([("digest", location.as_str())]);
                prop_assert!(more.same_origin(&url));
                prop_assert!(!more.to_string().contains(['\r', '\n', ' ', '#']));
                if let Ok(next) = base.follow(&location) {
                    prop_assert!(next.secure);
                }
            }
        }

        #[test]
        fn relative_location_stays_on_its_origin(rest in "[ -~]{0,30}") {
            let base = Url::new(true, "r.example:5000", "/v2/a/blobs/uploads/?x=1");
            for location in [format!("/x{rest}"), format!("?{rest}"), format!("./{rest}")] {
                if let Ok(url) = base.join(&location) {
                    prop_assert!(url.same_origin(&base), "{location}");
                }
            }
        }
    }

    #[test]
    fn another_port_or_scheme_is_another_origin() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://a.example/x").same_origin(&url("https://A.example:443/y")));
        for other in ["http://a.example/", "https://a.example:444/", "https://b.a.example/"] {
            assert!(!url("https://a.example/").same_origin(&url(other)), "{other}");
        }
    }

    #[test]
    fn loopback_is_a_name_or_address_of_this_machine_alone() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "127.0.0.1.example:80",
            "10.0.0.1",
            "[::2]:1",
            "127",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
