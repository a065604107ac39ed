//! What the parts of a repository share: its endpoints, and what is known of
//! its content.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_types::{Descriptor, Digest};
use ureq::http::Method;

use crate::client::Client;
use crate::endpoint::{Endpoint, repository_path};
use crate::error::Operation;
use crate::request::Request;
use crate::{Access, RemoteError};

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) client: Arc<Client>,
    /// Registry and name as users write them.
    pub(super) registry: String,
    pub(super) name: String,
    /// Asked before the registry when something is read.
    mirrors: Vec<Endpoint>,
    pub(super) endpoint: Endpoint,
    /// Other repositories of the registry that some blobs are in.
    mounts: HashMap<Digest, String>,
    /// Manifests read by tag: a second request could return another one.
    manifests: Mutex<HashMap<Digest, Vec<u8>>>,
    /// Referrers that were pushed and that the registry did not list by
    /// itself, by subject.
    unlisted: Mutex<BTreeMap<Digest, Vec<Descriptor>>>,
}

impl Inner {
    pub(super) fn new(
        client: &Arc<Client>,
        registry: &str,
        name: &str,
        access: Access,
        mounts: HashMap<Digest, String>,
    ) -> Inner {
        let options = client.options();
        let mut others: Vec<&str> = mounts
            .values()
            .map(String::as_str)
            .filter(|from| *from != name)
            .collect();
        others.sort_unstable();
        others.dedup();
        let endpoint = Endpoint::repository(options, registry, name, access, others);
        let mirrors = match access {
            Access::Pull => options.mirrors(registry),
            // A mirror is behind what was just written or deleted.
            Access::Push | Access::Delete => &[],
        };
        Inner {
            client: client.clone(),
            registry: registry.to_string(),
            name: name.to_string(),
            mirrors: mirrors.iter().map(|mirror| endpoint.mirror(options, mirror)).collect(),
            endpoint,
            mounts,
            manifests: Mutex::default(),
            unlisted: Mutex::default(),
        }
    }

    /// The same for reading, with a single attempt at each request.
    #[cfg(feature = "import")]
    pub(super) fn once(&self) -> Inner {
        let once = |endpoint: &Endpoint| Endpoint {
            is_single_attempt: true,
            ..endpoint.clone()
        };
        Inner {
            client: self.client.clone(),
            registry: self.registry.clone(),
            name: self.name.clone(),
            mirrors: self.mirrors.iter().map(once).collect(),
            endpoint: once(&self.endpoint),
            mounts: HashMap::new(),
            manifests: Mutex::default(),
            unlisted: Mutex::default(),
        }
    }

    /// The endpoints to read from, in this order. The last one is the registry.
    pub(super) fn read_endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.mirrors.iter().chain([&self.endpoint])
    }

    /// Reads from the first endpoint that has it. A mirror that fails is
    /// passed over with a warning.
    pub(super) fn read<T>(
        &self,
        mut read: impl FnMut(&Endpoint) -> Result<Option<T>, RemoteError>,
    ) -> Result<Option<T>, RemoteError> {
        for mirror in &self.mirrors {
            match read(mirror) {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) => self.skip_mirror(mirror, &error),
            }
        }
        read(&self.endpoint)
    }

    pub(super) fn skip_mirror(&self, mirror: &Endpoint, error: &dyn std::fmt::Display) {
        let (host, registry) = (mirror.host(), &self.registry);
        self.client
            .notify(&format!("skipping mirror {host} of {registry}: {error}"));
    }

    /// A request to the registry about this repository.
    pub(super) fn request(&self, method: Method, path: &str, operation: Operation) -> Request<'_> {
        Request::new(method, self.endpoint.url(path), &self.endpoint, operation)
    }

    pub(super) fn manifests(&self) -> MutexGuard<'_, HashMap<Digest, Vec<u8>>> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn unlisted(&self) -> MutexGuard<'_, BTreeMap<Digest, Vec<Descriptor>>> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path of another repository that has the blob.
    pub(super) fn mount_source(&self, digest: &Digest) -> Option<String> {
        let from = self.mounts.get(digest).filter(|from| **from != self.name)?;
        Some(repository_path(&self.registry, from))
    }
}
