//! Completion in the shell: of commands, options, files, and of the names of
//! images and keys that this machine has.
//!
//! The shell runs `qyv` with [`VARIABLE`] set to ask for candidates. Nothing is
//! written, no network is used, and what can't be read has no candidates.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use qyvol::store::NoReport;
use qyvol::types::{Timestamp, escape};
use qyvol::{Context, Keyring, Temporaries};

use crate::cli::Cli;
use crate::paths;

/// The variable that names the shell in a call for candidates.
const VARIABLE: &str = "QYVOL_COMPLETE";
/// Names that are offered at most.
const MOST: usize = 10_000;

const SHELLS: Shells<'static> = Shells(&[&Colons, &Elvish, &Fish, &Powershell, &Zsh]);

/// Answers a shell, if one asks.
pub fn answer() -> Option<ExitCode> {
    std::env::var_os(VARIABLE)?;
    let asked = CompleteEnv::with_factory(Cli::command).var(VARIABLE).shells(SHELLS);
    match asked.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()) {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        Err(error) => {
            let _ = error.print();
            Some(ExitCode::FAILURE)
        }
    }
}

/// The script that a shell runs to use this.
pub fn script(shell: &str) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let completer = SHELLS.completer(shell).ok_or(io::ErrorKind::Unsupported)?;
    completer.write_registration(VARIABLE, "qyv", "qyv", "qyv", &mut out)?;
    Ok(out)
}

/// Bash splits words at colons, which names have: the words are split again
/// here, and what stands before the last colon is taken off the answers.
struct Colons;

const BASH: &str = r#"_qyv() {
    local IFS=$' \t\n' line=${COMP_LINE:0:COMP_POINT} words=() current=
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] || ${#words[@]} -eq 0 ]] && words+=("")
    current=${words[${#words[@]}-1]}
    IFS=$'\013'
    COMPREPLY=($(_CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX=$((${#words[@]}-1)) \
        QYVOL_COMPLETE=bash qyv -- "${words[@]}" 2>/dev/null)) || COMPREPLY=()
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${current%"${current##*:}"}"}")
    fi
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -F _qyv qyv
"#;

impl EnvCompleter for Colons {
    fn name(&self) -> &'static str {
        Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        Bash.is(name)
    }

    fn write_registration(&self, _: &str, _: &str, _: &str, _: &str, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(BASH.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        args: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        Bash.write_complete(command, args, directory, out)
    }
}

/// Completes the name of a stored image.
pub fn images() -> ArgValueCompleter {
    ArgValueCompleter::new(stored)
}

/// Completes a target: a stored image, or a file that can be one.
pub fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| with_files(stored(current), current, &["qyvbin", "qyv", "wasm"]))
}

/// Completes a target or one of the guest's arguments, which the engine does
/// not tell apart: a stored image, or any file.
pub fn run_targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = stored(current);
        found.extend(PathCompleter::any().complete(current));
        found
    })
}

/// Completes a key: a name of the keyring, or a file.
pub fn keys() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| with_files(keyring(current), current, &["pub", "pem", "key"]))
}

/// Completes a name of the keyring.
pub fn key_names() -> ArgValueCompleter {
    ArgValueCompleter::new(keyring)
}

fn with_files(
    mut names: Vec<CompletionCandidate>,
    current: &OsStr,
    endings: &'static [&'static str],
) -> Vec<CompletionCandidate> {
    let wanted = move |path: &Path| {
        let ending = path.extension().and_then(OsStr::to_str);
        ending.is_some_and(|ending| endings.contains(&ending))
    };
    names.extend(PathCompleter::any().filter(wanted).complete(current));
    names
}

fn stored(current: &OsStr) -> Vec<CompletionCandidate> {
    named(current, |ctx| {
        let names = ctx.store().ok()?.references().ok()?;
        Some(names.into_iter().map(|(name, _)| name.to_string()).collect())
    })
}

fn keyring(current: &OsStr) -> Vec<CompletionCandidate> {
    named(current, |ctx| {
        let rows = Keyring::new(ctx).list(&mut drop).ok()?;
        Some(rows.into_iter().map(|row| row.name).collect())
    })
}

fn named(current: &OsStr, list: impl FnOnce(&Context<'_>) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    let (Some(current), Ok(home)) = (current.to_str(), paths::home()) else {
        return Vec::new();
    };
    let temporaries = Temporaries::default();
    let ctx = Context {
        home,
        now: Timestamp::EPOCH,
        source_date: None,
        report: &NoReport,
        temporaries: &temporaries,
        compiler: None,
        policy: None,
    };
    let names = list(&ctx).unwrap_or_default().into_iter();
    names
        .filter(|name| name.starts_with(current) && escape(name).to_string() == *name)
        .take(MOST)
        .map(CompletionCandidate::new)
        .collect()
}
