//! Keys and passphrases from the environment or the terminal; never from an
//! argument, which other users of the machine can read.

use std::env;
use std::io::{IsTerminal, stdin};
use std::path::Path;

use qyvol::SignerChoice;

use crate::failure::Failure;

const PASSPHRASE: &str = "QYVOL_KEY_PASSPHRASE";
const KEY_FILE: &str = "QYVOL_KEY_FILE";
const KEY: &str = "QYVOL_KEY";

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

/// The passphrase of an encrypted key.
pub fn passphrase(path: &Path) -> Result<String, String> {
    if let Some(secret) = variable(PASSPHRASE) {
        return Ok(secret);
    }
    if !stdin().is_terminal() {
        return Err(format!(
            "it is encrypted: set {PASSPHRASE}, or run this on a terminal to be asked"
        ));
    }
    rpassword::prompt_password(format!("passphrase of {}: ", path.display()))
        .map_err(|e| format!("can't ask for its passphrase: {e}"))
}

/// A new passphrase, asked for twice.
pub fn new_passphrase() -> Result<String, Failure> {
    if let Some(secret) = variable(PASSPHRASE) {
        return Ok(secret);
    }
    if !stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for a passphrase").hint(format!("set {PASSPHRASE}")));
    }
    let ask = |prompt: &str| {
        rpassword::prompt_password(prompt).map_err(|e| Failure::new(format!("can't ask for a passphrase: {e}")))
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

/// Who signs: the option, then the environment, then the default key. An
/// encrypted key in `QYVOL_KEY` has to be in a file instead.
pub fn signer<'a>(option: Option<&'a str>, file: &'a Option<String>, unsigned: bool) -> SignerChoice<'a> {
    match (option, file, variable(KEY)) {
        _ if unsigned => SignerChoice::Unsigned,
        (Some(name), ..) => SignerChoice::Named(name),
        (None, Some(file), _) => SignerChoice::Named(file),
        (None, None, Some(pem)) => SignerChoice::Pem(pem),
        (None, None, None) => SignerChoice::Default,
    }
}

/// The key's file that the environment names.
pub fn key_file() -> Option<String> {
    variable(KEY_FILE)
}
