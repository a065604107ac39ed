//! Image and signature manifests (OCI image-spec 1.1, `manifest.md`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Descriptor, Digest, escape, json, limits, media_type};

/// A manifest with the bytes it was read from: its digest is over them.
#[derive(Clone, Debug)]
pub struct ImageManifest {
    raw: Vec<u8>,
    fields: Fields,
}

/// Why some bytes are not a manifest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// Not strict JSON, or a field is missing or of another type.
    #[error("manifest is {0}")]
    Json(#[from] json::JsonError),
    /// Past its bound.
    #[error("manifest is {got} bytes: at most {} are read", limits::MANIFEST_BYTES)]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// `schemaVersion` is not 2.
    #[error("manifest has schemaVersion {0}: expected 2")]
    SchemaVersion(u64),
    /// `mediaType` names something else.
    #[error(
        "this is a container image or another artifact, not a Qyvol application: its manifest has mediaType `{}`, expected {}",
        escape(.0),
        media_type::IMAGE_MANIFEST
    )]
    MediaType(String),
    /// It has the fields of an index too, so that two readers could see two
    /// different things in it.
    #[error("manifest has the field `{0}` of an index")]
    Ambiguous(&'static str),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    // Only ever present in what is refused.
    #[serde(default, skip_serializing)]
    manifests: Option<serde::de::IgnoredAny>,
    #[serde(default, skip_serializing)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl ImageManifest {
    /// Reads a manifest.
    pub fn parse(raw: Vec<u8>) -> Result<ImageManifest, ManifestError> {
        if raw.len() as u64 > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLarge { got: raw.len() });
        }
        let fields: Fields = json::decode(&raw)?;
        if fields.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(fields.schema_version));
        }
        // Optional in OCI 1.0 and 1.1. What the manifest is, its fields say: one
        // that could also be an index is refused below.
        if let Some(other) = fields
            .media_type
            .as_ref()
            .filter(|kind| *kind != media_type::IMAGE_MANIFEST)
        {
            return Err(ManifestError::MediaType(other.clone()));
        }
        if fields.manifests.is_some() {
            return Err(ManifestError::Ambiguous("manifests"));
        }
        if fields.fs_layers.is_some() {
            return Err(ManifestError::Ambiguous("fsLayers"));
        }
        Ok(ImageManifest { raw, fields })
    }

    /// A new image manifest.
    pub fn image(config: Descriptor, layers: Vec<Descriptor>) -> Result<ImageManifest, ManifestError> {
        ImageManifest::annotated_image(config, layers, BTreeMap::new())
    }

    /// The same with annotations.
    pub fn annotated_image(
        config: Descriptor,
        layers: Vec<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<ImageManifest, ManifestError> {
        ImageManifest::write(None, config, layers, None, annotations)
    }

    /// A new manifest of an artifact that refers to `subject`.
    pub fn referrer(
        artifact_type: &str,
        subject: Descriptor,
        layer: Descriptor,
        annotations: BTreeMap<String, String>,
    ) -> Result<ImageManifest, ManifestError> {
        let empty = Descriptor::of(media_type::EMPTY, b"{}");
        let artifact_type = Some(artifact_type.to_string());
        ImageManifest::write(artifact_type, empty, vec![layer], Some(subject), annotations)
    }

    /// The same with several layers.
    pub fn referrer_with_layers(
        artifact_type: &str,
        subject: Descriptor,
        layers: Vec<Descriptor>,
    ) -> Result<ImageManifest, ManifestError> {
        let empty = Descriptor::of(media_type::EMPTY, b"{}");
        let artifact_type = Some(artifact_type.to_string());
        ImageManifest::write(artifact_type, empty, layers, Some(subject), BTreeMap::new())
    }

    /// A new manifest of an artifact with one layer, which nothing but its type tells from others.
    pub fn artifact(artifact_type: &str, layer: Descriptor) -> Result<ImageManifest, ManifestError> {
        let empty = Descriptor::of(media_type::EMPTY, b"{}");
        let artifact_type = Some(artifact_type.to_string());
        ImageManifest::write(artifact_type, empty, vec![layer], None, BTreeMap::new())
    }

    fn write(
        artifact_type: Option<String>,
        config: Descriptor,
        layers: Vec<Descriptor>,
        subject: Option<Descriptor>,
        annotations: BTreeMap<String, String>,
    ) -> Result<ImageManifest, ManifestError> {
        let fields = Fields {
            schema_version: 2,
            media_type: Some(media_type::IMAGE_MANIFEST.to_string()),
            artifact_type,
            config,
            layers,
            subject,
            annotations,
            manifests: None,
            fs_layers: None,
        };
        let raw = json::encode(&fields)?;
        Ok(ImageManifest { raw, fields })
    }

    /// The bytes it was read from.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// Its descriptor, with the artifact type it carries.
    pub fn descriptor(&self) -> Descriptor {
        let mut descriptor = Descriptor::of(media_type::IMAGE_MANIFEST, &self.raw);
        descriptor.artifact_type = self.fields.artifact_type.clone();
        descriptor
    }

    /// Whether its `mediaType` is in it.
    pub fn has_media_type(&self) -> bool {
        self.fields.media_type.is_some()
    }

    /// The config.
    pub fn config(&self) -> &Descriptor {
        &self.fields.config
    }

    /// The layers, in order.
    pub fn layers(&self) -> &[Descriptor] {
        &self.fields.layers
    }

    /// What it refers to, if it is a referrer.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.fields.subject.as_ref()
    }

    /// Its annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.fields.annotations
    }

    /// The artifact type, if it has one.
    pub fn artifact_type(&self) -> Option<&str> {
        self.fields.artifact_type.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> String {
        let digest = Digest::of(b"{}");
        let part = format!(r#"{{"mediaType":"x","digest":"{digest}","size":2}}"#);
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{part},"layers":[{part}]}}"#,
            media_type::IMAGE_MANIFEST
        )
    }

    // [REG-026]
    #[test]
    fn manifest_without_media_type_is_read_and_keeps_its_bytes() {
        let text = sample().replace(&format!(r#""mediaType":"{}","#, media_type::IMAGE_MANIFEST), "");
        let manifest = ImageManifest::parse(text.clone().into_bytes()).unwrap();
        assert_eq!(manifest.raw(), text.as_bytes());
        assert_eq!(manifest.digest(), Digest::of(text.as_bytes()));
        assert_eq!(manifest.descriptor().media_type, media_type::IMAGE_MANIFEST);
        for (from, to) in [
            (r#""layers""#, r#""manifests":[],"layers""#),
            (r#""layers""#, r#""fsLayers":[],"layers""#),
            (r#""config""#, r#""configs""#),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(ImageManifest::parse(bad.clone().into_bytes()).is_err(), "{bad}");
        }
    }

    // [BIN-040]
    #[test]
    fn ambiguous_manifest_is_refused() {
        let good = sample();
        ImageManifest::parse(good.clone().into_bytes()).unwrap();
        for (from, to) in [
            (r#""layers""#, r#""manifests":[],"layers""#),
            (r#""schemaVersion":2"#, r#""schemaVersion":1"#),
            (r#""schemaVersion":2"#, r#""schemaVersion":2,"schemaVersion":2"#),
            ("manifest.v1", "index.v1"),
            (r#""size":2"#, r#""size":-2"#),
            (r#""size":2"#, r#""size":2.5"#),
            ("sha256:", "sha256:../"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(ImageManifest::parse(bad.clone().into_bytes()).is_err(), "{bad}");
        }
    }
}
