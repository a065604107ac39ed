//! What commands do with an application that is being written: run its `build`, and say where
//! the author can go on.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use qyvol::types::{BuildCommand, escape};
use qyvol::{BuildSetup, Children, Error, Validated};

use crate::failure::Failure;
use crate::toolchain::{Tools, tools};
use crate::ui::Ui;

/// Runs the `build` of a manifest, and shows it first. Its output goes to stderr.
pub fn run_build(ui: &Ui, manifest: &Validated, build: &BuildCommand, children: &Children) -> Result<(), Failure> {
    let words = std::iter::once(&build.program).chain(&build.args);
    let shown: Vec<String> = words.map(|word| shown(word)).collect();
    ui.note(&format!("build: {}", shown.join(" ")));
    let setup = BuildSetup {
        environment: &mut std::env::vars_os(),
        output: stderr()?,
        error: stderr()?,
        children,
    };
    qyvol::run_build(manifest, build, setup).map_err(|error| {
        let is_failed = matches!(error, Error::BuildFailed { .. });
        let language = manifest.app.language.as_deref().filter(|_| is_failed);
        match language.and_then(tools) {
            Some(Tools::Lacking(what, from)) => Failure::from(error).hint(format!("PATH has {what}: {from}")),
            _ => error.into(),
        }
    })
}

/// A word as a shell would take it.
fn shown(word: &str) -> String {
    let quoted = shlex::try_quote(word).unwrap_or(word.into());
    escape(&quoted).to_string()
}

fn stderr() -> Result<Stdio, Failure> {
    let copy = io::stderr().as_fd().try_clone_to_owned();
    // Without a stderr, nobody is told anything.
    Ok(copy.map_or_else(|_| Stdio::null(), Stdio::from))
}

/// A failure with what to do if the files are missing that the manifest's `build` makes.
/// `path` is a manifest or the directory of one.
pub fn hint_build(failure: Failure, path: &Path) -> Failure {
    let Ok(manifest) = qyvol::validate(path) else {
        return failure;
    };
    let files = manifest.app.wasm_files();
    let is_missing = files.iter().any(|file| !manifest.directory.join(file).exists());
    match manifest.app.build.is_some() && is_missing {
        true => failure.hint(format!(
            "its `build` makes that file: `qyv build --run-build {}` runs it",
            escape(&path.to_string_lossy())
        )),
        false => failure,
    }
}
