//! The location of the tree, which is an origin and a path, and the URLs below it.
//!
//! The path is kept as decoded parts and encoded once when a request is made, so that no
//! name from a guest or a server can be read as anything but a name.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use qyvol_types::escape;
use ureq::http::Uri;
use ureq::http::uri::Authority;

use crate::error::Error;
use crate::path::is_name;
use crate::protocol::Protocol;

/// Maximum length of a tree's URL, in bytes.
const MAX_LENGTH: usize = 2 << 10;
/// Maximum length of a URL in a message, in characters.
const SHOWN_CHARS: usize = 300;
/// All but RFC 3986's unreserved characters, as in the signatures of S3.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The root of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    secure: bool,
    /// Lower case; an IPv6 address without brackets.
    host: String,
    port: u16,
    /// The parts of the path, decoded.
    parts: Vec<String>,
    /// How many of them name the bucket.
    bucket_parts: usize,
}

impl Base {
    /// Reads the URL of a tree.
    pub(crate) fn parse(text: &str, protocol: &Protocol) -> Result<Base, Error> {
        let bad = |why: &str| Error::Url {
            url: shown(text),
            why: why.to_string(),
        };
        if text.len() > MAX_LENGTH {
            return Err(bad("it is longer than 2048 bytes"));
        }
        let whole = match (text.strip_prefix("s3://"), protocol) {
            (Some(rest), Protocol::S3 { region }) => amazon(rest, region),
            _ => text.to_string(),
        };
        if whole.contains(['#', '?']) {
            return Err(bad("it has a query or fragment; expected only a path"));
        }
        let uri: Uri = whole.parse().map_err(|_| bad("expected https://HOST[:PORT]/PATH"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("expected an https or http URL")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it has a user or password, which must be given separately"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = port_of(authority, secure).ok_or_else(|| bad("its port is not a number up to 65535"))?;
        if host.is_empty() || port == 0 {
            return Err(bad("it has no host, or port 0"));
        }
        let parts = parts(uri.path().trim_end_matches('/'));
        let parts = parts.ok_or_else(|| bad("a part of its path can't be a name: it is empty, `.` or `..`"))?;
        let mut base = Base {
            secure,
            host: host.to_ascii_lowercase(),
            port,
            parts,
            bucket_parts: 0,
        };
        if matches!(protocol, Protocol::S3 { .. }) && !base.is_virtual_host() {
            if base.parts.is_empty() {
                return Err(bad("expected the bucket as the first part of the path"));
            }
            base.bucket_parts = 1;
        }
        Ok(base)
    }

    /// Whether the bucket is in the host name: at Amazon, unless the host is `s3.…` itself.
    fn is_virtual_host(&self) -> bool {
        let amazon = self.host.ends_with(".amazonaws.com") || self.host.ends_with(".amazonaws.com.cn");
        let service = |prefix: &str| self.host.starts_with(prefix);
        amazon && !service("s3.") && !service("s3-")
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// A name or address, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The decoded parts of the root's path.
    pub(crate) fn parts(&self) -> &[String] {
        &self.parts
    }

    /// The prefix of every S3 key: empty, or parts that each end in a slash.
    pub(crate) fn key_prefix(&self) -> String {
        let prefix = self.parts.get(self.bucket_parts..).unwrap_or_default();
        prefix.iter().map(|part| format!("{part}/")).collect()
    }

    /// The encoded path of the bucket itself.
    pub(crate) fn bucket_path(&self) -> String {
        let parts = self.parts.get(..self.bucket_parts).unwrap_or_default();
        format!("/{}", join(parts.iter().map(String::as_str)))
    }

    /// The encoded path of a file of the tree; of the root for an empty path.
    pub(crate) fn path_of(&self, path: &str) -> String {
        let below = path.split('/').filter(|part| !part.is_empty());
        format!("/{}", join(self.parts.iter().map(String::as_str).chain(below)))
    }

    /// The same of a directory.
    pub(crate) fn directory_of(&self, path: &str) -> String {
        let path = self.path_of(path);
        if path == "/" { path } else { format!("{path}/") }
    }

    /// `host`, or `host:port` where the port is not the scheme's: the `Host` field.
    pub(crate) fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port == default_port(self.secure) {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }

    /// Scheme and authority.
    pub(crate) fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// The whole URL, which identifies the tree in the cache.
    pub(crate) fn identity(&self) -> String {
        format!("{}{}", self.origin(), self.directory_of(""))
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
    }

    /// The target of a redirect, if that is the same path of this origin, with or without a
    /// slash at its end. Any other place is not what was requested.
    pub(crate) fn follow(&self, from: &str, location: &str) -> Option<String> {
        let location = location.split('#').next().unwrap_or_default();
        let absolute = match location {
            _ if location.len() > 4 * MAX_LENGTH => return None,
            _ if location.starts_with("//") => format!("{}:{location}", if self.secure { "https" } else { "http" }),
            _ if location.starts_with('/') => format!("{}{location}", self.origin()),
            _ if location
                .split(['/', '?'])
                .next()
                .is_some_and(|first| first.contains(':')) =>
            {
                location.to_string()
            }
            _ => {
                let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
                format!("{}{directory}/{location}", self.origin())
            }
        };
        let uri: Uri = absolute.parse().ok()?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let secure = uri.scheme_str() == Some("https");
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = port_of(authority, secure)?;
        let same = secure == self.secure && host.eq_ignore_ascii_case(&self.host) && port == self.port;
        let parts = |path: &str| parts(path.strip_suffix('/').unwrap_or(path));
        let is_here = uri.query().is_none() && parts(uri.path()).is_some_and(|to| parts(from) == Some(to));
        (same && is_here).then(|| uri.path().to_string())
    }
}

/// A URL in a message: without user, query and fragment, any of which may be secret.
pub(crate) fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), text),
    };
    // Wherever the path begins, anything before the last `@` may be a password.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let whole: String = format!("{scheme}{rest}").chars().take(SHOWN_CHARS).collect();
    escape(&whole).to_string()
}

/// The port of an authority without user; none if it is not valid.
fn port_of(authority: &Authority, secure: bool) -> Option<u16> {
    match authority.as_str() == authority.host() {
        true => Some(default_port(secure)),
        false => authority.port_u16(),
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Amazon's URL of `BUCKET/PREFIX`. A bucket with dots has no certificate of its own.
fn amazon(rest: &str, region: &str) -> String {
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match bucket.contains('.') {
        true => format!("https://s3.{region}.{domain}/{bucket}/{prefix}"),
        false => format!("https://{bucket}.s3.{region}.{domain}/{prefix}"),
    }
}

/// Encodes one name.
pub(crate) fn encode(name: &str) -> String {
    utf8_percent_encode(name, ENCODED).to_string()
}

fn join<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.map(encode).collect::<Vec<_>>().join("/")
}

/// Decodes one part of a path once; none if it has a malformed escape (RFC 3986, 2.1) or
/// is not UTF-8.
pub(crate) fn decode(part: &str) -> Option<String> {
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    let bytes = part.as_bytes();
    for (at, _) in part.match_indices('%') {
        if !is_hex(bytes.get(at + 1)) || !is_hex(bytes.get(at + 2)) {
            return None;
        }
    }
    Some(percent_decode_str(part).decode_utf8().ok()?.into_owned())
}

/// The decoded parts of an encoded path; none if one is not a valid name.
pub(crate) fn parts(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/')
        .map(|part| decode(part).filter(|name| is_name(name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s3() -> Protocol {
        Protocol::S3 {
            region: "eu-west-1".to_string(),
        }
    }

    fn http(text: &str) -> Base {
        Base::parse(text, &Protocol::Http).unwrap()
    }

    #[test]
    fn path_of_a_file_is_encoded_once() {
        let base = http("https://Files.example/data%20set/");
        assert_eq!(
            base.path_of("a b/ñ%2F?#.txt"),
            "/data%20set/a%20b/%C3%B1%252F%3F%23.txt"
        );
        assert_eq!(
            (base.path_of(""), base.directory_of("")),
            ("/data%20set".into(), "/data%20set/".into())
        );
        assert_eq!(http("https://files.example").directory_of(""), "/");
        assert_eq!(base.identity(), "https://files.example/data%20set/");
        assert_eq!(http("http://[::1]:80/x").authority(), "[::1]");
        assert_eq!(http("http://[::1]:81/x").origin(), "http://[::1]:81");
    }

    #[test]
    fn url_that_is_no_root_of_a_tree_is_refused() {
        for bad in [
            "",
            "files.example/x",
            "ftp://files.example/x",
            "https://ana:x@files.example/x",
            "https://files.example/x?y=1",
            "https://files.example/x#y",
            "https://files.example/a/../b",
            "https://files.example/a/%2e%2e/b",
            "https://files.example/a%2Fb",
            "https://files.example/a%00",
            "https://files.example/a%zz",
            "https://files.example/a//b",
            "https:///x",
            "https://files.example:0/x",
            "https://files.example:/x",
            "https://files.example:99999/x",
            "s3://bucket/x",
            "https://files.example/\r\nx",
        ] {
            let error = Base::parse(bad, &Protocol::Http).unwrap_err();
            assert!(matches!(error, Error::Url { .. }), "{bad}");
        }
        Base::parse(&format!("https://files.example/{}", "a".repeat(4000)), &Protocol::Http).unwrap_err();
    }

    #[test]
    fn bucket_is_in_the_host_at_amazon_and_in_the_path_elsewhere() {
        for (url, host, bucket, prefix) in [
            ("s3://b/p/q", "b.s3.eu-west-1.amazonaws.com", "/", "p/q/"),
            ("s3://b", "b.s3.eu-west-1.amazonaws.com", "/", ""),
            ("s3://b.c/p", "s3.eu-west-1.amazonaws.com", "/b.c", "p/"),
            (
                "https://b.s3.eu-west-1.amazonaws.com/p",
                "b.s3.eu-west-1.amazonaws.com",
                "/",
                "p/",
            ),
            (
                "https://s3.eu-west-1.amazonaws.com/b/p",
                "s3.eu-west-1.amazonaws.com",
                "/b",
                "p/",
            ),
            ("https://minio.example:9000/b/p/", "minio.example", "/b", "p/"),
        ] {
            let base = Base::parse(url, &s3()).unwrap();
            assert_eq!(
                (base.host(), base.bucket_path().as_str(), base.key_prefix().as_str()),
                (host, bucket, prefix),
                "{url}"
            );
        }
        Base::parse("https://minio.example:9000/", &s3()).unwrap_err();
    }

    #[test]
    fn redirect_is_followed_to_the_same_path_of_the_same_origin_alone() {
        let base = http("https://files.example/data");
        for (location, due) in [
            ("/data/a/", Some("/data/a/")),
            ("/data/%61", Some("/data/%61")),
            ("https://FILES.example:443/data/a/", Some("/data/a/")),
            ("a/", Some("/data/a/")),
            ("//files.example/data/a/#x", Some("/data/a/")),
            ("/data/a/?y", None),
            ("/data/a//", None),
            ("/data/b", None),
            ("/login", None),
            ("b", None),
            ("http://files.example/data/a/", None),
            ("https://files.example:444/data/a/", None),
            ("https://other.example/data/a/", None),
            ("https://files.example@other.example/data/a/", None),
            ("//other.example/data/a/", None),
            ("javascript:x", None),
            ("/a b", None),
        ] {
            assert_eq!(base.follow("/data/a", location).as_deref(), due, "{location}");
        }
    }

    #[test]
    fn message_shows_no_secret_of_a_url() {
        for url in [
            "https://ana:hunter2@files.example/x",
            "https://files.example/x?sig=hunter2",
            "https://files.example/x#hunter2",
            "https://ana:hunter2/x@files.example/x",
            "ana:hunter2@files.example",
        ] {
            let error = Base::parse(url, &Protocol::Http).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert_eq!(shown("https://files.example/a@b"), "https://b");
        assert_eq!(shown("ftp://files.example/x"), "ftp://files.example/x");
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        for url in ["http://localhost/x", "http://127.0.0.9:1/x", "http://[::1]/x"] {
            assert!(http(url).is_loopback(), "{url}");
        }
        for url in ["http://localhost.example/x", "http://10.0.0.1/x"] {
            assert!(!http(url).is_loopback(), "{url}");
        }
    }

    proptest! {
        #[test]
        fn encoded_path_reads_back_as_its_parts(names in proptest::collection::vec("[^/\0]{1,12}", 1..4)) {
            let names: Vec<String> = names.into_iter().filter(|name| is_name(name)).collect();
            let path = http("https://files.example").path_of(&names.join("/"));
            prop_assert!(path.bytes().all(|b| b.is_ascii_graphic() && !b"?#&=+".contains(&b)), "{}", path);
            prop_assert_eq!(parts(&path).unwrap(), names);
        }

        #[test]
        fn redirect_never_leaves_the_origin(location in "[ -~]{0,40}") {
            if let Some(path) = http("https://files.example/data").follow("/data/a", &location) {
                prop_assert!(path.starts_with('/') || path.starts_with('?') || path == "*", "{}", path);
                let uri: Uri = format!("https://files.example{path}").parse().unwrap();
                prop_assert_eq!(uri.host(), Some("files.example"));
            }
        }
    }
}
