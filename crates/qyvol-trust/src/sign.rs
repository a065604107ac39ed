//! What can sign: a private key, or a program, device or agent that has one.

use thiserror::Error;

use crate::{KeyError, PrivateKey, PublicKey};

/// Why nothing was signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Whatever has the key did not sign.
    #[error("the signer {signer} failed: {why}")]
    Signer {
        /// Which one.
        signer: String,
        /// Why, safe to show.
        why: String,
    },
    /// What it returned is no signature by its key.
    #[error("the signature does not verify with the public key {0}")]
    NotBy(String),
}

/// Something that signs with one key.
pub trait Sign {
    /// The public half of the key.
    fn public(&self) -> &PublicKey;

    /// A signature over a message: 64 bytes for Ed25519 (RFC 8032), DER for ECDSA
    /// (RFC 3279). The caller checks it.
    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

impl Sign for PrivateKey {
    fn public(&self) -> &PublicKey {
        PrivateKey::public(self)
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(self.sign(message)?)
    }
}

/// Signs, and checks what came back: a signer that fails silently must not leave a bad
/// signature behind.
pub(crate) fn sign_checked(signer: &dyn Sign, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let signature = signer.sign_message(message)?;
    if !signer.public().verify(message, &signature) {
        return Err(SignError::NotBy(signer.public().fingerprint()));
    }
    Ok(signature)
}
