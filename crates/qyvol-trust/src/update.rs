//! Updates of a policy: documents in a chain, each of them signed under the one before it.
//!
//! Invariants:
//! - a document is its text; its digest is that of the one manifest that carries the text
//!   ([`PolicyDocument::manifest`]), so that a registry and a file say the same;
//! - a successor has the same name and the next serial, and enough keys of both documents
//!   have signed it: whoever holds the keys of one alone can't replace the other;
//! - a freshness statement says which document is the newest, and nothing about what is in it.
//!
//! Deliberately absent: where documents come from and are kept, and the clock. The rules
//! are those of TUF's root role (specification 1.0, section 5.3).

use std::collections::BTreeMap;
use std::time::Duration;

use qyvol_types::{Descriptor, Digest, ImageManifest, Timestamp, escape, json, media_type};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::Update;
use crate::statement::{STATEMENT_TYPE, check_type, pae_of, subject_digest};
use crate::{Envelope, EnvelopeError, KeyId, Refusal, Revocations, Sign, StatementError, TrustPolicy};

/// The type of the predicate of a document's signature.
pub const POLICY_PREDICATE: &str = "https://qyvol.dev/policy/v1";
/// The type of the predicate that says which document is the newest.
pub const FRESH_PREDICATE: &str = "https://qyvol.dev/policy-fresh/v1";
/// How far ahead of the clock a signed time may be: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A policy that can be handed out: it has a name, and says who replaces it.
#[derive(Clone, Debug)]
pub struct PolicyDocument {
    text: String,
    policy: TrustPolicy,
    manifest: ImageManifest,
}

/// A document with its signatures, and a statement that it is the newest.
#[derive(Clone, Debug)]
pub struct SignedPolicy {
    /// The document.
    pub document: PolicyDocument,
    /// Its signatures. Those that don't count are passed over.
    pub signatures: Vec<Envelope>,
    /// A statement that it is the newest.
    pub fresh: Option<Envelope>,
}

/// Why a document can't be handed out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is no policy.
    #[error("the policy has problems")]
    Policy(#[source] qyvol_types::yaml::Problems),
    /// It lacks what a document needs.
    #[error("{0}")]
    Incomplete(&'static str),
}

/// Why a document does not follow another.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("refused: {detail}")]
pub struct UpdateError {
    /// What kind of refusal it is.
    pub refusal: Refusal,
    detail: String,
}

fn refused<T>(refusal: Refusal, detail: String) -> Result<T, UpdateError> {
    Err(UpdateError { refusal, detail })
}

/// How many keys have signed a document, of each that must.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Signatures {
    /// Distinct keys that have signed.
    pub have: usize,
    /// Distinct keys that must.
    pub need: usize,
}

impl Signatures {
    /// Whether there are enough.
    pub fn is_enough(self) -> bool {
        self.have >= self.need
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpdateStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<UpdateSubject>,
    predicate_type: String,
    predicate: UpdatePredicate,
}

#[derive(Serialize, Deserialize)]
struct UpdateSubject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct UpdatePredicate {
    name: String,
    serial: u64,
    created: Timestamp,
    #[serde(default)]
    critical: Vec<String>,
}

/// The one manifest that carries a text.
fn manifest_of(text: &str) -> Option<ImageManifest> {
    let layer = Descriptor::of(media_type::TRUST_POLICY, text.as_bytes());
    ImageManifest::artifact(media_type::TRUST_POLICY, layer).ok()
}

impl PolicyDocument {
    /// Reads a policy that is to be handed out.
    pub fn parse(text: &str) -> Result<PolicyDocument, DocumentError> {
        let policy = TrustPolicy::parse(text).map_err(DocumentError::Policy)?;
        if policy.update.is_none() || policy.name.is_none() {
            return Err(DocumentError::Incomplete(
                "it has no `update`: a policy that hosts follow has a `name`, and an `update` that says whose \
                 signatures replace it",
            ));
        }
        let manifest = manifest_of(text).ok_or(DocumentError::Incomplete("its manifest can't be written"))?;
        Ok(PolicyDocument {
            text: text.to_string(),
            policy,
            manifest,
        })
    }

    /// The digest of the document that has this text, which is not read.
    pub fn digest_of(text: &str) -> Option<Digest> {
        manifest_of(text).map(|manifest| manifest.digest())
    }

    /// Its text, byte for byte.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub fn policy(&self) -> &TrustPolicy {
        &self.policy
    }

    /// The manifest under which registries have it; its layer is the text.
    pub fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// The digest of the manifest: what is signed.
    pub fn digest(&self) -> Digest {
        self.manifest.digest()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.policy.name.as_deref().unwrap_or_default()
    }

    /// Its place in the chain.
    pub fn serial(&self) -> u64 {
        self.policy.serial
    }

    /// Signs it.
    pub fn sign(&self, key: &dyn Sign, created: Timestamp) -> Result<Envelope, EnvelopeError> {
        self.vouch(key, POLICY_PREDICATE, created)
    }

    /// Says that it is the newest.
    pub fn sign_fresh(&self, key: &dyn Sign, created: Timestamp) -> Result<Envelope, EnvelopeError> {
        self.vouch(key, FRESH_PREDICATE, created)
    }

    fn vouch(&self, key: &dyn Sign, predicate_type: &str, created: Timestamp) -> Result<Envelope, EnvelopeError> {
        let statement = UpdateStatement {
            kind: STATEMENT_TYPE.to_string(),
            subject: vec![UpdateSubject {
                name: self.name().to_string(),
                digest: BTreeMap::from([("sha256".to_string(), self.digest().hex())]),
            }],
            predicate_type: predicate_type.to_string(),
            predicate: UpdatePredicate {
                name: self.name().to_string(),
                serial: self.serial(),
                created,
                critical: Vec::new(),
            },
        };
        Envelope::seal(key, json::encode(&statement)?)
    }

    /// The same document on a host that revokes this beside it.
    #[must_use]
    pub fn revoking(mut self, revocations: &Revocations) -> PolicyDocument {
        self.policy = self.policy.revoking(revocations);
        self
    }

    /// Whose signatures the document itself asks for, by fingerprint.
    pub fn is_update_key(&self, id: KeyId) -> bool {
        let update = self.policy.update.as_ref();
        update.is_some_and(|update| self.policy.ids(&update.keys).any(|key| key == id))
    }

    /// Whose freshness statements the document asks for, by fingerprint.
    pub fn is_freshness_key(&self, id: KeyId) -> bool {
        let update = self.policy.update.as_ref();
        update.is_some_and(|update| self.policy.ids(&update.freshness).any(|key| key == id))
    }

    /// When a good statement was made that this document is the newest, if one was.
    fn fresh_at(&self, envelope: &Envelope) -> Option<Timestamp> {
        let update = self.policy.update.as_ref()?;
        let (_, created) = self.signer(&self.policy, &update.freshness, envelope, FRESH_PREDICATE)?;
        Some(created)
    }

    /// The key of `policy`'s, among those of `keys`, that made a good signature over this
    /// document, and the time that it states.
    fn signer(
        &self,
        policy: &TrustPolicy,
        keys: &[usize],
        envelope: &Envelope,
        predicate_type: &str,
    ) -> Option<(KeyId, Timestamp)> {
        let hint = envelope.hint()?;
        let mut named = keys.iter().filter_map(|index| policy.keys.get(*index)?.signer.key());
        let key = named.find(|key| key.id() == hint)?;
        if policy.is_revoked(hint) || !key.verify(&pae_of(envelope.payload_unverified()), envelope.signature()) {
            return None;
        }
        let created = self.statement(envelope.payload_unverified(), predicate_type).ok()?;
        Some((hint, created))
    }

    /// Reads a payload whose signature has been checked; it must be about this document.
    fn statement(&self, payload: &[u8], predicate_type: &str) -> Result<Timestamp, StatementError> {
        let value = |what: &str| Err(StatementError::Value(what.to_string()));
        let wire: UpdateStatement = json::decode(payload)?;
        check_type(&wire.kind)?;
        let subjects: Vec<_> = wire.subject.into_iter().map(|subject| subject.digest).collect();
        if wire.predicate_type != predicate_type {
            return value("another predicate type");
        }
        if subject_digest(&subjects)? != self.digest() {
            return value("another document as its subject");
        }
        let predicate = wire.predicate;
        if predicate.name != self.name() || predicate.serial != self.serial() {
            return value("another name or serial than its document");
        }
        if !predicate.critical.is_empty() {
            return value("critical extensions, which this version does not know");
        }
        Ok(predicate.created)
    }
}

impl SignedPolicy {
    /// A document that nobody has signed yet.
    pub fn new(document: PolicyDocument) -> SignedPolicy {
        SignedPolicy {
            document,
            signatures: Vec::new(),
            fresh: None,
        }
    }

    /// The same document on a host that revokes this beside it: what it revokes does not count.
    #[must_use]
    pub fn revoking(mut self, revocations: &Revocations) -> SignedPolicy {
        self.document = self.document.revoking(revocations);
        self
    }

    /// How many keys of a policy have signed it, and how many must. Keys that the policy
    /// revokes do not count.
    pub fn signatures_of(&self, policy: &TrustPolicy) -> Signatures {
        policy.signatures_by(&self.signers([policy]))
    }

    /// The keys of these policies' `update` that have signed the document. A key is what it
    /// is in any of them, so that each signature is checked once.
    fn signers<const N: usize>(&self, policies: [&TrustPolicy; N]) -> Vec<KeyId> {
        let signed = |envelope| {
            policies.iter().find_map(|policy| {
                let update = policy.update.as_ref()?;
                self.document.signer(policy, &update.keys, envelope, POLICY_PREDICATE)
            })
        };
        self.signatures.iter().filter_map(signed).map(|(key, _)| key).collect()
    }

    /// Removes the signatures that count under neither of two policies, and repeated ones.
    pub fn keep_counting(&mut self, policies: [&TrustPolicy; 2]) {
        let mut seen = Vec::new();
        let document = &self.document;
        self.signatures.retain(|envelope| {
            let signer = policies.iter().find_map(|policy| {
                let update = policy.update.as_ref()?;
                document.signer(policy, &update.keys, envelope, POLICY_PREDICATE)
            });
            match signer {
                Some((key, _)) if !seen.contains(&key) => {
                    seen.push(key);
                    true
                }
                _ => false,
            }
        });
    }

    /// Fails unless this document replaces `current`: its name, the next serial, and
    /// signatures by enough keys of both.
    pub fn check_follows(&self, current: &TrustPolicy) -> Result<(), UpdateError> {
        let next = &self.document.policy;
        let signers = self.signers([current, next]);
        next.check_follows(current, |policy| policy.signatures_by(&signers))
    }

    /// When a key that may said that this document is the newest. A statement from ahead of
    /// the clock does not count.
    pub fn fresh_at(&self, now: Timestamp) -> Option<Timestamp> {
        let time = self.document.fresh_at(self.fresh.as_ref()?)?;
        (time <= now.plus(CLOCK_SKEW)).then_some(time)
    }
}

impl TrustPolicy {
    /// The rule of a chain, whatever its documents are made of. `signatures` says how many
    /// of a policy's keys have signed this one.
    pub(crate) fn check_follows(
        &self,
        current: &TrustPolicy,
        signatures: impl Fn(&TrustPolicy) -> Signatures,
    ) -> Result<(), UpdateError> {
        let serial = self.serial;
        if current.name != self.name {
            let [name, before] = [self, current].map(|policy| escape(policy.name.as_deref().unwrap_or_default()));
            return refused(
                Refusal::Identity,
                format!(
                    "the document of serial {serial} belongs to the policy `{name}`, and the one before it to `{before}`"
                ),
            );
        }
        if serial != current.serial + 1 {
            return refused(
                Refusal::Rollback,
                format!(
                    "the document has the serial {serial}, and after {} comes {}",
                    current.serial,
                    current.serial + 1
                ),
            );
        }
        for (policy, which) in [(current, current.serial), (self, serial)] {
            let Signatures { have, need } = signatures(policy);
            if have < need {
                return refused(
                    match have {
                        0 => Refusal::NoTrustedKey,
                        _ => Refusal::Threshold,
                    },
                    format!(
                        "the document of serial {serial} is signed by {have} of the keys of serial {which}, and needs {need}{}",
                        policy.told_revoked()
                    ),
                );
            }
        }
        Ok(())
    }

    /// Counts those who signed: distinct keys of `update` that are not revoked.
    pub(crate) fn signatures_by(&self, signers: &[KeyId]) -> Signatures {
        let Some(update) = &self.update else {
            return Signatures { have: 0, need: 1 };
        };
        let of_update: Vec<KeyId> = self.ids(&update.keys).collect();
        let mut keys: Vec<KeyId> = signers
            .iter()
            .copied()
            .filter(|key| of_update.contains(key) && !self.is_revoked(*key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        Signatures {
            have: keys.len(),
            need: update.threshold,
        }
    }

    /// For whoever is told that too few have signed: how many of its `update` the host revokes.
    fn told_revoked(&self) -> String {
        let keys = self.update.iter().flat_map(|update| self.ids(&update.keys));
        match keys
            .filter(|id| self.revoked.host.keys.iter().any(|key| key.id == *id))
            .count()
        {
            0 => String::new(),
            number => format!("; this host revokes {number} of its keys"),
        }
    }

    /// The identities of some of its keys.
    fn ids<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = KeyId> + 'a {
        indices
            .iter()
            .filter_map(|index| Some(self.keys.get(*index)?.signer.key()?.id()))
    }

    /// Its name, where hosts follow it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Who replaces it, where hosts follow it.
    pub fn update(&self) -> Option<&Update> {
        self.update.as_ref()
    }

    /// Why it does not hold at a time, if it does not. `fresh` is when it was last said to be
    /// the newest.
    pub fn lapsed(&self, now: Timestamp, fresh: Option<Timestamp>) -> Option<String> {
        if let Some(expires) = self.expires.filter(|expires| now >= *expires) {
            return Some(format!("it expired at {expires}"));
        }
        let lag = self.update.as_ref()?.max_lag?;
        match fresh {
            None => Some("nobody has said yet that it is the newest, as its `max_lag` requires".to_string()),
            Some(fresh) if now > fresh.plus(lag) => Some(format!(
                "it was last said to be the newest at {fresh}, longer ago than its `max_lag` allows"
            )),
            Some(_) => None,
        }
    }
}
