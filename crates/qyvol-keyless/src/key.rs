//! Public keys and the signatures that they verify.

use der::asn1::ObjectIdentifier;
use der::pem;
use ring::signature as sig;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::ParseError;
use der::Decode as _;

pub(crate) const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
pub(crate) const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
pub(crate) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A digest's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) fn of(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha256 => &ring::digest::SHA256,
            Hash::Sha384 => &ring::digest::SHA384,
            Hash::Sha512 => &ring::digest::SHA512,
        };
        ring::digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Ed25519,
    /// PKCS #1 v1.5, 2,048 to 8,192 bits.
    Rsa,
}

/// A public key: ECDSA on P-256 or P-384, Ed25519, RSA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    /// What ring takes: a point, or an `RSAPublicKey`.
    key: Vec<u8>,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a PEM of the label `PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<PublicKey, ParseError> {
        let bad = || ParseError::value("the key", "it is not PEM with the label PUBLIC KEY");
        let (label, der) = pem::decode_vec(text.trim().as_bytes()).map_err(|_| bad())?;
        if label != "PUBLIC KEY" {
            return Err(bad());
        }
        PublicKey::from_spki(&der)
    }

    /// Reads a `SubjectPublicKeyInfo` (RFC 5280).
    pub(crate) fn from_spki(der: &[u8]) -> Result<PublicKey, ParseError> {
        let bad = || {
            ParseError::value(
                "a key",
                "it is no ECDSA key on P-256 or P-384, no Ed25519 and no RSA key",
            )
        };
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| bad())?;
        let kind = match info.algorithm.oid {
            EC => match info.algorithm.parameters_oid().map_err(|_| bad())? {
                P256 => Kind::P256,
                P384 => Kind::P384,
                _ => return Err(bad()),
            },
            ED25519 => Kind::Ed25519,
            RSA => Kind::Rsa,
            _ => return Err(bad()),
        };
        Ok(PublicKey {
            kind,
            key: info.subject_public_key.as_bytes().ok_or_else(bad)?.to_vec(),
            spki: der.to_vec(),
        })
    }

    /// Reads an `RSAPublicKey` (RFC 8017), as old trusted roots have them.
    pub(crate) fn from_pkcs1(der: &[u8]) -> PublicKey {
        PublicKey {
            kind: Kind::Rsa,
            key: der.to_vec(),
            spki: der.to_vec(),
        }
    }

    /// The bytes it was read from.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// The digest that sigstore's registry of algorithms pairs with the key.
    fn own_hash(&self) -> Hash {
        match self.kind {
            Kind::P384 => Hash::Sha384,
            _ => Hash::Sha256,
        }
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verify_with(self.own_hash(), message, signature)
    }

    /// The same with a digest that stands beside the signature. Ed25519 has its own.
    pub(crate) fn verify_with(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn sig::VerificationAlgorithm = match (self.kind, hash) {
            (Kind::P256, Hash::Sha256) => &sig::ECDSA_P256_SHA256_ASN1,
            (Kind::P256, Hash::Sha384) => &sig::ECDSA_P256_SHA384_ASN1,
            (Kind::P384, Hash::Sha256) => &sig::ECDSA_P384_SHA256_ASN1,
            (Kind::P384, Hash::Sha384) => &sig::ECDSA_P384_SHA384_ASN1,
            (Kind::Ed25519, _) => &sig::ED25519,
            (Kind::Rsa, Hash::Sha256) => &sig::RSA_PKCS1_2048_8192_SHA256,
            (Kind::Rsa, Hash::Sha384) => &sig::RSA_PKCS1_2048_8192_SHA384,
            (Kind::Rsa, Hash::Sha512) => &sig::RSA_PKCS1_2048_8192_SHA512,
            (Kind::P256 | Kind::P384, Hash::Sha512) => return false,
        };
        sig::UnparsedPublicKey::new(algorithm, &self.key)
            .verify(message, signature)
            .is_ok()
    }
}
