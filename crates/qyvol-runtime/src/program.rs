//! A loaded program and its run.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use qyvol_trust::Verified;
use qyvol_types::{Descriptor, escape};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Module, Store, Trap, WasmBacktrace};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use crate::error::chain;
use crate::limits::Limits;
use crate::{Engine, RuntimeError};

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A component that exports `wasi:cli/run`.
    Component,
    /// A core module for WASI preview 1 that exports `_start`.
    CoreModule,
}

/// All that a guest is given.
#[derive(Clone, Debug, Default)]
pub struct RunSpec {
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Folders.
    pub mounts: Vec<Mount>,
    /// Whether sockets and name lookup are there.
    pub net: bool,
    /// Bytes of linear memory, all memories together.
    pub memory_limit: Option<u64>,
}

/// A folder of the host that the guest sees.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The folder.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
    /// Whether the guest may write there.
    pub writable: bool,
}

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// It returned or exited.
    Code(i32),
    /// It trapped: why, and where in the guest.
    Trap(String),
}

/// Compiled code in memory, ready to run once.
pub struct Program {
    engine: wasmtime::Engine,
    code: Code,
}

enum Code {
    Component(Component),
    Module(Module),
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Program")
    }
}

impl Program {
    /// Maps the compiled code of a verified component.
    ///
    /// `code` must be what this machine's [`Engine::compile`] made of it and
    /// must not change while it is mapped; the store that hands it out
    /// authenticates it and keeps it from others.
    pub fn load(
        engine: &Engine,
        component: &Verified<Descriptor>,
        kind: Kind,
        code: File,
    ) -> Result<Program, RuntimeError> {
        let _ = component;
        // The open file is mapped, not its name: what was authenticated is what
        // runs, whatever happens to the path.
        let path = PathBuf::from(format!("/proc/self/fd/{}", code.as_raw_fd()));
        let failed = |e: wasmtime::Error| RuntimeError::Load(chain(&e));
        let loaded = match kind {
            Kind::Component => {
                // SAFETY: the bytes were written by `Engine::compile` on this
                // machine: the store checked an HMAC with its own key over the
                // file's identity, owner and mode, or re-hashed it, and opened
                // it read-only without following links. Broken by whoever can
                // read that key or write files of this user: they could run
                // code as this user anyway.
                #[allow(unsafe_code)]
                let component = unsafe { Component::deserialize_file(&engine.inner, &path) };
                Code::Component(component.map_err(failed)?)
            }
            Kind::CoreModule => {
                // SAFETY: as above.
                #[allow(unsafe_code)]
                let module = unsafe { Module::deserialize_file(&engine.inner, &path) };
                Code::Module(module.map_err(failed)?)
            }
        };
        Ok(Program {
            engine: engine.inner.clone(),
            code: loaded,
        })
    }

    /// Runs the program to its end, with this process's stdin, stdout and
    /// stderr. One thread; the guest's blocking calls block it.
    pub fn run(self, spec: RunSpec) -> Result<Exit, RuntimeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| RuntimeError::Host(e.to_string()))?;
        let engine = self.engine;
        runtime.block_on(async move {
            match self.code {
                Code::Component(component) => run_component(&engine, &component, &spec).await,
                Code::Module(module) => run_module(&engine, &module, &spec).await,
            }
        })
    }
}

fn context(spec: &RunSpec) -> Result<WasiCtxBuilder, RuntimeError> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .inherit_stdio()
        .args(&spec.args)
        .envs(&spec.env)
        .allow_blocking_current_thread(true);
    for mount in &spec.mounts {
        let perms = if mount.writable {
            FsPerms::ReadWrite
        } else {
            FsPerms::ReadOnly
        };
        builder
            .preopened_dir(&mount.host, &mount.guest, perms)
            .map_err(|e| RuntimeError::Mount {
                host: mount.host.clone(),
                guest: mount.guest.clone(),
                why: chain(&e),
            })?;
    }
    if spec.net {
        builder
            .inherit_network()
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true);
    }
    Ok(builder)
}

struct ComponentState {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: Limits,
}

impl WasiView for ComponentState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

async fn run_component(engine: &wasmtime::Engine, component: &Component, spec: &RunSpec) -> Result<Exit, RuntimeError> {
    let mut linker = Linker::new(engine);
    crate::link::link(&mut linker, component).map_err(|e| RuntimeError::Host(chain(&e)))?;
    let state = ComponentState {
        wasi: context(spec)?.build(),
        table: ResourceTable::new(),
        limits: Limits::new(spec.memory_limit),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limits);
    let command = match Command::instantiate_async(&mut store, component, &linker).await {
        Ok(command) => command,
        // A component may run code of its own while it is instantiated.
        Err(error) => return ended(&error).ok_or_else(|| RuntimeError::Instantiate(chain(&error))),
    };
    match command.wasi_cli_run().call_run(&mut store).await {
        Ok(Ok(())) => Ok(Exit::Code(0)),
        Ok(Err(())) => Ok(Exit::Code(1)),
        Err(error) => Ok(ended(&error).unwrap_or_else(|| Exit::Trap(chain(&error)))),
    }
}

struct ModuleState {
    wasi: WasiP1Ctx,
    limits: Limits,
}

async fn run_module(engine: &wasmtime::Engine, module: &Module, spec: &RunSpec) -> Result<Exit, RuntimeError> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut ModuleState| &mut state.wasi)
        .map_err(|e| RuntimeError::Host(chain(&e)))?;
    let state = ModuleState {
        wasi: context(spec)?.build_p1(),
        limits: Limits::new(spec.memory_limit),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limits);
    let instance = match linker.instantiate_async(&mut store, module).await {
        Ok(instance) => instance,
        Err(error) => return ended(&error).ok_or_else(|| RuntimeError::Instantiate(chain(&error))),
    };
    let start = instance
        .get_typed_func::<(), ()>(&mut store, "_start")
        .map_err(|e| RuntimeError::Instantiate(format!("it has no _start to call: {}", chain(&e))))?;
    match start.call_async(&mut store, ()).await {
        Ok(()) => Ok(Exit::Code(0)),
        Err(error) => Ok(ended(&error).unwrap_or_else(|| Exit::Trap(chain(&error)))),
    }
}

/// Whether an error is the guest's own end: an exit or a trap.
fn ended(error: &wasmtime::Error) -> Option<Exit> {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Some(Exit::Code(exit.0));
    }
    let trap = error.downcast_ref::<Trap>()?;
    let mut text = trap.to_string();
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        for frame in backtrace.frames() {
            let name = frame.func_name().unwrap_or("<unnamed>");
            text.push_str(&format!("\n  in {}", escape(&rustc_name(name))));
        }
    }
    Some(Exit::Trap(text))
}

/// A guest's function name, cut to what helps.
fn rustc_name(name: &str) -> String {
    name.chars().take(200).collect()
}
