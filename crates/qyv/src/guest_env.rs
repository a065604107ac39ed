//! The environment that the operator gives a guest: `--env-file`, `--env` and
//! `--secret`, each over the one before. Values are never printed.

use std::env;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crate::cli::GuestArgs;
use crate::failure::Failure;

/// Bytes of a file of variables, or of a secret.
const FILE_BYTES: u64 = 1 << 20;

/// The variables in the order in which they are set.
pub fn read(args: &GuestArgs) -> Result<Vec<(String, String)>, Failure> {
    let mut variables = Vec::new();
    for path in &args.env_file {
        env_file(path, &mut variables)?;
    }
    for text in &args.env {
        variables.push(option(text)?);
    }
    for text in &args.secrets {
        variables.push(secret(text)?);
    }
    Ok(variables)
}

/// A variable as it was named: with its value, or by its name alone, and then
/// the value that qyv's own environment has, if it has one.
enum Named {
    Set(String, String),
    NotSet(String),
}

/// `NAME=VALUE`, or `NAME`. An error about it repeats only the name.
fn named(from: &str, text: &str) -> Result<Named, Failure> {
    if let Some((name, value)) = text.split_once('=') {
        let name = checked(from, name)?;
        let value = no_nul(from, &name, value.to_string())?;
        return Ok(Named::Set(name, value));
    }
    let name = checked(from, text)?;
    match env::var(&name) {
        Ok(value) => Ok(Named::Set(name, value)),
        Err(env::VarError::NotPresent) => Ok(Named::NotSet(name)),
        Err(env::VarError::NotUnicode(_)) => Err(Failure::usage(format!(
            "{from} {name}: the value of {name} is not valid UTF-8"
        ))),
    }
}

fn option(text: &str) -> Result<(String, String), Failure> {
    match named("--env", text)? {
        Named::Set(name, value) => Ok((name, value)),
        Named::NotSet(name) => Err(Failure::usage(format!("--env {name}: {name} is not set"))
            .hint(format!("set {name} for this command, or give it a value: {name}=VALUE"))),
    }
}

fn checked(from: &str, name: &str) -> Result<String, Failure> {
    if name.is_empty() || name.contains('\0') {
        return Err(Failure::usage(format!("{from}: NAME or NAME=VALUE is expected")));
    }
    Ok(name.to_string())
}

fn no_nul(from: &str, name: &str, value: String) -> Result<String, Failure> {
    match value.contains('\0') {
        true => Err(Failure::usage(format!(
            "{from} {}: the value has a NUL byte, which no variable can hold",
            qyvol::types::escape(name)
        ))),
        false => Ok(value),
    }
}

fn env_file(path: &Path, variables: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let text = read_file("--env-file", path)?;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let shown = path.display().to_string();
        let place = format!("--env-file {}:{}", qyvol::types::escape(&shown), index + 1);
        match named(&place, line)? {
            Named::Set(name, value) => variables.push((name, value)),
            // A line without `=` may be part of a secret: it is never repeated.
            Named::NotSet(_) => {
                return Err(Failure::usage(format!(
                    "{place}: NAME=VALUE is expected, or the NAME of a variable that is set"
                ))
                .hint("a value of several lines can't be in such a file: --secret NAME=FILE takes one"));
            }
        }
    }
    Ok(())
}

/// `NAME=FILE`.
fn secret(text: &str) -> Result<(String, String), Failure> {
    let Some((name, path)) = text.split_once('=').filter(|(_, path)| !path.is_empty()) else {
        return Err(Failure::usage("--secret: NAME=FILE is expected"));
    };
    secret_of(name, Path::new(path))
}

/// The variable of a name, and a file's content without one newline at its end.
pub fn secret_of(name: &str, path: &Path) -> Result<(String, String), Failure> {
    let name = checked("--secret", name)?;
    let mut value = read_file("--secret", path)?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    let value = no_nul("--secret", &name, value)?;
    Ok((name, value))
}

/// Reads a regular file or a pipe (`<(…)` in a shell), bounded.
fn read_file(option: &str, path: &Path) -> Result<String, Failure> {
    let shown = path.display().to_string();
    let shown = qyvol::types::escape(&shown);
    let failed = |why: String| Failure::usage(format!("{option}: can't read {shown}: {why}"));
    let file = File::open(path).map_err(|e| failed(e.to_string()))?;
    let kind = file.metadata().map_err(|e| failed(e.to_string()))?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(failed("it is not a file".to_string()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(failed(format!("it is larger than {FILE_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not valid UTF-8".to_string()))
}
