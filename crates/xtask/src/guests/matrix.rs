//! The suite's guests that try each permission: one program in Rust and in C, for each
//! version of WASI.
//!
//! The C bindings of 0.2 and 0.3 are generated, from the interfaces that come with the
//! Rust program's crates, and are not kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Start, c, component, rust};
use crate::process;

pub(super) fn build(root: &Path) -> Result<(), String> {
    let directory = root.join("tests/guests/matrix");
    let target = root.join("target/guests");
    for (program, version, start) in [
        ("matrix-p1", 1, Start::Main),
        ("matrix_p2", 2, Start::Export),
        ("matrix_p3", 3, Start::Export),
    ] {
        let module = rust(&directory, &target, start, program)?;
        finish(&module, &directory, "rust", version, start)?;
    }
    let shared = |name: &str| directory.join("c").join(name);
    let module = target.join("matrix-c1.wasm");
    let sources = ["matrix.c", "see.c", "p1.c"].map(shared);
    c(&sources, &module, &["-DVERSION=1".to_string()])?;
    finish(&module, &directory, "c", 1, Start::Main)?;
    for (version, of) in [(2, "wasip2"), (3, "wasip3")] {
        let bindings = bindings(&directory, &target, of, version)?;
        let module = target.join(format!("matrix-c{version}.wasm"));
        let sources = [
            shared("matrix.c"),
            shared("files.c"),
            shared("see.c"),
            shared(&format!("net{version}.c")),
            bindings.join("command.c"),
            bindings.join("command_component_type.o"),
        ];
        let flags = [
            format!("-DVERSION={version}"),
            format!("-I{}", bindings.display()),
            "-mexec-model=reactor".to_string(),
        ];
        c(&sources, &module, &flags)?;
        finish(&module, &directory, "c", version, Start::Export)?;
    }
    Ok(())
}

/// Puts a module, or the component that is made of it, in its place.
fn finish(module: &Path, directory: &Path, language: &str, version: u8, start: Start) -> Result<(), String> {
    let out = directory.join(format!("{language}{version}.wasm"));
    match version {
        1 => fs::copy(module, &out)
            .map(|_| ())
            .map_err(|e| format!("can't write {}: {e}", out.display())),
        _ => component(module, &out, start),
    }
}

/// Generates the C bindings of `wasi:cli/command`; the calls of 0.3 block.
fn bindings(directory: &Path, target: &Path, of: &str, version: u8) -> Result<PathBuf, String> {
    let wit = interfaces(directory, of)?;
    let out = target.join(format!("c{version}"));
    let mut command = Command::new("wit-bindgen");
    command.arg("c").arg(&wit.directory).arg("--out-dir").arg(&out);
    command.arg(format!("--world=wasi:cli/command@{}", wit.version));
    if version == 3 {
        command.arg("--async=-all");
    }
    process::run(&mut command)?;
    Ok(out)
}

struct Interfaces {
    directory: PathBuf,
    version: String,
}

/// The interfaces that a crate has bindings of: its version ends in theirs, as in
/// `1.0.4+wasi-0.2.12`.
fn interfaces(directory: &Path, of: &str) -> Result<Interfaces, String> {
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
