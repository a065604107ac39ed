//! What a run may do: what its manifest asks for and the operator adds, without what the
//! operator removes, and at most what the rule of the trust policy allows.

use std::fs;
use std::path::Path;

use qyvol_sandbox::{Args, Capabilities, FsAccess, Grant, Net};
use qyvol_trust::Ceiling;
use qyvol_types::{AppManifest, FsKind, Resources, escape};

use super::{DirGrant, RunRequest};
use crate::data::DEFAULT_QUOTA;
use crate::{Error, memfs, netfs};

/// Bytes of linear memory, unless the manifest says otherwise.
const DEFAULT_MEMORY: u64 = 2 << 30;

/// Decides what a run may do. Fails if the operator asks for something that the manifest
/// or the rule does not allow.
pub(super) fn decide(
    label: &str,
    asked: &Capabilities,
    ceiling: &Ceiling,
    request: &RunRequest<'_>,
) -> Result<Grant, Error> {
    let refused = |why: String| Error::NotPermitted {
        target: label.to_string(),
        why,
    };
    let overrides = &request.overrides;
    let mut grant = Grant::new(asked.clone());
    grant.add_net(&Net::to(overrides.net.clone()));
    if overrides.no_net || overrides.deterministic.is_some() {
        grant.limit_net(Net::None);
    }
    if let Some(fs) = &overrides.fs {
        grant.limit_fs(fs);
    }
    if let Some(allow) = &ceiling.allow {
        grant.limit(allow);
        if !request.dirs.is_empty() && allow.fs != FsAccess::Full {
            return Err(refused(
                "the rule of the trust policy that accepts it does not allow `fs: full`, which --dir needs".to_string(),
            ));
        }
    }
    if let Some(program) = overrides.exec.iter().find(|program| !asked.exec.allows(program)) {
        return Err(refused(format!(
            "its manifest does not ask to start {} (`permissions.exec`)",
            escape(program)
        )));
    }
    if let Some(allow) = &ceiling.allow
        && let Some(program) = overrides.exec.iter().find(|program| !allow.exec.allows(program))
    {
        return Err(refused(format!(
            "the rule of the trust policy that accepts it does not let it start {}",
            escape(program)
        )));
    }
    if let Some((program, dir)) = rewritable(request) {
        return Err(refused(format!(
            "it could replace {} in {}, which is granted for writing, and --allow-exec would start the replacement",
            escape(program),
            dir.host.display()
        )));
    }
    grant.exec.clone_from(&overrides.exec);
    if let Some((name, _)) = request.env.iter().find(|(name, _)| !grant.allows_env(name)) {
        let whose = match asked.env.allows(name) {
            true => "the rule of the trust policy that accepts it",
            false => "its manifest (`permissions.env`)",
        };
        return Err(refused(format!(
            "{whose} does not let the operator set {}",
            escape(name)
        )));
    }
    if grant.args == Args::Fixed && !request.args.is_empty() {
        let whose = match asked.args {
            Args::Any => "the rule of the trust policy that accepts it",
            Args::Fixed => "its manifest (`permissions.args`)",
        };
        return Err(refused(format!("{whose} does not let the operator add arguments")));
    }
    report_grants(asked, ceiling, request);
    Ok(grant)
}

/// Refuses a deterministic run of an application whose files are on another machine.
pub(super) fn check_deterministic(label: &str, app: &AppManifest, request: &RunRequest<'_>) -> Result<(), Error> {
    if request.overrides.deterministic.is_none() || app.fs.kind != FsKind::Netfs {
        return Ok(());
    }
    Err(Error::NotPermitted {
        target: label.to_string(),
        why: "its files are those of another machine (`fs.type: netfs`), so no run of it can be repeated".to_string(),
    })
}

/// What limits the connections of a netfs, in addition to its source.
pub(super) fn fs_net(ceiling: &Ceiling, request: &RunRequest<'_>) -> Vec<Net> {
    let held_back = request.overrides.no_net.then_some(Net::None);
    let allowed = ceiling.allow.as_ref().map(|allow| allow.net.clone());
    held_back.into_iter().chain(allowed).collect()
}

/// A program that the guest could replace, and the directory through which it could.
fn rewritable<'r>(request: &'r RunRequest<'_>) -> Option<(&'r str, &'r DirGrant)> {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let writable = request.dirs.iter().filter(|dir| dir.writable);
    writable
        .flat_map(|dir| {
            request
                .overrides
                .exec
                .iter()
                .map(move |program| (program.as_str(), dir))
        })
        .find(|(program, dir)| {
            let (program, dir) = (Path::new(program), real(&dir.host));
            program.starts_with(&dir) || real(program).starts_with(&dir)
        })
}

/// Reports what the operator grants.
fn report_grants(asked: &Capabilities, ceiling: &Ceiling, request: &RunRequest<'_>) {
    for dir in &request.dirs {
        let mode = if dir.writable { "read and write" } else { "read" };
        let beyond = if asked.fs == FsAccess::Full {
            ""
        } else {
            ", beyond its manifest"
        };
        request
            .events
            .granted(&format!("{} as {} ({mode}{beyond})", dir.host.display(), dir.guest));
    }
    for program in &request.overrides.exec {
        let program = escape(program);
        request.events.granted(&format!(
            "{program}, started as this user with any arguments that the guest passes"
        ));
    }
    let bounded = ceiling.allow.as_ref().is_some_and(|allow| allow.net != Net::All);
    let bounds = if bounded {
        ", as far as the trust policy allows"
    } else {
        ""
    };
    for endpoint in &request.overrides.net {
        request
            .events
            .granted(&format!("connections to {endpoint}, beyond its manifest{bounds}"));
    }
}

/// The limits of a run. Files in memory take the host's memory, so a manifest's own
/// `storage` is capped at the `memory` of the operator or the rule, unless these set
/// `storage` too. For data on disk it is capped at the default.
pub(super) fn limits(app: &AppManifest, ceiling: &Ceiling, request: &RunRequest<'_>) -> Resources {
    let given = request.overrides.limits;
    let mut limits = app.resources.overridden_by(given).least(ceiling.limits);
    let bound = given.least(ceiling.limits);
    if bound.storage.is_none() {
        let most = match app.fs.kind {
            FsKind::Diskfs => DEFAULT_QUOTA,
            FsKind::Memfs => bound.memory.unwrap_or(memfs::DEFAULT_BYTES),
            FsKind::Netfs => bound.memory.unwrap_or(netfs::DEFAULT_BYTES),
        };
        limits.storage = limits.storage.map(|storage| storage.min(most));
    }
    limits
}

/// The limits that apply, including the defaults.
pub(super) fn in_force(limits: Resources, app: &AppManifest, fs: &FsAccess) -> Resources {
    let storage = match app.fs.kind {
        _ if *fs == FsAccess::None => None,
        FsKind::Memfs => limits.storage.or(limits.memory).or(Some(memfs::DEFAULT_BYTES)),
        FsKind::Diskfs => limits.storage,
        FsKind::Netfs => limits.storage.or(Some(netfs::DEFAULT_BYTES)),
    };
    Resources {
        memory: limits.memory.or(Some(DEFAULT_MEMORY)),
        storage,
        ..limits
    }
}

/// The limits of a run, with the default for data on disk if the guest may write there.
pub(super) fn with_data(limits: Resources, app: &AppManifest, fs: &FsAccess) -> Resources {
    let storage = match app.fs.kind {
        FsKind::Diskfs if fs.writes() => limits.storage.or(Some(DEFAULT_QUOTA)),
        _ => limits.storage,
    };
    Resources { storage, ..limits }
}
