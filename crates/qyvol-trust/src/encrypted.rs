//! Encrypted private keys: PKCS#8 with PBES2 (RFC 8018), written with scrypt
//! (RFC 7914) and AES-256-CBC as OpenSSL 3 reads them; PBKDF2 is read too.

use pkcs8::der::{Decode, Encode};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf, ScryptParams};
use pkcs8::{EncryptedPrivateKeyInfoOwned, EncryptedPrivateKeyInfoRef, SecretDocument};
use ring::rand::{SecureRandom, SystemRandom};

use zeroize::Zeroizing;

use crate::KeyError;

/// scrypt's cost when writing: 16 MiB and about 50 ms. OpenSSL 3.0 reads no
/// more than 32 MiB unless told.
const LOG_N: u8 = 14;
const BLOCK_SIZE: u16 = 8;
/// Most memory that reading a key may take.
const MEMORY: u64 = 256 << 20;
/// Most lanes of scrypt.
const LANES: u64 = 16;
/// Most rounds of PBKDF2.
const ROUNDS: u64 = 10_000_000;

/// Encrypts a key's DER.
pub(crate) fn seal(der: &[u8], passphrase: &str) -> Result<Vec<u8>, KeyError> {
    let random = SystemRandom::new();
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    random
        .fill(&mut salt)
        .and_then(|()| random.fill(&mut iv))
        .map_err(|_| KeyError::Library)?;
    let kdf = ScryptParams {
        salt: salt.as_slice().try_into().map_err(|_| KeyError::Library)?,
        cost_parameter: 1 << LOG_N,
        block_size: BLOCK_SIZE,
        parallelization: 1,
        key_length: None,
    };
    let parameters = pbes2::Parameters {
        kdf: Kdf::Scrypt(kdf),
        encryption: pbes2::EncryptionScheme::Aes256Cbc { iv },
    };
    let encrypted = parameters.encrypt(passphrase, der).map_err(|_| KeyError::Library)?;
    let info = EncryptedPrivateKeyInfoOwned {
        encryption_algorithm: EncryptionScheme::from(parameters),
        encrypted_data: pkcs8::der::asn1::OctetString::new(encrypted).map_err(|_| KeyError::Library)?,
    };
    info.to_der().map_err(|_| KeyError::Library)
}

/// Decrypts a key's DER.
pub(crate) fn open(der: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let plain = decrypt(der, passphrase)?;
    // Of 256 wrong passphrases about one leaves a padding that is right.
    SecretDocument::try_from(plain.as_slice()).map_err(|_| KeyError::Passphrase)?;
    Ok(plain)
}

/// Decrypts anything; what that costs is bounded before it is spent.
pub(crate) fn decrypt(der: &[u8], passphrase: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|_| KeyError::Encryption)?;
    let parameters = info.encryption_algorithm.pbes2().ok_or(KeyError::Encryption)?;
    let within = |what, asked: u64, limit| match asked {
        asked if asked > limit => Err(KeyError::Cost { what, asked, limit }),
        _ => Ok(()),
    };
    match &parameters.kdf {
        Kdf::Scrypt(scrypt) => {
            let memory = 128u64
                .saturating_mul(u64::from(scrypt.block_size))
                .saturating_mul(scrypt.cost_parameter);
            within("bytes of memory", memory, MEMORY)?;
            within("lanes", scrypt.parallelization.into(), LANES)?;
            // The library panics on an N of 0.
            if scrypt.cost_parameter < 2 || !scrypt.cost_parameter.is_power_of_two() {
                return Err(KeyError::Encryption);
            }
        }
        Kdf::Pbkdf2(pbkdf2) => within("rounds", pbkdf2.iteration_count.into(), ROUNDS)?,
        _ => return Err(KeyError::Encryption),
    }
    let plain = parameters.decrypt(passphrase, info.encrypted_data.as_bytes());
    plain.map(Zeroizing::new).map_err(|_| KeyError::Passphrase)
}
