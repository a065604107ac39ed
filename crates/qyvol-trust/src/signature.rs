//! Whose a signature is: the signers of a policy, checked against what a bundle claims and proves.

use qyvol_keyless::{Bundle, Content, TrustedRoot};
use qyvol_types::{Digest, Timestamp, escape, json};

use crate::policy::PolicyKey;
use crate::signer::{IdentityReport, Signer};
use crate::statement::{AnyStatement, pae_of};
use crate::{Envelope, KeyId, TrustPolicy};

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
