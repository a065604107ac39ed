//! The host's trust policy: read, changed, and what a given key makes of it.

use std::path::{Path, PathBuf};

use qyvol_trust::{KeyId, PolicyEdit, PolicyEditError, PublicKey, Scope, TrustPolicy, change};
use qyvol_types::Digest;
use qyvol_types::yaml::Problems;
use serde::Serialize;

use crate::follow::check_lapsed;
use crate::keys::is_path;
use crate::output::write_new;
use crate::policy_file::{lock_policy, policy_text};
use crate::revocations::{host_revocations, host_revocations_beside};
use crate::secure_file::{self, SecureFileError};
use crate::text_file::read_text;
use crate::{Context, Error, Keyring, policy_path};

/// Reads the policy and the trusted roots that it names, to look at it. One that others
/// could have written is refused; its trusted roots are pinned by their digests.
pub fn load_policy(ctx: &Context<'_>) -> Result<TrustPolicy, Error> {
    with_roots(ctx, read_policy(ctx, &mut parse, |_, _, _| Ok(()))?.0)
}

/// The same, to judge by it: it must not have lapsed.
pub(crate) fn policy_in_force(ctx: &Context<'_>) -> Result<TrustPolicy, Error> {
    Ok(policy_used(ctx, None)?.0)
}

fn with_roots(ctx: &Context<'_>, mut policy: TrustPolicy) -> Result<TrustPolicy, Error> {
    let path = policy_path(ctx);
    let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
    let read = |file: &str| {
        let text = read_text(&directory.join(file));
        text.map(String::into_bytes).map_err(|error| error.to_string())
    };
    policy.load_roots(read).map_err(|why| Error::Policy { path, why })?;
    Ok(policy)
}

/// What a policy's text says; the digest is that of the text.
pub(crate) type ReadText<'r> = &'r mut dyn FnMut(&str, &Digest) -> Result<TrustPolicy, Problems>;

fn parse(text: &str, _: &Digest) -> Result<TrustPolicy, Problems> {
    TrustPolicy::parse(text)
}

/// Reads the policy, and what the host revokes beside it, with the digest of the latter's text:
/// the one place where they meet, so that whatever judges has both.
fn read_policy(
    ctx: &Context<'_>,
    read: ReadText<'_>,
    check: impl FnOnce(&TrustPolicy, &str, Digest) -> Result<(), Error>,
) -> Result<(TrustPolicy, Option<Digest>), Error> {
    let path = policy_path(ctx);
    let policy = match policy_text(&path)? {
        Some(text) => {
            let digest = Digest::of(text.as_bytes());
            let policy = read(&text, &digest).map_err(|problems| Error::PolicyYaml { path, problems })?;
            check(&policy, &text, digest)?;
            policy
        }
        None if ctx.policy.is_none() => TrustPolicy::reject_all(),
        None => {
            return Err(Error::Policy {
                path,
                why: "there is no such file".to_string(),
            });
        }
    };
    let host = match ctx.policy {
        None => host_revocations_beside(ctx)?,
        Some(_) => host_revocations(ctx)?,
    };
    Ok((policy.revoking(&host.revocations), host.digest))
}

/// The policy as a command finds it that is about to change it: it may name a
/// file that is yet to be made.
pub(crate) fn policy_to_change(ctx: &Context<'_>) -> Result<TrustPolicy, Error> {
    match ctx.policy.as_deref().map(secure_file::open) {
        Some(Err(SecureFileError::Absent)) => Ok(TrustPolicy::reject_all()),
        _ => Ok(read_policy(ctx, &mut parse, |_, _, _| Ok(()))?.0),
    }
}

/// The policy to judge by: the home's, or one that trusts a single key. What
/// the home's revokes is refused either way, and a home's policy that can't be
/// read is an error: what it revokes would be accepted.
pub fn policy_or_key(ctx: &Context<'_>, key: Option<&str>) -> Result<TrustPolicy, Error> {
    Ok(policy_used(ctx, key)?.0)
}

/// What decided, for whoever reads a record of it later.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PolicyUsed {
    /// The policy's file.
    pub path: PathBuf,
    /// The digest of its text; none where there is no such file, which accepts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its serial.
    pub serial: u64,
    /// The digest of what the host revokes beside it, where there is such a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Digest>,
    /// The fingerprint of the key that was named in place of its rules. What it revokes holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The same, and what it is.
pub(crate) fn policy_used(ctx: &Context<'_>, key: Option<&str>) -> Result<(TrustPolicy, PolicyUsed), Error> {
    policy_used_as(ctx, key, &mut parse)
}

/// The same, where `read` says what its text means.
pub(crate) fn policy_used_as(
    ctx: &Context<'_>,
    key: Option<&str>,
    read: ReadText<'_>,
) -> Result<(TrustPolicy, PolicyUsed), Error> {
    if key.is_some() && ctx.policy.is_some() {
        return Err(Error::Usage(
            "--key and --policy can't be used together: each says what decides".to_string(),
        ));
    }
    let mut used = PolicyUsed {
        path: policy_path(ctx),
        ..PolicyUsed::default()
    };
    let (own, revoked) = read_policy(ctx, read, |policy, text, digest| {
        used.digest = Some(digest);
        check_lapsed(ctx, &policy_path(ctx), policy, text)
    })?;
    used.serial = own.serial();
    used.revoked = revoked;
    let policy = match key {
        Some(key) => {
            let key = public_key(ctx, key)?;
            used.key = Some(key.fingerprint());
            TrustPolicy::single_key(key, own.revoked().clone())
        }
        None => with_roots(ctx, own)?,
    };
    Ok((policy, used))
}

/// The policy to judge what was accepted before, even if the policy has lapsed since: what
/// it revokes holds all the same.
pub(crate) fn policy_or_key_lapsed(ctx: &Context<'_>, key: Option<&str>) -> Result<TrustPolicy, Error> {
    match key {
        Some(key) => {
            let (own, _) = read_policy(ctx, &mut parse, |_, _, _| Ok(()))?;
            Ok(TrustPolicy::single_key(public_key(ctx, key)?, own.revoked().clone()))
        }
        None => load_policy(ctx),
    }
}

/// A public key by the path of its file or its name in the keyring.
pub fn public_key(ctx: &Context<'_>, text: &str) -> Result<PublicKey, Error> {
    if is_path(text) {
        return PublicKey::from_text(&read_text(Path::new(text))?).map_err(Error::key(text));
    }
    Keyring::new(ctx).public(text)
}

/// Writes the first policy of a machine, which trusts `key` for local files,
/// unless there is a policy already. Returns whether it wrote.
pub(crate) fn trust_first_key(ctx: &Context<'_>, name: &str, key: &PublicKey) -> Result<bool, Error> {
    let path = policy_path(ctx);
    if path.exists() {
        return Ok(false);
    }
    write_new(&path, TrustPolicy::first_use(name, key).as_bytes(), 0o600)?;
    Ok(true)
}

/// A policy that a command has changed.
#[derive(Clone, Debug)]
pub struct PolicyChange {
    /// Its file.
    pub path: PathBuf,
    /// Whether the file is new.
    pub created: bool,
    /// What has changed, a line each; nothing if all was so before.
    pub notes: Vec<String>,
    /// What may not have been meant.
    pub warnings: Vec<String>,
    /// What it says now.
    pub policy: TrustPolicy,
}

/// Fails where the policy is not this host's to change: its next document replaces it.
pub(crate) fn check_own(ctx: &Context<'_>) -> Result<(), Error> {
    let path = policy_path(ctx);
    let text = policy_text(&path)?;
    check_own_text(ctx, path, text.as_deref())
}

fn check_own_text(ctx: &Context<'_>, path: PathBuf, text: Option<&str>) -> Result<(), Error> {
    // Another policy that is named is a document on its way, and no host's.
    let home = ctx.home.config.join("trust.yaml").canonicalize().ok();
    let is_own = ctx.policy.is_none() || home.is_some() && path.canonicalize().ok() == home;
    let own = text.filter(|_| is_own);
    if let Some(policy) = own.and_then(|text| TrustPolicy::parse(text).ok())
        && policy.update().is_some()
    {
        return Err(Error::Followed {
            path,
            name: policy.name().unwrap_or_default().to_string(),
        });
    }
    Ok(())
}

/// Changes the policy, or begins one. Commands that change it at once wait for
/// each other; the file is replaced whole.
pub fn change_policy(ctx: &Context<'_>, what: &PolicyEdit) -> Result<PolicyChange, Error> {
    change_policy_if(ctx, what, |_, _| Ok(()))
}

/// The same, if what it says and what it would say afterwards pass a check.
pub(crate) fn change_policy_if(
    ctx: &Context<'_>,
    what: &PolicyEdit,
    check: impl FnOnce(&TrustPolicy, &TrustPolicy) -> Result<(), Error>,
) -> Result<PolicyChange, Error> {
    let path = policy_path(ctx);
    let _lock = lock_policy(&path)?;
    let text = policy_text(&path)?;
    check_own_text(ctx, path.clone(), text.as_deref())?;
    let changed = change(text.as_deref(), what).map_err(|error| match error {
        PolicyEditError::Policy(problems) => Error::PolicyYaml {
            path: path.clone(),
            problems,
        },
        PolicyEditError::Refused(why) => Error::Usage(format!("the policy was not changed: {why}")),
        error => Error::Policy {
            path: path.clone(),
            why: error.to_string(),
        },
    })?;
    let revocations = host_revocations(ctx)?.revocations;
    let here = |policy: &TrustPolicy| policy.clone().revoking(&revocations);
    check(&here(&changed.before), &here(&changed.policy))?;
    if !changed.notes.is_empty() {
        secure_file::replace(&path, changed.text.as_bytes(), 0o600).map_err(Error::file("write", &path))?;
        // A directory that others can write would have it refused by whoever
        // reads it next: better now.
        policy_text(&path)?;
    }
    Ok(PolicyChange {
        path,
        created: text.is_none() && !changed.notes.is_empty(),
        notes: changed.notes,
        warnings: changed.warnings,
        policy: changed.policy,
    })
}

/// What `trust revoke` is to revoke: a digest, a fingerprint, or a key by the
/// policy's name, the keyring's, or its file.
/// Signatures of a key over the images of `keep` still count.
/// With `undo`, what is to be revoked no longer.
pub(crate) fn revocation(ctx: &Context<'_>, text: &str, keep: Vec<Digest>, undo: bool) -> Result<PolicyEdit, Error> {
    match text.parse::<Digest>() {
        Ok(digest) if undo => Ok(PolicyEdit::ReinstateImage(digest)),
        Err(_) if undo => Ok(PolicyEdit::ReinstateKey(key_id(ctx, text)?)),
        Ok(_) if !keep.is_empty() => Err(Error::Usage(
            "an image is revoked whole: --keep goes with a key".to_string(),
        )),
        Ok(digest) => Ok(PolicyEdit::RevokeImage(digest)),
        Err(_) => Ok(PolicyEdit::RevokeKey {
            id: key_id(ctx, text)?,
            keep,
        }),
    }
}

/// The key that a name of the policy's, a fingerprint, a name of the keyring's
/// or a file stands for; or the identity that a name of the policy's does.
pub fn key_id(ctx: &Context<'_>, text: &str) -> Result<KeyId, Error> {
    if let Some(id) = KeyId::from_fingerprint(text) {
        return Ok(id);
    }
    if !is_path(text)
        && let Some(signer) = policy_to_change(ctx)?.signer_by_name(text)
    {
        return Ok(signer.id());
    }
    Ok(public_key(ctx, text)?.id())
}

/// The key that `trust add` is to trust: a file, or a name of the keyring or of
/// the policy.
pub fn key_to_trust(ctx: &Context<'_>, text: &str) -> Result<PublicKey, Error> {
    let policy = policy_to_change(ctx)?;
    let named = policy.key_by_name(text).filter(|_| !is_path(text));
    match (named, public_key(ctx, text)) {
        (Some(named), Ok(own)) if *named != own => Err(Error::Usage(format!(
            "`{text}` is one key in the policy ({}) and another in the keyring ({}): name the key by its file",
            named.fingerprint(),
            own.fingerprint()
        ))),
        (Some(named), _) => Ok(named.clone()),
        (None, own) => own,
    }
}

/// The name that a policy gives a key: that of its file or of the keyring.
pub fn key_name(text: &str) -> String {
    let last = text.rsplit('/').next().unwrap_or(text);
    let stem = [".pub", ".pem", ".key"].iter().find_map(|end| last.strip_suffix(end));
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = stem
        .unwrap_or(last)
        .chars()
        .map(|c| if word(c) { c } else { '-' })
        .collect();
    match name.trim_matches(['-', '.']) {
        "" => "key".to_string(),
        name => name.chars().take(64).collect(),
    }
}

/// What a scope admits if a repository's path ends in the signed name.
fn admitted(scope: &str) -> String {
    let path = scope.split_once('/').map_or(scope, |(_, path)| path);
    if path.contains('*') {
        return "an image if its repository's path ends in the signed name: one signed as `app` is accepted as app, \
                team/app and staging/app, where the scope covers them"
            .to_string();
    }
    let tails = path.match_indices('/').map(|(at, _)| &path[at + 1..]);
    let names: Vec<&str> = std::iter::once(path).chain(tails).collect();
    format!("images that are signed as {}", names.join(" or "))
}

/// What a scope admits, in words, for whoever has just added it.
pub fn describe_scope(policy: &TrustPolicy, scope: &Scope) -> Vec<String> {
    use qyvol_trust::{Identity, Names};
    let Some(rule) = policy.rules().iter().find(|rule| rule.scope == *scope) else {
        return Vec::new();
    };
    if scope.is_file() {
        return vec![format!(
            "{scope} admits archives, and images of the store without a registry, whose own name it covers"
        )];
    }
    let mut lines = Vec::new();
    lines.push(match (rule.identity, rule.names) {
        (Identity::Any, _) => format!("{scope} admits any signed name under any repository and tag that it covers"),
        (_, Names::Full) => format!("{scope} admits an image only in the repository that it is signed for"),
        (_, Names::Trailing) => format!("{scope} admits {}", admitted(&scope.to_string())),
    });
    match rule.identity {
        Identity::Exact => lines.push("the tag must be the signed version".to_string()),
        Identity::Repository if rule.deny_rollback => lines.push(
            "any tag will do; an image older than one that was accepted here before under the same tag is refused"
                .to_string(),
        ),
        Identity::Repository => lines.push("any tag will do, and older images are accepted again".to_string()),
        Identity::Any => {}
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_names_a_key_after_its_file() {
        for (text, name) in [
            ("release", "release"),
            ("release.pub", "release"),
            ("./release", "release"),
            ("keys/acme ci.pem", "acme-ci"),
            ("/", "key"),
            ("acme.2026", "acme.2026"),
        ] {
            assert_eq!(key_name(text), name, "{text}");
        }
    }

    #[test]
    fn scope_of_one_repository_is_described_by_the_names_that_it_admits() {
        assert_eq!(
            admitted("r.example:5000/acme/tools/app"),
            "images that are signed as acme/tools/app or tools/app or app"
        );
        assert_eq!(admitted("r.example/app"), "images that are signed as app");
        assert!(admitted("r.example/acme/**").contains("path ends in the signed name"));
    }
}
