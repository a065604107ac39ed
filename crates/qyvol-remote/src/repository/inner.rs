//! What the parts of a repository share: its endpoints, and what is known about its content.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_types::{Descriptor, Digest};
use ureq::http::Method;

use crate::client::Client;
use crate::endpoint::{Endpoint, repository_path};
use crate::error::Operation;
use crate::request::Request;
use crate::{Access, RemoteError};

/// Other repositories of the same registry that have blobs: they are mounted, not sent.
#[derive(Clone, Debug)]
pub enum Mounts {
    /// A repository for each of these blobs.
    Each(HashMap<Digest, String>),
    /// One that has every blob, since all of them are copied from it.
    All(String),
}

impl Mounts {
    fn none() -> Mounts {
        Mounts::Each(HashMap::new())
    }

    fn repositories(&self) -> Vec<&str> {
        let mut all: Vec<&str> = match self {
            Mounts::Each(each) => each.values().map(String::as_str).collect(),
            Mounts::All(from) => vec![from],
        };
        all.sort_unstable();
        all.dedup();
        all
    }

    fn source(&self, digest: &Digest) -> Option<&String> {
        match self {
            Mounts::Each(each) => each.get(digest),
            Mounts::All(from) => Some(from),
        }
    }
}

impl From<HashMap<Digest, String>> for Mounts {
    fn from(each: HashMap<Digest, String>) -> Mounts {
        Mounts::Each(each)
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) client: Arc<Client>,
    /// Registry and name as users write them.
    pub(super) registry: String,
    pub(super) name: String,
    /// Tried before the registry when something is read.
    mirrors: Vec<Endpoint>,
    pub(super) endpoint: Endpoint,
    /// Other repositories of the registry that some blobs are in.
    mounts: Mounts,
    /// Manifests read by tag: a second request could return another one.
    manifests: Mutex<HashMap<Digest, Vec<u8>>>,
    /// Referrers that were pushed and that the registry does not list itself, by subject.
    unlisted: Mutex<BTreeMap<Digest, Vec<Descriptor>>>,
}

impl Inner {
    pub(super) fn new(client: &Arc<Client>, registry: &str, name: &str, access: Access, mounts: Mounts) -> Inner {
        let options = client.options();
        let others = mounts.repositories().into_iter().filter(|from| *from != name);
        let endpoint = Endpoint::repository(options, registry, name, access, others);
        let mirrors = match access {
            Access::Pull => options.mirrors(registry),
            // A mirror may not have what was just written or deleted.
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
            mounts: Mounts::none(),
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
        let from = self.mounts.source(digest).filter(|from| **from != self.name)?;
        Some(repository_path(&self.registry, from))
    }
}
