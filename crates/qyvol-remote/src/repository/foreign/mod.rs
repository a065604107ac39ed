//! Artifacts of other tools, container images and indexes of platforms: read, never written.
//!
//! Names, manifests, lists of referrers and tokens are read by our own client,
//! within its bounds, like everything else. Only layers come through `oci-distribution`, the
//! client that WebAssembly tools are built on (`stream`); a caller checks them against their
//! descriptors like any other blob.
//!
//! Invariants: a name is resolved once, to the digest of the bytes that came;
//! the `urls` of a descriptor are never followed; signatures are counted and never trusted.

mod proxies;
mod stream;

use std::sync::Arc;

use qyvol_store::Body;
use qyvol_types::foreign::{ForeignManifest, MANIFEST_TYPES};
use qyvol_types::{DEFAULT_TAG, Descriptor, Digest, Reference};

pub(super) use self::stream::open;
use super::download::{BlobClient, Download};
use super::{Repository, check_digest};
use crate::RemoteError;

/// Prefixes of signature artifact types, with the tool that makes them.
const SIGNATURES: [(&str, &str); 3] = [
    ("application/vnd.dev.sigstore.bundle", "sigstore bundle"),
    ("application/vnd.dev.cosign.", "cosign"),
    ("application/vnd.cncf.notary.signature", "notation"),
];
/// Media type of cosign's signature layers.
const COSIGN_LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A manifest of another tool, as a registry sends it.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// The media type that it came as.
    pub media_type: String,
    /// Its parsed content.
    pub manifest: ForeignManifest,
}

impl Repository {
    /// Resolves a name to its manifest, whichever tool made it; none if there
    /// is none.
    pub fn resolve_foreign(&self, name: &Reference) -> Result<Option<FetchedManifest>, RemoteError> {
        let reference = match name.digest() {
            Some(digest) => digest.to_string(),
            None => name.tag().unwrap_or(DEFAULT_TAG).to_string(),
        };
        self.foreign(&reference, name.digest())
    }

    /// The manifest of this digest.
    pub fn foreign_manifest(&self, digest: &Digest) -> Result<Option<FetchedManifest>, RemoteError> {
        self.foreign(&digest.to_string(), Some(digest))
    }

    fn foreign(&self, reference: &str, digest: Option<&Digest>) -> Result<Option<FetchedManifest>, RemoteError> {
        self.inner.read(|endpoint| {
            let Some(answer) = self.get_manifest(endpoint, reference, &MANIFEST_TYPES)? else {
                return Ok(None);
            };
            let kind = answer.media_type();
            if !MANIFEST_TYPES.contains(&kind.as_str()) {
                let kind = qyvol_types::escape(&kind).to_string();
                let what = format!("{reference} as {kind}: expected an image manifest or index");
                return Err(RemoteError::Protocol { what });
            }
            check_digest(&answer, digest)?;
            let manifest = ForeignManifest::parse(&answer.bytes, &kind).map_err(|why| RemoteError::Protocol {
                what: format!("a manifest for {reference} that can't be used: {why}"),
            })?;
            let digest = digest.copied().unwrap_or_else(|| Digest::of(&answer.bytes));
            Ok(Some(FetchedManifest {
                digest,
                size: answer.bytes.len() as u64,
                media_type: kind,
                manifest,
            }))
        })
    }

    /// A layer, through `oci-distribution`. Only its length is checked: the reader hashes it.
    pub fn foreign_blob(&self, d: &Descriptor) -> Body {
        Box::new(Download::by(BlobClient::OciDistribution, &self.inner, d, 0))
    }

    /// Counts what claims to be a signature of this manifest, by kind. Requests
    /// are not retried.
    pub fn foreign_signatures(&self, digest: &Digest) -> Result<Vec<(&'static str, usize)>, RemoteError> {
        let once = Repository {
            inner: Arc::new(self.inner.once()),
        };
        let mut found: Vec<(&'static str, usize)> = Vec::new();
        let mut add = |kind, more: usize| match found.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += more,
            None if more > 0 => found.push((kind, more)),
            None => {}
        };
        // The tag that cosign uses without the referrers API.
        let tag = format!("{}.sig", digest.to_string().replacen(':', "-", 1));
        if let Some(ForeignManifest::Image(image)) = once.foreign(&tag, None)?.map(|f| f.manifest) {
            let signatures = image.layers.iter().filter(|layer| layer.media_type == COSIGN_LAYER);
            add("cosign", signatures.count());
        }
        for referrer in once.list_referrers(digest)? {
            let claimed = referrer.artifact_type.unwrap_or_default();
            if let Some((_, kind)) = SIGNATURES.iter().find(|(start, _)| claimed.starts_with(start)) {
                add(kind, 1);
            }
        }
        Ok(found)
    }
}
