//! What the host revokes beside its policy: `trust.yaml.revoked`, in the configuration's directory.
//!
//! Invariants:
//! - it is read wherever a policy is, whatever policy or key decides; no parsed form of a policy
//!   has any of it;
//! - a file that others could have written, or that is not understood, is an error: what it
//!   revokes would be accepted;
//! - it is replaced whole, without the comments in it, or removed.
//!
//! Deliberately absent: what it means for a verdict (`qyvol-trust`).

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use qyvol_trust::Revocations;
use qyvol_types::{Digest, limits};
use rustix::fs::OFlags;

use crate::output::private_directory;
use crate::policy_file::guarded_text;
use crate::{Context, Error, secure_file};

/// What the host revokes, and the digest of the text that says so.
#[derive(Default)]
pub(crate) struct HostRevocations {
    pub(crate) revocations: Revocations,
    /// None where there is no such file.
    pub(crate) digest: Option<Digest>,
}

/// Where it is.
pub(crate) fn revocations_path(ctx: &Context<'_>) -> PathBuf {
    ctx.home.config.join("trust.yaml.revoked")
}

/// Reads what the host revokes.
pub(crate) fn host_revocations(ctx: &Context<'_>) -> Result<HostRevocations, Error> {
    let path = revocations_path(ctx);
    let Some(text) = guarded_text(&path, limits::YAML_BYTES)? else {
        return Ok(HostRevocations::default());
    };
    let digest = Digest::of(text.as_bytes());
    match Revocations::parse(&text) {
        Ok(revocations) => Ok(HostRevocations {
            revocations,
            digest: Some(digest),
        }),
        Err(problems) => Err(Error::PolicyYaml { path, problems }),
    }
}

/// The same, for whoever has read a policy from the same directory, and so knows that nobody
/// else could have taken the file away: without one, this is a single call.
pub(crate) fn host_revocations_beside(ctx: &Context<'_>) -> Result<HostRevocations, Error> {
    match fs::symlink_metadata(revocations_path(ctx)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(HostRevocations::default()),
        _ => host_revocations(ctx),
    }
}

/// Waits for whoever else changes what the host revokes, until dropped. Not the lock of the
/// policy: a registry that is slow to send a document of it must not delay a revocation.
pub(crate) fn lock_revocations(ctx: &Context<'_>) -> Result<File, Error> {
    private_directory(&ctx.home.config)?;
    let path = ctx.home.config.join("trust.yaml.revoked.lock");
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(&path)
        .and_then(|lock| lock.lock().map(|()| lock));
    lock.map_err(Error::file("lock", &path))
}

/// Writes what the host revokes. The caller holds the lock.
pub(crate) fn write_revocations(ctx: &Context<'_>, revocations: &Revocations) -> Result<(), Error> {
    let path = revocations_path(ctx);
    let removed = || -> io::Result<()> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&ctx.home.config)?.sync_all()
    };
    // A link stays: other hosts may share the file, and later entries of theirs would be missed.
    let is_link = fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
    match revocations.is_empty() && !is_link {
        true => removed().map_err(Error::file("remove", &path)),
        false => {
            let text = revocations.to_text();
            secure_file::replace(&path, text.as_bytes(), 0o600).map_err(Error::file("write", &path))
        }
    }
}
