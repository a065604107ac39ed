//! Completion in the shell: of commands, options, files, and of the names of
//! images and keys that this machine has.
//!
//! The shell runs `qyv` with [`VARIABLE`] set to ask for candidates. Nothing is written, no
//! network is used, and unreadable files give no candidates.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};
use qyvol::store::NoopReporter;
use qyvol::types::{Timestamp, escape};
use qyvol::{Context, Keyring, Target, TempFiles};

use crate::cli::Cli;
use crate::paths;

/// The variable that names the shell in a call for candidates.
const VARIABLE: &str = "QYVOL_COMPLETE";
/// Maximum number of candidates.
const MAX_CANDIDATES: usize = 10_000;

const SHELLS: Shells<'static> = Shells(&[
    &Words,
    &Visible(&Elvish),
    &Visible(&Fish),
    &Visible(&Powershell),
    &Visible(&Zsh),
]);

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

/// The characters of a file name that is offered to bash, which inserts it unquoted: others
/// could be shell code. Bash itself offers files with other names, quoted.
fn is_plain(value: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@+=,~".contains(c);
    value.chars().all(plain)
}

/// The names that help does not show.
fn hidden(command: &clap::Command) -> Vec<String> {
    let mut names = Vec::new();
    for inner in command.get_subcommands() {
        if inner.is_hide_set() {
            names.push(inner.get_name().to_string());
        }
        names.extend(hidden(inner));
    }
    for argument in command.get_arguments() {
        let shown = argument.get_visible_aliases().unwrap_or_default();
        let all = argument.get_all_aliases().unwrap_or_default();
        names.extend(
            all.iter()
                .filter(|name| !shown.contains(name))
                .map(|name| format!("--{name}")),
        );
    }
    names
}

/// A shell, without what is hidden.
struct Visible(&'static dyn EnvCompleter);

impl EnvCompleter for Visible {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn is(&self, name: &str) -> bool {
        self.0.is(name)
    }

    fn write_registration(
        &self,
        variable: &str,
        name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.0.write_registration(variable, name, bin, completer, out)
    }

    fn write_complete(
        &self,
        command: &mut clap::Command,
        args: Vec<OsString>,
        directory: Option<&Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let hidden = hidden(command);
        let mut lines = Vec::new();
        self.0.write_complete(command, args, directory, &mut lines)?;
        let lines = String::from_utf8_lossy(&lines);
        // Each candidate is on a line, before the help that some shells show.
        for line in lines.split_inclusive('\n') {
            let value = line.split(['\t', ':', '\n']).next().unwrap_or_default();
            if !hidden.iter().any(|name| name == value) {
                out.write_all(line.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Bash splits words at more than blanks, at the colons of names among others:
/// the line is split again here, and what readline will not replace is removed from the
/// answers.
struct Words;

const BASH: &str = r#"_qyv() {
    local line=${COMP_LINE:0:COMP_POINT} words=() current= i typed
    IFS=$' \t\n' read -ra words <<<"$line"
    [[ $line == *[[:space:]] || ${#words[@]} -eq 0 ]] && words+=("")
    current=${words[${#words[@]}-1]}
    mapfile -d $'\n' -t COMPREPLY < <(_CLAP_COMPLETE_INDEX=$((${#words[@]}-1)) \
        QYVOL_COMPLETE=bash qyv -- "${words[@]}" 2>/dev/null)
    typed=$((${#current} - ${#2}))
    for i in "${!COMPREPLY[@]}"; do
        COMPREPLY[i]=${COMPREPLY[i]:typed}
    done
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -F _qyv qyv
"#;

impl EnvCompleter for Words {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
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
        let index = std::env::var("_CLAP_COMPLETE_INDEX")
            .ok()
            .and_then(|index| index.parse().ok());
        let candidates = clap_complete::engine::complete(command, args, index.unwrap_or(0), directory)?;
        let hidden = hidden(command);
        for candidate in candidates {
            let value = candidate.get_value().to_string_lossy();
            if is_plain(&value) && !hidden.iter().any(|name| *name == value) {
                writeln!(out, "{value}")?;
            }
        }
        Ok(())
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

/// Completes a target or one of the guest's arguments, which the engine doesn't distinguish: a
/// stored image, or any file.
pub fn run_targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut found = stored(current);
        found.extend(PathCompleter::any().complete(current));
        found
    })
}

/// Completes the words of `call`: a target, then one of its functions, then anything. The words
/// before it determine which one it is.
pub fn call_words() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| match words_before().as_slice() {
        [] => with_files(stored(current), current, &["qyvbin"]),
        [target] => functions(target, current),
        _ => PathCompleter::any().complete(current),
    })
}

/// The words that `call` has before the one that is completed.
fn words_before() -> Vec<String> {
    // After the program and `--`, which shells put before the line.
    let words: Vec<OsString> = std::env::args_os().skip(2).collect();
    let index = std::env::var("_CLAP_COMPLETE_INDEX").ok();
    let index = index
        .and_then(|index| index.parse().ok())
        .unwrap_or(words.len().saturating_sub(1));
    let command = Cli::command().ignore_errors(true);
    let matches = command.try_get_matches_from(words.into_iter().take(index));
    let matches = matches
        .ok()
        .and_then(|matches| matches.subcommand_matches("call").cloned());
    let words = matches.and_then(|matches| {
        matches
            .get_many::<String>("words")
            .map(|words| words.cloned().collect())
    });
    words.unwrap_or_default()
}

/// The functions of a target, from its types: nothing is compiled.
fn functions(target: &str, current: &OsStr) -> Vec<CompletionCandidate> {
    named(current, |ctx| {
        let functions = qyvol::functions(ctx, &Target::parse(target).ok()?).ok()?;
        let whole = functions.iter().map(|(interface, name)| match interface {
            Some(interface) => format!("{interface}.{name}"),
            None => name.clone(),
        });
        let whole: Vec<String> = whole.collect();
        let current = current.to_str()?;
        // If the user began with the short name, it is completed.
        Some(match whole.iter().any(|name| name.starts_with(current)) {
            true => whole,
            false => functions.into_iter().map(|(_, name)| name).collect(),
        })
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
    let temporaries = TempFiles::default();
    let ctx = Context {
        home,
        now: Timestamp::EPOCH,
        source_date: None,
        report: &NoopReporter,
        temporaries: &temporaries,
        compiler: None,
        policy: None,
    };
    let names = list(&ctx).unwrap_or_default().into_iter();
    names
        .filter(|name| name.starts_with(current) && escape(name).to_string() == *name)
        .take(MAX_CANDIDATES)
        .map(CompletionCandidate::new)
        .collect()
}
