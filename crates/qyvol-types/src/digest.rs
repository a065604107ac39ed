//! Content digests (OCI image-spec, `descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::digest::common::hazmat::SerializableState;
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256 (FIPS 180-4), the one Qyvol writes.
    Sha256,
    /// SHA-512 (FIPS 180-4), accepted from registries.
    Sha512,
}

impl Algorithm {
    /// The registered name, as it stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Length of a digest in bytes.
    pub fn size(self) -> usize {
        match self {
            Algorithm::Sha256 => 32,
            Algorithm::Sha512 => 64,
        }
    }
}

/// Why a string is not a digest.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestError {
    /// There is no `algorithm:` before the value.
    #[error("digest has no algorithm: expected \"sha256:\" and 64 lower-case hexadecimal digits")]
    NoAlgorithm,
    /// The algorithm is not one of the registered two.
    #[error("unknown digest algorithm: expected sha256 or sha512")]
    UnknownAlgorithm,
    /// The value has the wrong number of digits.
    #[error("{algorithm} digest has {got} digits: expected {expected}")]
    Length {
        /// The algorithm's name.
        algorithm: &'static str,
        /// Digits due.
        expected: usize,
        /// Digits (bytes) found.
        got: usize,
    },
    /// A character other than `0-9a-f`.
    #[error("digest has a character other than 0-9 and a-f")]
    Character,
}

/// The identity of some bytes: an algorithm and its value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    // Zero-padded past `algorithm.size()`, so that the derived order and
    // equality are those of the value.
    value: [u8; 64],
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether `bytes` have this digest.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }

    /// A SHA-256 digest from its value.
    pub fn from_sha256(value: [u8; 32]) -> Digest {
        let mut padded = [0; 64];
        padded[..32].copy_from_slice(&value);
        Digest {
            algorithm: Algorithm::Sha256,
            value: padded,
        }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The value: 32 or 64 bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.value[..self.algorithm.size()]
    }

    /// The value in lower-case hexadecimal, safe as a file name.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = String::with_capacity(self.algorithm.size() * 2);
        for byte in self.bytes() {
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        out
    }

    /// The first twelve digits of the value, for lists that people read.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(s: &str) -> Result<Digest, DigestError> {
        let (name, hex) = s.split_once(':').ok_or(DigestError::NoAlgorithm)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::UnknownAlgorithm),
        };
        if hex.len() != algorithm.size() * 2 {
            return Err(DigestError::Length {
                algorithm: algorithm.name(),
                expected: algorithm.size() * 2,
                got: hex.len(),
            });
        }
        let mut value = [0; 64];
        for (byte, pair) in value.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Digest { algorithm, value })
    }
}

fn nibble(c: u8) -> Result<u8, DigestError> {
    match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(DigestError::Character),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a stream. The one hash behind the whole tree is that of `sha2`,
/// which takes the CPU's SHA extensions where there are any, and whose state
/// can be saved (`spec/decisions/0003-hash.md`).
#[derive(Clone)]
pub struct Hasher {
    core: Core,
    length: u64,
}

#[derive(Clone)]
enum Core {
    Sha256(Sha256),
    Sha512(Sha512),
}

/// The first byte of a saved state: the algorithm, and the form of what
/// follows, which is that of `sha2` 0.11.
const SHA256_STATE: u8 = 1;
const SHA512_STATE: u8 = 2;

impl Hasher {
    /// A hash of nothing yet.
    pub fn new(algorithm: Algorithm) -> Hasher {
        let core = match algorithm {
            Algorithm::Sha256 => Core::Sha256(Sha256::new()),
            Algorithm::Sha512 => Core::Sha512(Sha512::new()),
        };
        Hasher { core, length: 0 }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.core {
            Core::Sha256(_) => Algorithm::Sha256,
            Core::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// How many bytes were added.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.core {
            Core::Sha256(core) => core.update(bytes),
            Core::Sha512(core) => core.update(bytes),
        }
        self.length += bytes.len() as u64;
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let algorithm = self.algorithm();
        let mut value = [0; 64];
        match self.core {
            Core::Sha256(core) => value[..32].copy_from_slice(&core.finalize()),
            Core::Sha512(core) => value.copy_from_slice(&core.finalize()),
        }
        Digest { algorithm, value }
    }

    /// The state after the bytes added so far, to resume from later: 113 bytes
    /// for SHA-256, 217 for SHA-512. It is not authenticated: whoever can change
    /// it decides the digest. Keep it where nobody else writes, and save it only
    /// once the bytes that it covers are durable.
    pub fn state(&self) -> Vec<u8> {
        let (form, core) = match &self.core {
            Core::Sha256(core) => (SHA256_STATE, core.serialize().to_vec()),
            Core::Sha512(core) => (SHA512_STATE, core.serialize().to_vec()),
        };
        let mut state = vec![form];
        state.extend(self.length.to_le_bytes());
        state.extend(core);
        state
    }

    /// Resumes from a saved state; none if it is not valid. [`Hasher::length`]
    /// is the number of bytes that it covers.
    pub fn from_state(state: &[u8]) -> Option<Hasher> {
        let (form, rest) = state.split_first()?;
        let (length, core) = rest.split_first_chunk()?;
        let core = match *form {
            SHA256_STATE => Core::Sha256(Sha256::deserialize(core.try_into().ok()?).ok()?),
            SHA512_STATE => Core::Sha512(Sha512::deserialize(core.try_into().ok()?).ok()?),
            _ => return None,
        };
        let length = u64::from_le_bytes(*length);
        Some(Hasher { core, length })
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({}, {} bytes)", self.algorithm().name(), self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_knows_the_empty_digest() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Digest>().unwrap(), Digest::of(b""));
    }

    #[test]
    fn malformed_digest_is_refused() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in [
            hex.to_string(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("md5:{hex}"),
            format!("sha256:../{}", &hex[3..]),
            format!("SHA256:{hex}"),
            "sha256:".to_string(),
            String::new(),
            format!("sha256:é{}", &hex[2..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    fn of(algorithm: Algorithm, bytes: &[u8]) -> Hasher {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher
    }

    #[test]
    fn hasher_resumes_from_a_saved_state() {
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0]).collect();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let whole = of(algorithm, &bytes).finish();
            for stop in [0, 1, 63, 64, 65, 127, 128, 129, 999, 1000] {
                let state = of(algorithm, &bytes[..stop]).state();
                let mut hasher = Hasher::from_state(&state).unwrap();
                assert_eq!((hasher.length(), hasher.algorithm()), (stop as u64, algorithm));
                hasher.update(&bytes[stop..]);
                assert_eq!(hasher.finish(), whole, "{stop}");
            }
        }
    }

    #[test]
    fn invalid_hasher_state_is_refused() {
        let state = of(Algorithm::Sha256, b"abc").state();
        assert_eq!(state.len(), 113);
        assert_eq!(of(Algorithm::Sha512, b"abc").state().len(), 217);
        for length in 0..state.len() {
            assert!(Hasher::from_state(&state[..length]).is_none(), "{length}");
        }
        let mut longer = state.clone();
        longer.push(0);
        assert!(Hasher::from_state(&longer).is_none());
        // A buffer that holds more than a block can't be.
        let mut other = state.clone();
        for (at, byte) in [(0, 2), (0, 9), (49, 64), (49, 255)] {
            other.clone_from(&state);
            other[at] = byte;
            assert!(Hasher::from_state(&other).is_none(), "{at} {byte}");
        }
    }

    /// States outlast the program that saved them: a library that writes them
    /// otherwise needs another first byte.
    #[test]
    fn saved_hasher_state_has_a_stable_format() {
        let hex = |hasher: Hasher| -> String { hasher.state().iter().map(|b| format!("{b:02x}")).collect() };
        let initial = "67e6096a85ae67bb72f36e3c3af54fa57f520e518c68059babd9831f19cde05b";
        assert_eq!(
            hex(of(Algorithm::Sha256, b"abc")),
            format!("010300000000000000{initial}000000000000000003616263{}", "00".repeat(60))
        );
        let state = hex(of(Algorithm::Sha512, b"abc"));
        assert!(state.starts_with("02030000000000000008c9bcf367e6096a"), "{state}");
        assert!(state.ends_with(&format!("03616263{}", "00".repeat(124))), "{state}");
    }
}
