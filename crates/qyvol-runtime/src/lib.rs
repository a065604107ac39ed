//! Runs verified WebAssembly with wasmtime; the only importer of wasmtime.
//!
//! ```text
//!   wasm --Engine::compile--> code, kept by a store that authenticates it
//!   Verified<Descriptor> + code --Program::load--> Program --run--> Ended
//!                                                  Program --Service::new--> Service --handle--> response
//!                                                  Program --Caller::new--> Caller --call--> Answer
//! ```
//!
//! Invariants:
//! - code is only ever loaded for a component that trust has accepted: the type
//!   [`qyvol_trust::Verified`] is required, and only trust makes one;
//! - compiled code comes from this machine's own compiler, never from an image;
//! - a guest has what its [`RunSpec`] lists, and nothing else of the host's environment,
//!   directories or network.
//!
//! `unsafe` is used only in this crate: mapping compiled code ([`Program::load`]), the child
//! that mounts a [`Tmpfs`] or an [`Overlay`] and the `memmove` of static releases can't be
//! checked by the compiler.
//!
//! Deliberately absent: names, registries, policies, and where code is kept.

mod backing;
mod call;
mod check;
mod compile;
mod component;
mod component_store;
mod concurrent;
mod core_dump;
mod cut;
mod denials;
mod deterministic;
mod engine;
mod error;
mod figures;
mod filesystem;
mod filesystem_calls;
mod generation;
mod handler;
mod http;
mod identity;
mod idle;
mod limits;
mod lines;
mod link;
#[cfg(all(target_arch = "x86_64", any(target_env = "musl", test)))]
#[allow(unsafe_code, reason = "a function of C's library")]
mod memmove;
mod names;
mod namespace;
#[cfg(test)]
#[path = "../../../tests/needs.rs"]
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "of the suites, which are no library"
)]
mod needs;
mod net;
mod output;
mod overlay;
mod pool;
mod preview1;
mod printer;
mod process;
mod profile;
mod program;
mod quota;
mod sealed;
mod service;
mod source;
mod spec;
mod stop;
mod thread_time;
mod tmpfs;
mod trap;
mod watched;

pub use backing::{Backing, Change, Intent};
pub use call::{
    ARGUMENT_BYTES, Answer, ArgumentError, Arguments, CallError, CallLimits, Callee, Caller, Function, FunctionError,
    Functions, Language, LineCalls, find_by_name,
};
pub use check::NO_HANDLER;
pub use compile::{CompileLimits, Compiler, compile_worker};
pub use engine::{CodeKind, Details, Engine, check_reuse, exports_functions, serves};
pub use error::{Incompatibility, RuntimeError};
pub use figures::{GuestFigures, GuestTotals};
pub use generation::Generation;
pub use handler::Secure;
pub use identity::{Actor, Identity, Peer};
pub use limits::{Limit, RunLimits};
pub use overlay::{Overlay, OverlayError};
pub use printer::flush_printed;
pub use process::Programs;
pub use profile::{Profiled, Profiler};
pub use program::{Ended, Phase, Program, WasmKind};
pub use quota::{Quota, Usage};
pub use sealed::Seal;
pub use service::{Incomplete, NamedHost, ResponseBody, Service, ServiceError, ServiceLimits};
pub use spec::{Debugging, Mount, RunSpec};
pub use stop::Stop;
pub use tmpfs::{Tmpfs, TmpfsLimits};
pub use trap::Exit;

/// The version of wasmtime inside, for `qyv version`.
pub const WASMTIME_VERSION: &str = "48.0.8";

#[cfg(test)]
mod tests {
    #[test]
    fn version_that_is_shown_is_the_one_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{}\"", super::WASMTIME_VERSION);
        assert!(lock.contains(&entry));
    }
}
