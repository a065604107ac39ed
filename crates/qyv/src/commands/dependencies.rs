//! `update`, and how dependencies are shown.

use qyvol::types::{LockedDependency, WitName, escape};
use qyvol::{Context, LockChange, Pull, UpdateRequest};
use serde_json::json;

use crate::cli::{Format, PullWhen, UpdateArgs};
use crate::failure::Failure;
use crate::ui::Ui;

pub fn update(ctx: &Context<'_>, ui: &Ui, args: &UpdateArgs) -> Result<u8, Failure> {
    let key = |name: &String| {
        let key = name.parse::<WitName>();
        key.map_err(|why| Failure::usage(format!("`{}` is {why}", escape(name))))
    };
    let keys: Vec<WitName> = args.names.iter().map(key).collect::<Result<_, _>>()?;
    let client = || Ok(crate::registry::client(&ctx.home, ui, &args.registry)?);
    let request = UpdateRequest {
        path: &args.path,
        keys: &keys,
        pull: match args.pull.unwrap_or(PullWhen::Always) {
            PullWhen::Always => Pull::Always(&client),
            PullWhen::Missing => Pull::Missing(&client),
            PullWhen::Never => Pull::Never,
        },
    };
    let report = qyvol::update(ctx, &request)?;
    let value = json!({"schema": 1, "path": report.path.display().to_string(), "changes": report.changes});
    ui.show(&value, || report.changes.iter().map(change).collect())?;
    if ui.format == Format::Text && report.changes.is_empty() {
        ui.note(&format!("{} is up to date", escape(&report.path.to_string_lossy())));
    }
    Ok(0)
}

/// One line for a changed entry of the lock.
fn change(change: &LockChange) -> String {
    let of = |locked: &Option<LockedDependency>| match locked {
        Some(locked) => format!("{} {}", locked.name, locked.manifest),
        None => "-".to_string(),
    };
    format!("{}: {} -> {}\n", change.key, of(&change.from), of(&change.to))
}

/// A dependency on one line, with the dependencies that it was built with.
pub fn shown(locked: &LockedDependency) -> String {
    let mut text = one(locked);
    let nested: Vec<String> = locked.with_all().into_iter().skip(1).map(one).collect();
    if !nested.is_empty() {
        text.push_str(&format!("; built with {}", nested.join(", with ")));
    }
    text
}

fn one(locked: &LockedDependency) -> String {
    let signers: Vec<String> = locked.signers.iter().map(|signer| escape(signer).to_string()).collect();
    let signed = match signers.is_empty() {
        true => "not signed".to_string(),
        false => format!("signed by {}", signers.join(", ")),
    };
    format!("{} for {}, {}, {signed}", locked.name, locked.key, locked.manifest)
}
