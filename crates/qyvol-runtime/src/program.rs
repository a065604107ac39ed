//! A loaded program and its run.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use qyvol_trust::Verified;
use qyvol_types::{CompiledCode, Descriptor};
use wasmtime::component::{Component, Linker};
use wasmtime::{Module, Store};
use wasmtime_wasi::p2::bindings as p2;
use wasmtime_wasi::p3::bindings as p3;

use crate::component::ComponentState;
use crate::denials::Denials;
use crate::error::chain;
use crate::generation::{Generation, exports};
use crate::limits::{CALL_BYTES, Count, Limits};
use crate::net::Network;
use crate::output::{self, OutputBudget};
use crate::pool::Places;
use crate::preview1::{self, FileQuotas, ModuleState, Wanted};
use crate::spec::{Guest, RunSpec, context};
use crate::trap::{self, Exit};
use crate::watched::Watched;
use crate::{CodeKind, Engine, RuntimeError, core_dump};

/// Threads for calls that block: lookups of names.
pub(crate) const BLOCKING_THREADS: usize = 16;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasmKind {
    /// A component that exports `wasi:cli/run`.
    Component,
    /// A core module for WASI preview 1 that exports `_start`.
    CoreModule,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// How the guest ended.
    pub exit: Exit,
    /// The fuel that it used, if its engine counts that.
    pub fuel: Option<u64>,
    /// Bytes of linear memory and tables that it had in the end, which is the most that it
    /// ever had.
    pub memory: u64,
    /// Bytes that it wrote to stdout and stderr, if there was a limit on them.
    pub output: Option<u64>,
    /// Its core dump, if it trapped and that was asked for.
    pub core_dump: Option<Vec<u8>>,
}

/// A phase of a run, reported when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// The host's interfaces are described to the guest and match its imports.
    Link,
    /// The guest has its memory; what it runs before its entry has run.
    Instantiate,
    /// The guest's entry has returned, exited or trapped.
    Call,
}

/// Compiled code in memory, ready to run once.
pub struct Program {
    pub(crate) engine: wasmtime::Engine,
    generation: Generation,
    kind: CodeKind,
    pub(crate) code: Code,
    /// Its pool's part of the address space. Dropped after the engine, which uses the pool.
    _places: Option<Places>,
}

pub(crate) enum Code {
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
        kind: WasmKind,
        code: &CompiledCode,
    ) -> Result<Program, RuntimeError> {
        if *code.component() != component.digest {
            return Err(RuntimeError::ComponentMismatch {
                expected: component.digest,
                got: *code.component(),
            });
        }
        let loaded = load(&engine.inner, kind, code)?;
        Ok(Program {
            engine: engine.inner.clone(),
            generation: engine.generation,
            kind: engine.kind,
            code: loaded,
            _places: None,
        })
    }

    /// Like [`Program::load`], for a service of which this many guests may exist at once: the
    /// address space for each of them is reserved ahead and reused. Without a pool are loaded:
    /// a program of WASI 0.3, whose calls take any number of stacks, and one that needs more
    /// address space than there is.
    pub fn load_pooled(
        engine: &Engine,
        component: &Verified<Descriptor>,
        kind: WasmKind,
        code: &CompiledCode,
        guests: usize,
    ) -> Result<Program, RuntimeError> {
        let program = Program::load(engine, component, kind, code)?;
        let pooled = || {
            let (Generation::Blocking, Code::Component(component)) = (program.generation, &program.code) else {
                return None;
            };
            let (pool, places) = crate::pool::allocation(component, guests)?;
            let pooled = engine.pooled(&pool)?;
            Some((load(&pooled, kind, code).ok()?, pooled, places))
        };
        Ok(match pooled() {
            Some((code, engine, places)) => Program {
                engine,
                code,
                _places: Some(places),
                ..program
            },
            None => program,
        })
    }

    /// Whether its code counts fuel, if `spec` needs that.
    pub(crate) fn check_fuel(&self, spec: &RunSpec) -> Result<(), RuntimeError> {
        match spec.limits.fuel.is_some() || spec.deterministic.is_some() {
            true if !self.kind.metered => Err(RuntimeError::Host("its code counts no fuel".to_string())),
            _ => Ok(()),
        }
    }

    /// Whether it can have sockets or host programs. A core module can't.
    fn imports_io(&self) -> bool {
        match &self.code {
            Code::Component(component) => crate::link::imports_io(component),
            Code::Module(_) => false,
        }
    }

    /// Whether its code can be interrupted.
    pub(crate) fn is_service(&self) -> bool {
        self.kind.service
    }

    /// Runs the program to its end, with this process's stdin, stdout and
    /// stderr. One thread; the guest's blocking calls block it.
    pub fn run(self, spec: RunSpec) -> Result<Ended, RuntimeError> {
        self.run_with_phases(spec, &mut |_| {})
    }

    /// Like [`Program::run`], and calls `phase_done` at the end of each phase, for timing.
    pub fn run_with_phases(self, spec: RunSpec, phase_done: &mut dyn FnMut(Phase)) -> Result<Ended, RuntimeError> {
        self.check_fuel(&spec)?;
        if self.is_service() {
            return Err(RuntimeError::Host("its code is that of a service".to_string()));
        }
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().max_blocking_threads(BLOCKING_THREADS);
        runtime.start_paused(spec.deterministic.is_some());
        let network = Network::new(&spec.net, spec.observer.clone());
        // Only sockets and pipes need the poller and its descriptors.
        if (!network.is_off() || !spec.programs.is_empty()) && self.imports_io() {
            runtime.enable_io();
        }
        let runtime = runtime.build().map_err(|e| RuntimeError::Host(e.to_string()))?;
        let exit = runtime.block_on(async {
            match &self.code {
                Code::Component(component) => self.run_component(component, &spec, network, phase_done).await,
                Code::Module(module) => self.run_module(module, &spec, phase_done).await,
            }
        });
        if spec.last {
            std::mem::forget(self);
        }
        // A name lookup that the guest has cancelled is not waited for.
        runtime.shutdown_background();
        exit
    }
}

/// Maps code that was made for the engine's configuration.
fn load(engine: &wasmtime::Engine, kind: WasmKind, code: &CompiledCode) -> Result<Code, RuntimeError> {
    // The open file is mapped, not its name: what was authenticated is what
    // runs, whatever happens to the path.
    let path = PathBuf::from(format!("/proc/self/fd/{}", code.file().as_raw_fd()));
    let failed = |e: wasmtime::Error| RuntimeError::Load(chain(&e));
    Ok(match kind {
        WasmKind::Component if !leads_to(&path, code.file()) => {
            // Where procfs isn't mounted the code is read instead of mapped.
            let bytes = read(code).map_err(|e| RuntimeError::Load(e.to_string()))?;
            // SAFETY: as below.
            #[allow(unsafe_code)]
            let component = unsafe { Component::deserialize(engine, &bytes) };
            Code::Component(component.map_err(failed)?)
        }
        WasmKind::Component => {
            // SAFETY: the bytes were written by `Engine::compile` on this
            // machine: the store checked an HMAC with its own key over the
            // file's identity, owner and mode, or re-hashed it, and opened
            // it read-only without following links. Broken by anyone who can read that key or
            // write files of this user: they could run code as this user anyway.
            #[allow(unsafe_code)]
            let component = unsafe { Component::deserialize_file(engine, &path) };
            Code::Component(component.map_err(failed)?)
        }
        WasmKind::CoreModule => {
            let file = code.file().try_clone();
            let file = file.map_err(|e| RuntimeError::Load(e.to_string()))?;
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let module = unsafe { Module::deserialize_open_file(engine, file) };
            Code::Module(module.map_err(failed)?)
        }
    })
}

/// Whether a path leads to an open file.
fn leads_to(path: &Path, file: &File) -> bool {
    let identity = |meta: Metadata| (meta.dev(), meta.ino());
    let there = fs::metadata(path).map(identity);
    there.is_ok_and(|there| file.metadata().map(identity).is_ok_and(|own| own == there))
}

/// All of the compiled code.
fn read(code: &CompiledCode) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(code.file().metadata()?.len()).map_err(io::Error::other)?];
    code.file().read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

impl Program {
    async fn run_component(
        &self,
        component: &Component,
        spec: &RunSpec,
        network: Network,
        phase_done: &mut dyn FnMut(Phase),
    ) -> Result<Ended, RuntimeError> {
        let mut linker = Linker::new(&self.engine);
        let linked = crate::link::link(&mut linker, component, spec).map_err(|e| RuntimeError::Host(chain(&e)))?;
        // Imports and entry point were checked when it was compiled.
        let unfit = |error| RuntimeError::Instantiate(chain(&error));
        let pre = linker.instantiate_pre(component).map_err(unfit)?;
        let concurrent = (Generation::Concurrent, "wasi:cli/run");
        let command = match self.generation {
            Generation::Concurrent if exports(component, concurrent) => {
                Command::Concurrent(p3::CommandPre::new(pre).map_err(unfit)?)
            }
            _ => Command::Blocking(p2::CommandPre::new(pre).map_err(unfit)?),
        };
        phase_done(Phase::Link);
        // Also if it ends before its entry point is called.
        let _end = spec.programs.end_guard();
        let budget = spec.limits.output.map(OutputBudget::new);
        let mut store = self.component_store(spec, Guest::Component, network, budget.clone(), linked)?;
        let returned = match command {
            Command::Blocking(command) => {
                let instance = command.instantiate_async(&mut store).await;
                phase_done(Phase::Instantiate);
                match instance {
                    Ok(command) => command.wasi_cli_run().call_run(&mut store).await,
                    Err(error) => return self.unstarted(error, &mut store, spec, budget.as_ref()),
                }
            }
            Command::Concurrent(command) => {
                let instance = command.instantiate_async(&mut store).await;
                phase_done(Phase::Instantiate);
                match instance {
                    Ok(command) => {
                        let run = async |store: &_| command.wasi_cli_run().call_run(store).await;
                        let ran = async { store.run_concurrent(run).await.and_then(|returned| returned) };
                        output::within(budget.as_ref(), ran).await
                    }
                    Err(error) => return self.unstarted(error, &mut store, spec, budget.as_ref()),
                }
            }
        };
        phase_done(Phase::Call);
        let exit = match returned {
            Ok(Ok(())) => Ok(Exit::Code(0)),
            Ok(Err(())) => Ok(Exit::Code(1)),
            Err(error) => Err(error),
        };
        let ended = self.ended(exit, &mut store, spec, budget.as_ref())?;
        if spec.last {
            std::mem::forget((store, linker));
        }
        Ok(ended)
    }

    async fn run_module(
        &self,
        module: &Module,
        spec: &RunSpec,
        phase_done: &mut dyn FnMut(Phase),
    ) -> Result<Ended, RuntimeError> {
        const ENTRY: &str = "_start";
        let mut watched = Watched::new(&spec.mounts);
        let mut linker = wasmtime::Linker::new(&self.engine);
        let wanted = Wanted {
            tracked: watched.any_sealed() || spec.limits.files.is_some(),
            backed: watched.any_backed() || watched.any_sealed(),
            quotas: spec.has_quota(),
            observed: spec.observer.is_some(),
        };
        let mut denials = Denials::new(&spec.mounts, spec.observer.as_ref());
        let host = |error| RuntimeError::Host(chain(&error));
        preview1::link(&mut linker, &wanted).map_err(host)?;
        let unfit = |error| RuntimeError::Instantiate(chain(&error));
        let linked = linker.instantiate_pre(module).map_err(unfit)?;
        // Looked up before any of its code runs.
        if module.get_export(ENTRY).is_none() {
            return Err(RuntimeError::Instantiate(format!("it exports no {ENTRY}")));
        }
        phase_done(Phase::Link);
        for (mount, descriptor) in (0..spec.mounts.len()).zip(preview1::FIRST_MOUNT..) {
            watched.opened_mount(mount, descriptor);
            denials.opened_mount(mount, descriptor);
        }
        let budget = spec.limits.output.map(OutputBudget::new);
        let mut wasi = context(spec, Guest::CoreModule, budget.clone())?.build_p1();
        let quotas = FileQuotas::new(&spec.mounts, &mut wasi).map_err(host)?;
        let state = ModuleState {
            wasi,
            watched,
            quotas,
            denials,
            files: Count::new(spec.limits.files),
            limits: Limits::new(spec.limits),
        };
        let mut store = self.store(state, spec)?;
        store.limiter(|state| &mut state.limits);
        let instance = linked.instantiate_async(&mut store).await;
        phase_done(Phase::Instantiate);
        let instance = match instance {
            Ok(instance) => instance,
            Err(error) => return self.unstarted(error, &mut store, spec, budget.as_ref()),
        };
        let start = instance
            .get_typed_func::<(), ()>(&mut store, ENTRY)
            .map_err(|e| RuntimeError::Instantiate(chain(&e)))?;
        let returned = start.call_async(&mut store, ()).await;
        phase_done(Phase::Call);
        let exit = returned.map(|()| Exit::Code(0));
        self.ended(exit, &mut store, spec, budget.as_ref())
    }

    /// A store, with its fuel, and with its profiler if it has one.
    pub(crate) fn store<S: 'static>(&self, state: S, spec: &RunSpec) -> Result<Store<S>, RuntimeError> {
        let mut store = Store::new(&self.engine, state);
        store.set_hostcall_fuel(CALL_BYTES);
        self.refuel(&mut store, spec)?;
        if let Some(profiler) = &spec.debugging.profiler {
            profiler.attach(&mut store, spec.debugging.source.as_ref())?;
        }
        Ok(store)
    }

    /// Adds the fuel of a call to a store, if its code counts fuel.
    pub(crate) fn refuel<S: 'static>(&self, store: &mut Store<S>, spec: &RunSpec) -> Result<(), RuntimeError> {
        match self.kind.metered {
            true => store.set_fuel(fuel(spec)).map_err(|e| RuntimeError::Host(chain(&e))),
            false => Ok(()),
        }
    }

    /// The end of a run, with what the guest has used. `error` is what its call returned.
    fn ended<S: HasLimits + 'static>(
        &self,
        exit: wasmtime::Result<Exit>,
        store: &mut Store<S>,
        spec: &RunSpec,
        budget: Option<&OutputBudget>,
    ) -> Result<Ended, RuntimeError> {
        let left = self.kind.metered.then(|| store.get_fuel().unwrap_or_default());
        let (exit, core_dump) = match exit {
            Ok(exit) => (exit, None),
            Err(error) => {
                let exit = trap::end(&error, store.data().limits(), spec.debugging.source.as_deref())?;
                let core_dump = match exit {
                    Exit::Trap(_) | Exit::Limit(..) if spec.debugging.core_dump => {
                        core_dump::of(&error, store, spec.args.first().map_or("", String::as_str))?
                    }
                    _ => None,
                };
                (exit, core_dump)
            }
        };
        Ok(Ended {
            exit,
            fuel: left.map(|left| fuel(spec).saturating_sub(left)),
            memory: store.data().limits().used(),
            output: budget.map(OutputBudget::written),
            core_dump,
        })
    }

    /// The end of a guest that could not be instantiated. It may run code of its own then,
    /// and exit or trap in it.
    fn unstarted<S: HasLimits + 'static>(
        &self,
        error: wasmtime::Error,
        store: &mut Store<S>,
        spec: &RunSpec,
        budget: Option<&OutputBudget>,
    ) -> Result<Ended, RuntimeError> {
        if trap::ended(&error, store.data().limits(), None).is_some() {
            return self.ended(Err(error), store, spec, budget);
        }
        match store.data().limits().reached() {
            Some(limit) => self.ended(Ok(Exit::Limit(limit, String::new())), store, spec, budget),
            None => Err(RuntimeError::Instantiate(chain(&error))),
        }
    }
}

/// The state of a guest of either kind.
trait HasLimits {
    fn limits(&self) -> &Limits;
}

impl HasLimits for ComponentState {
    fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl HasLimits for ModuleState {
    fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// A guest's initial fuel.
fn fuel(spec: &RunSpec) -> u64 {
    spec.limits.fuel.unwrap_or(u64::MAX)
}

/// The entry point of a component.
enum Command {
    Blocking(p2::CommandPre<ComponentState>),
    Concurrent(p3::CommandPre<ComponentState>),
}
