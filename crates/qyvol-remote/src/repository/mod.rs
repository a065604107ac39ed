//! A repository of a registry as a store (OCI distribution-spec 1.1).

mod download;
#[cfg(feature = "import")]
mod foreign;
mod inner;
mod pages;
mod referrers;
mod store;
mod transfer;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use qyvol_types::{DEFAULT_TAG, Descriptor, Digest, ImageManifest, Reference, limits, media_type};
use ureq::http::Method;

#[cfg(feature = "import")]
pub use self::foreign::FetchedManifest;
use self::inner::Inner;
pub use self::inner::Mounts;
use crate::RemoteError;
use crate::client::Client;
use crate::endpoint::{Access, Endpoint};
use crate::error::Operation;
use crate::request::{BufferedResponse, Request};

/// Largest answer to a written manifest, in bytes.
const WRITE_RESPONSE_BYTES: u64 = 64 << 10;

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    inner: Arc<Inner>,
}

impl Repository {
    /// The repository of a name. Opens no connection.
    pub fn new(client: &Arc<Client>, name: &Reference, access: Access) -> Result<Repository, RemoteError> {
        Repository::with_mounts(client, name, access, HashMap::<Digest, String>::new())
    }

    /// The same, with other repositories of the registry that some blobs can
    /// be mounted from.
    pub fn with_mounts(
        client: &Arc<Client>,
        name: &Reference,
        access: Access,
        mounts: impl Into<Mounts>,
    ) -> Result<Repository, RemoteError> {
        let registry = name
            .registry()
            .ok_or_else(|| RemoteError::NoRegistry(name.to_string()))?;
        Ok(Repository {
            inner: Arc::new(Inner::new(client, registry, name.repository(), access, mounts.into())),
        })
    }

    /// The registry as users name it, `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.inner.registry
    }

    /// The repository's name as users write it.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Resolves a name once; it is read by digest from then on. None if the
    /// registry has no such manifest.
    pub fn resolve(&self, name: &Reference) -> Result<Option<Descriptor>, RemoteError> {
        let reference = match (name.digest(), name.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or(DEFAULT_TAG).to_string(),
        };
        let Some(bytes) = self.manifest(&reference, name.digest())? else {
            return Ok(None);
        };
        let digest = name.digest().copied().unwrap_or_else(|| Digest::of(&bytes));
        let size = bytes.len() as u64;
        self.inner.manifests().insert(digest, bytes);
        Ok(Some(Descriptor::new(media_type::IMAGE_MANIFEST, digest, size)))
    }

    /// The bytes of an image manifest by tag or digest.
    fn manifest(&self, reference: &str, digest: Option<&Digest>) -> Result<Option<Vec<u8>>, RemoteError> {
        self.inner
            .read(|endpoint| self.manifest_at(endpoint, reference, digest))
    }

    /// The same at one endpoint, checked for type and length and for the digest
    /// that was asked for or that the registry states.
    fn manifest_at(
        &self,
        endpoint: &Endpoint,
        reference: &str,
        digest: Option<&Digest>,
    ) -> Result<Option<Vec<u8>>, RemoteError> {
        let types = [media_type::IMAGE_MANIFEST, media_type::IMAGE_INDEX];
        let Some(answer) = self.get_manifest(endpoint, reference, &types)? else {
            return Ok(None);
        };
        let what = match answer.media_type().as_str() {
            media_type::IMAGE_MANIFEST => None,
            media_type::IMAGE_INDEX => Some(format!("an index for {reference}: expected an image manifest")),
            other => Some(format!(
                "{reference} as {}: expected {}",
                qyvol_types::escape(other),
                media_type::IMAGE_MANIFEST
            )),
        };
        if let Some(what) = what {
            return Err(RemoteError::Protocol { what });
        }
        check_digest(&answer, digest)?;
        Ok(Some(answer.bytes))
    }

    /// Requests a manifest of one of these types, within the bound; none if there is none.
    fn get_manifest(
        &self,
        endpoint: &Endpoint,
        reference: &str,
        types: &[&str],
    ) -> Result<Option<BufferedResponse>, RemoteError> {
        let url = endpoint.url(&format!("manifests/{reference}"));
        let operation = Operation::ReadManifest(reference.to_string());
        let request = Request::new(Method::GET, url, endpoint, operation).accepting(types);
        let answer = self.inner.client.call(&request, None, limits::MANIFEST_BYTES)?;
        match answer.status {
            200 => Ok(Some(answer)),
            404 => Ok(None),
            _ => Err(self.inner.client.unexpected(&request, answer)),
        }
    }

    /// Gives a pushed manifest a tag.
    pub fn tag(&self, tag: &str, manifest: &ImageManifest) -> Result<(), RemoteError> {
        self.put_manifest(tag, media_type::IMAGE_MANIFEST, manifest.raw())?;
        Ok(())
    }

    /// Puts a manifest; whether the registry listed it as a referrer of its
    /// subject.
    fn put_manifest(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<bool, RemoteError> {
        let path = format!("manifests/{reference}");
        let operation = Operation::WriteManifest(reference.to_string());
        let request = self
            .inner
            .request(Method::PUT, &path, operation)
            .with_header("content-type", media_type);
        let answer = self.inner.client.call(&request, Some(bytes), WRITE_RESPONSE_BYTES)?;
        if !matches!(answer.status, 200 | 201) {
            return Err(self.inner.client.unexpected(&request, answer));
        }
        answer.check_stated_digest(bytes)?;
        Ok(answer.header("oci-subject").is_some())
    }

    /// Deletes what a name refers to: a tag, whose manifest stays for other
    /// tags, or a manifest by its digest, with all of its tags. False where
    /// there was none.
    pub fn delete(&self, name: &Reference) -> Result<bool, RemoteError> {
        let (reference, operation) = match (name.digest(), name.tag().unwrap_or(DEFAULT_TAG)) {
            (Some(digest), _) => (digest.to_string(), Operation::DeleteManifest(*digest)),
            (None, tag) => (tag.to_string(), Operation::DeleteTag(tag.to_string())),
        };
        let path = format!("manifests/{reference}");
        let request = self.inner.request(Method::DELETE, &path, operation);
        let answer = self.inner.client.call(&request, None, WRITE_RESPONSE_BYTES)?;
        match answer.status {
            200 | 202 | 204 => Ok(true),
            404 => Ok(false),
            _ => Err(self.inner.client.unexpected(&request, answer)),
        }
    }
}

/// Checks a manifest against the digest that the registry states and the one
/// requested.
fn check_digest(answer: &BufferedResponse, asked: Option<&Digest>) -> Result<(), RemoteError> {
    answer.check_stated_digest(&answer.bytes)?;
    match asked {
        Some(digest) if !digest.matches(&answer.bytes) => Err(RemoteError::Protocol {
            what: format!("a manifest other than {digest}: {}", Digest::of(&answer.bytes)),
        }),
        _ => Ok(()),
    }
}
