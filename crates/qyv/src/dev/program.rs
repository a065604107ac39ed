//! A command under development: started anew after each change, in a process of its own, so that
//! it can be ended wherever it is.

use std::env;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use qyvol::types::escape;
use qyvol::{Context, Remote, Use};

use super::watch::Wake;
use super::{Next, Project};
use crate::cli::DevArgs;
use crate::failure::Failure;
use crate::ui::Ui;

/// Runs the command, and again after each change, until it is no command any longer.
pub(super) fn run(ctx: &Context<'_>, ui: &Ui, args: &DevArgs, project: &mut Project<'_>) -> Result<Next, Failure> {
    for number in 0.. {
        let program = Program::start(ui, args, project, number)?;
        let use_of = match replacement(ctx, project, number)? {
            None => return Ok(Next::End),
            Some(use_of) => use_of,
        };
        program.end();
        if use_of != Use::Run {
            return Ok(Next::Changed { is_built: true });
        }
    }
    Ok(Next::End)
}

/// Waits for another version that was built and checked, and says how it is used; none if the
/// command ends.
fn replacement(ctx: &Context<'_>, project: &mut Project<'_>, number: u64) -> Result<Option<Use>, Failure> {
    loop {
        let built = match project.next(Some(number))? {
            Next::End => return Ok(None),
            Next::Exited => {
                project.ui.note("waiting for changes");
                continue;
            }
            Next::Changed { is_built: true } => Ok(()),
            Next::Changed { is_built: false } => project.build(),
        };
        match built.and_then(|()| project.check(ctx)) {
            Ok(use_of) => return Ok(Some(use_of)),
            Err(failure) => project.report(&failure),
        }
    }
}

/// A command that was started.
struct Program {
    remote: Remote,
    /// Waits for its end.
    told: JoinHandle<()>,
}

impl Program {
    fn start(ui: &Ui, args: &DevArgs, project: &Project<'_>, number: u64) -> Result<Program, Failure> {
        let failed = |error: std::io::Error| Failure::new(format!("can't start the application: {error}"));
        let mut command = Command::new(env::current_exe().map_err(failed)?);
        command.args(["run", &format!("--end-with={}", std::process::id())]);
        if ui.quiet {
            command.arg("--quiet");
        }
        if ui.verbose {
            command.arg("--verbose");
        }
        for (option, values) in [
            ("--env", &args.env),
            ("--dir", &args.dirs),
            ("--allow-net", &args.allow_net),
        ] {
            values.iter().for_each(|value| {
                command.arg(format!("{option}={value}"));
            });
        }
        command.arg(&project.path).args(arguments(args, project));
        // In this process group: it may read from the terminal.
        let running = project.children.start(&mut command, false).map_err(failed)?;
        let remote = running.remote();
        let (ui, waker) = (ui.clone(), project.watch.waker());
        let told = thread::spawn(move || told(&ui, &waker, number, running.wait()));
        Ok(Program { remote, told })
    }

    /// Ends it, if it still runs. Afterwards it prints nothing any more.
    fn end(self) {
        self.remote.end();
        // Its end is waited for, and not how.
        let _ = self.told.join();
    }
}

/// Its arguments: of a manifest with one process, its name is the first.
fn arguments(args: &DevArgs, project: &Project<'_>) -> Vec<String> {
    if !args.args.is_empty() {
        return args.args.clone();
    }
    let manifest = qyvol::validate(&project.path);
    let processes = manifest.map(|manifest| manifest.app.processes).unwrap_or_default();
    match processes.len() {
        1 => processes.into_keys().collect(),
        _ => Vec::new(),
    }
}

/// Says how a program has ended, unless it was ended here, and wakes whoever waits for that.
fn told(ui: &Ui, waker: &Sender<Wake>, number: u64, ended: std::io::Result<ExitStatus>) {
    match ended {
        Ok(status) if status.code().is_some() => {
            ui.note(&format!("exited with code {}", status.code().unwrap_or_default()));
        }
        Ok(_) => {}
        Err(error) => ui.warn(&format!(
            "can't wait for the application: {}",
            escape(&error.to_string())
        )),
    }
    let _ = waker.send(Wake::Exited(number));
}
