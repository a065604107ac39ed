//! What can be wrong with a key.

use thiserror::Error;

/// Why a key can't be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PEM, or of another label.
    #[error("it is not PEM with the label {0}")]
    Pem(&'static str),
    /// A line of OpenSSH's that holds no key which can be used.
    #[error("it is an OpenSSH public key that can't be used: {0}")]
    Ssh(String),
    /// A private key where a public one is meant.
    #[error("it is a private key, expected a public key: use the .pub file that belongs to it")]
    PrivateHalf,
    /// The DER inside isn't a key of a known kind.
    #[error("it is neither an Ed25519 nor a P-256 key in {0}")]
    UnsupportedKey(&'static str),
    /// An Ed25519 point of small order, under which anyone's signature verifies.
    #[error("it is a weak Ed25519 key: a point of small order")]
    SmallOrder,
    /// An Ed25519 point written in a second way.
    #[error("it is not a canonical Ed25519 key")]
    NotCanonical,
    /// Not a point of the curve.
    #[error("it is not a point of its curve")]
    NotOnCurve,
    /// The key is encrypted, and the passphrase doesn't open it.
    #[error("the passphrase does not open it")]
    Passphrase,
    /// Opening it would cost more than is allowed.
    #[error("decrypting it requires {asked} of {what}: at most {limit} is allowed")]
    Cost {
        /// Which cost.
        what: &'static str,
        /// What the file asks for.
        asked: u64,
        /// The bound.
        limit: u64,
    },
    /// Encrypted in a way that isn't read.
    #[error("its encryption is not PBES2 with scrypt or PBKDF2")]
    Encryption,
    /// The system gave no random bytes, or the library failed.
    #[error("the cryptographic library failed")]
    Library,
}
