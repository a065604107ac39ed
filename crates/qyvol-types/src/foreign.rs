//! Manifests that other tools wrote: an artifact, a container image, or an
//! index of several platforms, in OCI's form or Docker's.
//!
//! Read only to find the WebAssembly payload in them. What they name is a claim:
//! whoever reads a blob verifies it against its descriptor. Invariants: strict
//! JSON within [`limits::MANIFEST_BYTES`], only one interpretation (an index is
//! never read as an image), and never the `urls` of a descriptor.
//!
//! Deliberately absent: indexes within indexes, and what a manifest says of how
//! to run it.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Descriptor, escape, json, limits, media_type};

/// Docker's image manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// The media types of manifests that are asked for.
pub const MANIFEST_TYPES: [&str; 4] = [
    media_type::IMAGE_MANIFEST,
    media_type::IMAGE_INDEX,
    DOCKER_MANIFEST,
    DOCKER_INDEX,
];
/// Layers that are WebAssembly by their type: the CNCF artifact's, and those
/// that came before it.
const WASM_LAYERS: [&str; 3] = [
    media_type::WASM,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// Fields of a manifest that are read. Go's tools read them whatever their case.
const FIELDS: [&str; 14] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "fsLayers",
    "digest",
    "size",
    "urls",
    "platform",
    "os",
    "architecture",
    "variant",
];
/// Fields of a manifest whose values have names of their own.
const MAPS: [&str; 1] = ["annotations"];
/// The config of a Spin application: its locked manifest.
const SPIN_CONFIG: &str = "application/vnd.fermyon.spin.application.v1+config";

/// A manifest of another tool.
#[derive(Clone, Debug)]
pub enum ForeignManifest {
    /// An artifact or a container image.
    Image(ForeignImage),
    /// An index of several platforms.
    Index(Vec<IndexEntry>),
}

/// An artifact or a container image.
#[derive(Clone, Debug)]
pub struct ForeignImage {
    /// Its config.
    pub config: Descriptor,
    /// Its layers, in order.
    pub layers: Vec<Descriptor>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// An entry of an index.
#[derive(Clone, Debug, Deserialize)]
pub struct IndexEntry {
    /// The manifest that it names.
    #[serde(flatten)]
    pub descriptor: Descriptor,
    /// What that runs on.
    #[serde(default)]
    pub platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The processor.
    pub architecture: String,
    /// Its variant.
    #[serde(default)]
    pub variant: Option<String>,
}

/// How a layer of files is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By gzip.
    Gzip,
    /// By zstd.
    Zstd,
}

/// What a layer is by its type and title.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// A component or core module.
    Wasm,
    /// A tar of files.
    Files(Compression),
    /// Something else, or not said.
    Other,
}

/// Why some bytes are not a manifest of another tool.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// Not strict JSON, or a field is missing or of another type.
    #[error("it is {0}")]
    Json(#[from] json::JsonError),
    /// Past its bound.
    #[error("it is {got} bytes: at most {} are read", limits::MANIFEST_BYTES)]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// `schemaVersion` is not 2.
    #[error("it has schemaVersion {0}: expected 2")]
    SchemaVersion(u64),
    /// Two readers could see two different things in it.
    #[error("it can be read in two ways: {0}")]
    Ambiguous(String),
    /// A field is missing.
    #[error("it has no `{0}`")]
    Missing(&'static str),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: u64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<IndexEntry>>,
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl ForeignManifest {
    /// Reads a manifest that came as `content_type`.
    pub fn parse(raw: &[u8], content_type: &str) -> Result<ForeignManifest, ForeignError> {
        if raw.len() as u64 > limits::MANIFEST_BYTES {
            return Err(ForeignError::TooLarge { got: raw.len() });
        }
        json::check_case(raw, &FIELDS, &MAPS)?;
        let fields: Fields = json::decode(raw)?;
        if fields.schema_version != 2 {
            return Err(ForeignError::SchemaVersion(fields.schema_version));
        }
        let ambiguous = |why: String| Err(ForeignError::Ambiguous(why));
        if let Some(stated) = fields.media_type.as_deref().filter(|stated| *stated != content_type) {
            return ambiguous(format!(
                "it came as {} and says {}",
                escape(content_type),
                escape(stated)
            ));
        }
        if fields.fs_layers.is_some() {
            return ambiguous("it has the field `fsLayers`".to_string());
        }
        let is_index = matches!(content_type, media_type::IMAGE_INDEX | DOCKER_INDEX);
        match (is_index, fields.manifests, fields.layers) {
            (true, Some(manifests), None) => Ok(ForeignManifest::Index(manifests)),
            (true, None, _) => Err(ForeignError::Missing("manifests")),
            (false, None, Some(layers)) => Ok(ForeignManifest::Image(ForeignImage {
                config: fields.config.ok_or(ForeignError::Missing("config"))?,
                layers,
                annotations: fields.annotations.unwrap_or_default(),
            })),
            (false, None, None) => Err(ForeignError::Missing("layers")),
            (true, Some(_), Some(_)) => ambiguous("an index with the field `layers`".to_string()),
            (false, Some(_), _) => ambiguous("an image with the field `manifests`".to_string()),
        }
    }
}

impl ForeignImage {
    /// Whether it is an application of Spin.
    pub fn is_spin(&self) -> bool {
        self.config.media_type == SPIN_CONFIG
    }
}

impl Descriptor {
    /// The kind of a layer from another tool, by its media type and title. Some
    /// tools set only the title for a file that they push.
    pub fn foreign_kind(&self) -> LayerKind {
        let title = self.annotations.get(media_type::ANNOTATION_TITLE);
        if WASM_LAYERS.contains(&self.media_type.as_str()) || title.is_some_and(|title| title.ends_with(".wasm")) {
            return LayerKind::Wasm;
        }
        match self.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar" => {
                LayerKind::Files(Compression::None)
            }
            "application/vnd.oci.image.layer.v1.tar+gzip" | "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
                LayerKind::Files(Compression::Gzip)
            }
            "application/vnd.oci.image.layer.v1.tar+zstd" | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {
                LayerKind::Files(Compression::Zstd)
            }
            _ => LayerKind::Other,
        }
    }
}

impl Platform {
    /// Its preference, lower is better; none if it is not WebAssembly.
    pub fn rank(&self) -> Option<usize> {
        if !matches!(self.architecture.as_str(), "wasm" | "wasm32") {
            return None;
        }
        ["wasip2", "wasip1", "wasi"].iter().position(|os| *os == self.os)
    }

    /// As Docker writes it: `os/architecture`, and a variant. Not escaped.
    pub fn plain(&self) -> String {
        let variant = self.variant.as_ref().map(|variant| format!("/{variant}"));
        format!("{}/{}{}", self.os, self.architecture, variant.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    fn part(kind: &str) -> String {
        format!(
            r#"{{"mediaType":"{kind}","digest":"{}","size":2,"urls":["http://elsewhere.example/x"]}}"#,
            Digest::of(b"{}")
        )
    }

    fn image() -> String {
        let (config, layer) = (part(media_type::WASM_CONFIG), part(media_type::WASM));
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#)
    }

    fn index() -> String {
        let entry = part(media_type::IMAGE_MANIFEST);
        format!(r#"{{"schemaVersion":2,"manifests":[{entry}]}}"#)
    }

    // [REG-027]
    #[test]
    fn ambiguous_foreign_manifest_is_refused() {
        let read = |text: &str, kind: &str| ForeignManifest::parse(text.as_bytes(), kind);
        for kind in [media_type::IMAGE_MANIFEST, DOCKER_MANIFEST] {
            let Ok(ForeignManifest::Image(found)) = read(&image(), kind) else {
                panic!("{kind}");
            };
            assert_eq!(found.layers[0].foreign_kind(), LayerKind::Wasm);
            assert!(read(&index(), kind).is_err());
        }
        for kind in [media_type::IMAGE_INDEX, DOCKER_INDEX] {
            assert!(matches!(read(&index(), kind), Ok(ForeignManifest::Index(_))));
            assert!(read(&image(), kind).is_err());
        }
        for (from, to) in [
            (r#""config""#, r#""manifests":[],"config""#),
            (r#""config""#, r#""fsLayers":[],"config""#),
            (
                r#""config""#,
                r#""mediaType":"application/vnd.oci.image.index.v1+json","config""#,
            ),
            (r#""schemaVersion":2"#, r#""schemaVersion":1"#),
            (r#""schemaVersion":2"#, r#""schemaVersion":2,"schemaVersion":2"#),
            (r#""layers""#, r#""blobs""#),
            ("sha256:", "sha256:../"),
            // Go's tools read the later one.
            (r#""config""#, r#""Layers":[],"config""#),
            (r#""layers""#, r#""layerſ":[],"layers""#),
            (r#""size":2"#, r#""size":2,"Digest":"""#),
        ] {
            let bad = image().replacen(from, to, 1);
            assert_ne!(bad, image());
            assert!(read(&bad, media_type::IMAGE_MANIFEST).is_err(), "{bad}");
        }
    }

    #[test]
    fn layer_is_wasm_by_its_type_or_by_its_title() {
        let layer = |kind: &str| Descriptor::of(kind, b"x");
        assert_eq!(
            layer("application/vnd.wasm.content.layer.v1+wasm").foreign_kind(),
            LayerKind::Wasm
        );
        let tar = layer("application/vnd.oci.image.layer.v1.tar");
        assert_eq!(tar.foreign_kind(), LayerKind::Files(Compression::None));
        let pushed = tar.with_annotation(media_type::ANNOTATION_TITLE, "app.wasm");
        assert_eq!(pushed.foreign_kind(), LayerKind::Wasm);
        assert_eq!(layer("application/octet-stream").foreign_kind(), LayerKind::Other);
    }

    #[test]
    fn component_is_preferred_to_a_module() {
        let platform = |os: &str, architecture: &str| Platform {
            os: os.to_string(),
            architecture: architecture.to_string(),
            variant: None,
        };
        assert!(platform("wasip2", "wasm").rank() < platform("wasip1", "wasm").rank());
        assert!(platform("wasip1", "wasm").rank() < platform("wasi", "wasm32").rank());
        assert_eq!(platform("linux", "amd64").rank(), None);
        assert_eq!(platform("linux", "wasm").rank(), None);
    }
}
