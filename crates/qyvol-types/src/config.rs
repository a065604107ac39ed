//! The image config: the CNCF Wasm OCI artifact's
//! (`application/vnd.wasm.config.v0+json`) and one key of Qyvol's, `qyv`.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{AppManifest, Digest, Lock, Timestamp, json, limits};

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Os {
    /// A core module for WASI preview 1.
    Wasip1,
    /// A component for WASI preview 2.
    Wasip2,
}

/// An image's config.
///
/// Other keys of the CNCF config are ignored, as its specification asks;
/// inside `qyv` an unknown key is refused, for it could be a limit that this
/// version would not enforce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageConfig {
    /// When the image was made; 1970 unless the builder was told.
    pub created: Timestamp,
    /// Always `wasm`.
    pub architecture: String,
    /// What the payload is.
    pub os: Os,
    /// Digests of the layers, in order.
    pub layer_digests: Vec<Digest>,
    /// What a component imports and exports; absent for a core module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<ComponentConfig>,
    /// Qyvol's part.
    pub qyv: QyvConfig,
    /// What was linked into the component. It is no part of `qyv`, in which an older version would refuse
    /// it: the component needs nothing of it to run.
    #[serde(default, rename = "qyvLock", skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
}

/// The world of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentConfig {
    /// Imports, sorted.
    pub imports: Vec<String>,
    /// Exports, sorted.
    pub exports: Vec<String>,
    /// Always null here; in the CNCF config it names the WIT target.
    #[serde(default)]
    pub target: Option<String>,
}

/// The `qyv` key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QyvConfig {
    /// Version of this key's form: 1.
    pub version: u64,
    /// The application's manifest, normalised.
    pub app: AppManifest,
    /// The assets, where the image has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<AssetsConfig>,
}

/// What the asset layer holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AssetsConfig {
    /// Digest of the tar before compression.
    #[serde(rename = "diffID")]
    pub diff_id: Digest,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// What the config of another tool's image lacks.
#[derive(Deserialize)]
struct Foreign {
    qyv: Option<IgnoredAny>,
}

/// Why some bytes are not a config.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not strict JSON, or a field is missing, unknown or of another type.
    #[error("image config is {0}")]
    Json(#[from] json::JsonError),
    /// The config of another tool's image.
    #[error("image config has no `qyv`: the image was not made by `qyv build`")]
    Foreign,
    /// Past its bound.
    #[error("image config is {got} bytes: at most {} are read", limits::CONFIG_BYTES)]
    TooLarge {
        /// Its size.
        got: usize,
    },
    /// A value this version doesn't know.
    #[error("image config has {field} {got:?}: expected {expected}")]
    Value {
        /// The field.
        field: &'static str,
        /// What stands there.
        got: String,
        /// What may stand there.
        expected: &'static str,
    },
}

impl ImageConfig {
    /// Reads a config.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, ConfigError> {
        if bytes.len() as u64 > limits::CONFIG_BYTES {
            return Err(ConfigError::TooLarge { got: bytes.len() });
        }
        let config: ImageConfig = json::decode(bytes).map_err(|error| match json::decode(bytes) {
            Ok(Foreign { qyv: None }) => ConfigError::Foreign,
            _ => error.into(),
        })?;
        let value = |field, got: String, expected| Err(ConfigError::Value { field, got, expected });
        if config.architecture != "wasm" {
            return value("architecture", config.architecture, "wasm");
        }
        if config.qyv.version != 1 {
            return value("qyv.version", config.qyv.version.to_string(), "1");
        }
        if (config.os == Os::Wasip2) != config.component.is_some() {
            return value(
                "component",
                format!("{:?}", config.component.is_some()),
                "a component with os wasip2 alone",
            );
        }
        if let Err(why) = config.qyv.app.check() {
            return value("qyv.app", why, "a manifest that `qyv build` wrote");
        }
        let assets = config.qyv.assets.as_ref();
        if assets.is_some_and(|a| a.files > limits::ASSET_FILES || a.bytes > limits::ASSET_BYTES) {
            return value(
                "qyv.assets",
                "more files or bytes".to_string(),
                "numbers within the limits",
            );
        }
        if let Some(Err(why)) = config.lock.as_ref().map(Lock::check) {
            return value("qyvLock", why, "a lock that `qyv build` wrote");
        }
        Ok(config)
    }

    /// The bytes that go into the image.
    pub fn encode(&self) -> Result<Vec<u8>, ConfigError> {
        Ok(json::encode(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `wkg oci push` writes it.
    #[test]
    fn config_of_another_tool_is_not_reported_as_damaged() {
        let other = br#"{"created":"2026-01-31T10:29:44.123456789Z","architecture":"wasm","os":"wasip2","layerDigests":[],"component":{"exports":[],"imports":[],"target":null}}"#;
        assert!(matches!(ImageConfig::parse(other), Err(ConfigError::Foreign)));
        for damaged in [&b"{\"qyv\":{}}"[..], b"{", b"[]", b"{\"qyv\":{},\"qyv\":{}}"] {
            assert!(matches!(ImageConfig::parse(damaged), Err(ConfigError::Json(_))));
        }
    }
}
