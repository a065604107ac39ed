//! Running other programs.

use std::env;
use std::process::Command;

/// What signs a release: no compiler, build script or other program gets it.
const SECRETS: [&str; 2] = ["QYVOL_KEY", "QYVOL_KEY_PASSPHRASE"];

fn without_secrets(command: &mut Command) {
    for name in SECRETS {
        command.env_remove(name);
    }
}

/// Runs a command to its end; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    without_secrets(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}", line(command))),
        Err(error) => Err(format!("{}: {error}", line(command))),
    }
}

/// What a command prints on its standard output; an error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    without_secrets(command);
    let output = command.output().map_err(|e| format!("{}: {e}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{}: {}\n{}", line(command), output.status, said.trim_end()));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{}: {e}", line(command)))
}

/// Whether `PATH` has a program of this name.
pub(crate) fn found(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
