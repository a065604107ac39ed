//! Manifests: GET, HEAD, PUT and DELETE, by tag and by digest.

use bytes::Bytes;
use hyper::header::{self, HeaderName};
use hyper::{Method, StatusCode};
use qyvol_types::{Algorithm, Digest, Hasher};

use super::body::{Body, IncomingBody};
use super::{ApiResult, CONTENT_DIGEST, RequestContext, blocking, parse_digest, parse_reference, respond};
use crate::access::Action;
use crate::error::{ApiError, Code};
use crate::manifest::Manifest;
use crate::names::{ManifestRef, Name, is_tag};
use crate::storage::{Entry, PutError};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Tags that one push may set.
const TAGS: usize = 32;

fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

impl RequestContext<'_> {
    pub(super) async fn manifest(&self, name: &Name, target: &str) -> ApiResult {
        self.check(name, Action::Read)?;
        let target = parse_reference(target, Code::ManifestUnknown)?;
        let repository = self.repository(name)?;
        let found = {
            let state = repository.state();
            let digest = match &target {
                ManifestRef::Tag(tag) => state.tags.get(tag).copied(),
                ManifestRef::Digest(digest) => Some(*digest),
            };
            digest.and_then(|digest| {
                let entry = state.manifests.get(&digest)?;
                Some((digest, entry.media_type.clone(), entry.size))
            })
        };
        let unknown = || ApiError::new(Code::ManifestUnknown, "no such manifest in this repository");
        let (digest, media_type, size) = found.ok_or_else(unknown)?;
        let body = if self.method == Method::HEAD {
            Bytes::new()
        } else {
            self.exchange.reserve(usize::try_from(size).unwrap_or(usize::MAX))?;
            let store = self.hub.store.clone();
            match store.manifest_in_memory(&digest) {
                Some(bytes) => bytes,
                None => blocking(move || store.manifest_bytes(&repository, &digest))
                    .await??
                    .ok_or_else(|| ApiError::internal(format_args!("manifest {digest} has no file")))?,
            }
        };
        let digest = digest.to_string();
        let etag = format!("\"{digest}\"");
        let headers = [
            (header::ETAG, etag.as_str()),
            (CONTENT_DIGEST, &digest),
            (header::CONTENT_TYPE, &media_type),
            (header::CONTENT_LENGTH, &size.to_string()),
        ];
        if self.unchanged(&etag) {
            return respond(StatusCode::NOT_MODIFIED, &headers[..2], Body::empty());
        }
        respond(StatusCode::OK, &headers, Body::full(body))
    }

    pub(super) async fn put_manifest(&self, name: &Name, target: &str, inflow: &mut IncomingBody) -> ApiResult {
        self.check(name, Action::Write)?;
        let target = parse_reference(target, Code::TagInvalid)?;
        let (mut tags, stated) = match &target {
            ManifestRef::Tag(tag) => {
                let stated = self.query.get("digest").map(parse_digest).transpose()?;
                (vec![tag.clone()], stated)
            }
            ManifestRef::Digest(digest) => (Vec::new(), Some(*digest)),
        };
        for tag in self.query.all("tag") {
            if !is_tag(tag) {
                return Err(ApiError::new(Code::TagInvalid, "not a tag").detail(tag.escape_debug()));
            }
            tags.push(tag.to_string());
        }
        if tags.len() > TAGS {
            return Err(ApiError::new(Code::TagInvalid, "too many tags").status(StatusCode::URI_TOO_LONG));
        }
        let bytes = inflow.collect(self.hub.limits.manifest_bytes).await?;
        let content_type = match self.headers.get(header::CONTENT_TYPE) {
            None => None,
            Some(value) => Some(
                value
                    .to_str()
                    .map_err(|_| ApiError::new(Code::ManifestInvalid, "Content-Type is not text"))?,
            ),
        };
        let manifest = Manifest::read(&bytes, content_type)?;
        let digest = digest_of(stated.map_or(Algorithm::Sha256, |d| d.algorithm()), &bytes);
        if let Some(stated) = stated.filter(|stated| *stated != digest) {
            return Err(
                ApiError::new(Code::DigestInvalid, "the manifest does not have the digest stated").detail(stated),
            );
        }
        let entry = Entry {
            media_type: manifest.media_type.into(),
            size: bytes.len() as u64,
            artifact_type: manifest.artifact_type.map(Into::into),
            subject: manifest.subject.map(Box::new),
        };
        let (store, repository, needed) = (self.hub.store.clone(), name.clone(), manifest.needed);
        let set = tags.clone();
        let stored = blocking(move || store.put_manifest(&repository, digest, &bytes, entry, set, &needed)).await?;
        stored.map_err(|error| match error {
            PutError::Missing(blob) => ApiError::new(
                Code::ManifestBlobUnknown,
                "the manifest refers to a blob that is not in this repository",
            )
            .detail(blob),
            PutError::Io(error) => error.into(),
        })?;
        let digest = digest.to_string();
        let location = format!("/v2/{name}/manifests/{digest}");
        let subject = manifest.subject.map(|subject| subject.to_string());
        let mut headers = vec![(header::LOCATION, location.as_str()), (CONTENT_DIGEST, &digest)];
        if let Some(subject) = &subject {
            headers.push((OCI_SUBJECT, subject));
        }
        if matches!(target, ManifestRef::Digest(_)) {
            headers.extend(tags.iter().map(|tag| (OCI_TAG, tag.as_str())));
        }
        respond(StatusCode::CREATED, &headers, Body::empty())
    }

    pub(super) async fn delete_manifest(&self, name: &Name, target: &str) -> ApiResult {
        self.check(name, Action::Delete)?;
        let target = parse_reference(target, Code::ManifestUnknown)?;
        let repository = self.repository(name)?;
        let deleted = blocking(move || match &target {
            ManifestRef::Tag(tag) => repository.untag(tag),
            ManifestRef::Digest(digest) => repository.delete_manifest(digest),
        });
        match deleted.await?? {
            true => respond(StatusCode::ACCEPTED, &[], Body::empty()),
            false => Err(ApiError::new(
                Code::ManifestUnknown,
                "no such manifest in this repository",
            )),
        }
    }
}
