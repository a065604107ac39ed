//! C bindings of WASI 0.2 and 0.3. They are generated from the interfaces that come with
//! a Rust crate of the same guest, and are not kept.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process;

/// The interfaces that a crate has bindings of.
pub(super) struct Interfaces {
    /// A package of WIT; the interfaces are in its `deps`.
    pub directory: PathBuf,
    /// Their version.
    pub version: String,
}

/// The interfaces of a crate that the crate in `directory` depends on: its version ends in
/// theirs, as in `1.0.4+wasi-0.2.12`.
pub(super) fn interfaces(directory: &Path, of: &str) -> Result<Interfaces, String> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(directory);
    let metadata: Value = serde_json::from_str(&process::output(&mut cargo)?).map_err(|e| e.to_string())?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages.find(|package| package["name"] == of);
    let text = |key: &str| package.and_then(|package| package[key].as_str());
    let (Some(manifest), Some((_, version))) = (
        text("manifest_path"),
        text("version").and_then(|version| version.split_once("+wasi-")),
    ) else {
        return Err(format!("the crate {of} is missing"));
    };
    Ok(Interfaces {
        directory: Path::new(manifest).with_file_name("wit"),
        version: version.to_string(),
    })
}

/// Generates the bindings of a world into `out`; the calls of 0.3 block.
pub(super) fn generate(wit: &Path, world: &str, version: u8, out: &Path) -> Result<(), String> {
    let mut command = Command::new("wit-bindgen");
    command.arg("c").arg(wit).arg("--out-dir").arg(out);
    command.arg(format!("--world={world}"));
    if version == 3 {
        command.arg("--async=-all");
    }
    process::run(&mut command)
}
