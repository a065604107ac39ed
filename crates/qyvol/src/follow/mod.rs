//! A policy that comes from elsewhere: the host follows a chain of signed documents, from a
//! registry or from a file.
//!
//! Invariants:
//! - the operator names the first document, by a file or a digest: no signature can
//!   authenticate it;
//! - each later one must follow the one in force ([`SignedPolicy::check_follows`]), in the
//!   order of the serials, none left out;
//! - the file is replaced atomically, once, by the newest document that follows; if a later one
//!   does not follow, those before it are kept and the failure is reported.
//!
//! Deliberately absent: local additions. A followed policy is changed only by its next
//! document.

mod chain;
mod fresh;
mod publish;
mod repository;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_remote::Client;
use qyvol_trust::{CHAIN_DOCUMENTS, DocumentError, PolicyDocument, Refusal, SignedPolicy};
use qyvol_types::{Reference, RepositoryName, Timestamp, limits};
use serde::Serialize;

use self::fresh::{beside, remember_fresh};
pub(crate) use self::fresh::{check_lapsed, fresh_path};
pub use self::publish::{
    PolicyExport, PolicyPush, PolicySign, PolicySigned, PublishedPolicies, export_policies, push_policies, sign_policy,
};
use self::repository::Documents;
use crate::policy_file::{lock_policy, policy_text};
use crate::revocations::{HostRevocations, host_revocations, lock_revocations};
use crate::text_file::read_text_within;
use crate::{Context, Error, policy_path, secure_file};

/// What following a chain has changed.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyUpdate {
    /// The policy's file.
    pub path: PathBuf,
    /// The policy's name.
    pub name: String,
    /// The serial that was in force before, if there was a policy that is followed.
    pub was: Option<u64>,
    /// The serial in force now.
    pub serial: u64,
    /// When it was last said to be the newest, where the policy asks for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fresh: Option<Timestamp>,
    /// Where the policy went that had not been followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<PathBuf>,
}

/// Where the first document comes from.
pub enum FollowSource<'a> {
    /// A file that the operator names.
    File(&'a Path),
    /// A registry, by a digest that the operator names.
    Registry(&'a Arc<Client>, &'a Reference),
}

/// Starts following a chain: puts its document into force.
pub fn follow(ctx: &Context<'_>, source: &FollowSource<'_>, replace: bool) -> Result<PolicyUpdate, Error> {
    let document = match source {
        FollowSource::File(path) => read_document(path)?,
        FollowSource::Registry(client, name) => Documents::open(client, name)?.named(name)?,
    };
    let path = policy_path(ctx);
    let _lock = lock_policy(&path)?;
    let text = policy_text(&path)?;
    let before = text.as_deref().and_then(|text| PolicyDocument::parse(text).ok());
    let mut kept = None;
    match &text {
        Some(text) if text == document.text() => {}
        Some(text) => {
            if !replace {
                return Err(Error::Usage(format!(
                    "there is a trust policy at {}: --replace puts it aside and follows `{}`",
                    path.display(),
                    document.name()
                )));
            }
            // A followed document can be fetched again.
            if before.is_none() {
                let aside = beside(&path, ".before");
                secure_file::replace(&aside, text.as_bytes(), 0o600).map_err(Error::file("write", &aside))?;
                kept = Some(aside);
            }
            put(&path, &document)?;
        }
        None => put(&path, &document)?,
    }
    Ok(PolicyUpdate {
        was: before.map(|document| document.serial()),
        name: document.name().to_string(),
        serial: document.serial(),
        fresh: None,
        kept,
        path,
    })
}

/// Follows the chain in a registry: `from`, or the repository that the policy names.
pub fn pull_policy(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    from: Option<&RepositoryName>,
) -> Result<PolicyUpdate, Error> {
    let current = followed(ctx)?;
    let named = current.policy().update().and_then(|update| update.from.as_ref());
    let Some(from) = from.or(named) else {
        return Err(Error::Usage(format!(
            "the policy `{}` names no repository in `update.from`: say where its documents are, as HOST/REPOSITORY",
            current.name()
        )));
    };
    let documents = Documents::open(client, &from.latest())?;
    advance(ctx, &from.to_string(), &mut |serial| documents.get(serial))
}

/// Follows the chain in a file.
pub fn import_policy(ctx: &Context<'_>, file: &Path) -> Result<PolicyUpdate, Error> {
    let steps = chain::read(file)?;
    let serial = followed(ctx)?.serial();
    let first = steps.first().map_or(0, |step| step.document.serial());
    if first > serial + 1 {
        return Err(Error::Usage(format!(
            "{} begins with serial {first}, and this host is at serial {serial}: export it with `--from {}`",
            file.display(),
            serial + 1
        )));
    }
    advance(ctx, &file.display().to_string(), &mut |serial| {
        let found = steps.iter().find(|step| step.document.serial() == serial);
        Ok(found.cloned())
    })
}

/// The document in force.
fn followed(ctx: &Context<'_>) -> Result<PolicyDocument, Error> {
    let path = policy_path(ctx);
    let Some(text) = policy_text(&path)? else {
        return Err(Error::Usage(format!(
            "there is no trust policy at {}: `qyv trust follow FILE` puts the first one into force",
            path.display()
        )));
    };
    document(&path, &text)
}

/// Reads a document; `path` is for errors.
fn read_document(path: &Path) -> Result<PolicyDocument, Error> {
    document(path, &read_text_within(path, limits::POLICY_BYTES)?)
}

fn document(path: &Path, text: &str) -> Result<PolicyDocument, Error> {
    PolicyDocument::parse(text).map_err(|error| match error {
        DocumentError::Policy(problems) => Error::PolicyYaml {
            path: path.to_path_buf(),
            problems,
        },
        error => Error::Usage(format!("{} can't be followed: {error}", path.display())),
    })
}

/// Advances from the document in force to the newest that follows it.
fn advance(
    ctx: &Context<'_>,
    source: &str,
    get: &mut dyn FnMut(u64) -> Result<Option<SignedPolicy>, Error>,
) -> Result<PolicyUpdate, Error> {
    let path = policy_path(ctx);
    let _lock = lock_policy(&path)?;
    // What this host revokes counts for no document either.
    let HostRevocations { revocations, digest } = host_revocations(ctx)?;
    let get = &mut |serial| Ok(get(serial)?.map(|step| step.revoking(&revocations)));
    let mut current = followed(ctx)?.revoking(&revocations);
    let was = current.serial();
    let mut newest = get(was)?;
    if let Some(same) = &newest
        && same.document.digest() != current.digest()
    {
        return refused(
            source,
            Refusal::Rollback,
            format!(
                "two documents have the serial {was}: {} is in force on this host, {} is there. One of them was \
                 edited by hand, or its publisher signed two",
                current.digest(),
                same.document.digest()
            ),
        );
    }
    let mut failure = None;
    let mut is_known = newest.is_some();
    for serial in (was..).skip(1).take(CHAIN_DOCUMENTS) {
        let next = match get(serial) {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        is_known = true;
        if let Err(error) = next.check_follows(current.policy()) {
            failure = Some(Error::PolicyUpdate {
                from: source.to_string(),
                refusal: error.refusal,
                why: error.to_string(),
            });
            break;
        }
        current = next.document.clone();
        newest = Some(next);
    }
    if current.serial() != was {
        let _lock = lock_revocations(ctx)?;
        if host_revocations(ctx)?.digest != digest {
            return Err(Error::Usage(format!(
                "{}: it was not updated: what this host revokes has changed meanwhile, try again",
                path.display()
            )));
        }
        put(&path, &current)?;
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if !is_known {
        return refused(
            source,
            Refusal::Rollback,
            format!(
                "refused: it has neither the document of serial {was}, which is in force on this host, nor a later one"
            ),
        );
    }
    let fresh = remember_fresh(ctx, &path, &current, newest.as_ref())?;
    if let Some(why) = current.policy().lapsed(ctx.now, fresh) {
        return Err(Error::Policy { path, why });
    }
    Ok(PolicyUpdate {
        name: current.name().to_string(),
        was: Some(was),
        serial: current.serial(),
        fresh,
        kept: None,
        path,
    })
}

fn refused<T>(source: &str, refusal: Refusal, why: String) -> Result<T, Error> {
    Err(Error::PolicyUpdate {
        from: source.to_string(),
        refusal,
        why,
    })
}

/// Puts a document into force.
fn put(path: &Path, document: &PolicyDocument) -> Result<(), Error> {
    secure_file::replace(path, document.text().as_bytes(), 0o600).map_err(Error::file("write", path))?;
    // In a directory that others can write, the next command would refuse it.
    policy_text(path).map(drop)
}
