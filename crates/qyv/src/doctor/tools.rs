//! What builds applications, by language. None of it is needed to run one.
//!
//! Programs are looked for in the absolute directories of `PATH`, and none is started
//! but rustc, which is asked where its targets are.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

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
    let has = |target: &str| {
        let mut command = Command::new(&rustc);
        command
            .args(["--print", "target-libdir", "--target", target])
            .stdin(Stdio::null());
        let answer = command.output().ok().filter(|output| output.status.success());
        answer.is_some_and(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
    };
    let targets: Vec<&str> = ["wasm32-wasip2", "wasm32-wasip1"]
        .into_iter()
        .filter(|t| has(t))
        .collect();
    match targets.as_slice() {
        [] => {
            area.note("rust", "rustc, without a target for WASI")
                .fix("`rustup target add wasm32-wasip2`");
        }
        targets => area.ok("rust", format!("rustc with {}", targets.join(" and "))),
    }
}

/// A program in `PATH`. What the current directory holds does not count.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}
