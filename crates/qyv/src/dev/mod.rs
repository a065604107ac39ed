//! `qyv dev`: builds an application, runs it, and does so again after each change.
//!
//! ```text
//!   a file changes -> build -> check -> a command is started anew, a service is replaced
//! ```
//!
//! What runs is replaced only by what has been built and checked; until then it goes on. An
//! error is reported where it arises, and the next change is waited for. No key is read.

mod files;
mod program;
mod service;
mod watch;

use std::env;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use qyvol::runtime::Stop;
use qyvol::types::{SECRET_VARIABLES, escape};
use qyvol::{Children, Context, Use, Validated};

pub use self::watch::Wake;
use self::watch::Watch;
use crate::cli::DevArgs;
use crate::failure::Failure;
use crate::project::{hint_build, run_build};
use crate::signals::end_all;
use crate::ui::{Ui, format_duration};

/// Files that are named when they have changed.
const SHOWN: usize = 3;
/// Builds in a row that only the last build's own changes have caused, before that is reported.
const REPEATED: u32 = 3;
/// The first wait after such a build, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

pub fn dev(ctx: &Context<'_>, ui: &Ui, args: &DevArgs, children: &Children) -> Result<u8, Failure> {
    crate::variables::refuse_empty()?;
    leave_secrets()?;
    let manifest = qyvol::validate(&args.path)?;
    let root = manifest.directory.canonicalize();
    let root =
        root.map_err(|error| Failure::new(format!("{}: {error}", escape(&manifest.directory.to_string_lossy()))))?;
    let name = manifest.path.file_name().unwrap_or_default();
    let path = root.join(name);
    let stop = Stop::default();
    let made = made(&manifest, &root);
    let mut project = Project {
        ui,
        children,
        stop: stop.clone(),
        watch: Watch::new(&root, &made)?,
        path,
        root,
        made,
    };
    end_all(&stop, children, project.watch.waker())?;
    let ended = develop(ctx, ui, args, &mut project);
    children.end();
    // A failure that the end itself has caused is none.
    match stop.has_begun() {
        true => Ok(0),
        false => ended.map(|()| 0),
    }
}

/// Begins anew without the variables that have secrets in them, if there are any. Nothing here
/// needs them, and a program that a build starts could read them in /proc.
fn leave_secrets() -> Result<(), Failure> {
    if SECRET_VARIABLES.iter().all(|name| env::var_os(name).is_none()) {
        return Ok(());
    }
    let failed = |error| Failure::new(format!("can't start without the secrets in the environment: {error}"));
    let mut command = Command::new(env::current_exe().map_err(failed)?);
    command.args(env::args_os().skip(1));
    SECRET_VARIABLES.iter().for_each(|name| {
        command.env_remove(name);
    });
    Err(failed(command.exec()))
}

/// Builds and runs until the command ends.
fn develop(ctx: &Context<'_>, ui: &Ui, args: &DevArgs, project: &mut Project<'_>) -> Result<(), Failure> {
    let mut is_built = false;
    while !project.stop.has_begun() {
        let ready = match is_built {
            true => Ok(()),
            false => project.build(),
        };
        let ready = ready.and_then(|()| project.check(ctx));
        let left = match ready {
            Ok(Use::Serve) => service::serve(ctx, ui, args, project)?,
            Ok(Use::Run) => program::run(ctx, ui, args, project)?,
            Ok(Use::Call) => {
                ui.note("it is valid, and has nothing that could be run or served: waiting for changes");
                project.next(None)?
            }
            Err(failure) => {
                project.report(&failure);
                project.next(None)?
            }
        };
        is_built = match left {
            Next::End => return Ok(()),
            Next::Changed { is_built } => is_built,
            Next::Exited => false,
        };
    }
    Ok(())
}

/// A project that is being worked on.
struct Project<'a> {
    ui: &'a Ui,
    children: &'a Children,
    stop: Stop,
    watch: Watch,
    /// The manifest.
    path: PathBuf,
    /// Its directory.
    root: PathBuf,
    /// What its build makes.
    made: Vec<PathBuf>,
}

/// What happens next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Something has changed.
    Changed {
        /// Whether what the build makes is what has changed.
        is_built: bool,
    },
    /// The program that is waited for has ended.
    Exited,
    /// The command, or the service, ends.
    End,
}

impl Project<'_> {
    /// Waits for a change of the files, or for the end of a program.
    fn next(&mut self, program: Option<u64>) -> Result<Next, Failure> {
        loop {
            match self.watch.wait() {
                Wake::Event => {}
                Wake::Exited(number) if program == Some(number) => return Ok(Next::Exited),
                Wake::Exited(_) => continue,
                Wake::Left | Wake::End => return Ok(Next::End),
            }
            let changed = self.watch.look(&self.made)?;
            if changed.is_empty() {
                continue;
            }
            if changed.sources.is_empty() {
                return Ok(Next::Changed { is_built: true });
            }
            self.name(&changed.sources);
            return Ok(Next::Changed { is_built: false });
        }
    }

    fn name(&self, sources: &[PathBuf]) {
        let shown = |path: &PathBuf| {
            let name = path.strip_prefix(&self.root).unwrap_or(path);
            escape(&name.to_string_lossy()).to_string()
        };
        let names: Vec<String> = sources.iter().take(SHOWN).map(shown).collect();
        let more = match sources.len().saturating_sub(SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        self.ui.note(&format!("changed: {}{more}", names.join(", ")));
    }

    /// Reads the manifest and runs its `build`, if it has one, until that has worked on the files
    /// as they are.
    fn build(&mut self) -> Result<(), Failure> {
        for repeated in 0.. {
            let manifest = qyvol::validate(&self.path)?;
            self.made = made(&manifest, &self.root);
            let Some(build) = &manifest.app.build else {
                return Ok(());
            };
            // Everything that changes from here on may have been missed by the build.
            self.watch.look(&self.made)?;
            let started = Instant::now();
            run_build(self.ui, &manifest, build, self.children)?;
            self.ui
                .note(&format!("built in {}", format_duration(started.elapsed())));
            let changed = self.watch.look(&self.made)?;
            if changed.sources.is_empty() || self.stop.has_begun() {
                return Ok(());
            }
            self.name(&changed.sources);
            if repeated >= REPEATED {
                self.ui
                    .warn("files change during each build: if the build writes them, name them in .gitignore");
                let (first, longest) = BACK_OFF;
                let wake = self
                    .watch
                    .settle(first.saturating_mul(1 << repeated.min(10)).min(longest));
                if matches!(wake, Wake::Left | Wake::End) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Checks what was built, as a build of an image would, and says how it is used.
    fn check(&self, ctx: &Context<'_>) -> Result<Use, Failure> {
        let checked = qyvol::validate(&self.path).and_then(|manifest| qyvol::check_application(ctx, manifest));
        match checked {
            Ok(application) => Ok(application.used_by()),
            Err(error) => Err(hint_build(error.into(), &self.path)),
        }
    }

    /// Reports what keeps the newest files from being run.
    fn report(&self, failure: &Failure) {
        if !self.stop.has_begun() {
            self.ui.error(failure);
        }
    }
}

/// The files that the build of a manifest makes.
fn made(manifest: &Validated, root: &Path) -> Vec<PathBuf> {
    let files = manifest.app.wasm_files().into_iter();
    files.map(|file| root.join(file)).collect()
}
