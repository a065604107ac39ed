//! Manifests that clients push: what the registry must know about them.
//!
//! The bytes are kept as they came; this only reads them. Media types are the
//! OCI image manifest and index and the two that Docker had before them.

use std::collections::BTreeMap;

use qyvol_types::{Digest, json};
use serde::Deserialize;

use crate::error::{ApiError, Code};

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: Digest,
    #[serde(rename = "size")]
    _size: u64,
}

// Unknown fields are accepted: the specification requires registries to keep them.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "schemaVersion")]
    schema_version: u32,
    #[serde(rename = "mediaType")]
    media_type: Option<String>,
    #[serde(rename = "artifactType")]
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
}

/// A manifest that may be stored if its blobs are there.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    pub(crate) artifact_type: Option<String>,
    pub(crate) subject: Option<Digest>,
    /// The blobs that the repository must have.
    pub(crate) needed: Vec<Digest>,
}

fn invalid(reason: impl Into<String>) -> ApiError {
    ApiError::new(Code::ManifestInvalid, reason)
}

impl Manifest {
    /// Reads a manifest pushed with this `Content-Type`.
    pub(crate) fn read(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, ApiError> {
        json::check(bytes).map_err(|e| invalid("the manifest is not acceptable JSON").detail(e))?;
        let document: Document = serde_json::from_slice(bytes)
            .map_err(|e| invalid("the manifest lacks a required field, or has an invalid one").detail(e))?;
        if document.schema_version != 2 {
            return Err(invalid("the manifest's schemaVersion is not 2"));
        }
        let stated = content_type.map(|t| t.split(';').next().unwrap_or(t).trim());
        let media_type = match (stated, document.media_type.as_deref()) {
            (Some(stated), Some(inside)) if stated != inside => {
                return Err(invalid("Content-Type is not the manifest's mediaType").detail(inside));
            }
            (Some(one), _) | (None, Some(one)) => one.to_string(),
            (None, None) => return Err(invalid("neither Content-Type nor mediaType says what this is")),
        };
        if document.layers.is_some() && document.manifests.is_some() {
            return Err(invalid("a manifest can't have both layers and manifests"));
        }
        let subject = document.subject.map(|subject| subject.digest);
        match media_type.as_str() {
            OCI_IMAGE | DOCKER_IMAGE => {
                if document.manifests.is_some() {
                    return Err(invalid("an image manifest must not have `manifests`"));
                }
                let Some(config) = document.config else {
                    return Err(invalid("an image manifest must have a config"));
                };
                let mut needed = vec![config.digest];
                let layers = document.layers.unwrap_or_default();
                needed.extend(layers.iter().filter(|l| must_be_here(&l.media_type)).map(|l| l.digest));
                needed.sort_unstable();
                needed.dedup();
                // In a list of referrers the config's type stands in for it.
                let instead = subject.is_some().then_some(config.media_type);
                Ok(Manifest {
                    media_type,
                    artifact_type: document.artifact_type.filter(|t| !t.is_empty()).or(instead),
                    subject,
                    needed,
                })
            }
            OCI_INDEX | DOCKER_LIST => {
                if document.layers.is_some() || document.config.is_some() {
                    return Err(invalid("an index must not have `config` or `layers`"));
                }
                Ok(Manifest {
                    media_type,
                    artifact_type: document.artifact_type.filter(|t| !t.is_empty()),
                    subject,
                    needed: Vec::new(),
                })
            }
            _ => Err(invalid("unsupported manifest media type").detail(media_type)),
        }
    }
}

/// Whether a layer of this type is pushed with its image.
fn must_be_here(media_type: &str) -> bool {
    !media_type.contains(".nondistributable.") && !media_type.contains(".foreign.")
}

/// Everything a stored manifest refers to. One that can't be read may refer to
/// anything.
pub(crate) fn references(bytes: &[u8]) -> serde_json::Result<Vec<Digest>> {
    let document: Document = serde_json::from_slice(bytes)?;
    let lists = document.layers.into_iter().chain(document.manifests).flatten();
    Ok(document.config.into_iter().chain(lists).map(|d| d.digest).collect())
}

/// The annotations of a stored manifest, for a list of referrers.
pub(crate) fn annotations(bytes: &[u8]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Annotated {
        annotations: Option<BTreeMap<String, String>>,
    }
    serde_json::from_slice::<Annotated>(bytes)
        .ok()
        .and_then(|document| document.annotations)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn read(text: &str, content_type: Option<&str>) -> Result<Manifest, ApiError> {
        Manifest::read(text.replace("DIGEST", D).as_bytes(), content_type)
    }

    #[test]
    fn ambiguous_manifest_is_refused() {
        let descriptor = r#"{"mediaType":"a/b","digest":"DIGEST","size":0}"#;
        for bad in [
            format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"manifests":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"layers":[{descriptor}]}}"#),
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{descriptor},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":1,"config":{descriptor},"layers":[]}}"#),
            format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}} x"#),
            r#"{"schemaVersion":2,"layers":[]}"#.to_string(),
            r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"sha256:../x","size":0}}"#.to_string(),
            r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"DIGEST","size":-1}}"#.to_string(),
        ] {
            assert!(read(&bad, Some(OCI_IMAGE)).is_err(), "{bad}");
        }
        let good = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        assert!(read(&good, Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8")).is_ok());
        assert!(read(&good, None).is_err());
        assert!(read(&good, Some("text/plain")).is_err());
    }

    #[test]
    fn layers_that_are_never_pushed_are_not_asked_for() {
        let text = r#"{"schemaVersion":2,"config":{"mediaType":"c/d","digest":"DIGEST","size":0},"layers":[
            {"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip","size":1,
             "digest":"sha256:6f4e69a5ff18d92e7315e3ee31c62165ebf25bfa05cad05c0d09d8f412dae401"}]}"#;
        let manifest = read(text, Some(OCI_IMAGE)).unwrap();
        assert_eq!(manifest.needed, [D.parse().unwrap()]);
        assert_eq!(manifest.artifact_type, None);
    }
}
