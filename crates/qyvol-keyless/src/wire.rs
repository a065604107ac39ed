//! Values as protobuf's JSON writes them: bytes in base64, 64-bit integers as strings.

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use qyvol_types::Timestamp;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, de};

use crate::ParseError;

/// Bytes, in either alphabet, padded or not, but with no bits that don't count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false);
    let alphabet = if text.contains(['-', '_']) {
        &URL_SAFE
    } else {
        &STANDARD
    };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        base64(&text)
            .map(Bytes)
            .ok_or_else(|| D::Error::custom("a value that is not canonical base64"))
    }
}

/// An index or a time: never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Int(pub(crate) u64);

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a whole number that is not negative")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Int, E> {
        self.visit_i64(i64::try_from(value).map_err(E::custom)?)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Int, E> {
        u64::try_from(value).map(Int).map_err(E::custom)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Int, E> {
        // `parse` takes a sign.
        if !value.bytes().all(|b| b.is_ascii_digit()) {
            return Err(E::invalid_value(de::Unexpected::Str(value), &self));
        }
        self.visit_i64(value.parse().map_err(E::custom)?)
    }
}

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Int, D::Error> {
        deserializer.deserialize_any(IntVisitor)
    }
}

/// A time in UTC, in whole seconds since 1970; a fraction is cut off.
pub(crate) fn time(text: &str, what: &'static str) -> Result<u64, ParseError> {
    let bad = || ParseError::value(what, "expected the form 2026-01-31T00:00:00Z");
    let (seconds, fraction) = text.split_at_checked(19).ok_or_else(bad)?;
    let fraction = fraction.strip_suffix('Z').ok_or_else(bad)?;
    let digits = match fraction {
        "" => "0",
        fraction => fraction.strip_prefix('.').ok_or_else(bad)?,
    };
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let time: Timestamp = format!("{seconds}Z").parse().map_err(|_| bad())?;
    Ok(time.unix())
}

/// A time as text, for messages.
pub(crate) fn show(seconds: u64) -> String {
    match Timestamp::from_unix(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => format!("second {seconds} since 1970"),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Refuses a list that is longer than what is read.
pub(crate) fn at_most(what: &'static str, got: usize, limit: usize) -> Result<(), ParseError> {
    match got <= limit {
        true => Ok(()),
        false => Err(ParseError::TooMuch { what, got, limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_not_negative() {
        for (text, value) in [("7", 7), ("\"7\"", 7), ("\"9223372036854775807\"", i64::MAX as u64)] {
            assert_eq!(serde_json::from_str::<Int>(text).unwrap(), Int(value));
        }
        for bad in [
            "-1",
            "\"-1\"",
            "\"+1\"",
            "1.5",
            "\"9223372036854775808\"",
            "null",
            "\"\"",
        ] {
            assert!(serde_json::from_str::<Int>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_utc_with_or_without_a_fraction() {
        assert_eq!(time("1970-01-01T00:00:01.999Z", "x").unwrap(), 1);
        assert_eq!(time("1970-01-01T00:01:00Z", "x").unwrap(), 60);
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:01.Z",
            "1970-01-01T00:00:01+00:00Z",
        ] {
            assert!(time(bad, "x").is_err(), "{bad}");
        }
    }
}
