//! What can go wrong before or beside the guest.

use std::path::PathBuf;

use thiserror::Error;

/// An error of the runtime. A guest that traps or exits is no error: see
/// [`crate::Exit`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The engine can't be made on this host.
    #[error("can't start the engine: {0}")]
    Engine(String),
    /// The component doesn't compile.
    #[error("can't compile the component: {0}")]
    Compile(String),
    /// Compiled code can't be mapped.
    #[error("can't load compiled code: {0}")]
    Load(String),
    /// The guest imports something that isn't there, or lacks its entry.
    #[error("can't start the component: {0}")]
    Instantiate(String),
    /// A folder can't be opened for the guest.
    #[error("can't give the guest {} as {guest}: {why}", host.display())]
    Mount {
        /// The folder.
        host: PathBuf,
        /// Its place in the guest.
        guest: String,
        /// Why not.
        why: String,
    },
    /// The host's side of the run failed.
    #[error("can't run the guest: {0}")]
    Host(String),
}

/// An error of wasmtime with its causes, on one line.
pub(crate) fn chain(error: &wasmtime::Error) -> String {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().replace('\n', " ");
        if !lines.contains(&text) {
            lines.push(text);
        }
    }
    qyvol_types::escape(&lines.join(": ")).to_string()
}
