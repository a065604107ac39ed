//! Runs the `build` of a manifest: the author's own tools, which make the entrypoint.
//!
//! It is a program with the permissions of whoever starts it, and no guest: no verb runs it on
//! its own account. A caller that does runs it before it reads any key.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use qyvol_types::BuildCommand;
use zeroize::Zeroizing;

use crate::{Children, Error, Validated};

/// Variables of the command that its children don't get: keys, passwords, directories.
const OWN_VARIABLES: &str = "QYVOL_";

/// What a `build` is given.
pub struct BuildSetup<'a> {
    /// The variables, of which those of the command itself are left out.
    pub environment: &'a mut dyn Iterator<Item = (OsString, OsString)>,
    /// Where its standard output goes.
    pub output: Stdio,
    /// Where its standard error goes.
    pub error: Stdio,
    /// The list that it is in while it runs.
    pub children: &'a Children,
}

/// Runs the `build` of a manifest in the manifest's directory, without a shell, and waits until
/// it has ended. It has nothing to read.
///
/// # Errors
///
/// If the program can't be started, or ends with another exit code than 0.
pub fn run_build(manifest: &Validated, build: &BuildCommand, setup: BuildSetup<'_>) -> Result<(), Error> {
    let not_started = |source| Error::BuildStart {
        path: manifest.path.clone(),
        program: build.program.clone(),
        source,
    };
    let directory = manifest.directory.canonicalize().map_err(not_started)?;
    // A path is relative to that directory, whichever this process is in.
    let program = match build.program.contains('/') {
        true => directory.join(&build.program),
        false => PathBuf::from(&build.program),
    };
    let mut command = Command::new(program);
    command
        .args(&build.args)
        .current_dir(&directory)
        .env_clear()
        .envs(setup.environment.filter_map(not_own))
        .stdin(Stdio::null())
        .stdout(setup.output)
        .stderr(setup.error);
    let running = setup.children.start(&mut command, true).map_err(not_started)?;
    let status = running.wait().map_err(not_started)?;
    if status.success() {
        return Ok(());
    }
    Err(Error::BuildFailed {
        path: manifest.path.clone(),
        program: build.program.clone(),
        why: ending(status),
    })
}

/// A variable, unless it is the command's own. The value of one that is may be a key.
fn not_own((name, value): (OsString, OsString)) -> Option<(OsString, OsString)> {
    if !is_own(&name) {
        return Some((name, value));
    }
    drop(Zeroizing::new(value.into_encoded_bytes()));
    None
}

fn is_own(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(OWN_VARIABLES.as_bytes())
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => format!("ended with {status}"),
    }
}
