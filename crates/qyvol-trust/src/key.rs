//! Signing keys: Ed25519 (RFC 8032) and ECDSA on P-256 with SHA-256
//! (FIPS 186-5). Private keys are PKCS#8 v1 (RFC 5208), public ones SPKI
//! (RFC 5280), both as OpenSSL reads and writes them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use pkcs8::LineEnding;
use pkcs8::der::pem;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    UnparsedPublicKey,
};

use zeroize::Zeroizing;

use crate::{KeyError, encrypted};

/// `SEQUENCE { 0, { id-Ed25519 }, OCTET STRING { OCTET STRING` and 32 bytes.
const ED25519_PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// `SEQUENCE { { id-Ed25519 }, BIT STRING` and 32 bytes.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
/// `SEQUENCE { { id-ecPublicKey, prime256v1 }, BIT STRING` and 65 bytes.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3,
    0x42, 0,
];

const PRIVATE: &str = "PRIVATE KEY";
pub(crate) const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

/// A key's algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// Ed25519: signatures are deterministic.
    Ed25519,
    /// ECDSA on P-256 with SHA-256: signatures are randomized.
    EcdsaP256,
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyType::Ed25519 => "ed25519",
            KeyType::EcdsaP256 => "ecdsa-p256",
        })
    }
}

/// SHA-256 over a key's SPKI DER: two keys are one if it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(crate) [u8; 32]);

impl KeyId {
    /// In padded base64: a signature's hint.
    pub fn hint(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// As ssh shows fingerprints: `SHA256:` and base64 without `=`.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(self.0))
    }

    /// Of something else than a key that signs.
    pub(crate) fn of_digest(digest: ring::digest::Digest) -> KeyId {
        let mut out = [0; 32];
        out.copy_from_slice(digest.as_ref());
        KeyId(out)
    }

    /// Reads a hint: only the one canonical spelling is one.
    pub(crate) fn from_hint(text: &str) -> Option<KeyId> {
        STANDARD.decode(text).ok()?.try_into().ok().map(KeyId)
    }

    /// Reads a whole fingerprint.
    pub fn from_fingerprint(text: &str) -> Option<KeyId> {
        let digits = text.strip_prefix("SHA256:")?;
        STANDARD_NO_PAD.decode(digits).ok()?.try_into().ok().map(KeyId)
    }
}

/// A checked public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub(crate) point: Point,
    pub(crate) id: KeyId,
}

/// A key's algorithm and its point: as RFC 8032 writes it, or uncompressed (SEC 1, 2.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Ed25519([u8; 32]),
    EcdsaP256([u8; 65]),
}

impl PublicKey {
    /// Reads a PEM of the label `PUBLIC KEY`.
    pub fn from_pem(text: &str) -> Result<PublicKey, KeyError> {
        let key = PublicKey::from_pem_unchecked(text)?;
        key.check_on_curve()?;
        Ok(key)
    }

    /// The same without checking that a P-256 point is on its curve, which costs
    /// more than verifying a signature. [`PublicKey::verify`] rejects such a
    /// key, so a policy of many keys loads as fast as one of few.
    pub(crate) fn from_pem_unchecked(text: &str) -> Result<PublicKey, KeyError> {
        PublicKey::from_spki_der(&decode_pem(text, PUBLIC)?)
    }

    /// Reads a `SubjectPublicKeyInfo`. Weak and non-canonical keys are refused
    /// here, because ring does not refuse them when it verifies.
    fn from_spki_der(der: &[u8]) -> Result<PublicKey, KeyError> {
        let unsupported = |_| KeyError::UnsupportedKey("SPKI");
        let point = if let Some(point) = der.strip_prefix(&ED25519_SPKI) {
            let point = point.try_into().map_err(unsupported)?;
            check_ed25519(point)?;
            Point::Ed25519(point)
        } else if let Some(point) = der.strip_prefix(&P256_SPKI) {
            let point: [u8; 65] = point.try_into().map_err(unsupported)?;
            // Uncompressed.
            if point[0] != 4 {
                return Err(KeyError::UnsupportedKey("SPKI"));
            }
            Point::EcdsaP256(point)
        } else {
            return Err(KeyError::UnsupportedKey("SPKI"));
        };
        let id = KeyId(sha256(der));
        Ok(PublicKey { point, id })
    }

    /// Reads base64 of a `SubjectPublicKeyInfo`, in its one canonical spelling.
    pub fn from_base64(text: &str) -> Result<PublicKey, KeyError> {
        let der = STANDARD.decode(text).map_err(|_| KeyError::UnsupportedKey("SPKI"))?;
        let key = PublicKey::from_spki_der(&der)?;
        key.check_on_curve()?;
        Ok(key)
    }

    fn spki(&self) -> Vec<u8> {
        match &self.point {
            Point::Ed25519(point) => [&ED25519_SPKI[..], point].concat(),
            Point::EcdsaP256(point) => [&P256_SPKI[..], point].concat(),
        }
    }

    /// Its SPKI in base64.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.spki())
    }

    /// A key of this kind from its point: 32 bytes for Ed25519, 65 uncompressed ones for P-256.
    pub(crate) fn from_point(kind: KeyType, point: &[u8]) -> Result<PublicKey, KeyError> {
        let head: &[u8] = match kind {
            KeyType::Ed25519 => &ED25519_SPKI,
            KeyType::EcdsaP256 => &P256_SPKI,
        };
        let key = PublicKey::from_spki_der(&[head, point].concat())?;
        key.check_on_curve()?;
        Ok(key)
    }

    /// Refuses a P-256 point that is not on its curve, by way of ring's key
    /// agreement.
    pub(crate) fn check_on_curve(&self) -> Result<(), KeyError> {
        match &self.point {
            Point::EcdsaP256(point) => check_p256(point),
            Point::Ed25519(_) => Ok(()),
        }
    }

    /// SHA-256 over the SPKI DER.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key as PEM.
    pub fn to_pem(&self) -> String {
        encode_pem(PUBLIC, &self.spki())
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> KeyType {
        match self.point {
            Point::Ed25519(_) => KeyType::Ed25519,
            Point::EcdsaP256(_) => KeyType::EcdsaP256,
        }
    }

    /// Base64 of SHA-256 over the SPKI DER: a signature's hint.
    pub fn hint(&self) -> String {
        self.id.hint()
    }

    /// The same as ssh shows fingerprints: `SHA256:` and base64 without `=`.
    pub fn fingerprint(&self) -> String {
        self.id.fingerprint()
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, point): (&dyn ring::signature::VerificationAlgorithm, &[u8]) = match &self.point {
            Point::Ed25519(point) => (&ED25519, point),
            Point::EcdsaP256(point) => (&ECDSA_P256_SHA256_ASN1, point),
        };
        UnparsedPublicKey::new(algorithm, point)
            .verify(message, signature)
            .is_ok()
    }
}

/// The y coordinates of the eight points whose order divides 8, little-endian,
/// sign bit cleared: 1, −1, 0 and the two of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    out.copy_from_slice(hash.as_ref());
    out
}

/// Refuses points of small order and those written as y ≥ p.
fn check_ed25519(mut y: [u8; 32]) -> Result<(), KeyError> {
    y[31] &= 0x7f;
    // p = 2^255 − 19, little-endian: 0xed, thirty times 0xff, 0x7f.
    let top = y[1..31].iter().all(|b| *b == 0xff) && y[31] == 0x7f;
    if top && y[0] >= 0xed {
        return Err(KeyError::NotCanonical);
    }
    if SMALL_ORDER.contains(&y) {
        return Err(KeyError::SmallOrder);
    }
    Ok(())
}

fn check_p256(point: &[u8]) -> Result<(), KeyError> {
    use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
    let key = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).map_err(|_| KeyError::Library)?;
    agree_ephemeral(key, &UnparsedPublicKey::new(&ECDH_P256, point), |_| ()).map_err(|_| KeyError::NotOnCurve)
}

/// A private key.
pub struct PrivateKey {
    pair: Pair,
    /// PKCS#8 v1.
    der: Zeroizing<Vec<u8>>,
    public: PublicKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public.fingerprint())
    }
}

impl PrivateKey {
    /// Makes a key.
    pub fn generate(kind: KeyType) -> Result<PrivateKey, KeyError> {
        let random = SystemRandom::new();
        match kind {
            KeyType::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                random.fill(seed.as_mut()).map_err(|_| KeyError::Library)?;
                PrivateKey::from_pkcs8(&Zeroizing::new([&ED25519_PKCS8[..], seed.as_ref()].concat()))
            }
            KeyType::EcdsaP256 => {
                let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random);
                PrivateKey::from_pkcs8(der.map_err(|_| KeyError::Library)?.as_ref())
            }
        }
    }

    /// Reads PKCS#8 in PEM.
    pub fn from_pem(text: &str) -> Result<PrivateKey, KeyError> {
        PrivateKey::from_pkcs8(&Zeroizing::new(decode_pem(text, PRIVATE)?))
    }

    /// Reads encrypted PKCS#8 in PEM.
    pub fn from_encrypted_pem(text: &str, passphrase: &str) -> Result<PrivateKey, KeyError> {
        PrivateKey::from_pkcs8(&encrypted::open(&decode_pem(text, ENCRYPTED)?, passphrase)?)
    }

    fn from_pkcs8(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let form = |_| KeyError::UnsupportedKey("PKCS#8");
        if let Some(seed) = der.strip_prefix(&ED25519_PKCS8).filter(|seed| seed.len() == 32) {
            let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(form)?;
            return PrivateKey::ed25519(pair, Zeroizing::new(der.to_vec()));
        }
        // PKCS#8 v2, which ring and others write, holds the public half too:
        // checked against the private one, then kept as v1.
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            let at = der
                .windows(4)
                .position(|w| w == [4, 0x22, 4, 0x20])
                .ok_or(KeyError::UnsupportedKey("PKCS#8"))?;
            let seed = der.get(at + 4..at + 36).ok_or(KeyError::UnsupportedKey("PKCS#8"))?;
            return PrivateKey::ed25519(pair, Zeroizing::new([&ED25519_PKCS8[..], seed].concat()));
        }
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &SystemRandom::new()).map_err(form)?;
        let public = PublicKey::from_spki_der(&[&P256_SPKI[..], pair.public_key().as_ref()].concat())?;
        Ok(PrivateKey {
            pair: Pair::EcdsaP256(pair),
            der: Zeroizing::new(der.to_vec()),
            public,
        })
    }

    fn ed25519(pair: Ed25519KeyPair, der: Zeroizing<Vec<u8>>) -> Result<PrivateKey, KeyError> {
        let public = PublicKey::from_spki_der(&[&ED25519_SPKI[..], pair.public_key().as_ref()].concat())?;
        Ok(PrivateKey {
            pair: Pair::Ed25519(pair),
            der,
            public,
        })
    }

    /// Where the private half is in memory, and a copy of it.
    #[cfg(test)]
    pub(crate) fn secret_at(&self) -> (usize, Vec<u8>) {
        (self.der.as_ptr() as usize, self.der.to_vec())
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key as PEM, readable by whoever sees it.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(encode_pem(PRIVATE, &self.der))
    }

    /// The key as PEM, encrypted.
    pub fn to_encrypted_pem(&self, passphrase: &str) -> Result<String, KeyError> {
        Ok(encode_pem(ENCRYPTED, &encrypted::seal(&self.der, passphrase)?))
    }

    /// Signs.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::EcdsaP256(pair) => {
                let signature = pair
                    .sign(&SystemRandom::new(), message)
                    .map_err(|_| KeyError::Library)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

fn decode_pem(text: &str, label: &'static str) -> Result<Vec<u8>, KeyError> {
    // OpenSSL may put lines of text before the key.
    let start = text.find("-----BEGIN ").ok_or(KeyError::Pem(label))?;
    let body = text.get(start..).unwrap_or_default().trim_end();
    match pem::decode_vec(body.as_bytes()) {
        Ok((found, der)) if found == label => Ok(der),
        Ok((found, _)) if label == PUBLIC && [PRIVATE, ENCRYPTED].contains(&found) => Err(KeyError::PrivateHalf),
        _ => Err(KeyError::Pem(label)),
    }
}

fn encode_pem(label: &'static str, der: &[u8]) -> String {
    // Fails only for a label with forbidden characters, and ours are constant.
    pem::encode_string(label, LineEnding::LF, der).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_key_in_place_of_a_public_one_is_reported() {
        let key = PrivateKey::generate(KeyType::Ed25519).unwrap();
        for pem in [key.to_pem().to_string(), key.to_encrypted_pem("secret").unwrap()] {
            assert_eq!(PublicKey::from_pem(&pem).err(), Some(KeyError::PrivateHalf));
        }
    }

    // [SIGN-001]
    #[test]
    fn keys_of_both_algorithms_sign_and_survive_pem() {
        for kind in [KeyType::Ed25519, KeyType::EcdsaP256] {
            let key = PrivateKey::generate(kind).unwrap();
            let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
            let public = PublicKey::from_pem(&key.public().to_pem()).unwrap();
            assert_eq!(&public, again.public());
            assert_eq!(public.algorithm(), kind);
            let signature = again.sign(b"message").unwrap();
            assert!(public.verify(b"message", &signature));
            assert!(!public.verify(b"massage", &signature));
            let sealed = key.to_encrypted_pem("open sesame").unwrap();
            assert_eq!(
                PrivateKey::from_encrypted_pem(&sealed, "open sesame").unwrap().public(),
                &public
            );
            assert_eq!(
                PrivateKey::from_encrypted_pem(&sealed, "wrong").unwrap_err(),
                KeyError::Passphrase
            );
        }
    }

    // [SIGN-004]
    #[test]
    fn weak_or_invalid_public_key_is_refused() {
        for y in SMALL_ORDER {
            for sign in [0, 0x80] {
                let mut point = y;
                point[31] |= sign;
                let der = [&ED25519_SPKI[..], &point].concat();
                assert_eq!(PublicKey::from_spki_der(&der).unwrap_err(), KeyError::SmallOrder);
            }
        }
        for low in 0xed..=0xff {
            let mut point = [0xff; 32];
            (point[0], point[31]) = (low, 0x7f);
            let der = [&ED25519_SPKI[..], &point].concat();
            assert_eq!(PublicKey::from_spki_der(&der).unwrap_err(), KeyError::NotCanonical);
        }
        let off_curve = encode_pem(PUBLIC, &[&P256_SPKI[..], &[4], &[1; 64]].concat());
        assert_eq!(PublicKey::from_pem(&off_curve).unwrap_err(), KeyError::NotOnCurve);
        // Read without that check, it verifies nothing.
        let key = PublicKey::from_pem_unchecked(&off_curve).unwrap();
        let signed = PrivateKey::generate(KeyType::EcdsaP256).unwrap().sign(b"x").unwrap();
        assert!(!key.verify(b"x", &signed));
    }

    // [SIGN-004]
    #[test]
    fn list_of_small_orders_is_right() {
        use curve25519_dalek::edwards::CompressedEdwardsY;
        for y in SMALL_ORDER {
            let point = CompressedEdwardsY(y).decompress().expect("on the curve");
            assert!(point.is_small_order());
        }
        assert_eq!(curve25519_dalek::constants::EIGHT_TORSION.len(), 8);
        for point in curve25519_dalek::constants::EIGHT_TORSION {
            let mut y = point.compress().0;
            y[31] &= 0x7f;
            assert!(SMALL_ORDER.contains(&y));
        }
    }
}
