//! Everything that a guest is given, and the WASI context that is made of it.

use std::path::PathBuf;
use std::sync::Arc;

use qyvol_sandbox::{Net, Observer, Stdio};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::error::chain;
use crate::limits::RunLimits;
use crate::lines::Lines;
use crate::output::{Bounded, OutputBudget};
use crate::printer::Printer;
use crate::process::Programs;
use crate::sealed::Seal;
use crate::{Backing, GuestFigures, Identity, Profiler, Quota, RuntimeError, deterministic};

/// Everything that a guest is given.
#[derive(Clone, Debug, Default)]
pub struct RunSpec {
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub mounts: Vec<Mount>,
    /// The network: what every one of these allows.
    pub net: Vec<Net>,
    /// Which of this process's streams it has.
    pub stdio: Stdio,
    /// Host programs that it may start.
    pub programs: Programs,
    /// Receives reports of what the guest uses and what it is denied.
    pub observer: Option<Arc<dyn Observer>>,
    /// Counts what concurrent guests use.
    pub figures: Option<Arc<GuestFigures>>,
    /// Who has called it.
    pub caller: Arc<Identity>,
    /// Limits.
    pub limits: RunLimits,
    /// The seed of a deterministic run: clocks and random numbers are the same in every
    /// run with it. Needs a metered engine.
    pub deterministic: Option<u64>,
    /// How it is debugged.
    pub debugging: Debugging,
    /// Whether the process exits after this run. Its memory is then left to the
    /// system, which frees it at once, instead of being freed piece by piece.
    pub last: bool,
}

impl RunSpec {
    /// Whether a mount has a quota.
    pub(crate) fn has_quota(&self) -> bool {
        self.mounts.iter().any(|mount| mount.quota.is_some())
    }
}

/// How a run is debugged. Each way needs an engine whose code contains enough
/// ([`crate::Details`]).
#[derive(Clone, Debug, Default)]
pub struct Debugging {
    /// Takes samples of it.
    pub profiler: Option<Arc<Profiler>>,
    /// Whether a trap leaves a core dump.
    pub core_dump: bool,
    /// The component's bytes, to read from them which files and lines a profile or a trap
    /// is about.
    pub source: Option<Arc<[u8]>>,
}

/// A directory of the host that the guest sees.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The directory.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
    /// Whether the guest may write there.
    pub writable: bool,
    /// Its directory within its seal and backing: a path, empty for the root.
    pub path: String,
    /// What verifies its content.
    pub seal: Option<Arc<dyn Seal>>,
    /// What fills it.
    pub backing: Option<Arc<dyn Backing>>,
    /// What bounds its content. The guest can't move or link anything between mounts that
    /// don't share a quota.
    pub quota: Option<Arc<Quota>>,
}

/// How the guest of a context runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guest {
    /// A component, alone on its thread.
    Component,
    /// A core module, alone on its thread.
    CoreModule,
    /// A component that answers one request, concurrently with others.
    Request,
    /// A component of which one function is called, concurrently with others. Stdout is for
    /// what the function returns: what it prints goes to stderr.
    Call,
    /// A component of which one function runs as a process.
    Process,
}

impl Guest {
    fn is_concurrent(self) -> bool {
        matches!(self, Guest::Request | Guest::Call | Guest::Process)
    }
}

/// Random bytes that one call may give a concurrent guest.
const RANDOM: u64 = 1 << 20;

/// Makes the WASI context. `budget` is how much may be written to stdout and stderr.
pub(crate) fn context(
    spec: &RunSpec,
    guest: Guest,
    budget: Option<OutputBudget>,
) -> Result<WasiCtxBuilder, RuntimeError> {
    let mut builder = WasiCtxBuilder::new();
    if let Some(seed) = spec.deterministic {
        deterministic::give(&mut builder, seed);
    }
    if guest.is_concurrent() {
        // A call for many bytes would keep other guests waiting.
        builder.max_random_size(RANDOM);
    }
    match spec.deterministic {
        // Requests would take parts of it from one another.
        _ if !spec.stdio.stdin || guest.is_concurrent() => &mut builder,
        Some(_) => builder.stdin(deterministic::stdin()?),
        None => builder.inherit_stdin(),
    };
    let shows_terminal = spec.deterministic.is_none() && !guest.is_concurrent();
    let budget = budget.or_else(|| (!shows_terminal).then(|| OutputBudget::new(u64::MAX)));
    match budget.clone() {
        _ if !spec.stdio.stdout => &mut builder,
        Some(budget) if matches!(guest, Guest::Request | Guest::Process) => builder.stdout(Bounded {
            stream: Lines::new(Printer::stdout()),
            budget,
            shows_terminal,
        }),
        Some(budget) if guest == Guest::Call => builder.stdout(Bounded {
            stream: Lines::new(Printer::stderr()),
            budget,
            shows_terminal,
        }),
        None => builder.inherit_stdout(),
        Some(budget) => builder.stdout(Bounded {
            stream: wasmtime_wasi::cli::stdout(),
            budget,
            shows_terminal,
        }),
    };
    match budget {
        _ if !spec.stdio.stderr => &mut builder,
        Some(budget) if guest.is_concurrent() => builder.stderr(Bounded {
            stream: Lines::new(Printer::stderr()),
            budget,
            shows_terminal,
        }),
        None => builder.inherit_stderr(),
        Some(budget) => builder.stderr(Bounded {
            stream: wasmtime_wasi::cli::stderr(),
            budget,
            shows_terminal,
        }),
    };
    builder
        .args(&spec.args)
        .envs(&spec.env)
        .allow_blocking_current_thread(match guest {
            Guest::Component => true,
            // If it sleeps, it would block this thread, and the clock would stand still.
            Guest::CoreModule => spec.deterministic.is_none(),
            // Other guests use its thread too.
            Guest::Request | Guest::Call | Guest::Process => false,
        });
    for mount in &spec.mounts {
        // A subdirectory is opened here, and not by a call of the guest.
        if let Some(seal) = mount.seal.as_ref().filter(|_| !mount.path.is_empty()) {
            seal.check(&mount.path).map_err(|why| RuntimeError::Sealed {
                path: mount.guest.clone(),
                why,
            })?;
        }
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
    Ok(builder)
}
