//! The engine: one configuration for compiling and for loading.

use std::hash::Hash;

use qyvol_types::{Algorithm, Hasher};

use crate::RuntimeError;
use crate::error::chain;
use crate::generation::{BLOCKING, CONCURRENT, Generation, interface, is_entry, names};
use crate::limits::STACK;

/// Compiles components and loads what it compiled.
pub struct Engine {
    pub(crate) inner: wasmtime::Engine,
    pub(crate) generation: Generation,
    pub(crate) kind: CodeKind,
    id: String,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.id)
    }
}

/// What code is made for. There is other code for each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeKind {
    /// It counts its work as fuel, and behaves the same on every processor, which costs some
    /// speed: for [`crate::RunLimits::fuel`] and [`crate::RunSpec::deterministic`].
    pub metered: bool,
    /// It is for a [`crate::Service`] or a [`crate::Caller`]: it can be interrupted, and
    /// waits without a thread.
    pub service: bool,
    /// What it contains for debugging.
    pub details: Details,
}

/// What compiled code contains for debugging. The more it contains, the larger or slower it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Details {
    /// The names of functions alone.
    #[default]
    Names,
    /// Also the offset in the component of each instruction, for a core dump.
    Addresses,
    /// The same, and it can be interrupted for samples of a [`crate::Profiler`].
    Profile,
    /// What a debugger needs: the source's files, lines and variables, as far as the
    /// component has them as DWARF, in code that is not optimised.
    Debugger,
}

impl Details {
    /// As an argument of the compiling process.
    fn word(self) -> Option<&'static str> {
        match self {
            Details::Names => None,
            Details::Addresses => Some("addresses"),
            Details::Profile => Some("profile"),
            Details::Debugger => Some("debugger"),
        }
    }
}

impl CodeKind {
    /// The kind of a component with these exports: a service if it answers requests or
    /// has functions to call, and is no command.
    pub fn of_exports(exports: &[String]) -> CodeKind {
        let is_command = exports
            .iter()
            .any(|name| matches!(interface(name), Some((_, "wasi:cli/run"))));
        CodeKind {
            metered: false,
            service: (serves(exports) || exports_functions(exports)) && !is_command,
            details: Details::Names,
        }
    }

    /// The kind of a component or module. The answer for invalid ones has no meaning.
    pub fn of(wasm: &[u8]) -> CodeKind {
        names(wasm).map_or(CodeKind::default(), |(_, exports)| CodeKind::of_exports(&exports))
    }

    /// Maximum number of frames of a stack that are shown or kept.
    pub(crate) fn frames(self) -> usize {
        match self.details {
            Details::Names => TRAP_FRAMES,
            _ => PROFILE_FRAMES,
        }
    }

    /// As arguments of the compiling process.
    pub(crate) fn words(self) -> impl Iterator<Item = &'static str> {
        let metered = self.metered.then_some(METERED);
        let service = self.service.then_some(SERVICE);
        metered.into_iter().chain(service).chain(self.details.word())
    }

    /// The reverse of [`CodeKind::words`]; none for a word that is not one of them.
    pub fn from_words(words: impl Iterator<Item = String>) -> Option<CodeKind> {
        let mut kind = CodeKind::default();
        for word in words {
            match word.as_str() {
                METERED => kind.metered = true,
                SERVICE => kind.service = true,
                word => {
                    let all = [Details::Addresses, Details::Profile, Details::Debugger];
                    kind.details = all.into_iter().find(|details| details.word() == Some(word))?;
                }
            }
        }
        Some(kind)
    }
}

/// Maximum number of frames in a sample of a profile and in a core dump.
pub(crate) const PROFILE_FRAMES: usize = 128;
/// Maximum number of frames that the message of a trap names.
pub(crate) const TRAP_FRAMES: usize = 32;

const METERED: &str = "metered";
const SERVICE: &str = "service";

/// Whether a component with these exports can answer requests over HTTP here.
pub fn serves(exports: &[String]) -> bool {
    exports
        .iter()
        .any(|name| interface(name).is_some_and(|interface| [BLOCKING, CONCURRENT].contains(&interface)))
}

/// Whether an instance of a component with these exports can answer several requests.
///
/// # Errors
///
/// Why it can't.
pub fn check_reuse(exports: &[String]) -> Result<(), &'static str> {
    let has = |sought| exports.iter().any(|name| interface(name) == Some(sought));
    if has(CONCURRENT) {
        return Err(
            "it answers requests by WASI 0.3, where calls and streams of one request can go on in the instance after its end",
        );
    }
    match has(BLOCKING) {
        true => Ok(()),
        false => {
            Err("it exports no wasi:http/incoming-handler, and each call of a function has an instance of its own")
        }
    }
}

/// Whether a component with these exports may have functions to call. Only its types are
/// certain.
pub fn exports_functions(exports: &[String]) -> bool {
    exports.iter().any(|name| !is_entry(name))
}

/// The one configuration of a generation and kind. Every setting that changes code changes
/// [`Engine::id`] too, through wasmtime's own compatibility hash.
fn config(generation: Generation, kind: CodeKind) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    let features = generation.features();
    config.wasm_features(!features, false);
    config.wasm_features(features, true);
    config.max_wasm_stack(STACK);
    config.concurrency_support(generation == Generation::Concurrent);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(kind.frames()));
    // Native unwinders never walk guest frames here; leaving the tables out
    // makes code smaller and cheaper to map.
    config.native_unwind_info(false);
    // Backtraces name functions and no addresses, which this map is for; a tenth
    // of the code's file is saved.
    config.generate_address_map(kind.details != Details::Names);
    // Loops and calls would then check the epoch, which takes time; a command is ended with its
    // process instead.
    config.epoch_interruption(kind.service || kind.details == Details::Profile);
    if kind.metered {
        config.consume_fuel(true);
        // What WebAssembly leaves to the processor is done in one way.
        config.cranelift_nan_canonicalization(true);
        config.relaxed_simd_deterministic(true);
    }
    // By default an environment variable decides. Lines are read by `crate::source`, in
    // bounded time and memory.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    match kind.details {
        Details::Names => {}
        Details::Addresses | Details::Profile => {
            config.coredump_on_trap(true);
        }
        Details::Debugger => {
            config.coredump_on_trap(true);
            config.cranelift_opt_level(wasmtime::OptLevel::None);
            config.debug_info(true);
        }
    }
    config
}

impl Engine {
    /// An engine for commands on this host.
    pub fn new(generation: Generation) -> Result<Engine, RuntimeError> {
        Engine::of_kind(generation, CodeKind::default())
    }

    /// An engine for code of this kind.
    pub fn of_kind(generation: Generation, kind: CodeKind) -> Result<Engine, RuntimeError> {
        let inner = wasmtime::Engine::new(&config(generation, kind)).map_err(|e| RuntimeError::Engine(chain(&e)))?;
        let mut hasher = Sha(Hasher::new(Algorithm::Sha256));
        inner.precompile_compatibility_hash().hash(&mut hasher);
        let digest = hasher.0.finish();
        let id = format!("wasmtime-{}-{}", crate::WASMTIME_VERSION, digest.short());
        Ok(Engine {
            inner,
            generation,
            kind,
            id,
        })
    }

    /// The same engine with another allocation of instances, if the host has the address space.
    /// It runs the same code.
    pub(crate) fn pooled(&self, pool: &wasmtime::PoolingAllocationConfig) -> Option<wasmtime::Engine> {
        let mut config = config(self.generation, self.kind);
        config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool.clone()));
        wasmtime::Engine::new(&config).ok()
    }

    /// Names the compiler, its version and settings and the host's CPU: code
    /// made under one id loads in every engine of that id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Compiles a component or core module to code for this host. What can't run
    /// as a command, or as a service in an engine for those, is refused first.
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
        // Not used: the digest is taken from the inner hasher.
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind of code that is made, the ordinary one first.
    fn all_kinds() -> impl Iterator<Item = CodeKind> {
        let all = [Details::Names, Details::Addresses, Details::Profile, Details::Debugger];
        let flags = [(false, false), (true, false), (false, true), (true, true)];
        let all = all.into_iter().flat_map(move |details| {
            flags.map(|(metered, service)| CodeKind {
                metered,
                service,
                details,
            })
        });
        all.filter(|kind| !kind.service || kind.details == Details::Names)
    }

    // [RUN-071]
    #[test]
    fn two_engines_of_one_configuration_share_their_code() {
        let id = |generation| Engine::new(generation).unwrap().id().to_string();
        assert_eq!(id(Generation::Blocking), id(Generation::Blocking));
        assert_ne!(id(Generation::Blocking), id(Generation::Concurrent));
        let mut ids = vec![id(Generation::Blocking)];
        for kind in all_kinds().skip(1) {
            let engine = Engine::of_kind(Generation::Blocking, kind).unwrap();
            assert!(!ids.contains(&engine.id().to_string()), "{kind:?}");
            ids.push(engine.id().to_string());
        }
    }

    #[test]
    fn component_is_a_service_if_it_answers_requests_and_is_no_command() {
        let is_service = |exports: &[&str]| {
            let exports: Vec<String> = exports.iter().map(ToString::to_string).collect();
            CodeKind::of_exports(&exports).service
        };
        assert!(is_service(&["wasi:http/incoming-handler@0.2.12"]));
        assert!(!is_service(&[
            "wasi:http/incoming-handler@0.2.12",
            "wasi:cli/run@0.2.0"
        ]));
        assert!(!is_service(&[
            "wasi:http/incoming-handler@0.2.12",
            "wasi:cli/run@0.3.0"
        ]));
        assert!(is_service(&["wasi:http/handler@0.3.0"]));
        assert!(!is_service(&["wasi:http/handler@0.3.0", "wasi:cli/run@0.2.0"]));
        assert!(!is_service(&["wasi:http/handler@0.2.0"]));
        assert!(!is_service(&[]));
        assert!(is_service(&["acme:calc/ops@1.0.0"]));
        assert!(is_service(&["add"]));
        assert!(!is_service(&["acme:calc/ops@1.0.0", "wasi:cli/run@0.2.0"]));
    }

    #[test]
    fn entry_point_or_import_of_the_later_version_decides_the_generation() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        let of = |exports: &[&str]| Generation::of_names(&[], &names(exports));
        let importing = |imports: &[&str]| Generation::of_names(&names(imports), &names(&["add"]));
        assert_eq!(
            importing(&["wasi:cli/stdout@0.2.0", "acme:a/b@0.3.0"]),
            Generation::Blocking
        );
        assert_eq!(
            importing(&["wasi:clocks/monotonic-clock@0.3.0"]),
            Generation::Concurrent
        );
        assert_eq!(of(&["wasi:cli/run@0.2.0"]), Generation::Blocking);
        assert_eq!(of(&["wasi:http/incoming-handler@0.2.12"]), Generation::Blocking);
        assert_eq!(of(&["wasi:cli/run@0.3.0"]), Generation::Concurrent);
        assert_eq!(
            of(&["wasi:cli/run@0.2.0", "wasi:http/handler@0.3.0"]),
            Generation::Concurrent
        );
    }

    #[test]
    fn kind_survives_being_passed_to_another_process() {
        for kind in all_kinds() {
            assert_eq!(CodeKind::from_words(kind.words().map(str::to_string)), Some(kind));
        }
        assert_eq!(CodeKind::from_words(["other".to_string()].into_iter()), None);
    }
}
