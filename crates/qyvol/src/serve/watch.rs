//! Detects changes of a target and of the policy that judges it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use qyvol_remote::{Access, Repository};
use qyvol_types::{Digest, Reference};

use crate::follow::fresh_path;
use crate::revocations::revocations_path;
use crate::run::Pull;
use crate::{Context, Error, RunRequest, Target, policy_path, validate};

/// The state of a target and of its policy, as far as it is known without reading everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    target: TargetSight,
    policy: PolicySight,
}

/// The policy, the statement that it is the newest, and what the host revokes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PolicySight([Option<Stamp>; 3]);

/// The state of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TargetSight {
    /// Files; none where there is none.
    Files(Vec<Option<Stamp>>),
    /// The image that a name refers to.
    Image(Option<Digest>),
}

/// Which file it is, and when it was changed last: device, inode, size, and seconds and
/// nanoseconds of its content and of its attributes.
pub(super) type Stamp = [i128; 7];

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some([
        meta.dev().into(),
        meta.ino().into(),
        meta.size().into(),
        meta.mtime().into(),
        meta.mtime_nsec().into(),
        meta.ctime().into(),
        meta.ctime_nsec().into(),
    ])
}

impl Sight {
    /// The current state of the target, with a policy that was checked before.
    pub(super) fn of(ctx: &Context<'_>, run: &RunRequest<'_>, policy: PolicySight) -> Result<Sight, Error> {
        Ok(Sight {
            target: TargetSight::of(ctx, run)?,
            policy,
        })
    }
}

impl PolicySight {
    pub(super) fn of(ctx: &Context<'_>) -> PolicySight {
        let policy = policy_path(ctx);
        PolicySight([&policy, &fresh_path(&policy), &revocations_path(ctx)].map(|path| stamp(path)))
    }
}

impl TargetSight {
    /// Checks the files of a target, or its name: in the store, or on its registry if it is
    /// pulled each time.
    fn of(ctx: &Context<'_>, run: &RunRequest<'_>) -> Result<TargetSight, Error> {
        let name = match run.target {
            Target::Archive(path) | Target::Wasm(path) => return Ok(TargetSight::Files(vec![stamp(path)])),
            Target::Manifest(path) => return Ok(TargetSight::Files(of_manifest(path))),
            Target::Image(name) => name,
        };
        let digest = match (name.reference(), name.in_registry(), &run.pull) {
            (_, Some(name), Pull::Always(client)) => on_registry(&client()?, name)?,
            (Some(name), _, _) => ctx.store()?.resolve(name)?.map(|descriptor| descriptor.digest),
            // A digest always refers to the same image.
            (None, _, _) => None,
        };
        Ok(TargetSight::Image(digest))
    }
}

/// The manifest under development and its WebAssembly.
fn of_manifest(path: &Path) -> Vec<Option<Stamp>> {
    match validate(path) {
        Ok(manifest) => {
            let files = manifest.app.wasm_files().into_iter();
            let files = files.map(|file| stamp(&manifest.directory.join(file)));
            std::iter::once(stamp(&manifest.path)).chain(files).collect()
        }
        Err(_) => vec![stamp(path)],
    }
}

fn on_registry(client: &std::sync::Arc<qyvol_remote::Client>, name: &Reference) -> Result<Option<Digest>, Error> {
    let repository = Repository::new(client, name, Access::Pull)?;
    Ok(repository.resolve(name)?.map(|descriptor| descriptor.digest))
}
