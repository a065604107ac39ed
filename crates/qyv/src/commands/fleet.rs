//! `trust follow|pull|import|export|sign|push`: policies that hosts follow.

use std::path::Path;

use qyvol::types::{Reference, RepositoryName, escape};
use qyvol::{
    Context, FollowSource, PolicyExport, PolicyPush, PolicySign, PolicySigned, PolicyUpdate, PublishedPolicies,
    SignerChoice,
};
use serde_json::json;

use crate::cli::{FleetCommand, Format};
use crate::failure::Failure;
use crate::registry::client;
use crate::secrets;
use crate::ui::Ui;

pub fn fleet(ctx: &Context<'_>, ui: &Ui, command: FleetCommand) -> Result<u8, Failure> {
    match command {
        FleetCommand::Follow {
            source,
            replace,
            registry,
        } => {
            // A digest names something in a registry; a path has none.
            let named = source.parse::<Reference>().ok();
            let named = named.filter(|name| name.digest().is_some() && name.registry().is_some());
            let update = match &named {
                Some(name) => {
                    let client = client(&ctx.home, ui, &registry)?;
                    qyvol::follow(ctx, &FollowSource::Registry(&client, name), replace)?
                }
                None => qyvol::follow(ctx, &FollowSource::File(Path::new(&source)), replace)?,
            };
            updated(ui, &update)?;
            if ui.format == Format::Text {
                ui.note("`qyv trust pull` or `qyv trust import` updates it");
            }
        }
        FleetCommand::Pull { repository, registry } => {
            let client = client(&ctx.home, ui, &registry)?;
            let from = repository.as_deref().map(repository_name).transpose()?;
            updated(ui, &qyvol::pull_policy(ctx, &client, from.as_ref())?)?;
        }
        FleetCommand::Import { file } => updated(ui, &qyvol::import_policy(ctx, &file)?)?,
        FleetCommand::Export {
            repository,
            output,
            from,
            registry,
        } => {
            let client = client(&ctx.home, ui, &registry)?;
            let repository = repository.as_deref().map(repository_name).transpose()?;
            let request = PolicyExport {
                from: repository.as_ref(),
                first: from,
                to: &output,
            };
            let exported = qyvol::export_policies(ctx, &client, &request)?;
            moved(ui, &exported, "fetched")?;
        }
        FleetCommand::Sign {
            file,
            document,
            fresh,
            signer,
            key,
        } => {
            let signer = secrets::Signer::with_options(signer.as_deref(), key.as_deref())?;
            let choice = match signer.choose(key.as_deref(), false) {
                // A new key would be in no policy.
                SignerChoice::Default => SignerChoice::Existing,
                choice => choice,
            };
            let request = PolicySign {
                chain: &file,
                document: document.as_deref(),
                fresh,
                signer: choice,
                passphrase: &secrets::passphrase,
            };
            signed(ui, &qyvol::sign_policy(ctx, &request)?, fresh)?;
        }
        FleetCommand::Push {
            file,
            repository,
            registry,
        } => {
            let client = client(&ctx.home, ui, &registry)?;
            let to = repository.as_deref().map(repository_name).transpose()?;
            let request = PolicyPush {
                chain: &file,
                to: to.as_ref(),
            };
            let pushed = qyvol::push_policies(ctx, &client, &request)?;
            moved(ui, &pushed, "published")?;
        }
    }
    Ok(0)
}

fn repository_name(text: &str) -> Result<RepositoryName, Failure> {
    let name = text.parse::<RepositoryName>();
    let name = name.map_err(|error| Failure::usage(format!("`{}`: {error}", escape(text))))?;
    match name.registry() {
        Some(_) => Ok(name),
        None => Err(Failure::usage(format!(
            "`{}` names no registry: expected HOST/REPOSITORY",
            escape(text)
        ))),
    }
}

fn updated(ui: &Ui, update: &PolicyUpdate) -> Result<(), Failure> {
    let mut document = serde_json::to_value(update).unwrap_or_default();
    document["schema"] = json!(1);
    ui.show(&document, || {
        let name = escape(&update.name).to_string();
        let what = match update.was {
            Some(was) if was == update.serial => format!("{name} is unchanged, serial {was}"),
            Some(was) => format!("{name} is at serial {} (was {was})", update.serial),
            None => format!("{name} is followed from serial {} on", update.serial),
        };
        let mut text = format!("{}: {what}\n", update.path.display());
        if let Some(fresh) = update.fresh {
            text.push_str(&format!("  said to be the newest at {fresh}\n"));
        }
        if let Some(kept) = &update.kept {
            text.push_str(&format!("  the previous policy is in {}\n", kept.display()));
        }
        text
    })
}

fn signed(ui: &Ui, signed: &PolicySigned, fresh: bool) -> Result<(), Failure> {
    let mut document = serde_json::to_value(signed).unwrap_or_default();
    document["schema"] = json!(1);
    ui.show(&document, || format!("{}\n", signed.digest))?;
    if ui.format != Format::Text {
        return Ok(());
    }
    let (name, serial) = (escape(&signed.name).to_string(), signed.serial);
    if fresh {
        ui.note(&format!(
            "{name}, serial {serial}: said to be the newest by {}",
            signed.fingerprint
        ));
        return Ok(());
    }
    ui.note(&format!("{name}, serial {serial}: signed by {}", signed.fingerprint));
    let asked = [(signed.before, serial.saturating_sub(1)), (Some(signed.own), serial)];
    for (signatures, of) in asked {
        if let Some(signatures) = signatures {
            let (have, need) = (signatures.have, signatures.need);
            ui.note(&format!("  {have} of the {need} keys that serial {of} needs"));
        }
    }
    Ok(())
}

fn moved(ui: &Ui, moved: &PublishedPolicies, verb: &str) -> Result<(), Failure> {
    let mut document = serde_json::to_value(moved).unwrap_or_default();
    document["schema"] = json!(1);
    ui.show(&document, || format!("{}@{}\n", moved.repository, moved.digest))?;
    if ui.format == Format::Text {
        let name = escape(&moved.name).to_string();
        ui.note(&format!(
            "{verb} {name} up to serial {}, documents: {}",
            moved.serial, moved.documents
        ));
    }
    Ok(())
}
