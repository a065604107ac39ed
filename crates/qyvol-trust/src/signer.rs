//! Who may sign: a key, or an identity that a certificate vouches for.
//!
//! Certificates live for minutes and keys of theirs sign once, so a policy names the identity
//! that they certify, and pins the trusted root that must vouch for them. `qyvol-keyless`
//! verifies; `signature.rs` compares who it was with the policy.

use qyvol_keyless::TrustedRoot;
use qyvol_types::{Digest, Timestamp};
use ring::digest::{Context, SHA256};
use serde::Serialize;

use crate::{KeyId, PublicKey};

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
    pub(crate) name: CertifiedName,
}

/// What a certificate must state to be of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertifiedName {
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
        let CertifiedName {
            issuer,
            subject,
            repository_id,
            owner_id,
        } = &self.name;
        let mut hash = Context::new(&SHA256);
        hash.update(b"an identity of a trust policy\0");
        let ids = [repository_id, owner_id].map(|id| id.as_deref().unwrap_or_default());
        for part in [issuer.as_str(), subject.as_str(), ids[0], ids[1]] {
            hash.update(part.as_bytes());
            hash.update(b"\0");
        }
        KeyId::of_digest(hash.finish())
    }

    /// Whether a certificate's identity is this one.
    pub(crate) fn covers(&self, found: &qyvol_keyless::Identity) -> bool {
        let is = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        self.name.is_of(&found.issuer, &found.subject)
            && is(&self.name.repository_id, &found.repository_id)
            && is(&self.name.owner_id, &found.owner_id)
    }
}

impl CertifiedName {
    /// Whether it has this issuer, and this subject is one of its.
    pub(crate) fn is_of(&self, issuer: &str, subject: &str) -> bool {
        let is_subject = match self.subject.strip_suffix('*') {
            Some(start) => subject.starts_with(start),
            None => subject == self.subject,
        };
        is_subject && issuer == self.issuer
    }

    /// Whether one certificate could be of both.
    pub(crate) fn overlaps(&self, other: &CertifiedName) -> bool {
        let differ = |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
        self.issuer == other.issuer
            && subjects_overlap(&self.subject, &other.subject)
            && !differ(&self.repository_id, &other.repository_id)
            && !differ(&self.owner_id, &other.owner_id)
    }

    /// Whether each certificate that is of the other is of this.
    pub(crate) fn contains(&self, other: &CertifiedName) -> bool {
        let is = |own: &Option<String>, other: &Option<String>| own.is_none() || own == other;
        // Of a pattern, the start: its `*` matches nothing more than what this one's does.
        self.is_of(&other.issuer, &other.subject)
            && is(&self.repository_id, &other.repository_id)
            && is(&self.owner_id, &other.owner_id)
    }
}

/// Whether one subject could be of both: each is whole, or has `*` at its end.
fn subjects_overlap(a: &str, b: &str) -> bool {
    match (a.strip_suffix('*'), b.strip_suffix('*')) {
        (None, None) => a == b,
        (Some(start), None) => b.starts_with(start),
        (None, Some(start)) => a.starts_with(start),
        (Some(a), Some(b)) => a.starts_with(b) || b.starts_with(a),
    }
}
