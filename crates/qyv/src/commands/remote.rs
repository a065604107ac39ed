//! `push`, `pull`, `copy`, `tags`, `login`, `logout`, `rm --remote`.

use std::io::{IsTerminal, Read, Write, stderr, stdin};
use std::sync::Arc;

use qyvol::remote_store::{Client, Credential, Secret, StaticCredential, erase_credentials, store_credentials};
use qyvol::trust::{Identity, required_identity};
use qyvol::types::{Reference, RepositoryName};
use qyvol::{
    Context, Destination, EncodeRequest, Encodings, PullRequest, PushRequest, ReadFrom, Target, TransferReport,
};
use serde_json::{Value, json};

use super::{first_use, reference};
use crate::cli::{
    CatalogArgs, CopyArgs, EncodeArgs, Format, LoginArgs, LogoutArgs, PullArgs, PushArgs, RmArgs, TagsArgs,
};
use crate::failure::Failure;
use crate::registry::{client, client_with, credentials_file, inputs};
use crate::ui::{Ui, size};

/// Bytes of a password.
const PASSWORD_BYTES: u64 = 64 << 10;

fn references(names: &[String]) -> Result<Vec<Reference>, Failure> {
    names.iter().map(|name| reference(name)).collect()
}

/// Digest on stdout; the result on stderr.
fn show(ui: &Ui, moved: &TransferReport, verb: &str) -> Result<(), Failure> {
    let mut value = serde_json::to_value(moved).map_err(|e| Failure::new(e.to_string()))?;
    value["schema"] = 1.into();
    ui.show(&value, || {
        let mut out = String::new();
        if moved.dry_run {
            for part in &moved.parts {
                let state = if part.present == Some(true) {
                    "exists"
                } else {
                    "to copy"
                };
                out.push_str(&format!(
                    "{state:<8} {:>8}  {}  {}\n",
                    size(part.size),
                    part.digest,
                    qyvol::types::escape(&part.media_type)
                ));
            }
        }
        out + &format!("{}\n", moved.digest)
    })?;
    if ui.format == Format::Text && !moved.dry_run {
        let signatures = match moved.signatures {
            0 => "unsigned".to_string(),
            1 => "1 signature".to_string(),
            n => format!("{n} signatures"),
        };
        let there = match moved.copied {
            Some(0) => " (its content was there already)",
            _ => "",
        };
        for name in &moved.names {
            ui.note(&format!("{verb} {} as {name}, {signatures}{there}", moved.image));
            if let Some(identity) =
                identity_option(name, &moved.image).filter(|_| verb != "pulled" && moved.signatures > 0)
            {
                ui.note(&format!(
                    "  signed as {}: hosts accept it under this name where a rule has `identity: {identity}`",
                    moved.image
                ));
            }
        }
    }
    Ok(())
}

/// The `identity` that a rule needs to accept a signed name under another, if
/// the default is not enough.
fn identity_option(name: &Reference, signed: &Reference) -> Option<&'static str> {
    match required_identity(name, signed) {
        Identity::Exact => None,
        Identity::Repository => Some("repository"),
        Identity::Any => Some("any"),
    }
}

pub fn push(ctx: &Context<'_>, ui: &Ui, args: PushArgs) -> Result<u8, Failure> {
    let target = Target::parse(&args.source)?;
    let client = client(&ctx.home, ui, &args.registry)?;
    let bases = args.patch_from.iter().map(|base| Target::parse(base));
    let bases = bases.collect::<Result<Vec<Target>, _>>()?;
    let request = PushRequest {
        target: &target,
        names: &references(&args.names)?,
        dry_run: args.dry_run,
        encodings: match (args.no_encodings, bases.as_slice()) {
            (true, _) => Encodings::None,
            (false, []) => Encodings::FromStore,
            (false, bases) => Encodings::From(bases),
        },
    };
    let moved = qyvol::push(ctx, &client, &request)?;
    if moved.signatures == 0 {
        ui.warn(&format!("{} is not signed: hosts will refuse to run it", moved.image));
    }
    show(ui, &moved, "pushed")?;
    Ok(0)
}

pub fn pull(ctx: &Context<'_>, ui: &Ui, args: PullArgs) -> Result<u8, Failure> {
    let policy = match args.verify {
        true => Some(qyvol::policy_or_key(ctx, None)?),
        false => None,
    };
    let inputs = inputs(&ctx.home, &args.registry);
    let request = PullRequest {
        name: &reference(&args.name)?,
        output: args.output.as_deref().map(|path| Destination {
            path,
            force: args.force,
            inputs: &inputs,
        }),
        policy: policy.as_ref(),
        dry_run: args.dry_run,
    };
    let client = client(&ctx.home, ui, &args.registry)?;
    let moved = match qyvol::pull(ctx, &client, &request) {
        Err(error) if asked_first(ctx, ui, &error, request.name, &client)? => {
            // The policy has the new rule now.
            let policy = Some(qyvol::policy_or_key(ctx, None)?);
            qyvol::pull(
                ctx,
                &client,
                &PullRequest {
                    policy: policy.as_ref(),
                    ..request
                },
            )?
        }
        moved => moved?,
    };
    show(ui, &moved, "pulled")?;
    Ok(0)
}

/// Asks whether to trust the key that comes with an image, if no rule covers its name.
fn asked_first(
    ctx: &Context<'_>,
    ui: &Ui,
    error: &qyvol::Error,
    name: &Reference,
    client: &Arc<Client>,
) -> Result<bool, Failure> {
    let target = Target::Image(name.clone().into());
    first_use::accepted(
        ctx,
        ui,
        error,
        &target,
        None,
        &|| Ok(client.clone()),
        ReadFrom::Registry,
    )
}

pub fn copy(ctx: &Context<'_>, ui: &Ui, args: CopyArgs) -> Result<u8, Failure> {
    let client = client(&ctx.home, ui, &args.registry)?;
    let (from, to) = (reference(&args.from)?, references(&args.to)?);
    let moved = qyvol::copy(ctx, &client, &from, &to, args.dry_run)?;
    show(ui, &moved, "copied")?;
    Ok(0)
}

pub fn encode(ctx: &Context<'_>, ui: &Ui, args: &EncodeArgs) -> Result<u8, Failure> {
    let client = client(&ctx.home, ui, &args.registry)?;
    let bases = args.patch_from.iter().map(|base| Target::parse(base));
    let bases = bases.collect::<Result<Vec<Target>, _>>()?;
    let request = EncodeRequest {
        name: &reference(&args.name)?,
        bases: &bases,
    };
    let done = qyvol::encode(ctx, &client, &request)?;
    let mut value = serde_json::to_value(&done).map_err(|e| Failure::new(e.to_string()))?;
    value["schema"] = 1.into();
    ui.show(&value, || {
        let rows = done.encodings.iter().map(|row| {
            let from = row.base.map(|base| format!("  from {base}")).unwrap_or_default();
            format!("{:<10} {:>8}{from}\n", row.encoding, size(row.size))
        });
        rows.collect()
    })?;
    if ui.format == Format::Text {
        let name = &done.name;
        ui.note(&match (done.encodings.len(), done.size) {
            (0, None) => format!("{name} has no component of 16 KiB or more to encode"),
            (0, Some(_)) => format!("nothing would save a third of the component of {name}"),
            (1, _) => format!("published 1 representation of the component of {name}"),
            (n, _) => format!("published {n} representations of the component of {name}"),
        });
        for digest in &done.removed {
            ui.note(&format!("removed {digest}, of which nothing was of use any more"));
        }
    }
    Ok(0)
}

/// Bytes of names that are held for one JSON or YAML document.
const NAMES_BYTES: usize = 64 << 20;

/// A list of names: as text, each is printed when its page comes.
fn list(
    ui: &Ui,
    mut value: Value,
    key: &str,
    visit: impl FnOnce(&mut dyn FnMut(String)) -> Result<(), qyvol::Error>,
) -> Result<u8, Failure> {
    if ui.format == Format::Text {
        visit(&mut |name| ui.data(&format!("{name}\n")))?;
        return Ok(0);
    }
    let mut names = Vec::new();
    let mut bytes = 0;
    visit(&mut |name| {
        bytes += name.len();
        if bytes <= NAMES_BYTES {
            names.push(name);
        }
    })?;
    if bytes > NAMES_BYTES {
        return Err(
            Failure::new(format!("the names are longer than {NAMES_BYTES} bytes together"))
                .hint("--format text prints them as they come"),
        );
    }
    value[key] = names.into();
    ui.show(&value, String::new)?;
    Ok(0)
}

pub fn tags(ctx: &Context<'_>, ui: &Ui, args: TagsArgs) -> Result<u8, Failure> {
    let name: RepositoryName = args
        .name
        .parse()
        .map_err(|why| Failure::usage(format!("`{}`: {why}", qyvol::types::escape(&args.name))))?;
    let client = client(&ctx.home, ui, &args.registry)?;
    let value = json!({"schema": 1, "name": name});
    list(ui, value, "tags", |visit| qyvol::tags(&client, &name, visit))
}

pub fn catalog(ctx: &Context<'_>, ui: &Ui, args: CatalogArgs) -> Result<u8, Failure> {
    let host = host(&args.host)?;
    let client = client(&ctx.home, ui, &args.registry)?;
    let value = json!({"schema": 1, "registry": host});
    list(ui, value, "repositories", |visit| {
        Ok(client.visit_repositories(&host, visit)?)
    })
}

pub fn rm(ctx: &Context<'_>, ui: &Ui, args: RmArgs) -> Result<u8, Failure> {
    // Without a tag, `latest` is not removed.
    if let Some(name) = args.names.iter().find(|name| name.parse::<RepositoryName>().is_ok()) {
        return Err(Failure::usage(format!(
            "{name} has no tag to remove: HOST/NAME:TAG or HOST/NAME@DIGEST is expected"
        )));
    }
    let client = client(&ctx.home, ui, &args.registry)?;
    let mut removed = Vec::new();
    let done = qyvol::remove_remote(&client, &references(&args.names)?, &mut |name| {
        removed.push(name.to_string())
    });
    // What was removed is reported, even if the rest fails.
    if done.is_ok() || !removed.is_empty() {
        ui.show(&json!({"schema": 1, "removed": removed}), || {
            removed.iter().map(|n| format!("{n}\n")).collect()
        })?;
    }
    done?;
    Ok(0)
}

/// A registry's host, as the rest of the command writes it.
fn host(text: &str) -> Result<String, Failure> {
    let name: Option<Reference> = format!("{text}/x").parse().ok();
    let host = name.as_ref().and_then(Reference::registry).map(str::to_string);
    host.filter(|host| host.eq_ignore_ascii_case(text)).ok_or_else(|| {
        Failure::usage(format!(
            "`{}` is not a registry: HOST or HOST:PORT is expected, without `https://` and without a name",
            qyvol::types::escape(text)
        ))
    })
}

pub fn login(ctx: &Context<'_>, ui: &Ui, args: LoginArgs) -> Result<u8, Failure> {
    let host = host(&args.host)?;
    let user = match args.username {
        Some(user) => user,
        None => ask_name(&host)?,
    };
    if user.is_empty() || user.contains(':') {
        return Err(Failure::usage("the name is empty, or has a colon in it"));
    }
    let password = Secret::new(password(&host, &user, args.password_stdin)?);
    let credential = Credential::Password {
        user: user.clone(),
        password: password.clone(),
    };
    let fixed = StaticCredential {
        registry: host.clone(),
        credential,
    };
    let client = client_with(&ctx.home, ui, &args.registry, Box::new(fixed))?;
    client.ping(&host).map_err(qyvol::Error::from)?;
    let place = store_credentials(&credentials_file(&ctx.home), &host, &user, &password).map_err(qyvol::Error::from)?;
    ui.show(
        &json!({"schema": 1, "registry": host, "user": user, "stored": place}),
        || format!("logged in to {host} as {user}\n"),
    )?;
    if place.ends_with(".json") && ui.format == Format::Text {
        ui.note(&format!(
            "the password is stored unencrypted in {place}, which only you can read; to use a credential helper instead, log out, set `credsStore` in that file, and log in again"
        ));
    }
    Ok(0)
}

pub fn logout(ctx: &Context<'_>, ui: &Ui, args: LogoutArgs) -> Result<u8, Failure> {
    let host = host(&args.host)?;
    let erased = erase_credentials(&credentials_file(&ctx.home), &host).map_err(qyvol::Error::from)?;
    ui.show(
        &json!({"schema": 1, "registry": host, "erased": erased}),
        || match erased {
            true => format!("logged out of {host}\n"),
            false => format!("not logged in to {host}\n"),
        },
    )?;
    Ok(0)
}

fn ask_name(host: &str) -> Result<String, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on").hint("name the user with --username"));
    }
    let mut err = stderr().lock();
    let _ = write!(err, "user on {host}: ").and_then(|()| err.flush());
    let mut name = String::new();
    stdin()
        .read_line(&mut name)
        .map_err(|e| Failure::new(format!("can't read the name: {e}")))?;
    Ok(name.trim().to_string())
}

fn password(host: &str, user: &str, from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        let mut text = String::new();
        stdin()
            .take(PASSWORD_BYTES)
            .read_to_string(&mut text)
            .map_err(|e| Failure::new(format!("can't read the password: {e}")))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(Failure::usage("the password on stdin is empty"));
        }
        return Ok(text.to_string());
    }
    if !stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the password").hint("pipe it in: --password-stdin"));
    }
    rpassword::prompt_password(format!("password of {user} on {host}: "))
        .map_err(|e| Failure::new(format!("can't ask for the password: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_names_the_identity_that_a_host_needs_for_another_name() {
        let signed: Reference = "acme/app:1.0.0".parse().unwrap();
        for (name, needed) in [
            ("r.example/acme/app:1.0.0", None),
            ("r.example/team/acme/app:1.0.0", None),
            ("r.example/acme/app:latest", Some("repository")),
            ("r.example/app:1.0.0", Some("any")),
            ("r.example/xacme/app:1.0.0", Some("any")),
        ] {
            assert_eq!(identity_option(&name.parse().unwrap(), &signed), needed, "{name}");
        }
    }
}
