//! What makes WebAssembly of each language, where it is, and how to get it. None of it is
//! needed to run an application.
//!
//! Programs are searched in the absolute directories of `PATH`, and none is started: a file in
//! the current directory can choose what some of them are (rustup's `rust-toolchain.toml`).

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A language, the programs that its guests need, and how to get them.
const LANGUAGES: &[(&str, &[&str], &str)] = &[
    (RUST, &["rustc", "cargo"], "https://rustup.rs"),
    ("go", &["go"], "https://go.dev/dl, 1.21 or later"),
    (
        "c",
        &["clang", "wasm-ld", "make"],
        "on Debian: make clang lld wasi-libc libclang-rt-dev-wasm32",
    ),
    (
        "javascript",
        &["node", "npm"],
        "Node.js; then `npm install @bytecodealliance/componentize-js` in the project",
    ),
    ("python", &["componentize-py"], "`pip install componentize-py`"),
];

const RUST: &str = "rust";
/// The targets of Rust whose programs Qyvol runs.
const TARGETS: [&str; 2] = [COMPONENTS, "wasm32-wasip1"];
/// The one that makes components, which the templates use.
const COMPONENTS: &str = "wasm32-wasip2";
/// Toolchains of rustup that are checked.
const TOOLCHAINS: usize = 64;

/// The tools of a language on this host.
pub enum Tools {
    /// All of them, in words.
    Found(String),
    /// What is missing, and how to get it.
    Lacking(String, &'static str),
}

/// The languages that are known here.
pub fn languages() -> impl Iterator<Item = &'static str> {
    LANGUAGES.iter().map(|(language, ..)| *language)
}

/// The tools of a language; none for a language that needs none.
pub fn tools(language: &str) -> Option<Tools> {
    let (_, programs, from) = LANGUAGES.iter().find(|(name, ..)| *name == language)?;
    let lacks: Vec<&str> = programs.iter().copied().filter(|name| find(name).is_none()).collect();
    if !lacks.is_empty() {
        return Some(Tools::Lacking(format!("no {}", lacks.join(" and no ")), from));
    }
    Some(match language {
        RUST => rust(),
        _ => Tools::Found(programs.join(", ")),
    })
}

/// How to get a program.
pub fn source_of(program: &str) -> Option<&'static str> {
    let (.., from) = LANGUAGES.iter().find(|(_, programs, _)| programs.contains(&program))?;
    Some(from)
}

fn rust() -> Tools {
    let roots = find("rustc").map(|rustc| toolchains(&rustc)).unwrap_or_default();
    let has = |target: &&str| {
        let libraries = PathBuf::from("lib/rustlib").join(target).join("lib");
        roots.iter().any(|root| root.join(&libraries).is_dir())
    };
    let targets: Vec<&str> = TARGETS.into_iter().filter(has).collect();
    let add = "`rustup target add wasm32-wasip2`";
    match targets.as_slice() {
        [] => Tools::Lacking("rustc, without a target for WASI".to_string(), add),
        [COMPONENTS, ..] => Tools::Found(format!("rustc with {}", targets.join(" and "))),
        others => Tools::Lacking(
            format!("rustc with {}, without {COMPONENTS}", others.join(" and ")),
            add,
        ),
    }
}

/// Where the libraries of this rustc may be: around it, and, if rustup stands before it, in
/// each of rustup's toolchains.
fn toolchains(rustc: &Path) -> Vec<PathBuf> {
    let own = fs::canonicalize(rustc).ok();
    let own = own.as_deref().and_then(|file| file.parent()?.parent());
    let rustup = match env::var_os("RUSTUP_HOME").filter(|home| !home.is_empty()) {
        Some(home) => Some(PathBuf::from(home)),
        None => env::home_dir().map(|home| home.join(".rustup")),
    };
    let rustup = rustup.filter(|home| home.is_absolute());
    let installed = rustup.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
    let installed = installed.into_iter().flatten().take(TOOLCHAINS).flatten();
    own.map(Path::to_path_buf)
        .into_iter()
        .chain(installed.map(|entry| entry.path()))
        .collect()
}

/// A program in `PATH`. The current directory is not searched.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
