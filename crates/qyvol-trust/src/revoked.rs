//! Keys, images and versions that are never accepted, by the policy's word or by the host's.
//!
//! Invariant: what the host revokes is kept apart from what the policy does, so that no text and
//! no parsed form of the policy contains it.
//!
//! Deliberately absent: reading either of them, and the judgement (`verify`).

use std::collections::BTreeMap;
use std::fmt;

use qyvol_types::Digest;

use crate::signer::CertifiedName;
use crate::{IdentityReport, KeyId};

/// What is never accepted, whatever else is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    pub(crate) keys: Vec<RevokedKey>,
    pub(crate) images: Vec<Digest>,
    /// By signed name, the least version.
    pub(crate) floors: BTreeMap<String, String>,
    /// What the host revokes beside the policy.
    pub(crate) host: HostRevoked,
}

/// What a host revokes beside its policy: never part of a policy's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostRevoked {
    /// Those of identities that the policy names too.
    pub(crate) keys: Vec<RevokedKey>,
    pub(crate) images: Vec<Digest>,
    pub(crate) identities: Vec<RevokedIdentity>,
}

/// Who revokes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoker {
    Policy,
    Host,
}

impl fmt::Display for Revoker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Revoker::Policy => "the policy",
            Revoker::Host => "this host",
        })
    }
}

/// A key that counts no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevokedKey {
    pub(crate) id: KeyId,
    /// Images that its signatures are still good for: they were there before it was stolen.
    pub(crate) keep: Vec<Digest>,
}

/// An identity that counts no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevokedIdentity {
    pub(crate) name: CertifiedName,
    /// Images that its signatures are still good for.
    pub(crate) keep: Vec<Digest>,
}

impl Revoked {
    /// Whether the host revokes an identity that signed an image. What else the entry asks of
    /// a certificate is not compared.
    pub(crate) fn forbids_identity(&self, identity: &IdentityReport, image: &Digest) -> bool {
        let is_of = |one: &RevokedIdentity| one.name.is_of(&identity.issuer, &identity.subject);
        let mut entries = self.host.identities.iter().filter(|one| is_of(one));
        entries.any(|one| !one.keep.contains(image))
    }

    /// Whether a key's signatures count for nothing.
    pub(crate) fn has_key(&self, id: KeyId) -> bool {
        self.keys.iter().chain(&self.host.keys).any(|key| key.id == id)
    }

    /// Who says that a key's signature over an image counts for nothing, if anybody does. Of a
    /// key that is listed twice, what both keep is kept.
    pub(crate) fn key_by(&self, id: KeyId, image: &Digest) -> Option<Revoker> {
        let lists = [(&self.keys, Revoker::Policy), (&self.host.keys, Revoker::Host)];
        let is_in = |keys: &[RevokedKey]| keys.iter().any(|key| key.id == id && !key.keep.contains(image));
        lists.iter().find(|(keys, _)| is_in(keys)).map(|(_, by)| *by)
    }

    /// Whether a key's signature over an image counts for nothing.
    pub(crate) fn forbids(&self, id: KeyId, image: &Digest) -> bool {
        self.key_by(id, image).is_some()
    }

    /// Who revokes an image, if anybody does.
    pub(crate) fn image_by(&self, image: &Digest) -> Option<Revoker> {
        let lists = [(&self.images, Revoker::Policy), (&self.host.images, Revoker::Host)];
        lists
            .iter()
            .find(|(images, _)| images.contains(image))
            .map(|(_, by)| *by)
    }
}
