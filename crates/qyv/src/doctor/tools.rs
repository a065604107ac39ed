//! What builds applications, by language. None of it is needed to run one.
//!
//! Programs are looked for in the absolute directories of `PATH`, and none is started: what
//! some of them are decides a file in the current directory (rustup's `rust-toolchain.toml`).

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::Area;

/// A language, the programs that its guests need, and how to get them.
const LANGUAGES: &[(&str, &[&str], &str)] = &[
    ("go", &["go"], "https://go.dev/dl, 1.21 or later"),
    (
        "c",
        &["clang", "wasm-ld"],
        "on Debian: clang lld wasi-libc libclang-rt-dev-wasm32",
    ),
    (
        "javascript",
        &["node", "npm"],
        "Node.js; then `npm install @bytecodealliance/componentize-js` in the project",
    ),
    ("python", &["componentize-py"], "`pip install componentize-py`"),
];

/// Toolchains of rustup that are looked at.
const TOOLCHAINS: usize = 64;

pub(super) fn look() -> Area {
    let mut area = Area::new("tools");
    rust(&mut area);
    for (language, programs, from) in LANGUAGES {
        let lacks: Vec<&str> = programs.iter().copied().filter(|name| find(name).is_none()).collect();
        match lacks.as_slice() {
            [] => area.ok(language, programs.join(", ")),
            lacks => {
                area.note(language, format!("no {}", lacks.join(" and no "))).fix(*from);
            }
        }
    }
    area
}

fn rust(area: &mut Area) {
    let Some(rustc) = find("rustc") else {
        area.note("rust", "no rustc").fix("https://rustup.rs");
        return;
    };
    let roots = toolchains(&rustc);
    let has = |target: &&str| {
        let libraries = PathBuf::from("lib/rustlib").join(target).join("lib");
        roots.iter().any(|root| root.join(&libraries).is_dir())
    };
    let targets: Vec<&str> = ["wasm32-wasip2", "wasm32-wasip1"].into_iter().filter(has).collect();
    match targets.as_slice() {
        [] => {
            area.note("rust", "rustc, without a target for WASI")
                .fix("`rustup target add wasm32-wasip2`");
        }
        targets => area.ok("rust", format!("rustc with {}", targets.join(" and "))),
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

/// A program in `PATH`. What the current directory holds does not count.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
