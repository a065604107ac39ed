//! The application's manifest in its normalised form: what the `.qyv` says
//! once its defaults are filled in. In an image's config it is the canonical
//! JSON that is signed and run; nothing reads YAML on a target host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::AssetPath;
use crate::dependencies::DependencyRule;
use crate::functions::{self, AppFunction, AppProcess, ModuleSource};
use crate::permissions::Permissions;
use crate::reference::{is_repository, is_tag};
use crate::resources::Resources;
use crate::serving::Serving;

/// The guest's root directory.
const ROOT: &str = "/";

/// An application's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppManifest {
    /// Name: a repository name, `acme/hello`.
    pub name: String,
    /// Version: a tag, `1.0.0`.
    pub version: String,
    /// The component or module's file: relative to the manifest's directory in a
    /// `.qyv`, the file name alone in an image.
    pub entrypoint: String,
    /// What it runs on.
    pub runtime: Runtime,
    /// The language it is written in, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// How it is used.
    #[serde(rename = "type")]
    pub app_type: AppType,
    /// What it asks for.
    pub permissions: Permissions,
    /// The file system it sees as `/`, if it may.
    pub fs: FileSystem,
    /// Where it sees its assets, read-only; at `/` its file system, if it has one,
    /// lies over them.
    pub assets_root: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The argument before all others, by which some programs tell what they
    /// are called; the last part of the name where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv0: Option<String>,
    /// Arguments after the program's name, before the user's.
    pub args: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Functions by the names that they are called by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<String, AppFunction>,
    /// Processes by the names that they are run by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<String, AppProcess>,
    /// How it is served.
    #[serde(default, skip_serializing_if = "Serving::is_default")]
    pub serve: Serving,
    /// What to pack as assets; only in the `.qyv`, never in an image.
    #[serde(skip)]
    pub assets: Vec<AssetRule>,
    /// Images that are linked into the component; only in the `.qyv`. What they were resolved to
    /// is in the image's [`Lock`](crate::Lock).
    #[serde(skip)]
    pub dependencies: Vec<DependencyRule>,
    /// The command that makes the entrypoint; only in the `.qyv`, never in an image.
    #[serde(skip)]
    pub build: Option<BuildCommand>,
}

/// A program with its arguments. No shell reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildCommand {
    /// A name that is looked up in `PATH`, or a path that is relative to the manifest's directory.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What an application runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// WASI, preview 1 or 2.
    Wasi,
}

/// How an application is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppType {
    /// A command.
    Cli,
    /// A service.
    Service,
    /// Functions to call.
    Function,
    /// A graphical application.
    Gui,
}

/// The file system that an application sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSystem {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: FsKind,
    /// Where it comes from, for `netfs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Whether a copy is kept, for `netfs`.
    pub cache: bool,
}

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// In memory, gone afterwards.
    Memfs,
    /// A directory of the application's own on this host.
    Diskfs,
    /// Over the network.
    Netfs,
}

/// One entry of `assets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetRule {
    /// A file, a directory or a glob, relative to the manifest's directory.
    pub from: String,
    /// Where it goes under the assets root.
    pub to: AssetTarget,
}

/// Where an entry of `assets` goes under the assets root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssetTarget {
    /// To its own path.
    Own,
    /// To the root itself: the content of a directory, a file by its name.
    Root,
    /// To this path.
    Path(AssetPath),
}

impl AppManifest {
    /// Whether its component is made of its functions, and no file.
    pub fn is_made(&self) -> bool {
        self.functions.values().any(|function| function.code.is_some())
    }

    /// The files of its WebAssembly, relative to the manifest's directory; none if all of
    /// it is in the manifest.
    pub fn wasm_files(&self) -> Vec<&str> {
        if !self.is_made() {
            return vec![&self.entrypoint];
        }
        let modules = self.functions.values().filter_map(|function| function.code.as_ref());
        let files = modules.filter_map(|code| match &code.module {
            ModuleSource::File(path) => Some(path.as_str()),
            ModuleSource::Wat(_) => None,
        });
        files.collect()
    }

    /// Checks what the types don't say, for a manifest that came in a config;
    /// returns what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !is_repository(&self.name) {
            return Err("its name is not a repository name".to_string());
        }
        if !is_tag(&self.version) {
            return Err("its version is not a tag".to_string());
        }
        if AssetPath::parse(&self.entrypoint).is_err() || self.entrypoint.contains('/') {
            return Err("its entrypoint is not a file name".to_string());
        }
        if let Some(language) = &self.language {
            check_language(language)?;
        }
        check_assets_root(&self.assets_root)?;
        check_assets_at_root(&self.assets_root, &self.permissions, self.fs.kind)?;
        if let Some(argv0) = &self.argv0 {
            check_argv0(argv0)?;
        }
        for (name, value) in &self.env {
            check_env_name(name)?;
            check_no_nul("environment value", value)?;
        }
        for arg in &self.args {
            check_no_nul("argument", arg)?;
        }
        self.serve.check()?;
        functions::check(&self.functions, &self.processes)
    }
}

pub(crate) fn check_assets_root(root: &str) -> Result<(), String> {
    if root == ROOT {
        return Ok(());
    }
    match root.strip_prefix('/').map(AssetPath::parse) {
        Some(Ok(_)) => Ok(()),
        Some(Err(why)) => Err(format!("assets_root {why}")),
        None => Err("assets_root must be absolute, such as /assets".to_string()),
    }
}

/// Assets at the guest's `/` are alone there, or lie under a file system in memory:
/// what is on a disk or another machine can't be laid over them.
pub(crate) fn check_assets_at_root(root: &str, permissions: &Permissions, kind: FsKind) -> Result<(), String> {
    if root == ROOT && permissions.get("fs").is_some() && kind != FsKind::Memfs {
        return Err(
            "assets_root can be / only with `fs.type: memfs` or `permissions.fs: none`: no other file system can be laid over assets"
                .to_string(),
        );
    }
    Ok(())
}

pub(crate) fn check_argv0(argv0: &str) -> Result<(), String> {
    if argv0.is_empty() {
        return Err("argv0 can't be empty".to_string());
    }
    check_no_nul("argv0", argv0)
}

pub(crate) fn check_language(language: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_alphanumeric() || " +#.-_".contains(c);
    if language.is_empty() || language.len() > 64 || !language.chars().all(allowed) {
        return Err("language must be a word, such as rust or c++".to_string());
    }
    Ok(())
}

pub(crate) fn check_env_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.contains(['=', '\0']) || name.chars().any(char::is_control) {
        return Err("an environment variable's name can't be empty nor have `=` or control characters".to_string());
    }
    Ok(())
}

pub(crate) fn check_no_nul(what: &str, value: &str) -> Result<(), String> {
    if value.contains('\0') {
        return Err(format!("{what} can't have a NUL character"));
    }
    Ok(())
}
