//! What the publisher of a policy does: signs documents, and moves chains between files and
//! registries.

use std::path::Path;
use std::sync::Arc;

use qyvol_remote::Client;
use qyvol_trust::{CHAIN_DOCUMENTS, Envelope, PolicyDocument, Refusal, Signatures, SignedPolicy};
use qyvol_types::{Digest, RepositoryName};
use serde::Serialize;

use super::repository::Documents;
use super::{chain, read_document, refused};
use crate::keys::Passphrase;
use crate::policy_file::lock_policy;
use crate::signer::{SignerChoice, signer};
use crate::{Context, Error, policy_path};

/// What to sign.
pub struct PolicySign<'a> {
    /// The file of the chain, which need not exist yet.
    pub chain: &'a Path,
    /// A policy to add to it; if absent, the last document is signed.
    pub document: Option<&'a Path>,
    /// Say that the last document is the newest, instead of signing it.
    pub fresh: bool,
    /// Who signs.
    pub signer: SignerChoice<'a>,
    /// Asks for a key's passphrase.
    pub passphrase: Passphrase<'a>,
}

/// What was signed.
#[derive(Clone, Debug, Serialize)]
pub struct PolicySigned {
    /// The policy's name.
    pub name: String,
    /// The document's serial.
    pub serial: u64,
    /// The digest of the document's manifest, by which hosts begin to follow it.
    pub digest: Digest,
    /// The signer's fingerprint.
    pub fingerprint: String,
    /// How many keys of the document before have signed, and how many must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Signatures>,
    /// How many keys of the document itself have signed, and how many must.
    pub own: Signatures,
}

/// Signs the last document of a chain, after adding one where that is asked for.
pub fn sign_policy(ctx: &Context<'_>, request: &PolicySign<'_>) -> Result<PolicySigned, Error> {
    let file = request.chain;
    let _lock = lock_policy(file)?;
    let mut steps = match file.exists() {
        true => chain::read(file)?,
        false => Vec::new(),
    };
    if let Some(path) = request.document {
        add(&mut steps, read_document(path)?)?;
    }
    let (before, last) = match steps.as_mut_slice() {
        [.., before, last] => (Some(&*before), last),
        [last] => (None, last),
        [] => {
            return Err(Error::Usage(format!(
                "{} has no document yet: --document FILE adds the first",
                file.display()
            )));
        }
    };
    let signer = signer(ctx, &request.signer, request.passphrase)?;
    let Some(key) = signer.key else {
        return Err(Error::Usage("there is no key to sign with".to_string()));
    };
    let id = key.public().id();
    let may = match request.fresh {
        true => last.document.is_freshness_key(id),
        false => {
            let asked = |document: &PolicyDocument| document.is_update_key(id);
            asked(&last.document) || before.is_some_and(|before| asked(&before.document))
        }
    };
    if !may {
        return Err(Error::Usage(format!(
            "the key {} is not in {}: its signature would not count",
            id.fingerprint(),
            match request.fresh {
                true => "`update.freshness` of the last document",
                false => "`update.keys` of this document or the one before",
            }
        )));
    }
    let failed = |error: qyvol_trust::EnvelopeError| Error::Malformed {
        target: file.display().to_string(),
        why: error.to_string(),
    };
    if request.fresh {
        last.fresh = Some(last.document.sign_fresh(key.as_ref(), ctx.now).map_err(failed)?);
    } else {
        let created = ctx.source_date.unwrap_or(ctx.now);
        let signed_by = |envelope: &Envelope| envelope.hinted_fingerprint() == Some(id.fingerprint());
        last.signatures.retain(|envelope| !signed_by(envelope));
        last.signatures
            .push(last.document.sign(key.as_ref(), created).map_err(failed)?);
    }
    let report = PolicySigned {
        name: last.document.name().to_string(),
        serial: last.document.serial(),
        digest: last.document.digest(),
        fingerprint: id.fingerprint(),
        before: before.map(|before| last.signatures_of(before.document.policy())),
        own: last.signatures_of(last.document.policy()),
    };
    chain::write(file, &steps)?;
    Ok(report)
}

/// Adds a document to a chain; the same document again changes nothing.
fn add(steps: &mut Vec<SignedPolicy>, document: PolicyDocument) -> Result<(), Error> {
    if let Some(last) = steps.last() {
        if last.document.text() == document.text() {
            return Ok(());
        }
        let (name, serial) = (last.document.name(), last.document.serial());
        if document.name() != name || document.serial() != serial + 1 {
            return Err(Error::Usage(format!(
                "the document is serial {} of `{}`: after serial {serial} of `{name}` comes serial {}",
                document.serial(),
                document.name(),
                serial + 1
            )));
        }
    }
    if steps.len() > CHAIN_DOCUMENTS {
        return Err(Error::Usage(format!(
            "a file holds at most {} documents",
            CHAIN_DOCUMENTS + 1
        )));
    }
    steps.push(SignedPolicy::new(document));
    Ok(())
}

/// What to publish, and where.
pub struct PolicyPush<'a> {
    /// The file of the chain.
    pub chain: &'a Path,
    /// The repository; `update.from` of the last document where absent.
    pub to: Option<&'a RepositoryName>,
}

/// What was published or fetched.
#[derive(Clone, Debug, Serialize)]
pub struct PublishedPolicies {
    /// The repository.
    pub repository: String,
    /// The policy's name.
    pub name: String,
    /// The newest serial.
    pub serial: u64,
    /// The digest of the newest document's manifest.
    pub digest: Digest,
    /// Documents that were not there before.
    pub documents: usize,
}

/// Publishes the documents of a chain that a registry does not have. An existing serial is
/// never replaced.
pub fn push_policies(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    request: &PolicyPush<'_>,
) -> Result<PublishedPolicies, Error> {
    let file = request.chain.display().to_string();
    let steps = chain::read(request.chain)?;
    let Some(last) = steps.last() else {
        return Err(Error::Usage(format!("{file} has no document")));
    };
    let named = last.document.policy().update().and_then(|update| update.from.as_ref());
    let Some(to) = request.to.or(named) else {
        return Err(Error::Usage(format!(
            "the policy `{}` names no repository in `update.from`: say where it is to go, as HOST/REPOSITORY",
            last.document.name()
        )));
    };
    check(&file, &steps)?;
    let documents = Documents::open_to_push(client, &to.latest())?;
    check_predecessor(&documents, &to.to_string(), &steps)?;
    ctx.report.started("pushing", None);
    let mut new = 0;
    for step in &steps {
        let serial = step.document.serial();
        match documents.get(serial)? {
            Some(there) if there.document.digest() != step.document.digest() => {
                return refused(
                    &to.to_string(),
                    Refusal::Rollback,
                    format!(
                        "refused: another document has the serial {serial} there, {}: {} was not published",
                        there.document.digest(),
                        step.document.digest()
                    ),
                );
            }
            // Signatures may have been added.
            Some(there) if has_all(&there, step) => {}
            Some(_) => documents.put(step)?,
            None => {
                documents.put(step)?;
                new += 1;
            }
        }
    }
    if let Some(fresh) = &last.fresh {
        // A newer one that others published stays.
        let there = documents.get(last.document.serial())?;
        let there = there.and_then(|there| there.fresh_at(ctx.now));
        if there < last.fresh_at(ctx.now) {
            documents.put_fresh(&last.document, fresh)?;
        }
    }
    ctx.report.finished();
    Ok(PublishedPolicies {
        repository: to.to_string(),
        name: last.document.name().to_string(),
        serial: last.document.serial(),
        digest: last.document.digest(),
        documents: new,
    })
}

/// Whether a published document has all signatures of this one.
fn has_all(there: &SignedPolicy, step: &SignedPolicy) -> bool {
    let has = |one: &Envelope| there.signatures.iter().any(|other| other.bytes() == one.bytes());
    step.signatures.iter().all(has)
}

/// Fails if hosts would not follow the first document after those that are published: a used
/// serial can't be used again.
fn check_predecessor(documents: &Documents, to: &str, steps: &[SignedPolicy]) -> Result<(), Error> {
    let Some(first) = steps.first() else { return Ok(()) };
    let serial = first.document.serial();
    if documents.get(serial)?.is_some() {
        return Ok(());
    }
    match documents.get(serial.saturating_sub(1))? {
        Some(before) => first
            .check_follows(before.document.policy())
            .map_err(|error| Error::PolicyUpdate {
                from: to.to_string(),
                refusal: error.refusal,
                why: error.to_string(),
            }),
        None if documents.is_empty()? => Ok(()),
        None => refused(
            to,
            Refusal::Rollback,
            format!(
                "refused: there are other documents, and none of serial {}",
                serial.saturating_sub(1)
            ),
        ),
    }
}

/// Fails if hosts would not follow a chain.
fn check(file: &str, steps: &[SignedPolicy]) -> Result<(), Error> {
    if let Some(first) = steps.first() {
        let Signatures { have, need } = first.signatures_of(first.document.policy());
        if have < need {
            return refused(
                file,
                Refusal::Threshold,
                format!(
                    "refused: the document of serial {} is signed by {have} of its own keys, and needs {need}",
                    first.document.serial()
                ),
            );
        }
    }
    for pair in steps.windows(2) {
        let [before, step] = pair else { continue };
        step.check_follows(before.document.policy())
            .map_err(|error| Error::PolicyUpdate {
                from: file.to_string(),
                refusal: error.refusal,
                why: error.to_string(),
            })?;
    }
    Ok(())
}

/// What to fetch, and where to put it.
pub struct PolicyExport<'a> {
    /// The repository; that of the policy in force where absent.
    pub from: Option<&'a RepositoryName>,
    /// The first serial; that of the policy in force where absent, or 1.
    pub first: Option<u64>,
    /// The file to write.
    pub to: &'a Path,
}

/// Fetches a chain into a file, for hosts that can't reach a registry.
pub fn export_policies(
    ctx: &Context<'_>,
    client: &Arc<Client>,
    request: &PolicyExport<'_>,
) -> Result<PublishedPolicies, Error> {
    let policy = match (request.from, request.first) {
        (Some(_), Some(_)) => None,
        _ => crate::policy_file::policy_text(&policy_path(ctx))?.and_then(|text| PolicyDocument::parse(&text).ok()),
    };
    let update = policy.as_ref().and_then(|document| document.policy().update());
    let Some(from) = request.from.or(update.and_then(|update| update.from.as_ref())) else {
        return Err(Error::Usage(
            "this host follows no policy that names a repository: say where the documents are, as HOST/REPOSITORY"
                .to_string(),
        ));
    };
    if request.to.exists() {
        // An existing file is replaced only if it is such a file.
        chain::read(request.to)?;
    }
    let first = request
        .first
        .or(policy.as_ref().map(PolicyDocument::serial))
        .unwrap_or(1);
    let documents = Documents::open(client, &from.latest())?;
    ctx.report.started("fetching", None);
    let mut steps = Vec::new();
    // Its keys have signed the first document.
    let before = documents.get(first.saturating_sub(1))?;
    for serial in first..=first.saturating_add(CHAIN_DOCUMENTS as u64) {
        match documents.get(serial)? {
            Some(mut step) => {
                let before = steps.last().or(before.as_ref());
                let before = before.map_or(&step.document, |before: &SignedPolicy| &before.document);
                let (before, own) = (before.policy().clone(), step.document.policy().clone());
                step.keep_counting([&before, &own]);
                steps.push(step);
            }
            None => break,
        }
    }
    ctx.report.finished();
    let Some(last) = steps.last() else {
        return Err(Error::Usage(format!("{from} has no document of serial {first}")));
    };
    let report = PublishedPolicies {
        repository: from.to_string(),
        name: last.document.name().to_string(),
        serial: last.document.serial(),
        digest: last.document.digest(),
        documents: steps.len(),
    };
    chain::write(request.to, &steps)?;
    Ok(report)
}
