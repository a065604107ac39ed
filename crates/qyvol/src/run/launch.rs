//! The guest and all that it is given: arguments, environment, mounts, limits.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use qyvol_runtime::{Exit, Mount, Program, RunSpec, RuntimeError};
use qyvol_store::{LocalStore, RunLock};
use qyvol_types::{AppManifest, Digest, FsAccess, FsKind};

use super::judge::Judged;
use super::prepare::Prepared;
use super::{Outcome, RunRequest};
use crate::memfs::MemFs;
use crate::{Context, Error};

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
        check_grants(&label, app, request)?;
        let memory = memory(ctx, &label, app)?;
        let mut mounts = Vec::new();
        mounts.extend(root(ctx, &judged, memory.as_ref())?);
        mounts.extend(assets.map(|tree| crate::assets::mount(tree, &app.assets_root)));
        for dir in &request.dirs {
            let mode = if dir.writable { "read and write" } else { "read" };
            request
                .events
                .granted(&format!("{} as {} ({mode})", dir.host.display(), dir.guest));
            mounts.push(Mount {
                host: dir.host.clone(),
                guest: dir.guest.clone(),
                writable: dir.writable,
                seal: None,
            });
        }
        let spec = RunSpec {
            args: arguments(app, &request.args),
            env: environment(app, &request.env),
            mounts,
            net: app.permissions.net,
            memory_limit: app.resources.memory,
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
            memory,
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
            self.store.reject_tree(&assets, &format!("{path}: {why}"));
            ctx.tell_notices(&self.store);
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
fn check_grants(label: &str, app: &AppManifest, request: &RunRequest<'_>) -> Result<(), Error> {
    if request.dirs.is_empty() || app.permissions.fs == FsAccess::Full {
        return Ok(());
    }
    Err(Error::NotPermitted {
        target: label.to_string(),
        why: "its manifest does not have `fs: full`, without which no directory of the host can be granted".to_string(),
    })
}

/// The file system in memory, if the application has one.
fn memory(ctx: &Context<'_>, label: &str, app: &AppManifest) -> Result<Option<MemFs>, Error> {
    if app.permissions.fs == FsAccess::None || app.fs.kind != FsKind::Memfs {
        return Ok(None);
    }
    match &ctx.home.memory {
        Some(memory) => Ok(Some(MemFs::create(memory)?)),
        None => Err(Error::NotPermitted {
            target: label.to_string(),
            why: "its file system is memfs, and this host has no file system in memory at /dev/shm".to_string(),
        }),
    }
}

/// The guest's `/`, if it has one.
fn root(ctx: &Context<'_>, judged: &Judged, memory: Option<&MemFs>) -> Result<Option<Mount>, Error> {
    let app = &judged.trusted.config.qyv.app;
    if app.permissions.fs == FsAccess::None {
        return Ok(None);
    }
    let host = match memory {
        Some(memory) => memory.root().to_path_buf(),
        None => crate::data::directory(ctx, &judged.trusted.data)?,
    };
    Ok(Some(Mount {
        host,
        guest: "/".to_string(),
        writable: matches!(app.permissions.fs, FsAccess::Write | FsAccess::Full),
        seal: None,
    }))
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
