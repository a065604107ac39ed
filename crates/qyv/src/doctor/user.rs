//! The user: directories, policy, keys and the store.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use qyvol::{Context, Keyring, load_policy, policy_or_key, policy_path};
use rustix::fs::{Access, access, statvfs};
use rustix::process::geteuid;

use super::Area;
use crate::failure::chain;
use crate::ui::{count, size};

/// An installed application takes about this with its code.
const LITTLE_SPACE: u64 = 64 << 20;

pub(super) fn look(ctx: &Context<'_>) -> Area {
    let mut area = Area::new("user");
    let home = &ctx.home;
    directory(&mut area, "configuration", &home.config);
    directory(&mut area, "store", &home.store.join("store"));
    directory(&mut area, "data", &home.data);
    space(&mut area, &home.store);
    store(&mut area, ctx);
    policy(&mut area, ctx);
    keys(&mut area, ctx);
    area
}

/// A directory of the user that exists, or can be created.
fn directory(area: &mut Area, name: &str, path: &Path) {
    let shown = path.display().to_string();
    let elsewhere = "set QYVOL_HOME to a directory of your own";
    let meta = match fs::symlink_metadata(path).and_then(|_| fs::metadata(path)) {
        Ok(meta) => meta,
        Err(_) => {
            let above = path.ancestors().skip(1).find(|above| above.is_dir());
            match above {
                Some(above) if access(above, Access::WRITE_OK).is_ok() => {
                    area.ok(name, format!("{shown}, created when it is needed"));
                }
                _ => {
                    area.problem(name, format!("{shown} doesn't exist and can't be created"))
                        .fix(elsewhere);
                }
            }
            return;
        }
    };
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_dir() {
        area.problem(name, format!("{shown} is not a directory")).fix(elsewhere);
    } else if meta.uid() == 0 && geteuid().as_raw() != 0 {
        area.note(name, format!("{shown} belongs to root"))
            .means("images in it can be used, but nothing is added, and each run compiles again")
            .fix(elsewhere);
    } else if meta.uid() != geteuid().as_raw() {
        area.problem(name, format!("{shown} belongs to the user {}", meta.uid()))
            .means("qyv refuses another user's directory")
            .fix(elsewhere);
    } else if mode & 0o022 != 0 {
        area.problem(name, format!("{shown} can be written by others (mode {mode:04o})"))
            .means("others could decide what is trusted and what runs")
            .fix(format!("`chmod go-w {shown}`"));
    } else if access(path, Access::WRITE_OK).is_err() {
        area.note(name, format!("{shown} can't be written"))
            .means("what is in it can be used, and nothing added");
    } else {
        area.ok(name, format!("{shown} (mode {mode:04o})"));
    }
}

/// Space on the store's file system.
fn space(area: &mut Area, store: &Path) {
    let Some(there) = store.ancestors().find(|path| path.is_dir()) else {
        return;
    };
    let Ok(stat) = statvfs(there) else {
        return;
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} free for the store", size(free));
    match free < LITTLE_SPACE {
        true => {
            area.problem("space", found)
                .means("images may not fit, and compiled code may not be kept, so that each run compiles again")
                .fix("free space on that file system; `qyv prune` removes what no name in the store needs");
        }
        false => area.ok("space", found),
    }
}

fn store(area: &mut Area, ctx: &Context<'_>) {
    match qyvol::images(ctx) {
        Ok(rows) => area.ok("images", count(rows.len(), "name in the store", "names in the store")),
        Err(error) => {
            area.problem("images", chain(&error))
                .fix("`qyv check` says what is damaged in the store and how to repair it");
        }
    }
}

fn policy(area: &mut Area, ctx: &Context<'_>) {
    let path = policy_path(ctx);
    let shown = path.display().to_string();
    let policy = load_policy(ctx).and_then(|policy| policy_or_key(ctx, None).map(|_| policy));
    match policy {
        Ok(policy) if policy.rules().is_empty() => {
            area.note("policy", format!("{shown} has no rules, or doesn't exist"))
                .means("images run only with --key")
                .fix("`qyv build` makes one for your own files, `qyv trust add SCOPE --key FILE.pub` for a registry's");
        }
        Ok(policy) => area.ok(
            "policy",
            format!(
                "{shown}, serial {}, {}",
                policy.serial(),
                count(policy.rules().len(), "rule", "rules")
            ),
        ),
        Err(error) => {
            area.problem("policy", chain(&error))
                .means("no image runs")
                .fix("`qyv trust check` reports every problem; `qyv trust pull` renews a policy that has lapsed");
        }
    }
}

fn keys(area: &mut Area, ctx: &Context<'_>) {
    let mut warnings = Vec::new();
    let list = Keyring::new(ctx).list(&mut |warning| warnings.push(warning));
    for warning in warnings {
        area.note("keys", warning);
    }
    match list {
        Ok(rows) => {
            let private = rows.iter().filter(|row| row.private).count();
            let plain = rows.iter().filter(|row| row.private && !row.encrypted).count();
            let found = match private {
                0 => "none to sign with; `qyv build` makes one".to_string(),
                some => format!("{some} to sign with, {plain} of them not encrypted"),
            };
            area.ok("keys", found);
        }
        Err(error) => {
            area.problem("keys", chain(&error))
                .means("nothing can be signed with these keys");
        }
    }
}
