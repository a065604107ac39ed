//! Whether this version can run a component or module; checked before it is signed.

use qyvol_runtime::{CodeKind, Engine, Generation, RuntimeError};

use crate::Error;

/// Refuses what could only fail when it is run: features that the engine lacks, imports that
/// are not provided, a missing entry. `label` is what the user named.
pub(crate) fn check_runnable(label: &str, wasm: &[u8]) -> Result<(), Error> {
    let engine = Engine::of_kind(Generation::of(wasm), CodeKind::of(wasm)).map_err(Error::runtime(label))?;
    match engine.check(wasm) {
        problems if problems.is_empty() => Ok(()),
        problems => Err(Error::runtime(label)(RuntimeError::Incompatible(problems))),
    }
}
