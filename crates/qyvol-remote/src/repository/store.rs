//! The traits of a store.

use std::io::{Cursor, Read};

use qyvol_store::{Body, Exists, Fetch, Open, Push, Referrers, StoreError};
use qyvol_types::{Descriptor, Digest, ImageManifest, limits, media_type};
use ureq::http::{Method, header};

use super::Repository;
use super::download::Download;
use super::upload::Upload;
use crate::RemoteError;
use crate::error::Operation;

/// Largest answer to a `HEAD`, which has no body.
const NO_BODY: u64 = 0;

fn is_manifest(d: &Descriptor) -> bool {
    d.media_type == media_type::IMAGE_MANIFEST
}

impl Fetch for Repository {
    fn fetch_unverified(&self, d: &Descriptor) -> Result<Body, StoreError> {
        if !is_manifest(d) {
            return Ok(Box::new(Download::new(&self.inner, d, 0)));
        }
        if let Some(bytes) = self.inner.manifests().get(&d.digest) {
            return Ok(Box::new(Cursor::new(bytes.clone())));
        }
        let found = self.manifest(&d.digest.to_string(), Some(&d.digest));
        let found = found.map_err(|error| match error {
            RemoteError::Protocol { what } => StoreError::Mismatch {
                digest: d.digest,
                what: format!("the registry sent {what}"),
            },
            error => error.into_store(format!("read manifest {}", d.digest)),
        })?;
        match found {
            Some(bytes) => Ok(Box::new(Cursor::new(bytes))),
            None => Err(StoreError::NotFound { digest: d.digest }),
        }
    }

    fn fetch_unverified_from(&self, d: &Descriptor, at: u64) -> Result<Body, StoreError> {
        Ok(Box::new(Download::new(&self.inner, d, at)))
    }

    fn concurrency(&self) -> usize {
        self.inner.client.options().concurrency(&self.inner.registry)
    }
}

impl Exists for Repository {
    fn exists(&self, d: &Descriptor) -> Result<bool, StoreError> {
        let (kind, types) = match is_manifest(d) {
            true => ("manifests", media_type::IMAGE_MANIFEST),
            false => ("blobs", "*/*"),
        };
        let client = &self.inner.client;
        let path = format!("{kind}/{}", d.digest);
        let request = self
            .inner
            .request(Method::HEAD, &path, Operation::Find(d.digest))
            .accepting(&[types]);
        let failed = |error: RemoteError| error.into_store(format!("look for {}", d.digest));
        let answer = client.call(&request, None, NO_BODY).map_err(failed)?;
        match answer.status {
            200 => {
                let length = answer
                    .header(header::CONTENT_LENGTH)
                    .and_then(|v| v.parse::<u64>().ok());
                Ok(length.is_none_or(|length| length == d.size))
            }
            404 => Ok(false),
            _ => Err(failed(client.unexpected(&request, answer))),
        }
    }

    fn has_manifest(&self, manifest: &ImageManifest) -> Result<bool, StoreError> {
        // Without the referrers API the list of referrers is the client's to
        // keep.
        if let Some(subject) = manifest.subject()
            && !self.supports_referrers_api(&subject.digest)?
        {
            return Ok(false);
        }
        self.exists(&manifest.descriptor())
    }
}

impl Push for Repository {
    fn push(&self, d: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        if is_manifest(d) {
            return self.push_manifest(d, body);
        }
        Upload::new(&self.inner, d).send_once(body)
    }

    fn push_from(&self, d: &Descriptor, open: &Open<'_>) -> Result<(), StoreError> {
        if is_manifest(d) {
            return self.push_manifest(d, &mut open(0)?);
        }
        Upload::new(&self.inner, d).run(open)
    }

    fn concurrency(&self) -> usize {
        Fetch::concurrency(self)
    }
}

impl Repository {
    fn push_manifest(&self, d: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        if d.size > limits::MANIFEST_BYTES {
            return Err(StoreError::TooLarge {
                digest: d.digest,
                size: d.size,
                limit: limits::MANIFEST_BYTES,
            });
        }
        let mut bytes = Vec::new();
        qyvol_store::VerifyReader::new(body, d)
            .read_to_end(&mut bytes)
            .map_err(|e| {
                StoreError::from_io(e).unwrap_or_else(|source| StoreError::Read {
                    digest: d.digest,
                    source,
                })
            })?;
        let manifest = ImageManifest::parse(bytes).map_err(|source| StoreError::Manifest {
            digest: d.digest,
            source,
        })?;
        let listed = self
            .put_manifest(&d.digest.to_string(), &d.media_type, manifest.raw())
            .map_err(|e| e.into_store(format!("write manifest {}", d.digest)))?;
        if let Some(subject) = manifest.subject() {
            if listed {
                self.inner.client.set_supports_referrers(self.registry(), true);
            } else {
                let mut unlisted = self.inner.unlisted();
                unlisted.entry(subject.digest).or_default().push(manifest.descriptor());
            }
        }
        Ok(())
    }
}

impl Referrers for Repository {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        self.list_referrers(subject)
            .map_err(|e| e.into_store(format!("list the referrers of {subject}")))
    }
}
