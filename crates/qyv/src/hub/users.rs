//! `hub user`: the file that says who may use a registry.

use std::path::Path;
use std::sync::Arc;

use qyvol::types::escape;
use qyvol_hub::{HubError, User, Users};
use serde_json::json;

use super::failed;
use crate::cli::{HubUserAddArgs, HubUserArgs};
use crate::failure::Failure;
use crate::secrets;
use crate::ui::Ui;

/// Errors of a change: of the file itself, and of the request.
enum UserEditError {
    File(HubError),
    There,
    Absent,
}

impl From<HubError> for UserEditError {
    fn from(error: HubError) -> UserEditError {
        UserEditError::File(error)
    }
}

fn refused(name: &str, path: &Path) -> impl FnOnce(UserEditError) -> Failure {
    let (name, path) = (escape(name).to_string(), escape(&path.to_string_lossy()).to_string());
    move |reason| match reason {
        UserEditError::File(error) => failed(error),
        UserEditError::There => Failure::new(format!("{path}: user {name} already exists"))
            .hint("--replace changes the password, and with --allow the rights"),
        UserEditError::Absent => Failure::new(format!("{path}: there is no user {name}")),
    }
}

pub fn add(ui: &Ui, args: HubUserAddArgs) -> Result<u8, Failure> {
    let HubUserAddArgs { user, allow, replace } = args;
    let path = &user.file.users;
    // Checked before the password prompt, and again under the lock.
    if path.exists() {
        let there = Users::read(path)
            .map_err(failed)?
            .users
            .iter()
            .any(|u| u.name == user.name);
        match (there, replace) {
            (true, false) => return Err(refused(&user.name, path)(UserEditError::There)),
            (false, true) => return Err(refused(&user.name, path)(UserEditError::Absent)),
            _ => {}
        }
    }
    let hash = qyvol_hub::hash_password(secrets::hub_password()?.as_bytes()).map_err(failed)?;
    Users::edit(path, |users| {
        let known = users.users.iter_mut().find(|known| known.name == user.name);
        match known {
            Some(known) if replace => {
                let known = Arc::make_mut(known);
                known.password = hash;
                if !allow.is_empty() {
                    known.scopes = allow;
                }
            }
            Some(_) => return Err(UserEditError::There),
            None if replace => return Err(UserEditError::Absent),
            None => users.users.push(Arc::new(User {
                name: user.name.clone(),
                password: hash,
                scopes: allow,
            })),
        }
        Ok(())
    })
    .map_err(refused(&user.name, path))?;
    ui.show(&json!({"schema": 1, "user": user.name, "replaced": replace}), || {
        let done = if replace { "changed" } else { "added" };
        format!("{done} {}\n", escape(&user.name))
    })?;
    Ok(0)
}

pub fn rm(ui: &Ui, args: &HubUserArgs) -> Result<u8, Failure> {
    // A missing file is not created.
    Users::read(&args.file.users).map_err(failed)?;
    Users::edit(&args.file.users, |users| {
        let before = users.users.len();
        users.users.retain(|user| user.name != args.name);
        match users.users.len() < before {
            true => Ok(()),
            false => Err(UserEditError::Absent),
        }
    })
    .map_err(refused(&args.name, &args.file.users))?;
    ui.show(&json!({"schema": 1, "user": args.name}), || {
        format!("removed {}\n", escape(&args.name))
    })?;
    Ok(0)
}

pub fn list(ui: &Ui, path: &Path) -> Result<u8, Failure> {
    let users = Users::read(path).map_err(failed)?;
    let all: Vec<_> = users
        .users
        .iter()
        .map(|user| json!({"name": user.name, "scopes": user.scopes}))
        .collect();
    ui.show(
        &json!({"schema": 1, "anonymous_read": users.anonymous_read, "users": all}),
        || {
            let mut out = String::new();
            if users.anonymous_read {
                out.push_str("everyone *=read\n");
            }
            for user in &users.users {
                let scopes: Vec<_> = user.scopes.iter().map(ToString::to_string).collect();
                out.push_str(&format!("{} {}\n", escape(&user.name), escape(&scopes.join(" "))));
            }
            out
        },
    )?;
    Ok(0)
}
