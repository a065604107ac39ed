//! Values as JSON.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_types::{escape, is_deceptive};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use wasmtime::component::{Type, Val};

use super::convert::{VALUES, Written, quoted};

/// Levels of arrays and objects inside each other.
const DEPTH: usize = 100;
/// The largest integer up to which every JSON reader reads all integers exactly
/// (RFC 8259, section 6).
const SAFE: u64 = (1 << 53) - 1;

/// A JSON value, as it was written: the order of keys is kept.
#[derive(Debug)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// Reads one JSON text in UTF-8, with no key twice in an object.
pub(super) fn parse(text: &[u8]) -> Result<Json, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let left = Cell::new(VALUES);
    let tree = Tree {
        depth: DEPTH,
        left: &left,
    };
    let parsed = tree.deserialize(&mut deserializer);
    let parsed = parsed.and_then(|value| deserializer.end().map(|()| value));
    // It quotes keys.
    parsed.map_err(|error| escape(&error.to_string()).to_string())
}

#[derive(Clone, Copy)]
struct Tree<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl<'a> Tree<'a> {
    fn deeper<E: serde::de::Error>(self) -> Result<Tree<'a>, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Tree { depth, ..self }),
            None => Err(E::custom(format_args!("nested more than {DEPTH} levels deep"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        let Some(left) = self.left.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!("more than {VALUES} values")));
        };
        self.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Json::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_string()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("duplicate key \"{}\"", quoted(&key))));
            }
            entries.push((key, map.next_value_seed(inner)?));
        }
        Ok(Json::Object(entries))
    }
}

impl Json {
    /// The value of the one key of an object.
    fn only(&self) -> Option<(&str, &Json)> {
        match self {
            Json::Object(entries) => match entries.as_slice() {
                [(key, value)] => Some((key, value)),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of an object that has only this key.
    fn tagged(&self, tag: &str) -> Option<&Json> {
        self.only().filter(|(key, _)| *key == tag).map(|(_, value)| value)
    }

    fn float(&self) -> Option<f64> {
        match self {
            Json::Number(number) => number.as_f64(),
            Json::String(text) => match text.as_str() {
                "nan" => Some(f64::NAN),
                "inf" => Some(f64::INFINITY),
                "-inf" => Some(f64::NEG_INFINITY),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<'a> Written<'a> for &'a Json {
    fn found(self) -> String {
        match self {
            Json::Null => "null".to_string(),
            Json::Bool(value) => value.to_string(),
            Json::Number(number) => format!("number {number}"),
            Json::String(text) => format!("string \"{}\"", quoted(text)),
            Json::Array(items) => format!("an array of {}", items.len()),
            Json::Object(entries) => match entries.first() {
                Some((key, _)) => format!("an object with \"{}\"", quoted(key)),
                None => "an empty object".to_string(),
            },
        }
    }

    fn bool(self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn integer(self, wide: bool) -> Option<Cow<'a, str>> {
        match self {
            Json::Number(number) => Some(number.to_string().into()),
            Json::String(text) if wide => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                is_decimal.then(|| text.as_str().into())
            }
            _ => None,
        }
    }

    fn f32(self) -> Option<f32> {
        let wide = self.float()?;
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest")]
        let value = wide as f32;
        (value.is_finite() || !wide.is_finite()).then_some(value)
    }

    fn f64(self) -> Option<f64> {
        self.float()
    }

    fn char(self) -> Option<char> {
        let Json::String(text) = self else { return None };
        let mut chars = text.chars();
        chars.next().filter(|_| chars.next().is_none())
    }

    fn string(self) -> Option<Cow<'a, str>> {
        match self {
            Json::String(text) => Some(text.into()),
            _ => None,
        }
    }

    fn list(self) -> Option<Vec<Self>> {
        match self {
            Json::Array(items) => Some(items.iter().collect()),
            _ => None,
        }
    }

    fn bytes(self) -> Option<Result<Vec<u8>, String>> {
        let Json::String(text) = self.tagged("base64")? else {
            return Some(Err("\"base64\" is no string".to_string()));
        };
        Some(
            STANDARD
                .decode(text)
                .map_err(|error| format!("not base64 (RFC 4648, with padding): {error}")),
        )
    }

    fn tuple(self) -> Option<Vec<Self>> {
        self.list()
    }

    fn record(self) -> Option<Vec<(&'a str, Self)>> {
        match self {
            Json::Object(entries) => Some(entries.iter().map(|(key, value)| (key.as_str(), value)).collect()),
            _ => None,
        }
    }

    fn case(self) -> Option<(&'a str, Option<Self>)> {
        match self {
            Json::String(name) => Some((name, None)),
            _ => self.only().map(|(name, value)| (name, Some(value))),
        }
    }

    fn label(self) -> Option<&'a str> {
        match self {
            Json::String(name) => Some(name),
            _ => None,
        }
    }

    fn flags(self) -> Option<Vec<&'a str>> {
        let names: Vec<&str> = self.list()?.into_iter().map(Written::label).collect::<Option<_>>()?;
        let mut seen = HashSet::new();
        names.iter().all(|name| seen.insert(*name)).then_some(names)
    }

    fn option(self, payload: &Type) -> Option<Option<Self>> {
        match (self, payload) {
            (Json::Null, _) => Some(None),
            // Otherwise an inner none could not be distinguished from an outer none.
            (value, Type::Option(_)) => value.tagged("some").map(Some),
            (value, _) => Some(Some(value)),
        }
    }

    fn result(self, ok: Option<&Type>, err: Option<&Type>) -> Option<Result<Option<Self>, Option<Self>>> {
        let (case, value) = self.only()?;
        // A missing value is null.
        let unless_null = |ty: Option<&Type>| Some(value).filter(|value| ty.is_some() || !matches!(value, Json::Null));
        match case {
            "ok" => Some(Ok(unless_null(ok))),
            "err" => Some(Err(unless_null(err))),
            _ => None,
        }
    }
}

/// Writes a value as one line of JSON.
pub(super) fn write(out: &mut String, value: &Val) {
    match value {
        Val::Bool(value) => push(out, value),
        Val::S8(value) => push(out, value),
        Val::U8(value) => push(out, value),
        Val::S16(value) => push(out, value),
        Val::U16(value) => push(out, value),
        Val::S32(value) => push(out, value),
        Val::U32(value) => push(out, value),
        Val::S64(value) => integer(out, value, value.unsigned_abs()),
        Val::U64(value) => integer(out, value, *value),
        Val::Float32(value) => {
            let text = format!("{value:?}");
            // JSON readers use 64-bit numbers, and round a second time.
            #[expect(clippy::cast_possible_truncation, reason = "it is what is asked")]
            match text.parse::<f64>() {
                Ok(read) if read as f32 == *value => float(out, f64::from(*value), &text),
                _ => float(out, f64::from(*value), &format!("{:?}", f64::from(*value))),
            }
        }
        Val::Float64(value) => float(out, *value, &format!("{value:?}")),
        Val::Char(value) => string(out, value.encode_utf8(&mut [0; 4])),
        Val::String(value) => string(out, value),
        Val::List(items) | Val::Tuple(items) | Val::FixedLengthList(items) => {
            list(out, ('[', ']'), items, write);
        }
        Val::Record(fields) => list(out, ('{', '}'), fields, |out, (name, value)| {
            member(out, name, Some(value))
        }),
        Val::Variant(name, None) | Val::Enum(name) => string(out, name),
        Val::Variant(name, payload) => tagged(out, name, payload.as_deref()),
        Val::Option(None) => out.push_str("null"),
        Val::Option(Some(inner)) if matches!(**inner, Val::Option(_)) => tagged(out, "some", Some(inner)),
        Val::Option(Some(inner)) => write(out, inner),
        Val::Result(Ok(payload)) => tagged(out, "ok", payload.as_deref()),
        Val::Result(Err(payload)) => tagged(out, "err", payload.as_deref()),
        Val::Flags(names) => list(out, ('[', ']'), names, |out, name| string(out, name)),
        // A function with these types is refused when it is looked up.
        Val::Map(_) | Val::Resource(_) | Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => {
            out.push_str("null");
        }
    }
}

fn push(out: &mut String, value: &impl fmt::Display) {
    out.push_str(&value.to_string());
}

/// A number, or a string if many readers would change its last digits.
fn integer(out: &mut String, value: &impl fmt::Display, size: u64) {
    match size <= SAFE {
        true => push(out, value),
        false => out.push_str(&format!("\"{value}\"")),
    }
}

fn float(out: &mut String, value: f64, text: &str) {
    if value.is_nan() {
        out.push_str("\"nan\"");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "\"inf\"" } else { "\"-inf\"" });
    } else {
        out.push_str(text);
    }
}

fn list<T>(out: &mut String, (open, close): (char, char), items: &[T], mut item: impl FnMut(&mut String, &T)) {
    out.push(open);
    for (index, value) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        item(out, value);
    }
    out.push(close);
}

fn tagged(out: &mut String, tag: &str, value: Option<&Val>) {
    out.push('{');
    member(out, tag, value);
    out.push('}');
}

fn member(out: &mut String, name: &str, value: Option<&Val>) {
    string(out, name);
    out.push(':');
    match value {
        Some(value) => write(out, value),
        None => out.push_str("null"),
    }
}

/// A string, with all terminal control characters escaped.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_deceptive(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a string can't fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
