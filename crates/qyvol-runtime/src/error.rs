//! Errors before or outside the guest's own run.

use std::fmt;
use std::path::PathBuf;

use qyvol_types::Digest;
use thiserror::Error;
use wasmtime::{WasmBacktrace, WasmCoreDump};

/// An error of the runtime. A guest that traps or exits is not an error: see
/// [`crate::Exit`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The engine can't be made on this host.
    #[error("can't start the engine: {0}")]
    Engine(String),
    /// The component or module doesn't compile.
    #[error("can't compile it: {0}")]
    Compile(String),
    /// It can't run here. This is checked before it is compiled.
    #[error("{}", join(.0))]
    Incompatible(Vec<Incompatibility>),
    /// Compiled code can't be mapped.
    #[error("can't load compiled code: {0}")]
    Load(String),
    /// The code was compiled from another component than the one to run.
    #[error("the compiled code is for {got}, expected {expected}")]
    ComponentMismatch {
        /// The verified component.
        expected: Digest,
        /// What the code was compiled from.
        got: Digest,
    },
    /// The guest can't be started.
    #[error("can't start the guest: {0}")]
    Instantiate(String),
    /// A directory can't be opened for the guest.
    #[error("can't give the guest {} as {guest}: {why}", host.display())]
    Mount {
        /// The directory.
        host: PathBuf,
        /// Its place in the guest.
        guest: String,
        /// Why not.
        why: String,
    },
    /// An entry of a sealed mount was changed. The guest may have run until it used the entry.
    #[error("the guest was ended when it asked for {}: {why}", qyvol_types::escape(path))]
    Sealed {
        /// Its path in the guest.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel gives this process no more memory, or no more mappings: more guests run than
    /// fit.
    #[error(
        "this host has no room for another guest: {0}; each takes memory and about seven of the mappings that `vm.max_map_count` allows"
    )]
    NoRoom(String),
    /// The host's side of the run failed.
    #[error("can't run the guest: {0}")]
    Host(String),
}

fn join(problems: &[Incompatibility]) -> String {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

/// An error of wasmtime with its causes, on one line and without the guest's
/// backtrace, which [`crate::trap`] shows, and core dump.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let core_dump = error.downcast_ref::<WasmCoreDump>().map(ToString::to_string);
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if Some(&text) == backtrace.as_ref() || Some(&text) == core_dump.as_ref() {
            continue;
        }
        let text = text.replace('\n', " ");
        if !lines.contains(&text) {
            lines.push(text);
        }
    }
    qyvol_types::escape(&lines.join(": ")).to_string()
}

/// Why a component or module can't be run by this version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incompatibility {
    /// It is not valid, or needs a feature that this engine lacks.
    Invalid(String),
    /// It imports something that is not provided. All such imports: interfaces for a component,
    /// `module.name` for a core module.
    MissingImports(Vec<String>),
    /// It has no entry point of a command; states what it is instead.
    NotACommand(String),
    /// It does not answer requests over HTTP; states what it is instead.
    NotAService(String),
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incompatibility::Invalid(why) => f.write_str(why),
            Incompatibility::MissingImports(names) => {
                write!(
                    f,
                    "it imports {}, which this version does not provide",
                    names.join(", ")
                )
            }
            Incompatibility::NotACommand(what) | Incompatibility::NotAService(what) => f.write_str(what),
        }
    }
}
