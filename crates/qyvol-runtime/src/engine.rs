//! The engine: one configuration for compiling and for loading.

use std::hash::Hash;

use qyvol_types::{Algorithm, Hasher};
use wasmparser::WasmFeatures;

use crate::RuntimeError;
use crate::check::{ASYNC_FEATURES, FEATURES};
use crate::error::chain;

/// Compiles components and loads what it compiled.
pub struct Engine {
    pub(crate) inner: wasmtime::Engine,
    pub(crate) generation: Generation,
    pub(crate) metered: bool,
    id: String,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.id)
    }
}

/// How a component's calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// One after the other: core modules, and components of WASI 0.2.
    Blocking,
    /// Concurrently: components of WASI 0.3. Each call costs more in such an engine, so
    /// the others have an engine without this.
    Concurrent,
}

impl Generation {
    /// The generation that a component with these exports needs.
    pub fn of_exports(exports: &[String]) -> Generation {
        let runs = |name: &String| crate::link::interface(name) == Some((Generation::Concurrent, "wasi:cli/run"));
        match exports.iter().any(runs) {
            true => Generation::Concurrent,
            false => Generation::Blocking,
        }
    }

    /// The generation that a component or module needs. The answer for invalid ones has
    /// no meaning.
    pub fn of(wasm: &[u8]) -> Generation {
        crate::check::names(wasm).map_or(Generation::Blocking, |(_, exports)| Generation::of_exports(&exports))
    }

    /// The features of WebAssembly that are compiled and run.
    pub(crate) fn features(self) -> WasmFeatures {
        match self {
            Generation::Blocking => FEATURES,
            Generation::Concurrent => FEATURES.union(ASYNC_FEATURES),
        }
    }
}

/// The one configuration of a generation. Whatever changes code changes
/// [`Engine::id`] too: wasmtime's own compatibility hash sees to that.
fn config(generation: Generation, metered: bool) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    let features = generation.features();
    config.wasm_features(!features, false);
    config.wasm_features(features, true);
    config.concurrency_support(generation == Generation::Concurrent);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(32));
    // Native unwinders never walk guest frames here; leaving the tables out
    // makes code smaller and cheaper to map.
    config.native_unwind_info(false);
    // Backtraces name functions and no addresses, which this map is for; a tenth
    // of the code's file is saved.
    config.generate_address_map(false);
    if metered {
        config.consume_fuel(true);
        // What WebAssembly leaves to the processor is done in one way.
        config.cranelift_nan_canonicalization(true);
        config.relaxed_simd_deterministic(true);
    }
    // By default an environment variable decides.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config
}

impl Engine {
    /// An engine for this host.
    pub fn new(generation: Generation) -> Result<Engine, RuntimeError> {
        Engine::make(generation, false)
    }

    /// One whose code counts the work that it does as fuel and does it alike on every
    /// processor, at the price of some speed: for [`crate::RunLimits::fuel`] and
    /// [`crate::RunSpec::deterministic`].
    pub fn metered(generation: Generation) -> Result<Engine, RuntimeError> {
        Engine::make(generation, true)
    }

    fn make(generation: Generation, metered: bool) -> Result<Engine, RuntimeError> {
        let inner = wasmtime::Engine::new(&config(generation, metered)).map_err(|e| RuntimeError::Engine(chain(&e)))?;
        let mut hasher = Sha(Hasher::new(Algorithm::Sha256));
        inner.precompile_compatibility_hash().hash(&mut hasher);
        let digest = hasher.0.finish();
        let id = format!("wasmtime-{}-{}", crate::WASMTIME_VERSION, digest.short());
        Ok(Engine {
            inner,
            generation,
            metered,
            id,
        })
    }

    /// Names the compiler, its version and settings and the host's CPU: code
    /// made under one id loads in every engine of that id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Compiles a component or core module to code for this host. What can't run
    /// as a command is refused first.
    pub fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, RuntimeError> {
        let problems = self.check(wasm);
        if !problems.is_empty() {
            return Err(RuntimeError::Incompatible(problems));
        }
        self.compile_checked(wasm)
    }

    /// Compiles what has been checked.
    pub(crate) fn compile_checked(&self, wasm: &[u8]) -> Result<Vec<u8>, RuntimeError> {
        let compiled = match wasm.get(4..8) {
            // Version 13 in layer 1: a component (component model, Binary.md).
            Some([0x0d, 0, 1, 0]) => self.inner.precompile_component(wasm),
            _ => self.inner.precompile_module(wasm),
        };
        compiled.map_err(|e| RuntimeError::Compile(chain(&e)))
    }
}

/// SHA-256 as a `std` hasher, so that an id is the same in every build.
struct Sha(Hasher);

impl std::hash::Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Asked for by nobody: the digest is taken from the inner hasher.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_of_one_configuration_share_their_code() {
        let id = |generation| Engine::new(generation).unwrap().id().to_string();
        assert_eq!(id(Generation::Blocking), id(Generation::Blocking));
        assert_ne!(id(Generation::Blocking), id(Generation::Concurrent));
        let metered = Engine::metered(Generation::Blocking).unwrap();
        assert_ne!(id(Generation::Blocking), metered.id());
    }
}
