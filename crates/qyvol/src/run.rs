//! `run`: head → policy and signatures → config → blobs into the store →
//! assets unpacked → compiled code made or mapped → guest.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use qyvol_image::{BuildOptions, HeadImage, ImageBuilder};
use qyvol_remote::Client;
use qyvol_runtime::{Engine, Exit, Kind, Mount, Program, RunSpec, RuntimeError};
use qyvol_store::{Fetch, LocalStore, RunLock, Tree};
use qyvol_trust::{TrustPolicy, Verified};
use qyvol_types::{AppManifest, AppType, FsAccess, FsKind, Os, Timestamp, limits};

use crate::image_source::{Source, Target, read_image};
use crate::install::install;
use crate::memfs::MemFs;
use crate::output::private_folder;
use crate::verify::{TrustedImage, bind, judge, policy_or_key};
use crate::{Context, Error, PullRequest, validate};

/// A folder of the host that the operator grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The folder.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
    /// Whether the guest may write there.
    pub writable: bool,
}

/// What to run.
pub struct RunRequest<'a> {
    /// An archive, a stored image, or a manifest under development.
    pub target: &'a Target,
    /// The user's arguments, after the manifest's.
    pub args: Vec<String>,
    /// Environment that the operator sets, over the manifest's.
    pub env: Vec<(String, String)>,
    /// Folders that the operator grants.
    pub dirs: Vec<DirGrant>,
    /// A public key to trust instead of the policy.
    pub key: Option<&'a Path>,
    /// Whether an image is fetched from the registry that its name has in it.
    pub pull: Pull<'a>,
    /// Whether the process ends with this run.
    pub last: bool,
    /// Is told what is loaded.
    pub events: &'a dyn RunEvents,
}

/// When a registry is asked for an image. The client is made only then: a run
/// of what is there opens no connection.
#[derive(Clone, Copy)]
pub enum Pull<'a> {
    /// Never: only what is in the store is run.
    Never,
    /// Where the store doesn't have the name.
    Missing(&'a dyn Fn() -> Result<Arc<Client>, Error>),
    /// On every run.
    Always(&'a dyn Fn() -> Result<Arc<Client>, Error>),
}

/// Is told of the steps of a run, for `-v`.
pub trait RunEvents {
    /// A step took so long.
    fn step(&self, what: &str, took: Duration) {
        let _ = (what, took);
    }
    /// The guest is about to start.
    fn loaded(&self, image: &HeadImage, app: &AppManifest, path: &str) {
        let _ = (image, app, path);
    }
    /// An unsigned manifest under development is run.
    fn unsigned(&self, reason: &str) {
        let _ = reason;
    }
    /// The operator's grant that widens what was signed.
    fn granted(&self, what: &str) {
        let _ = what;
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the guest's exit code.
    Code(i32),
    /// The guest trapped.
    Trap(String),
    /// Its time was over.
    TimedOut(Duration),
}

struct Clock<'a> {
    events: &'a dyn RunEvents,
    last: Instant,
}

impl Clock<'_> {
    fn step(&mut self, what: &str) {
        let now = Instant::now();
        self.events.step(what, now - self.last);
        self.last = now;
    }
}

/// Runs a target to its end.
pub fn run(ctx: &Context<'_>, request: &RunRequest<'_>) -> Result<Outcome, Error> {
    let mut clock = Clock {
        events: request.events,
        last: Instant::now(),
    };
    let (source, trusted, mut lock) = match request.target {
        Target::Manifest(path) => develop(ctx, path, request.events)?,
        Target::Wasm(path) => {
            return Err(Error::Usage(format!(
                "{} has no manifest: write a .qyv beside it and run that",
                path.display()
            )));
        }
        target => {
            let policy = policy_or_key(ctx, request.key)?;
            let source = open(ctx, target, &request.pull, &policy)?;
            let trusted = judge(ctx, &policy, &source, source.single()?)?;
            (source, trusted, None)
        }
    };
    clock.step("verify");
    let label = source.label();
    let image = source.single()?;
    let app = &trusted.config.qyv.app;
    let memory = check_permitted(ctx, &label, app, request)?;
    let store = ctx.store()?;
    // From here on no prune takes the image away.
    if lock.is_none() {
        lock = Some(store.running(&image.manifest.digest())?);
    }
    let engine = Engine::new().map_err(Error::runtime(&label))?;
    let layers = trusted.manifest.layers();
    let (Some(component), assets) = (layers.first(), layers.get(1)) else {
        return Err(Error::malformed(&label)("its manifest has no layer"));
    };
    let mut code = store.code(engine.id(), &component.digest)?;
    let mut tree = match assets {
        Some(assets) => store.tree(&assets.digest)?,
        None => None,
    };
    ctx.tell_notices(&store);
    clock.step("look up");
    if code.is_none() || (assets.is_some() && tree.is_none()) {
        prepare(
            ctx,
            &source,
            &store,
            &trusted,
            &engine,
            (&mut code, &mut tree),
            &mut clock,
        )?;
    }
    let code = code.ok_or_else(|| Error::malformed(&label)("there is no code to run"))?;
    let kind = match trusted.config.os {
        Os::Wasip2 => Kind::Component,
        Os::Wasip1 => Kind::CoreModule,
    };
    let program = Program::load(&engine, component, kind, code).map_err(Error::runtime(&label))?;
    clock.step("load");
    let mut spec = RunSpec {
        args: arguments(app, &request.args),
        env: environment(app, &request.env),
        mounts: Vec::new(),
        net: app.permissions.net,
        memory_limit: app.resources.memory,
        last: request.last,
    };
    mount(ctx, &source, app, request, memory.as_ref(), tree, &mut spec)?;
    request.events.loaded(image, app, &label);
    let exit = match app.resources.timeout {
        None => program.run(spec),
        Some(millis) => match with_timeout(program, spec, Duration::from_millis(millis)) {
            Some(exit) => exit,
            None => {
                // The guest's thread still runs, until the process ends.
                if let Some(memory) = memory {
                    memory.leave();
                }
                std::mem::forget(lock);
                return Ok(Outcome::TimedOut(Duration::from_millis(millis)));
            }
        },
    };
    clock.step("run");
    if let Some(Err(error)) = memory.map(MemFs::close) {
        ctx.report.warned(&error.to_string());
    }
    drop(lock);
    if let (Err(RuntimeError::Sealed { path, why }), Some(assets)) = (&exit, assets) {
        // The next run unpacks it again.
        store.reject_tree(&assets.digest, &format!("{path}: {why}"));
        ctx.tell_notices(&store);
    }
    match exit.map_err(Error::runtime(&label))? {
        Exit::Code(code) => Ok(Outcome::Code(code)),
        Exit::Trap(why) => Ok(Outcome::Trap(why)),
        _ => Err(Error::malformed(&label)("it ended in a way this version does not know")),
    }
}

/// Opens a target, fetching it before if that is asked for. What trust refuses
/// is not fetched.
fn open(ctx: &Context<'_>, target: &Target, pull: &Pull<'_>, policy: &TrustPolicy) -> Result<Source, Error> {
    let Target::Reference(name) = target else {
        return Source::open(ctx, target);
    };
    let fetch = |client: &dyn Fn() -> Result<Arc<Client>, Error>| {
        let request = PullRequest {
            name,
            output: None,
            policy: Some(policy),
            dry_run: false,
        };
        crate::pull(ctx, &client()?, &request)
    };
    match pull {
        Pull::Always(client) if name.registry().is_some() => {
            fetch(client)?;
            Source::open(ctx, target)
        }
        Pull::Missing(client) if name.registry().is_some() => match Source::open(ctx, target) {
            Err(Error::NoImage { .. }) => {
                fetch(client)?;
                Source::open(ctx, target)
            }
            opened => opened,
        },
        _ => Source::open(ctx, target),
    }
}

/// Builds a manifest under development into the store, untagged, and trusts it
/// because the user named the source itself.
fn develop(
    ctx: &Context<'_>,
    path: &Path,
    events: &dyn RunEvents,
) -> Result<(Source, TrustedImage, Option<RunLock>), Error> {
    let reason = "it is a manifest under development";
    events.unsigned(reason);
    let manifest = validate(path)?;
    let label = path.to_string_lossy().into_owned();
    let options = BuildOptions {
        created: Timestamp::EPOCH,
        componentize: false,
        skip: manifest.path.canonicalize().into_iter().collect(),
    };
    let builder = ImageBuilder::read(manifest.app, &manifest.folder, &options).map_err(Error::image(&label))?;
    let store = ctx.store()?;
    let mut stage = store.begin()?;
    let built = builder.write(&mut stage, ctx.report).map_err(Error::image(&label))?;
    crate::install::stage_small(&mut stage, &built.image)?;
    // No name leads to it: only the lock keeps a prune from taking it.
    let lock = store.running(&built.descriptor.digest)?;
    stage.commit()?;
    let image = read_image(ctx, &store, &built.image.name, &built.descriptor)?;
    let trusted = bind(&label, Verified::dangerously_trust(built.descriptor, reason), &image)?;
    let name = built.image.name;
    Ok((
        Source::Stored {
            store,
            name,
            image: Box::new(image),
        },
        trusted,
        Some(lock),
    ))
}

/// Refuses what this host or version would not enforce or can't give, before
/// anything is unpacked. Makes the file system in memory, if one is needed.
fn check_permitted(
    ctx: &Context<'_>,
    label: &str,
    app: &AppManifest,
    request: &RunRequest<'_>,
) -> Result<Option<MemFs>, Error> {
    let refuse = |why: &str| {
        Err(Error::NotPermitted {
            target: label.to_string(),
            why: why.to_string(),
        })
    };
    if app.permissions.exec {
        return refuse("its manifest asks for `exec`, which this version does not give");
    }
    if app.permissions.gfx || app.app_type == AppType::Gui {
        return refuse("it is a graphical application, which this version can't run");
    }
    if app.app_type == AppType::Function {
        return refuse("it is a set of functions to call, not a program to run");
    }
    if !request.dirs.is_empty() && app.permissions.fs != FsAccess::Full {
        return refuse("its manifest does not have `fs: full`, without which no folder of the host can be granted");
    }
    if app.permissions.fs == FsAccess::None {
        return Ok(None);
    }
    match app.fs.kind {
        FsKind::Netfs => refuse("its file system is netfs, which this version can't mount"),
        FsKind::Diskfs => Ok(None),
        FsKind::Memfs => match &ctx.home.memory {
            Some(memory) => Ok(Some(MemFs::create(memory)?)),
            None => refuse("its file system is memfs, and this host has no file system in memory at /dev/shm"),
        },
    }
}

/// Makes what is not there yet: blobs, then compiled code and unpacked assets.
fn prepare(
    ctx: &Context<'_>,
    source: &Source,
    store: &LocalStore,
    trusted: &TrustedImage,
    engine: &Engine,
    (code, tree): (&mut Option<File>, &mut Option<Tree>),
    clock: &mut Clock<'_>,
) -> Result<(), Error> {
    let label = source.label();
    let layers = trusted.manifest.layers();
    let component = layers.first().filter(|_| code.is_none());
    let compile = || -> Result<Option<Vec<u8>>, Error> {
        let Some(component) = component else { return Ok(None) };
        let wasm = match source {
            Source::Archive { archive } => archive.fetch_bytes(component, limits::COMPONENT_BYTES)?,
            Source::Stored { .. } => store.fetch_bytes(component, limits::COMPONENT_BYTES)?,
        };
        Ok(Some(engine.compile(&wasm).map_err(Error::runtime(&label))?))
    };
    let compiled = match source {
        Source::Stored { .. } => {
            ctx.report.started("compiling", None);
            compile()?
        }
        // The disk is waited for while the compiler works. Both read the
        // archive, each against the digests that were judged.
        Source::Archive { archive } => {
            let image = source.single()?;
            ctx.report
                .started("installing", Some(layers.iter().map(|l| l.size).sum()));
            let (installed, compiled) = thread::scope(|scope| {
                let installing = scope.spawn(|| install(ctx, store, archive, &[image], &[]));
                let compiled = compile();
                (installing.join(), compiled)
            });
            match installed {
                Ok(Ok(())) => {}
                // A store that can't be written still lets an image run that
                // needs nothing unpacked.
                Ok(Err(Error::Store(e))) if e.is_unwritable() && layers.len() == 1 => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(Error::malformed(&label)("installing it ended in a panic")),
            }
            compiled?
        }
    };
    ctx.report.finished();
    clock.step("prepare");
    if let (Some(component), Some(compiled)) = (component, compiled) {
        *code = Some(match store.put_code(engine.id(), &component.digest, &compiled) {
            Ok(file) => file,
            Err(error) if error.is_unwritable() => in_memory(&compiled)?,
            Err(error) => return Err(Error::Store(error)),
        });
        clock.step("keep code");
    }
    if let (Some(layer), None, Some(assets)) = (layers.get(1), &tree, &trusted.config.qyv.assets) {
        ctx.report.started("unpacking", Some(assets.bytes));
        let mut failure = None;
        let made = store.put_tree(&layer.digest, &mut |folder| {
            let body = store.fetch(layer)?;
            match qyvol_image::unpack_assets(body, assets, folder, ctx.report) {
                Ok(_) => Ok(()),
                Err(error) => {
                    failure = Some(error);
                    Err(std::io::Error::other("unpacking failed"))
                }
            }
        });
        if let Some(error) = failure {
            return Err(Error::image(&label)(error));
        }
        *tree = Some(made?);
        ctx.report.finished();
        clock.step("unpack");
    }
    Ok(())
}

/// Compiled code in an anonymous file, for a store that can't be written.
fn in_memory(code: &[u8]) -> Result<File, Error> {
    let failed = |e| Error::file("hold compiled code in memory", "memfd")(e);
    let fd = rustix::fs::memfd_create("qyvol-code", rustix::fs::MemfdFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
    let mut file = File::from(fd);
    file.write_all(code)
        .map_err(|e| Error::file("hold compiled code in memory", "memfd")(e))?;
    Ok(file)
}

/// The program's name, the manifest's arguments, the user's.
fn arguments(app: &AppManifest, user: &[String]) -> Vec<String> {
    let name = app.name.rsplit('/').next().unwrap_or(&app.name).to_string();
    std::iter::once(name)
        .chain(app.args.iter().cloned())
        .chain(user.iter().cloned())
        .collect()
}

fn environment(app: &AppManifest, operator: &[(String, String)]) -> Vec<(String, String)> {
    let mut env = app.env.clone();
    env.extend(operator.iter().cloned());
    env.into_iter().collect()
}

/// Mounts the file system as `/`, the assets over it, and what was granted.
fn mount(
    ctx: &Context<'_>,
    source: &Source,
    app: &AppManifest,
    request: &RunRequest<'_>,
    memory: Option<&MemFs>,
    tree: Option<Tree>,
    spec: &mut RunSpec,
) -> Result<(), Error> {
    let writable = matches!(app.permissions.fs, FsAccess::Write | FsAccess::Full);
    if app.permissions.fs != FsAccess::None {
        let host = match memory {
            Some(memory) => memory.root().to_path_buf(),
            None => {
                let folder = ctx.home.data.join(data_folder(source, app));
                private_folder(&folder)?;
                folder
            }
        };
        spec.mounts.push(Mount {
            host,
            guest: "/".to_string(),
            writable,
            seal: None,
        });
    }
    if let Some(tree) = tree {
        spec.mounts.push(crate::assets::mount(tree, &app.assets_root));
    }
    for dir in &request.dirs {
        let mode = if dir.writable { "read and write" } else { "read" };
        request
            .events
            .granted(&format!("{} as {} ({mode})", dir.host.display(), dir.guest));
        spec.mounts.push(Mount {
            host: dir.host.clone(),
            guest: dir.guest.clone(),
            writable: dir.writable,
            seal: None,
        });
    }
    Ok(())
}

/// The folder of an application's own data: apart for each registry that
/// images of its name come from. `+` is in no name, so no two share one.
fn data_folder(source: &Source, app: &AppManifest) -> String {
    let from = match source {
        Source::Stored { name, .. } => name.registry().unwrap_or("local"),
        Source::Archive { .. } => "local",
    };
    format!("{from}+{}", app.name.replace('/', "+"))
}

/// Runs the guest on a thread of its own for at most `limit`. The thread is
/// left behind when time is over: the command exits.
fn with_timeout(program: Program, spec: RunSpec, limit: Duration) -> Option<Result<Exit, qyvol_runtime::RuntimeError>> {
    let (send, receive) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Nobody listens once time is over.
        let _ = send.send(program.run(spec));
    });
    receive.recv_timeout(limit).ok()
}
