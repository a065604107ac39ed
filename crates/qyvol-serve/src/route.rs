//! Which application answers a request: by the host that it names and the beginning of its
//! path, both as they were sent. Nothing is decoded and no `..` is resolved: an application
//! that is asked for `/a/../b` sees that path.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use hyper::Request;
use hyper::header::HOST;
use hyper::http::uri::Authority;
use thiserror::Error;

use crate::site::Site;

/// Bytes of a route's path.
const PATH: usize = 1024;

/// The requests that an application answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// In lower case, without a port.
    host: Option<String>,
    /// Without a slash at its end.
    path: String,
}

/// Why there is no such route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The host is invalid.
    #[error("expected the name or the address of a host, without a port, such as app.example or [::1]")]
    Host,
    /// The path can't be the beginning of a request's.
    #[error("expected a path such as /app: from a slash on, at most {PATH} visible ASCII characters without ? and #")]
    Path,
}

impl Route {
    /// Requests to that host, or to any host, with this path or a path below it.
    ///
    /// # Errors
    ///
    /// If no request can name the host or have the path.
    pub fn new(host: Option<&str>, path: &str) -> Result<Route, RouteError> {
        let host = match host {
            Some(host) => Some(host_of(host).filter(|_| is_host(host)).ok_or(RouteError::Host)?),
            None => None,
        };
        let is_visible = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
        if !path.starts_with('/') || path.len() > PATH || !path.bytes().all(is_visible) {
            return Err(RouteError::Path);
        }
        let path = path.trim_end_matches('/').to_string();
        Ok(Route { host, path })
    }

    /// All requests.
    pub fn all() -> Route {
        Route {
            host: None,
            path: String::new(),
        }
    }

    /// Whether a path is the route's own, or below it.
    fn covers(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&self.path);
        rest.is_some_and(|rest| self.path.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

/// Whether a text is a host alone.
fn is_host(text: &str) -> bool {
    let authority = text.parse::<Authority>();
    authority.is_ok_and(|authority| authority.host() == text && !text.contains('@'))
}

/// The host of an authority, in the form of routes: in lower case, without a port and without
/// the final dot of an absolute name.
fn host_of(authority: &str) -> Option<String> {
    let authority = authority.parse::<Authority>().ok()?;
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// The applications of a server, each under its route.
pub struct Sites {
    all: Vec<Arc<Site>>,
    /// Of one host each; the longest path first.
    hosts: HashMap<String, Vec<(Route, Arc<Site>)>>,
    /// Of any host; the longest path first.
    any: Vec<(Route, Arc<Site>)>,
}

impl Sites {
    /// One application, which answers everything.
    pub fn one(site: Arc<Site>) -> Sites {
        Sites::new([(Route::all(), site)])
    }

    /// Applications, each under a route. Of two with the same route, the first answers.
    pub fn new(sites: impl IntoIterator<Item = (Route, Arc<Site>)>) -> Sites {
        let mut built = Sites {
            all: Vec::new(),
            hosts: HashMap::new(),
            any: Vec::new(),
        };
        for (route, site) in sites {
            built.all.push(Arc::clone(&site));
            let routes = match &route.host {
                Some(host) => built.hosts.entry(host.clone()).or_default(),
                None => &mut built.any,
            };
            routes.push((route, site));
        }
        for routes in built.hosts.values_mut().chain([&mut built.any]) {
            routes.sort_by_key(|(route, _)| Reverse(route.path.len()));
        }
        built
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Arc<Site>] {
        &self.all
    }

    /// Whether one of them answers everything that no other does.
    pub(crate) fn answer_all(&self) -> bool {
        self.any.iter().any(|(route, _)| route.path.is_empty())
    }

    /// The application that answers a request: a route with its host comes before one for any
    /// host, then the longest path counts. A request that names several hosts is looked up by
    /// the first, and refused later.
    pub(crate) fn find<B>(&self, request: &Request<B>) -> Option<Routed> {
        let path = request.uri().path();
        let of_host = match self.hosts.is_empty() {
            true => None,
            false => named_host(request)
                .and_then(host_of)
                .and_then(|host| self.hosts.get(&host)),
        };
        let routes = of_host.into_iter().flatten().chain(&self.any);
        let mut routes = routes.into_iter();
        let (route, site) = routes.find(|(route, _)| route.covers(path))?;
        Some(Routed {
            site: Arc::clone(site),
            is_named: route.host.is_some(),
        })
    }
}

/// The application that answers a request.
pub(crate) struct Routed {
    pub(crate) site: Arc<Site>,
    /// Whether its route has the host that the request names.
    pub(crate) is_named: bool,
}

/// The host that a request names, as it was sent.
pub(crate) fn named_host<B>(request: &Request<B>) -> Option<&str> {
    match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers().get(HOST)?.to_str().ok(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn route_is_the_name_of_a_host_and_the_beginning_of_a_path() {
        let route = |host, path| Route::new(host, path);
        assert_eq!(route(None, "/"), Ok(Route::all()));
        assert_eq!(route(Some("A.example."), "/a/"), route(Some("a.example"), "/a"));
        for host in ["", "a:80", "u@a", "a/b", "a b", ".", "[::1", "é"] {
            assert_eq!(route(Some(host), "/"), Err(RouteError::Host), "{host}");
        }
        assert!(route(Some("[::1]"), "/").is_ok());
        let long = format!("/{}", "a".repeat(PATH));
        for path in ["", "a", "/a b", "/a?b", "/a#b", "/é", "*", long.as_str()] {
            assert_eq!(route(None, path), Err(RouteError::Path), "{path}");
        }
    }

    #[test]
    fn route_covers_whole_segments_of_a_path() {
        let route = Route::new(None, "/app").unwrap();
        for path in ["/app", "/app/", "/app/x", "/app/../b"] {
            assert!(route.covers(path), "{path}");
        }
        for path in ["/", "/apple", "/ap", "/%61pp", "/x/app", "*"] {
            assert!(!route.covers(path), "{path}");
        }
        assert!(Route::all().covers("*") && Route::all().covers("/x"));
    }
}
