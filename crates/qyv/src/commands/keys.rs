//! `keys`.

use qyvol::trust::KeyType;
use qyvol::{Context, KeyRow, Keyring};
use serde_json::json;

use crate::cli::{KeyKind, KeysCommand};
use crate::failure::Failure;
use crate::secrets;
use crate::ui::{Ui, table};

pub fn keys(ctx: &Context<'_>, ui: &Ui, command: KeysCommand) -> Result<u8, Failure> {
    let keyring = Keyring::new(ctx);
    match command {
        KeysCommand::Generate { name, kind, encrypt } => {
            let kind = match kind {
                KeyKind::Ed25519 => KeyType::Ed25519,
                KeyKind::EcdsaP256 => KeyType::EcdsaP256,
            };
            let secret = if encrypt {
                Some(secrets::new_passphrase()?)
            } else {
                None
            };
            keyring.generate(&name, kind, secret.as_deref().map(String::as_str))?;
            show(ui, &keyring.show(&name)?, None)?;
        }
        KeysCommand::List => {
            let mut skipped = Vec::new();
            let rows = keyring.list(&mut |why| skipped.push(why))?;
            for why in &skipped {
                ui.warn(why);
            }
            ui.show(&json!({"schema": 1, "keys": rows}), || list(&rows))?;
        }
        KeysCommand::Show { name } => {
            let public = keyring.public(&name)?.to_pem();
            show(ui, &keyring.show(&name)?, Some(&public))?;
        }
        KeysCommand::Export {
            name, private: false, ..
        } => ui.data(&keyring.public(&name)?.to_pem()),
        KeysCommand::Export { name, unencrypted, .. } => {
            let secret = if unencrypted {
                None
            } else {
                Some(secrets::new_passphrase()?)
            };
            ui.data(&keyring.export(&name, &secrets::passphrase, secret.as_deref().map(String::as_str))?);
        }
        KeysCommand::Rm { name, yes } => {
            let row = keyring.remove(&name, yes)?;
            show(ui, &row, None)?;
            note_policy_reference(ctx, ui, &row);
        }
        KeysCommand::Import { name, file, encrypt } => {
            let secret = if encrypt {
                Some(secrets::new_passphrase()?)
            } else {
                None
            };
            let row = keyring.import(
                &name,
                &file,
                &secrets::passphrase,
                secret.as_deref().map(String::as_str),
            )?;
            show(ui, &row, None)?;
        }
    }
    Ok(0)
}

/// Notes where the policy still trusts a key that was removed.
fn note_policy_reference(ctx: &Context<'_>, ui: &Ui, row: &KeyRow) {
    let Ok(policy) = qyvol::load_policy(ctx) else { return };
    let summary = serde_json::to_value(policy.summary()).unwrap_or_default();
    let keys = summary["keys"].as_array().cloned().unwrap_or_default();
    for key in keys.iter().filter(|key| key["fingerprint"] == row.fingerprint.as_str()) {
        let name = key["name"].as_str().unwrap_or_default();
        ui.note(&format!(
            "the trust policy still names it, as `{}`: removing a key does not revoke it",
            qyvol::types::escape(name)
        ));
    }
}

fn half(row: &KeyRow) -> &'static str {
    match (row.private, row.encrypted) {
        (true, true) => "encrypted",
        (true, false) => "yes",
        (false, _) => "no",
    }
}

fn list(rows: &[KeyRow]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|r| {
            vec![
                r.name.clone(),
                r.algorithm.clone(),
                half(r).to_string(),
                r.fingerprint.clone(),
            ]
        })
        .collect();
    table(&["NAME", "TYPE", "PRIVATE", "FINGERPRINT"], &rows)
}

fn show(ui: &Ui, row: &KeyRow, public: Option<&str>) -> Result<(), Failure> {
    let mut value = serde_json::to_value(row).map_err(|e| Failure::new(e.to_string()))?;
    value["schema"] = json!(1);
    if let Some(public) = public {
        value["publicKey"] = json!(public);
    }
    ui.show(&value, || {
        let head = format!("{} {} {}\n", row.name, row.algorithm, row.fingerprint);
        head + public.unwrap_or_default()
    })
}
