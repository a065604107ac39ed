//! The guest and everything that it is granted: arguments, environment, mounts, limits.

use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use qyvol_runtime::{Debugging, Ended, Exit, Phase, Program, Programs, RunLimits, RunSpec, RuntimeError};
use qyvol_store::{LocalStore, RunLock};
use qyvol_types::{AppManifest, Digest};
use rustix::time::ClockId;

use super::prepare::Prepared;
use super::{Outcome, RunEvents, RunFigures, RunRequest, grant};
use crate::memfs::MemFs;
use crate::mounts::{Mounts, Wanted};
use crate::netfs::{self, Mounted};
use crate::{Context, Error};

/// A program with everything that it runs with.
pub(crate) struct Launch {
    pub(crate) label: String,
    pub(crate) program: Program,
    pub(crate) spec: RunSpec,
    pub(crate) time: TimeLimits,
    pub(crate) held: Held,
}

/// What is held while guests run.
pub(crate) struct Held {
    memory: Vec<MemFs>,
    remote: Option<Mounted>,
    /// The directories that the mounts' paths lead to.
    directories: Vec<OwnedFd>,
    store: LocalStore,
    assets: Option<Digest>,
    lock: RunLock,
}

impl Launch {
    /// Grants what the manifest and the operator allow, and nothing else.
    pub(crate) fn new(ctx: &Context<'_>, prepared: Prepared, request: &RunRequest<'_>) -> Result<Launch, Error> {
        let Prepared {
            mut judged,
            program,
            assets,
            limits,
            source,
        } = prepared;
        let label = judged.label();
        let app = &judged.trusted.config.qyv.app;
        let ceiling = &judged.trusted.ceiling;
        grant::check_deterministic(&label, app, request)?;
        let grant = grant::decide(&label, &judged.capabilities, ceiling, request)?;
        let limits = grant::with_data(limits, app, &grant.fs);
        let data = || crate::data::directory(ctx, &judged.trusted.data);
        // Directories on the way to the assets may be the server's, so a longer path is not
        // in listings.
        let name = app.assets_root.trim_start_matches('/');
        let covered = (assets.is_some() && !name.is_empty() && !name.contains('/')).then_some(name);
        let wanted = Wanted {
            app,
            access: &grant.fs,
            limits: &limits,
            tree: assets,
            dirs: &request.dirs,
        };
        let remote = |memory: &MemFs| {
            let parts = netfs::Parts {
                app,
                writable: grant.fs.is_writable(),
                credentials: request.fs_credentials.clone(),
                net: grant::fs_net(ceiling, request),
                observer: request.observer.clone(),
                now: UNIX_EPOCH + Duration::from_secs(ctx.now.unix()),
                cache: app.fs.cache.then(data).transpose()?,
                bytes: limits.storage.unwrap_or(netfs::DEFAULT_BYTES),
                covered,
            };
            Mounted::new(parts, memory)
        };
        let mounts = Mounts::new(ctx, wanted, data, remote)?;
        request.events.loaded(judged.image()?, app, &label);
        let in_force = grant::in_force(limits, app, &grant.fs);
        request.events.started(app, &grant, &in_force, &request.dirs);
        let spec = RunSpec {
            args: arguments(app, &request.args),
            env: environment(app, &request.env),
            mounts: mounts.list,
            net: grant.net,
            stdio: grant.stdio,
            programs: Programs::new(grant.exec),
            observer: request.observer.clone(),
            figures: None,
            caller: Arc::new(request.caller.clone()),
            limits: RunLimits {
                memory: in_force.memory,
                fuel: limits.fuel,
                output: limits.output.or(request.measured.then_some(u64::MAX)),
                files: limits.files,
                sockets: limits.sockets,
            },
            deterministic: request.overrides.deterministic,
            debugging: Debugging {
                profiler: request.debugging.profiler.clone(),
                core_dump: request.debugging.core_dump,
                source,
            },
            last: request.last,
        };
        let time = TimeLimits {
            wall: limits.timeout.map(Duration::from_millis),
            cpu: limits.cpu.map(Duration::from_millis),
        };
        judged.trusted.remember(&judged.store, &label)?;
        Ok(Launch {
            time,
            label,
            program,
            spec,
            held: Held {
                memory: mounts.memory,
                remote: mounts.remote,
                directories: mounts.directories,
                assets: judged.manifest().layers().get(1).map(|layer| layer.digest),
                store: judged.store,
                lock: judged.lock,
            },
        })
    }

    /// Runs the guest to its end.
    pub(crate) fn run(self, ctx: &Context<'_>, events: &dyn RunEvents) -> Result<Outcome, Error> {
        let programs = self.spec.programs.clone();
        let (ended, mut figures) = match within(self.time, self.program, self.spec) {
            Ok(measured) => measured,
            Err(over) => {
                programs.end();
                self.held.leave(ctx);
                return Ok(over);
            }
        };
        let unsent = self.held.finish(ctx, ended.as_ref().err());
        let ended = ended.map_err(Error::runtime(&self.label))?;
        figures.memory = ended.memory;
        figures.output = ended.output;
        figures.fuel = ended.fuel;
        events.ended(&figures);
        if let Some(bytes) = ended.core_dump {
            events.core_dump(bytes);
        }
        if let Some(why) = unsent {
            return Err(Error::Unsent {
                target: self.label,
                why,
            });
        }
        match ended.exit {
            Exit::Code(code) => Ok(Outcome::Code(code)),
            Exit::Trap(why) => Ok(Outcome::Trap(why)),
            Exit::Limit(limit, why) => Ok(Outcome::Limit(limit, why)),
            _ => Err(Error::malformed(&self.label)(
                "it ended in a way this version does not know",
            )),
        }
    }
}

impl Held {
    /// Keeps everything for a guest whose thread still runs, until the process ends.
    fn leave(self, ctx: &Context<'_>) {
        self.memory.into_iter().for_each(MemFs::leave);
        std::mem::forget((self.lock, self.directories));
        report_notices(ctx, self.remote.as_ref());
    }

    /// Ends it, once no guest runs any more. Assets that `failure` says are not what was
    /// signed are unpacked again by the next run. Returns what could not be sent to a
    /// netfs.
    pub(crate) fn finish(self, ctx: &Context<'_>, failure: Option<&RuntimeError>) -> Option<String> {
        let unsent = self.remote.as_ref().and_then(Mounted::finish);
        report_notices(ctx, self.remote.as_ref());
        drop(self.remote);
        for memory in self.memory {
            if let Err(error) = memory.close() {
                ctx.report.warned(&error.to_string());
            }
        }
        drop(self.directories);
        drop(self.lock);
        if let (Some(RuntimeError::Sealed { path, why }), Some(assets)) = (failure, self.assets) {
            self.store.quarantine_tree(&assets, &format!("{path}: {why}"));
            ctx.report_notices(&self.store);
        }
        unsent
    }
}

/// Reports the notices of a netfs.
fn report_notices(ctx: &Context<'_>, remote: Option<&Mounted>) {
    for notice in remote.map(Mounted::take_notices).unwrap_or_default() {
        ctx.report.warned(&notice);
    }
}

/// The program's name, the manifest's arguments, the user's.
fn arguments(app: &AppManifest, user: &[String]) -> Vec<String> {
    let name = app.name.rsplit('/').next().unwrap_or(&app.name);
    std::iter::once(app.argv0.clone().unwrap_or_else(|| name.to_string()))
        .chain(app.args.iter().cloned())
        .chain(user.iter().cloned())
        .collect()
}

fn environment(app: &AppManifest, operator: &[(String, String)]) -> Vec<(String, String)> {
    let mut env = app.env.clone();
    env.extend(operator.iter().cloned());
    env.into_iter().collect()
}

/// How long a guest may run.
#[derive(Clone, Copy)]
pub(crate) struct TimeLimits {
    /// Elapsed time, including time spent waiting.
    pub(crate) wall: Option<Duration>,
    /// Processor time.
    pub(crate) cpu: Option<Duration>,
}

/// How a guest ended, and how long it took.
type Measured = (Result<Ended, RuntimeError>, RunFigures);

/// Runs the guest on a thread of its own for as long as its limits allow. If time runs
/// out, the thread is left running, because the command exits then.
fn within(limits: TimeLimits, program: Program, spec: RunSpec) -> Result<Measured, Outcome> {
    if limits.wall.is_none() && limits.cpu.is_none() {
        return Ok(measure(program, spec));
    }
    let (send, receive) = mpsc::sync_channel(1);
    let (started, cpu_before) = (Instant::now(), cpu_time(ClockId::ProcessCPUTime));
    thread::spawn(move || {
        // Nobody receives this once time has run out.
        let _ = send.send(measure(program, spec));
    });
    loop {
        let wall_left = limits.wall.map(|limit| limit.saturating_sub(started.elapsed()));
        // A guest has one thread, so its processor time can't grow faster than the clock.
        let cpu_left = limits
            .cpu
            .map(|limit| limit.saturating_sub(cpu_time(ClockId::ProcessCPUTime).saturating_sub(cpu_before)));
        match (limits.wall, limits.cpu) {
            (Some(limit), _) if wall_left == Some(Duration::ZERO) => return Err(Outcome::TimedOut(limit)),
            (_, Some(limit)) if cpu_left == Some(Duration::ZERO) => return Err(Outcome::OutOfCpuTime(limit)),
            _ => {}
        }
        let left = wall_left.into_iter().chain(cpu_left).min().unwrap_or_default();
        match receive.recv_timeout(left) {
            Ok(ended) => return Ok(ended),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let why = "its thread ended without a result".to_string();
                return Ok((Err(RuntimeError::Host(why)), RunFigures::default()));
            }
        }
    }
}

/// Runs the guest on this thread.
fn measure(program: Program, spec: RunSpec) -> Measured {
    let mut figures = RunFigures::default();
    let cpu_before = cpu_time(ClockId::ThreadCPUTime);
    let mut last = Instant::now();
    let ended = program.run_with_phases(spec, &mut |phase| {
        let now = Instant::now();
        let took = match phase {
            Phase::Link => &mut figures.link,
            Phase::Instantiate => &mut figures.instantiate,
            Phase::Call => &mut figures.execute,
            _ => return,
        };
        *took = now - last;
        last = now;
    });
    figures.cpu = cpu_time(ClockId::ThreadCPUTime).saturating_sub(cpu_before);
    (ended, figures)
}

/// Processor time of this process, or of this thread.
fn cpu_time(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
