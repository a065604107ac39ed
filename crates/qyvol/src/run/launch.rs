//! The guest and all that it is given: arguments, environment, mounts, limits.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use qyvol_runtime::{Exit, Program, RunSpec, RuntimeError};
use qyvol_sandbox::FsAccess;
use qyvol_store::{LocalStore, RunLock};
use qyvol_types::{AppManifest, Digest};

use super::prepare::Prepared;
use super::{Outcome, RunRequest};
use crate::memfs::MemFs;
use crate::mounts::Mounts;
use crate::{Context, Error};

/// Bytes of linear memory, unless the manifest says otherwise.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// A program with everything that it runs with.
pub(super) struct Launch {
    label: String,
    program: Program,
    spec: RunSpec,
    timeout: Option<Duration>,
    memory: Option<MemFs>,
    store: LocalStore,
    assets: Option<Digest>,
    lock: RunLock,
}

impl Launch {
    /// Grants what the manifest and the operator say, and nothing else.
    pub(super) fn new(ctx: &Context<'_>, prepared: Prepared, request: &RunRequest<'_>) -> Result<Launch, Error> {
        let Prepared {
            mut judged,
            program,
            assets,
        } = prepared;
        let label = judged.label();
        let app = &judged.trusted.config.qyv.app;
        check_grants(&label, judged.capabilities.fs, request)?;
        for dir in &request.dirs {
            let mode = if dir.writable { "read and write" } else { "read" };
            request
                .events
                .granted(&format!("{} as {} ({mode})", dir.host.display(), dir.guest));
        }
        let data = || crate::data::directory(ctx, &judged.trusted.data);
        let mounts = Mounts::new(ctx, app, judged.capabilities.fs, data, assets, &request.dirs)?;
        let spec = RunSpec {
            args: arguments(app, &request.args),
            env: environment(app, &request.env),
            mounts: mounts.list,
            net: judged.capabilities.net.0,
            memory_limit: Some(app.resources.memory.unwrap_or(DEFAULT_MEMORY)),
            last: request.last,
        };
        request.events.loaded(judged.image()?, app, &label);
        let timeout = app.resources.timeout.map(Duration::from_millis);
        judged.trusted.remember(&judged.store, &label)?;
        Ok(Launch {
            timeout,
            label,
            program,
            spec,
            memory: mounts.memory,
            assets: judged.manifest().layers().get(1).map(|layer| layer.digest),
            store: judged.store,
            lock: judged.lock,
        })
    }

    /// Runs the guest to its end.
    pub(super) fn run(self, ctx: &Context<'_>) -> Result<Outcome, Error> {
        let exit = match self.timeout {
            None => self.program.run(self.spec),
            Some(limit) => match with_timeout(self.program, self.spec, limit) {
                Some(exit) => exit,
                None => {
                    // The guest's thread still runs, until the process ends.
                    if let Some(memory) = self.memory {
                        memory.leave();
                    }
                    std::mem::forget(self.lock);
                    return Ok(Outcome::TimedOut(limit));
                }
            },
        };
        if let Some(Err(error)) = self.memory.map(MemFs::close) {
            ctx.report.warned(&error.to_string());
        }
        drop(self.lock);
        if let (Err(RuntimeError::Sealed { path, why }), Some(assets)) = (&exit, self.assets) {
            // The next run unpacks it again.
            self.store.quarantine_tree(&assets, &format!("{path}: {why}"));
            ctx.report_notices(&self.store);
        }
        match exit.map_err(Error::runtime(&self.label))? {
            Exit::Code(code) => Ok(Outcome::Code(code)),
            Exit::Trap(why) => Ok(Outcome::Trap(why)),
            _ => Err(Error::malformed(&self.label)(
                "it ended in a way this version does not know",
            )),
        }
    }
}

/// Refuses grants that the manifest does not allow.
fn check_grants(label: &str, access: FsAccess, request: &RunRequest<'_>) -> Result<(), Error> {
    if request.dirs.is_empty() || access == FsAccess::Full {
        return Ok(());
    }
    Err(Error::NotPermitted {
        target: label.to_string(),
        why: "its manifest does not have `fs: full`, without which no directory of the host can be granted".to_string(),
    })
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

/// Runs the guest on a thread of its own for at most `limit`. The thread is
/// left behind when time is over: the command exits.
fn with_timeout(program: Program, spec: RunSpec, limit: Duration) -> Option<Result<Exit, RuntimeError>> {
    let (send, receive) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody listens once time is over.
        let _ = send.send(program.run(spec));
    });
    receive.recv_timeout(limit).ok()
}
