//! Keys and passphrases from the environment or the terminal; never from an
//! argument, which other users of the machine can read.

use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};

use qyvol::SignerChoice;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use zeroize::Zeroizing;

use crate::cli::Command;
use crate::failure::Failure;
use crate::variables;

const PASSPHRASE: &str = "QYVOL_KEY_PASSPHRASE";
const KEY_FILE: &str = "QYVOL_KEY_FILE";
const KEY: &str = "QYVOL_KEY";
/// The prefix of the name of a key in an ssh agent.
const AGENT: &str = "ssh:";

/// Bytes of a core file. If cores are piped to a program, the kernel obeys only this limit
/// (`coredump_pipe` in its `fs/coredump.c`); a file of one byte is never written.
const CORE_BYTES: u64 = 1;

/// Keeps keys and passwords, including those in the environment, out of core dumps. Unless the
/// command makes user namespaces, it also hides them from other processes of the same user.
/// Call it before the first secret is read.
pub fn protect_memory(command: &Command) -> Result<(), Failure> {
    let limit = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    // A process whose hard limit is 0 can't raise it to one byte.
    setrlimit(Resource::Core, limit(CORE_BYTES))
        .or_else(|_| setrlimit(Resource::Core, limit(0)))
        .map_err(failed)?;
    // These make, or try, user namespaces, or start what does: their child can't get its identity from a process
    // that may not be traced.
    let makes_namespaces = matches!(
        command,
        Command::Run(_)
            | Command::Dev(_)
            | Command::Serve(_)
            | Command::Call(_)
            | Command::Quickstart(_)
            | Command::Doctor(_)
    );
    if !makes_namespaces {
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)?;
    }
    Ok(())
}

fn failed(error: rustix::io::Errno) -> Failure {
    Failure::new(format!("can't keep private keys out of core dumps: {error}"))
}

/// The passphrase of an encrypted key.
pub fn passphrase(path: &Path) -> Result<Zeroizing<String>, String> {
    if let Some(secret) = variables::secret(PASSPHRASE).map_err(|failure| failure.message)? {
        return Ok(secret);
    }
    if !stdin().is_terminal() {
        return Err(format!(
            "it is encrypted: set {PASSPHRASE}, or run this on a terminal to be asked"
        ));
    }
    rpassword::prompt_password(format!("passphrase of {}: ", path.display()))
        .map(Zeroizing::new)
        .map_err(|e| format!("can't ask for its passphrase: {e}"))
}

/// A new passphrase, asked for twice.
pub fn new_passphrase() -> Result<Zeroizing<String>, Failure> {
    if let Some(secret) = variables::secret(PASSPHRASE)? {
        return Ok(secret);
    }
    if !stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a passphrase").hint(format!("set {PASSPHRASE}")));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|e| Failure::new(format!("can't ask for a passphrase: {e}")))
    };
    let first = ask("new passphrase: ")?;
    if first.is_empty() {
        return Err(Failure::usage("the passphrase is empty"));
    }
    if ask("the same again: ")? != first {
        return Err(Failure::usage("the two passphrases differ"));
    }
    Ok(first)
}

/// The password of a hub's user: from a pipe, or asked for twice.
#[cfg(feature = "hub")]
pub fn hub_password() -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("can't read the password: {e}"));
    let (first, second) = if stdin().is_terminal() {
        let ask = |prompt: &str| rpassword::prompt_password(prompt).map_err(failed);
        (ask("password: ")?, ask("the same again: ")?)
    } else {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(stdin(), 4096), &mut text).map_err(failed)?;
        let text = text.trim_end_matches(['\r', '\n']).to_string();
        (text.clone(), text)
    };
    if first.is_empty() || first != second {
        return Err(Failure::usage("the password is empty, or the two differ"));
    }
    Ok(first)
}

/// The signing key that the environment gives. It is read whether or not it is
/// needed: a variable that is set but empty is a mistake in any case.
pub struct Signer {
    file: Option<String>,
    pem: Option<Zeroizing<String>>,
    in_pipeline: bool,
    agent: Option<PathBuf>,
    program: Option<Vec<String>>,
}

impl Signer {
    /// Reads the environment.
    pub fn read() -> Result<Signer, Failure> {
        variables::secret(PASSPHRASE)?;
        let (file, pem) = (variables::text(KEY_FILE)?, variables::secret(KEY)?);
        if file.is_some() && pem.is_some() {
            return Err(
                Failure::usage(format!("{KEY} and {KEY_FILE} are both set")).hint(format!(
                    "unset one: {KEY} holds a key's PEM, {KEY_FILE} the path of its file"
                )),
            );
        }
        Ok(Signer {
            file,
            pem,
            in_pipeline: variables::in_pipeline(),
            agent: None,
            program: None,
        })
    }

    /// The same with the options of a command that takes `--signer`. Its words are split as a
    /// shell does, and nothing in them is expanded.
    pub fn with_options(program: Option<&str>, key: Option<&str>) -> Result<Signer, Failure> {
        let mut signer = Signer::read()?;
        if let Some(line) = program {
            let words = shlex::split(line).filter(|words| !words.is_empty());
            let words =
                words.ok_or_else(|| Failure::usage("--signer has no program, or a quote that is not closed"))?;
            signer.program = Some(words);
        } else if key.is_some_and(|key| key.starts_with(AGENT)) {
            let socket = variables::path("SSH_AUTH_SOCK")?;
            let socket = socket.ok_or_else(|| {
                Failure::usage("--key ssh:FINGERPRINT needs an ssh agent, and SSH_AUTH_SOCK is not set")
                    .hint("`ssh-add -l` lists the keys of the agent")
            })?;
            signer.agent = Some(PathBuf::from(socket));
        }
        Ok(signer)
    }

    /// Who signs: the option, then the environment, then the default key, which
    /// is never made in a pipeline: nobody would trust it.
    pub fn choose<'a>(&'a self, option: Option<&'a str>, unsigned: bool) -> SignerChoice<'a> {
        match (option, &self.file, &self.pem) {
            _ if unsigned => SignerChoice::Unsigned,
            (Some(name), ..) => match (&self.program, &self.agent, name.strip_prefix(AGENT)) {
                (Some(command), ..) => SignerChoice::Program {
                    command: command.clone(),
                    key: name,
                },
                (None, Some(socket), Some(fingerprint)) => SignerChoice::Agent { fingerprint, socket },
                _ => SignerChoice::Named(name),
            },
            (None, Some(file), _) => SignerChoice::File(Path::new(file)),
            (None, None, Some(pem)) => SignerChoice::Pem(pem),
            (None, None, None) if self.in_pipeline => SignerChoice::Existing,
            (None, None, None) => SignerChoice::Default,
        }
    }
}
