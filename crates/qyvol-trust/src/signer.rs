//! Who may sign: a key, or an identity that a certificate vouches for.
//!
//! Certificates live for minutes and keys of theirs sign once, so a policy names the identity
//! that they certify, and pins the trusted root that must vouch for them. `qyvol-keyless`
//! verifies; this compares who it was with the policy.

use qyvol_keyless::{Bundle, Content, TrustedRoot};
use qyvol_types::{Digest, Timestamp, escape, json};
use ring::digest::{Context, SHA256};
use serde::Serialize;

use crate::policy::PolicyKey;
use crate::statement::AnyStatement;
use crate::statement::pae_of;
use crate::{Envelope, KeyId, PublicKey, TrustPolicy};

/// Who a name of the policy stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The holder of a key.
    Key(PublicKey),
    /// Whoever a trusted root's authorities certify as this.
    Identity(SignerIdentity),
}

/// An identity, as certificates state it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignerIdentity {
    /// Index into the policy's trusted roots.
    pub(crate) root: usize,
    pub(crate) issuer: String,
    /// Whole, or with `*` at its end.
    pub(crate) subject: String,
    pub(crate) repository_id: Option<String>,
    pub(crate) owner_id: Option<String>,
}

/// A trusted root by its file, pinned by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRoot {
    /// Its name in the policy.
    pub name: String,
    /// Its file, relative to the policy's directory.
    pub file: String,
    /// The digest of the file.
    pub digest: Digest,
    pub(crate) root: Option<TrustedRoot>,
}

/// Who signed, where a certificate vouches for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityReport {
    /// Who vouched for the name.
    pub issuer: String,
    /// The name.
    pub subject: String,
    /// When the signature was made, as the trusted root vouches.
    pub signed: Timestamp,
}

impl Signer {
    /// What it is counted by: two signers are one if it is the same.
    pub fn id(&self) -> KeyId {
        match self {
            Signer::Key(key) => key.id(),
            Signer::Identity(identity) => identity.id(),
        }
    }

    /// The key, if it is one.
    pub fn key(&self) -> Option<&PublicKey> {
        match self {
            Signer::Key(key) => Some(key),
            Signer::Identity(_) => None,
        }
    }
}

impl SignerIdentity {
    /// A digest over what it is, which no key's can be equal to.
    fn id(&self) -> KeyId {
        let mut hash = Context::new(&SHA256);
        hash.update(b"an identity of a trust policy\0");
        let ids = [&self.repository_id, &self.owner_id].map(|id| id.as_deref().unwrap_or_default());
        for part in [self.issuer.as_str(), self.subject.as_str(), ids[0], ids[1]] {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        KeyId::of_digest(hash.finish())
    }

    /// Whether a certificate's identity is this one.
    fn covers(&self, found: &qyvol_keyless::Identity) -> bool {
        let is = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        let subject = match self.subject.strip_suffix('*') {
            Some(start) => found.subject.starts_with(start),
            None => found.subject == self.subject,
        };
        subject
            && found.issuer == self.issuer
            && is(&self.repository_id, &found.repository_id)
            && is(&self.owner_id, &found.owner_id)
    }

    /// Whether one certificate could be of both.
    pub(crate) fn overlaps(&self, other: &SignerIdentity) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
        let subjects = match (self.subject.strip_suffix('*'), other.subject.strip_suffix('*')) {
            (None, None) => self.subject == other.subject,
            (Some(start), None) => other.subject.starts_with(start),
            (None, Some(start)) => self.subject.starts_with(start),
            (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
        };
        self.issuer == other.issuer
            && subjects
            && !differ(&self.repository_id, &other.repository_id)
            && !differ(&self.owner_id, &other.owner_id)
    }
}

/// The signer that a bundle claims to be by: its key by the hint, its identity by what stands
/// in the certificate. Neither is trusted; each is then verified.
pub(crate) fn claimed<'k>(keys: &[&'k PolicyKey], envelope: &Envelope) -> Option<&'k PolicyKey> {
    if let Some(hint) = envelope.hint() {
        return keys.iter().copied().find(|key| key.signer.id() == hint);
    }
    // Nobody reads a certificate who trusts none.
    if keys.iter().all(|key| key.signer.key().is_some()) {
        return None;
    }
    let bundle = Bundle::parse(envelope.bytes()).ok()?;
    let found = qyvol_keyless::claimed(&bundle).ok()??;
    keys.iter().copied().find(|key| match &key.signer {
        Signer::Identity(identity) => identity.covers(&found),
        Signer::Key(_) => false,
    })
}

/// Whom a certificate claims to be of that no identity of the rule is, in words; nothing
/// without one.
pub(crate) fn stranger(envelope: &Envelope) -> String {
    if envelope.hint().is_some() {
        return String::new();
    }
    let bundle = Bundle::parse(envelope.bytes()).ok();
    match bundle.and_then(|bundle| qyvol_keyless::claimed(&bundle).ok().flatten()) {
        Some(claimed) => format!(
            "its certificate says {} of {}",
            escape(&claimed.subject),
            escape(&claimed.issuer)
        ),
        None => String::new(),
    }
}

impl TrustPolicy {
    /// Gives the policy the trusted roots that it names, which `read` finds by their files.
    /// Without its root, an identity's signatures do not count.
    ///
    /// # Errors
    /// Why a file can't be used, with its name: `read`'s reason, another digest, or no trusted
    /// root.
    pub fn load_roots(&mut self, mut read: impl FnMut(&str) -> Result<Vec<u8>, String>) -> Result<(), String> {
        for root in &mut self.roots {
            let bytes = read(&root.file).map_err(|why| format!("the trusted root `{}`: {why}", root.name))?;
            if !root.digest.matches(&bytes) {
                return Err(format!(
                    "the trusted root `{}`: {} has another digest than {}; if it was updated on purpose, write its new \
                     digest into the policy",
                    root.name, root.file, root.digest
                ));
            }
            let parsed = TrustedRoot::parse(&bytes);
            root.root = Some(parsed.map_err(|why| format!("the trusted root `{}`: {}: {why}", root.name, root.file))?);
        }
        Ok(())
    }

    /// Checks a signature by one signer of the policy. Of an identity's, says who it was and
    /// when; of a key's, nothing more is known.
    pub(crate) fn check(&self, signer: &Signer, envelope: &Envelope) -> Result<Option<IdentityReport>, String> {
        let payload = envelope.payload_unverified();
        let identity = match signer {
            Signer::Key(key) if key.verify(&pae_of(payload), envelope.signature()) => return Ok(None),
            Signer::Key(_) => return Err(String::new()),
            Signer::Identity(identity) => identity,
        };
        let root = self.roots.get(identity.root).and_then(|root| root.root.as_ref());
        let root = root.ok_or("its trusted root was not loaded")?;
        let bundle = Bundle::parse(envelope.bytes()).map_err(|why| why.to_string())?;
        let vouched = qyvol_keyless::verify(&bundle, root, None).map_err(|why| why.to_string())?;
        // What was verified and what is read next must be the same bytes.
        let same = matches!(bundle.content(), Content::Envelope { payload: own, .. } if own == payload);
        if !same || !identity.covers(&vouched.identity) {
            return Err("it is by another identity".to_string());
        }
        Ok(Some(IdentityReport {
            issuer: vouched.identity.issuer,
            subject: vouched.identity.subject,
            signed: Timestamp::from_unix(vouched.time).map_err(|why| why.to_string())?,
        }))
    }

    /// The signer of this policy who has signed a statement about an image in this
    /// bundle, and the digest of that statement. Says nothing about whether the
    /// signature counts, nor what it states of the image; but a revoked key is
    /// no longer known.
    pub fn signer_of(&self, image: &Digest, bundle: &[u8]) -> Option<(KeyId, Digest)> {
        let envelope = Envelope::parse_attestation(bundle).ok()?;
        let keys: Vec<&PolicyKey> = self.keys.iter().collect();
        let signer = &claimed(&keys, &envelope)?.signer;
        let payload = envelope.payload_unverified();
        if self.revoked.forbids(signer.id(), image) {
            return None;
        }
        let identity = self.check(signer, &envelope).ok()?;
        let statement: AnyStatement = json::decode(payload).ok()?;
        // Two certified signatures over one payload differ by the time that is vouched for.
        let mut said = payload.to_vec();
        said.extend(
            identity
                .into_iter()
                .flat_map(|found| found.signed.to_string().into_bytes()),
        );
        statement.names(image).then(|| (signer.id(), Digest::of(&said)))
    }

    /// Whether it names anybody who may sign.
    pub fn names_keys(&self) -> bool {
        !self.keys.is_empty()
    }
}
