//! The values that every part of Qyvol speaks in, and their strict parsers.
//!
//! Nothing here does I/O, reads a clock or an environment. Each type can only
//! be made by a parser or constructor that has checked it, so code that holds
//! a [`Digest`], an [`AssetPath`] or a [`Reference`] never checks it again.
//!
//! ```text
//!   text or bytes from outside --parse--> Digest, Reference, AppManifest, ImageConfig, …
//! ```
//!
//! Invariants:
//! - a digest is parsed once into algorithm and bytes; file names come from it
//!   alone, never from a string that crossed a wire;
//! - a manifest or config keeps the bytes it was parsed from; its digest is
//!   over those bytes, and nothing is re-serialised;
//! - JSON from outside passes [`json::check`] (depth, duplicate keys) before it
//!   is decoded.
//!
//! Deliberately absent: anything that opens a file, verifies a signature or
//! knows how an image is packed.

mod app;
mod app_yaml;
mod asset_path;
mod compiled;
mod config;
mod dependencies;
mod dependencies_yaml;
mod descriptor;
mod digest;
mod digest_prefix;
mod escape;
pub mod foreign;
mod functions;
pub mod json;
pub mod limits;
mod lock_yaml;
mod manifest;
pub mod media_type;
mod nesting;
pub mod pem;
mod permissions;
mod pool;
mod reference;
mod resources;
mod serving;
mod time;
mod wit_name;
pub mod yaml;

pub use app::{AppManifest, AppType, AssetRule, AssetTarget, BuildCommand, FileSystem, FsKind, Runtime};
pub use app_yaml::{ReadPermissions, parse_app_manifest};
pub use asset_path::{AssetPath, AssetPathError, PathSet};
pub use compiled::CompiledCode;
pub use config::{AssetsConfig, ComponentConfig, ConfigError, ImageConfig, Os, QyvConfig};
pub use dependencies::{DependencyImage, DependencyRule, Lock, LockedDependency};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use digest_prefix::{DigestPrefix, DigestPrefixError};
pub use escape::{Escaped, escape, is_deceptive};
pub use functions::{AppFunction, AppProcess, FunctionCode, ModuleSource, Restart};
pub use manifest::{ImageManifest, ManifestError};
pub use nesting::may_nest_too_deep;
pub use permissions::Permissions;
pub use pool::{Pool, PoolKind};
pub use reference::{DEFAULT_TAG, Reference, ReferenceError, RepositoryName};
pub use resources::{Resources, parse_duration, parse_size};
pub use serving::Serving;
pub use time::{Timestamp, TimestampError};
pub use wit_name::{WitName, WitNameError};

/// Environment variables of the command with secrets in them, or the place of one. No
/// program that it starts gets them.
pub const SECRET_VARIABLES: [&str; 5] = [
    "QYVOL_KEY",
    "QYVOL_KEY_FILE",
    "QYVOL_KEY_PASSPHRASE",
    "QYVOL_REGISTRY_PASSWORD",
    "QYVOL_REGISTRY_TOKEN",
];
