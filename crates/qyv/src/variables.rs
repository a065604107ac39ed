//! Environment variables of the command's own. One that is set but empty is an
//! error: pipelines set a missing secret to the empty text, and to take that
//! for "not set" would sign with another key or use another directory.

use std::env;
use std::ffi::OsString;

use qyvol::types::escape;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// The value of a variable; none if it is not set.
pub fn path(name: &str) -> Result<Option<OsString>, Failure> {
    match env::var_os(name) {
        Some(value) if value.is_empty() => Err(empty(name)),
        value => Ok(value),
    }
}

/// The same as text.
pub fn text(name: &str) -> Result<Option<String>, Failure> {
    let Some(value) = path(name)? else { return Ok(None) };
    let value = value.into_string();
    value
        .map(Some)
        .map_err(|_| Failure::usage(format!("{name} is not valid UTF-8")))
}

/// The same as a secret, wiped when it is dropped.
pub fn secret(name: &str) -> Result<Option<Zeroizing<String>>, Failure> {
    Ok(text(name)?.map(Zeroizing::new))
}

/// Refuses variables of the command's own that are set but empty, for a command that starts
/// another program before it reads them.
pub fn refuse_empty() -> Result<(), Failure> {
    for (name, value) in env::vars_os() {
        // It may be a key.
        let value = Zeroizing::new(value.into_encoded_bytes());
        if value.is_empty() && name.as_encoded_bytes().starts_with(b"QYVOL_") {
            return Err(empty(&escape(&name.to_string_lossy()).to_string()));
        }
    }
    Ok(())
}

/// Whether a pipeline runs this: every CI service sets `CI`.
pub fn in_pipeline() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

fn empty(name: &str) -> Failure {
    Failure::usage(format!("{name} is set but empty"))
        .hint(format!("give it a value, or unset {name}"))
        .hint("a pipeline passes a secret that does not exist, or that this job must not see, as empty text")
}
