//! The request, the events and the outcome of `run`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qyvol_image::SignedImage;
use qyvol_netfs::Credentials;
use qyvol_remote::Client;
use qyvol_runtime::{Details, Identity, Limit, Profiler};
use qyvol_sandbox::{Endpoint, FsAccess, Grant, Observer};
use qyvol_types::{AppManifest, Resources};

use crate::{Error, Target};

/// A directory of the host that the operator grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The directory.
    pub host: PathBuf,
    /// Where the guest sees it.
    pub guest: String,
    /// Whether the guest may write there.
    pub writable: bool,
}

/// What the operator grants beyond the manifest, or removes. The rule of the trust policy
/// limits all of it.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Endpoints that the guest may connect to.
    pub net: Vec<Endpoint>,
    /// Whether it has no network at all.
    pub no_net: bool,
    /// Absolute paths of the host programs that it may start, if its manifest asks
    /// for them.
    pub exec: Vec<String>,
    /// The most that it may do with its own file system.
    pub fs: Option<FsAccess>,
    /// Limits in place of the manifest's.
    pub limits: Resources,
    /// The seed of a deterministic run: without network and host programs, with clocks and
    /// random numbers that are the same each time.
    pub deterministic: Option<u64>,
}

/// What to run.
#[derive(Clone)]
pub struct RunRequest<'a> {
    /// An archive, an image, or a manifest under development.
    pub target: &'a Target,
    /// The user's arguments, after the manifest's.
    pub args: Vec<String>,
    /// Environment that the operator sets, over the manifest's.
    pub env: Vec<(String, String)>,
    /// Directories that the operator grants.
    pub dirs: Vec<DirGrant>,
    /// The credentials for netfs.
    pub fs_credentials: Credentials,
    /// What else the operator grants or removes.
    pub overrides: Overrides,
    /// Receives what the guest uses and what it is denied.
    pub observer: Option<Arc<dyn Observer>>,
    /// The caller, for guests that ask.
    pub caller: Identity,
    /// A public key to trust instead of the policy: its file, or its name in
    /// the keyring.
    pub key: Option<&'a str>,
    /// Whether an image is fetched from the registry that its name has in it.
    pub pull: Pull<'a>,
    /// Whether bytes of output are counted where nothing limits them.
    pub measured: bool,
    /// How the run is debugged.
    pub debugging: Debugging,
    /// Whether the process ends with this run.
    pub last: bool,
    /// Receives the steps of loading.
    pub events: &'a dyn RunEvents,
}

impl<'a> RunRequest<'a> {
    /// A run of an image that is on this host, without arguments or grants.
    pub fn new(target: &'a Target) -> RunRequest<'a> {
        RunRequest {
            target,
            args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            fs_credentials: Credentials::None,
            overrides: Overrides::default(),
            observer: None,
            caller: Identity::default(),
            key: None,
            pull: Pull::Never,
            measured: false,
            debugging: Debugging::default(),
            last: false,
            events: &NoEvents,
        }
    }
}

/// How a run is debugged. Each way needs code of its own, which contains more than the code of
/// other runs; what the guest may do is the same.
#[derive(Clone, Debug, Default)]
pub struct Debugging {
    /// Takes samples of the guest, which stay in it.
    pub profiler: Option<Arc<Profiler>>,
    /// Whether a trap leaves a core dump: see [`RunEvents::core_dump`].
    pub core_dump: bool,
    /// Whether a debugger sees the guest's source, and traps name its files and lines. The
    /// code is not optimised.
    pub debug_info: bool,
}

impl Debugging {
    pub(crate) fn is_any(&self) -> bool {
        self.profiler.is_some() || self.core_dump || self.debug_info
    }

    /// What the code must contain.
    pub(crate) fn details(&self) -> Result<Details, Error> {
        match (self.profiler.is_some(), self.debug_info) {
            (true, true) => Err(Error::Usage(
                "code for a debugger is not optimised: a profile of it would not show where the time goes".to_string(),
            )),
            (true, false) => Ok(Details::Profile),
            (false, true) => Ok(Details::Debugger),
            (false, false) if self.core_dump => Ok(Details::Addresses),
            (false, false) => Ok(Details::Names),
        }
    }
}

/// Ignores all events.
struct NoEvents;

impl RunEvents for NoEvents {}

/// When a registry is asked for an image. The client is created only then: a run of an
/// image that is on this host opens no connection.
#[derive(Clone, Copy)]
pub enum Pull<'a> {
    /// Never: only images in the store are run.
    Never,
    /// If the store doesn't have the name.
    Missing(&'a dyn Fn() -> Result<Arc<Client>, Error>),
    /// On every run.
    Always(&'a dyn Fn() -> Result<Arc<Client>, Error>),
}

/// Receives the steps of a run, for `-v`.
pub trait RunEvents {
    /// A step is done, and took this long.
    fn step(&self, what: &str, took: Duration) {
        let _ = (what, took);
    }
    /// The guest is about to start.
    fn loaded(&self, image: &SignedImage, app: &AppManifest, path: &str) {
        let _ = (image, app, path);
    }
    /// What the guest is granted, once everything is decided.
    fn started(&self, app: &AppManifest, grant: &Grant, limits: &Resources, dirs: &[DirGrant]) {
        let _ = (app, grant, limits, dirs);
    }
    /// A process has ended, and is restarted after this time.
    fn restarting(&self, process: &str, why: &str, after: Duration) {
        let _ = (process, why, after);
    }
    /// The guest has ended by itself or by a limit other than its time.
    fn ended(&self, figures: &RunFigures) {
        let _ = figures;
    }
    /// The guest has trapped, and this is its core dump.
    fn core_dump(&self, bytes: Vec<u8>) {
        let _ = bytes;
    }
    /// An unsigned manifest under development is run.
    fn unsigned(&self, reason: &str) {
        let _ = reason;
    }
    /// The operator grants more than was signed.
    fn granted(&self, what: &str) {
        let _ = what;
    }
}

/// What a guest used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunFigures {
    /// Describing the host's interfaces to it.
    pub link: Duration,
    /// Giving it its memory, and what it runs before its entry.
    pub instantiate: Duration,
    /// Its entry, with all that it waited for.
    pub execute: Duration,
    /// Processor time of its thread in these three.
    pub cpu: Duration,
    /// Bytes of linear memory and tables, at most.
    pub memory: u64,
    /// Bytes that it wrote to stdout and stderr, if they were counted.
    pub output: Option<u64>,
    /// Fuel, if it was counted.
    pub fuel: Option<u64>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the guest's exit code.
    Code(i32),
    /// The guest trapped.
    Trap(String),
    /// It ran longer than its limit, and still runs until the process ends.
    TimedOut(Duration),
    /// It used more processor time than its limit, and still runs until the process
    /// ends.
    OutOfCpuTime(Duration),
    /// Another limit ended it; also the trap, if it trapped then.
    Limit(Limit, String),
}

/// Measures the time between steps.
pub(crate) struct StepTimer<'a> {
    events: &'a dyn RunEvents,
    last: Instant,
    taken: Vec<(&'static str, Duration)>,
}

impl<'a> StepTimer<'a> {
    pub(crate) fn start(events: &'a dyn RunEvents) -> StepTimer<'a> {
        StepTimer {
            events,
            last: Instant::now(),
            taken: Vec::new(),
        }
    }

    pub(crate) fn step(&mut self, what: &'static str) {
        let now = Instant::now();
        self.events.step(what, now - self.last);
        self.taken.push((what, now - self.last));
        self.last = now;
    }

    /// The steps so far.
    pub(crate) fn taken(&self) -> Vec<(&'static str, Duration)> {
        self.taken.clone()
    }
}
