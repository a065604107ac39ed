//! From an error to what is reported: message, details and exit code. What
//! to do next is in [`crate::hints`].

use std::path::Path;

use qyvol::types::yaml::Problems;
use qyvol::{Error, ErrorClass};

use crate::hints::hints;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
    pub details: Vec<String>,
    pub hints: Vec<String>,
}

/// Exit code of a failure.
pub const FAILED: u8 = 1;
/// Exit code of wrong usage.
pub const USAGE: u8 = 2;
/// The trust policy can't be used (`spec/signing.md`).
const BAD_POLICY: u8 = 19;
/// A registry failed, and will fail again (sysexits' `EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// A registry failed, and may succeed another time (`EX_TEMPFAIL`).
const TEMPORARY: u8 = 75;

/// Exit codes of a refusal by trust (`spec/signing.md`).
pub const TRUST_CODES: std::ops::RangeInclusive<u8> = 10..=19;

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            code: FAILED,
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
        }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            code: USAGE,
            ..Failure::new(message)
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// The code that `call` exits with: its arguments are the user's, the rest as for `run`.
    pub fn before_call(self) -> Failure {
        match self.code {
            USAGE => self,
            _ => self.before_guest(),
        }
    }

    /// The code that `run` exits with: it must not be mistaken for the guest's.
    pub fn before_guest(mut self) -> Failure {
        self.code = if TRUST_CODES.contains(&self.code) { 126 } else { 125 };
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A failure passes unchanged through the facade, if a verb makes its client.
impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Client(Box::new(failure))
    }
}

/// The message of an error and of what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Transparent errors repeat their cause's text.
        if !text.to_lowercase().contains(&more.to_lowercase()) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let error = match error {
            Error::Client(source) => match source.downcast::<Failure>() {
                Ok(failure) => return *failure,
                Err(source) => Error::Client(source),
            },
            error => error,
        };
        Failure {
            code: exit_code(error.class()),
            message: chain(&error),
            details: details(&error),
            hints: hints(&error),
        }
    }
}

/// The one table of exit codes (`spec/signing.md` has those of a refusal).
fn exit_code(class: ErrorClass) -> u8 {
    match class {
        ErrorClass::Usage => USAGE,
        ErrorClass::Refused(refusal) => refusal.exit_code(),
        ErrorClass::BadPolicy => BAD_POLICY,
        ErrorClass::Temporary => TEMPORARY,
        ErrorClass::Unavailable => UNAVAILABLE,
        _ => FAILED,
    }
}

/// The lines below the message.
fn details(error: &Error) -> Vec<String> {
    match error {
        Error::Yaml { path, problems }
        | Error::PolicyYaml { path, problems }
        | Error::HostsYaml { path, problems }
        | Error::AppsYaml { path, problems } => problem_details(path, problems),
        Error::Trust { source, .. } => source.report().lines(),
        Error::Layers { layers, .. } => layers.iter().map(|layer| format!("  {layer}")).collect(),
        Error::Platforms { platforms, .. } => platforms.iter().map(|platform| format!("  {platform}")).collect(),
        Error::Function { source, .. } => source.signature().map(|text| format!("  {text}")).into_iter().collect(),
        Error::Argument(error) => vec![format!("  {}", error.signature())],
        Error::Ambiguous { digests, .. } => digests.iter().map(|digest| format!("  {digest}")).collect(),
        _ => Vec::new(),
    }
}

fn problem_details(path: &Path, problems: &Problems) -> Vec<String> {
    let mut lines = Vec::new();
    for problem in &problems.0 {
        let place = problem.place;
        let file = qyvol::types::escape(&path.to_string_lossy()).to_string();
        lines.push(format!("{file}:{}:{}: {}", place.line, place.column, problem.message));
        lines.extend(problem.snippet().lines().map(str::to_string));
        if let Some(help) = &problem.help {
            lines.push(format!("   = {help}"));
        }
    }
    lines
}
