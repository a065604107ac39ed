//! Content digests (OCI image-spec, `descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
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

    fn ring(self) -> &'static ring::digest::Algorithm {
        match self {
            Algorithm::Sha256 => &ring::digest::SHA256,
            Algorithm::Sha512 => &ring::digest::SHA512,
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

/// Hashes a stream. The one hash behind the whole tree is ring's: it has the
/// CPU's SHA extensions and AVX paths chosen at run time (`spec/decisions/`).
pub struct Hasher {
    algorithm: Algorithm,
    context: ring::digest::Context,
}

impl Hasher {
    /// A hash of nothing yet.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher {
            algorithm,
            context: ring::digest::Context::new(algorithm.ring()),
        }
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let finished = self.context.finish();
        let mut value = [0; 64];
        for (to, from) in value.iter_mut().zip(finished.as_ref()) {
            *to = *from;
        }
        Digest {
            algorithm: self.algorithm,
            value,
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hasher({})", self.algorithm.name())
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
    fn refuses_digest_that_could_name_another_file() {
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
}
