//! Strict reading of JSON from outside.
//!
//! serde_json keeps the last of two equal keys where it decodes to a map, and
//! two readers that keep different ones can be shown different documents. So
//! each document is walked once for form, then decoded.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::limits;

/// Why some bytes are not acceptable JSON. serde_json quotes keys and values of
/// the document verbatim, so its messages are stored escaped; nothing else is.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> JsonError {
        JsonError(format!("not valid JSON: {}", crate::escape(&error.to_string())))
    }
}

/// Checks that `bytes` are one JSON document in UTF-8 with no key twice in an
/// object and no more than [`limits::NESTING`] levels.
pub fn check(bytes: &[u8]) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    StrictJson { depth: limits::NESTING }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(())
}

/// Checks the form, then decodes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    check(bytes)?;
    serde_json::from_slice(bytes)
        .map_err(|error| JsonError(format!("not as expected: {}", crate::escape(&error.to_string()))))
}

/// Refuses a document with a key that differs from one of `fields` only in case:
/// Go's decoder accepts it as that field, and ours does not. Keys below a key of
/// `maps` are not checked.
pub fn check_case(bytes: &[u8], fields: &[&str], maps: &[&str]) -> Result<(), JsonError> {
    check(bytes)?;
    let document = serde_json::from_slice(bytes)?;
    match variant(&document, fields, maps) {
        Some((key, field)) => Err(JsonError(format!(
            "ambiguous: `{}` is `{field}` to some readers",
            crate::escape(key)
        ))),
        None => Ok(()),
    }
}

/// A key of the document, whose depth is bounded, that is a field in all but
/// case.
fn variant<'a>(value: &'a Value, fields: &[&'a str], maps: &[&'a str]) -> Option<(&'a str, &'a str)> {
    match value {
        Value::Array(items) => items.iter().find_map(|item| variant(item, fields, maps)),
        Value::Object(entries) => entries.iter().find_map(|(key, value)| {
            let is_variant = |field: &&&str| folded(field).eq(folded(key)) && **field != key;
            let found = fields.iter().chain(maps).find(is_variant);
            let below = || match maps.contains(&key.as_str()) {
                true => None,
                false => variant(value, fields, maps),
            };
            found.map(|field| (key.as_str(), *field)).or_else(below)
        }),
        _ => None,
    }
}

/// A key as Go compares it: two letters beyond ASCII are the same as one of it.
fn folded(key: &str) -> impl Iterator<Item = char> + '_ {
    key.chars().map(|c| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    })
}

/// Encodes without white space: what Qyvol writes wherever bytes are signed or
/// digested. Structs keep their field order, maps are sorted (`BTreeMap`).
pub fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, JsonError> {
    Ok(serde_json::to_vec(value)?)
}

#[derive(Clone, Copy)]
struct StrictJson {
    depth: usize,
}

impl StrictJson {
    fn deeper<E: serde::de::Error>(self) -> Result<StrictJson, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(StrictJson { depth }),
            None => Err(E::custom(format_args!(
                "nested more than {} levels deep",
                limits::NESTING
            ))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for StrictJson {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictJson {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                let key = crate::escape(&key).to_string();
                return Err(A::Error::custom(format_args!("duplicate key \"{key}\"")));
            }
            seen.insert(key);
            map.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_key_is_refused_at_any_depth() {
        assert!(check(br#"{"a":1,"b":{"a":1}}"#).is_ok());
        assert!(check(br#"{"a":1,"a":1}"#).is_err());
        assert!(check(br#"[{"x":{"a":1,"\u0061":2}}]"#).is_err());
    }

    #[test]
    fn key_that_is_a_field_in_all_but_case_is_refused() {
        let check = |text: &str| check_case(text.as_bytes(), &["layers", "size", "Disk"], &["annotations"]);
        for fine in [
            r#"{"layers":[{"size":1}],"Disk":{},"other":{"Layer":1}}"#,
            r#"{"annotations":{"SIZE":"x","Layers":"y"}}"#,
        ] {
            check(fine).unwrap();
        }
        for bad in [
            r#"{"layers":[],"Layers":[]}"#,
            r#"{"LAYERS":[]}"#,
            r#"{"layers":[{"Size":1}]}"#,
            r#"{"layer\u017f":[]}"#,
            r#"{"dis\u212a":1}"#,
            r#"{"Annotations":{}}"#,
        ] {
            let error = check(bad).unwrap_err().to_string();
            assert!(error.starts_with("ambiguous: "), "{error}");
        }
        assert!(check("[").unwrap_err().to_string().starts_with("not valid JSON"));
    }

    #[test]
    fn nesting_bomb_is_refused_without_overflowing_the_stack() {
        let bomb = "[".repeat(100_000);
        assert!(check(bomb.as_bytes()).is_err());
        let deep = format!("{}{}", "[".repeat(limits::NESTING + 1), "]".repeat(limits::NESTING + 1));
        assert!(check(deep.as_bytes()).is_err());
    }

    #[test]
    fn trailing_junk_is_refused() {
        assert!(check(b"{} {}").is_err());
        assert!(check(b"{}\n").is_ok());
        assert!(check(b"").is_err());
    }
}
