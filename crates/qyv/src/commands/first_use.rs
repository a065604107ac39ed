//! `trust pin`, and the same question where an image of a new repository is run or pulled.

use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::sync::Arc;

use qyvol::remote_store::Client;
use qyvol::trust::{KeyId, PublicKey, Refusal};
use qyvol::types::escape;
use qyvol::{Context, FirstUse, ReadFrom, Target};
use rustix::termios::{QueueSelector, tcflush};

use super::policy_change::show_change;
use super::reference;
use crate::cli::{Format, RegistryArgs};
use crate::failure::Failure;
use crate::ui::Ui;
use crate::variables;

/// Bytes of an answer.
const ANSWER_BYTES: u64 = 1024;
/// Keys that are shown: nobody compares more.
const SHOWN_KEYS: usize = 8;

pub fn pin(
    ctx: &Context<'_>,
    ui: &Ui,
    name: &str,
    fingerprint: Option<&str>,
    registry: &RegistryArgs,
) -> Result<u8, Failure> {
    let name = reference(name)?;
    if name.registry().is_none() {
        return Err(Failure::usage(format!(
            "{name} names no registry: `qyv trust pin` trusts a key for a repository in a registry"
        ))
        .hint("`qyv trust add file:NAME --key FILE.pub` trusts a key for files and local names"));
    }
    let given = match fingerprint {
        Some(text) => {
            let id = KeyId::from_fingerprint(text);
            let malformed = || {
                Failure::usage(format!(
                    "`{}` is not a fingerprint: expected `SHA256:` and 43 characters",
                    escape(text)
                ))
            };
            Some((id.ok_or_else(malformed)?, false))
        }
        None if can_ask() => None,
        None => {
            return Err(
                Failure::usage("can't ask whether to trust the key: there is no terminal, or CI is set")
                    .hint("name the key by the fingerprint that its publisher gave you: --fingerprint SHA256:…"),
            );
        }
    };
    let client = || Ok(crate::registry::client(&ctx.home, ui, registry)?);
    let found = qyvol::first_use(ctx, &client, &name, ReadFrom::StoreFirst)?;
    let answer = match given {
        Some(given) => Some(given),
        None => ask(&name.to_string(), &found)?,
    };
    let Some((id, unchecked)) = answer else {
        return Err(Failure::new("no key was trusted: nothing was changed"));
    };
    show_change(ui, &found.pin(ctx, id, unchecked)?, Some(&found.scope()?))?;
    Ok(0)
}

/// Whether an image was refused because no rule covers its repository, and the user at the
/// terminal trusts a key that comes with it. It is judged again afterwards.
pub fn accepted(
    ctx: &Context<'_>,
    ui: &Ui,
    refused: &qyvol::Error,
    target: &Target,
    key: Option<&str>,
    client: &dyn Fn() -> Result<Arc<Client>, qyvol::Error>,
    from: ReadFrom,
) -> Result<bool, Failure> {
    let is_first = matches!(refused, qyvol::Error::Trust { source, .. } if source.refusal() == Refusal::NoRule);
    let Target::Image(name) = target else { return Ok(false) };
    let Some(name) = name.in_registry() else {
        return Ok(false);
    };
    // Another policy or key was named: this host's policy doesn't matter.
    let is_own = key.is_none() && ctx.policy.is_none();
    if !is_first || !is_own || ui.quiet || ui.format != Format::Text || !can_ask() {
        return Ok(false);
    }
    // If there is nothing to ask about, the refusal says what is wrong.
    let Ok(found) = qyvol::first_use(ctx, client, name, from) else {
        return Ok(false);
    };
    let Some((id, unchecked)) = ask(&name.to_string(), &found)? else {
        return Ok(false);
    };
    for line in found.pin(ctx, id, unchecked)?.notes {
        ui.note(&line);
    }
    Ok(true)
}

/// Whether a user is there who can read the question and answer it.
fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal() && !variables::in_pipeline()
}

/// The key that was chosen, and whether nobody has compared its fingerprint.
fn ask(name: &str, found: &FirstUse) -> Result<Option<(KeyId, bool)>, Failure> {
    let keys = found.keys();
    let mut text = format!(
        "no rule of the trust policy covers {name}, which calls itself {} and comes with {}:\n",
        escape(&found.own_name().to_string()),
        if keys.len() == 1 { "this key" } else { "these keys" }
    );
    for key in keys.iter().take(SHOWN_KEYS) {
        text.push_str(&format!("  {} ({})\n", key.fingerprint(), key.algorithm()));
    }
    if keys.len() > SHOWN_KEYS {
        text.push_str(&format!("  and {} more\n", keys.len() - SHOWN_KEYS));
    }
    text.push_str(
        "A key that comes with an image proves nothing by itself: compare the fingerprint with the one that\n\
         the publisher shows elsewhere.\n",
    );
    let scope = found.scope()?;
    text.push_str(&match keys {
        [_] => format!("To trust the key for {scope}, paste its fingerprint, or answer `yes` without comparing [no]: "),
        _ => format!("To trust one of them for {scope}, paste its fingerprint [no]: "),
    });
    let failed =
        |error: std::io::Error| Failure::new(format!("can't ask on the terminal whether to trust the key: {error}"));
    let mut err = stderr().lock();
    // What was typed or pasted before the question was shown must not answer it.
    tcflush(stdin(), QueueSelector::IFlush).map_err(|error| failed(error.into()))?;
    err.write_all(text.as_bytes())
        .and_then(|()| err.flush())
        .map_err(failed)?;
    let mut answer = String::new();
    stdin()
        .lock()
        .take(ANSWER_BYTES)
        .read_line(&mut answer)
        .map_err(failed)?;
    Ok(chosen(answer.trim(), keys))
}

/// What an answer chooses.
fn chosen(answer: &str, keys: &[PublicKey]) -> Option<(KeyId, bool)> {
    match (answer, keys) {
        ("yes", [only]) => Some((only.id(), true)),
        (text, _) => KeyId::from_fingerprint(text).map(|id| (id, false)),
    }
}
