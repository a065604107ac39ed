//! `update`: resolves dependencies again and rewrites the lock.

use std::path::{Path, PathBuf};

use qyvol_image::BuildOptions;
use qyvol_types::{LockedDependency, WitName};
use serde::Serialize;

use super::{Linking, LockUse, lock_file, lock_path};
use crate::validate::prepare;
use crate::{Context, Error, Pull, functions};

/// What to update.
pub struct UpdateRequest<'a> {
    /// A `.qyv` or the directory of one.
    pub path: &'a Path,
    /// Keys of `dependencies`; all of them if there are none.
    pub keys: &'a [WitName],
    /// When registries are asked.
    pub pull: Pull<'a>,
}

/// A dependency whose entry in the lock has changed.
#[derive(Clone, Debug, Serialize)]
pub struct LockChange {
    /// Its key.
    #[serde(rename = "for")]
    pub key: WitName,
    /// The previous entry.
    pub from: Option<LockedDependency>,
    /// The new entry.
    pub to: Option<LockedDependency>,
}

/// What was updated.
#[derive(Clone, Debug)]
pub struct UpdateReport {
    /// The lock.
    pub path: PathBuf,
    /// The changed entries.
    pub changes: Vec<LockChange>,
}

/// Resolves dependencies again, checks that the application can be built with them, and
/// rewrites the lock. Nothing else is built or written.
pub fn update(ctx: &Context<'_>, request: &UpdateRequest<'_>) -> Result<UpdateReport, Error> {
    let manifest = crate::validate(request.path)?;
    let path = lock_path(&manifest.directory);
    if manifest.app.dependencies.is_empty() {
        return Err(Error::Usage(format!(
            "{} has no dependencies",
            qyvol_types::escape(&manifest.path.to_string_lossy())
        )));
    }
    let before = lock_file::read(&path)?
        .map(|lock| lock.dependencies)
        .unwrap_or_default();
    let options = BuildOptions::untimed(functions::join);
    let linking = Linking {
        pull: request.pull,
        lock: LockUse::Updated(request.keys),
    };
    let mut application = prepare(ctx, manifest, options, &linking)?;
    application.linkage.remember(ctx)?;
    if let Some(lock) = &application.linkage.lock {
        lock.stage(ctx)?.finish()?;
    }
    let now = application
        .builder
        .lock()
        .map(|lock| lock.dependencies.clone())
        .unwrap_or_default();
    let mut changes = Vec::new();
    for from in &before {
        let to = now.iter().find(|to| to.key == from.key);
        if to.is_none_or(|to| is_other(from, to)) {
            changes.push(LockChange {
                key: from.key.clone(),
                from: Some(from.clone()),
                to: to.map(short),
            });
        }
    }
    for to in now.iter().filter(|to| !before.iter().any(|from| from.key == to.key)) {
        changes.push(LockChange {
            key: to.key.clone(),
            from: None,
            to: Some(short(to)),
        });
    }
    changes.sort_by_key(|change| change.key.to_string());
    Ok(UpdateReport { path, changes })
}

/// As it stands in the lock.
fn short(locked: &LockedDependency) -> LockedDependency {
    LockedDependency {
        dependencies: Vec::new(),
        ..locked.clone()
    }
}

fn is_other(from: &LockedDependency, to: &LockedDependency) -> bool {
    *from != short(to)
}
