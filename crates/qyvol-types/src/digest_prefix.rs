//! Shortened digests, as people copy them from a list.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::{Digest, DigestError};

/// Digits that a shortened digest has at least: 48 bits, so that a prefix found
/// in a list of images stays unambiguous in practice.
pub const MIN_PREFIX: usize = 12;

const ALGORITHM: &str = "sha256:";
/// Digits of a whole SHA-256 digest.
const DIGITS: usize = 64;

/// `sha256:` and 12 to 64 hexadecimal digits. It selects among images that are
/// known by their whole digest; it never identifies one by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DigestPrefix {
    digits: String,
}

/// Why a string is not a digest or the beginning of one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DigestPrefixError {
    /// It has too few or too many digits.
    #[error("expected `sha256:` and {MIN_PREFIX} to {DIGITS} digits, found {0}")]
    Length(usize),
    /// A character other than `0-9a-f`.
    #[error("digest has a character other than 0-9 and a-f")]
    Character,
    /// It has all digits and still is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl DigestPrefix {
    /// Whether a text is spelled as a digest.
    pub fn is_spelled(text: &str) -> bool {
        text.starts_with(ALGORITHM)
    }

    /// The digest, if all of its digits are there.
    pub fn whole(&self) -> Option<Digest> {
        (self.digits.len() == DIGITS)
            .then(|| self.to_string().parse().ok())
            .flatten()
    }

    /// Whether a digest begins with these digits.
    pub fn matches(&self, digest: &Digest) -> bool {
        digest
            .to_string()
            .strip_prefix(ALGORITHM)
            .is_some_and(|hex| hex.starts_with(&self.digits))
    }
}

impl FromStr for DigestPrefix {
    type Err = DigestPrefixError;

    fn from_str(text: &str) -> Result<DigestPrefix, DigestPrefixError> {
        let digits = text.strip_prefix(ALGORITHM).ok_or(DigestError::NoAlgorithm)?;
        if !(MIN_PREFIX..=DIGITS).contains(&digits.len()) {
            return Err(DigestPrefixError::Length(digits.len()));
        }
        if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(DigestPrefixError::Character);
        }
        Ok(DigestPrefix {
            digits: digits.to_string(),
        })
    }
}

impl fmt::Display for DigestPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ALGORITHM}{}", self.digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_matches_the_digests_that_begin_with_it() {
        let digest = Digest::of(b"x");
        let text = digest.to_string();
        let short: DigestPrefix = text[..ALGORITHM.len() + MIN_PREFIX].parse().unwrap();
        assert!(short.matches(&digest));
        assert!(!short.matches(&Digest::of(b"y")));
        assert_eq!(short.whole(), None);
        let all: DigestPrefix = text.parse().unwrap();
        assert_eq!(all.whole(), Some(digest));
    }

    #[test]
    fn prefix_that_is_too_short_too_long_or_not_hexadecimal_is_refused() {
        for digits in ["", "0", "00000000000", "00000000000g", "00000000000A"] {
            assert!(format!("sha256:{digits}").parse::<DigestPrefix>().is_err(), "{digits}");
        }
        assert!(format!("sha256:{}", "0".repeat(65)).parse::<DigestPrefix>().is_err());
        assert!("000000000000".parse::<DigestPrefix>().is_err());
    }
}
