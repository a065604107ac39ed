//! Values as WAVE, the text format of the component model's values.

use std::borrow::Cow;
use std::fmt::Display;

use qyvol_types::{escape, is_deceptive};
use wasm_wave::ast::{Node, NodeType};
use wasm_wave::untyped::UntypedValue;
use wasmtime::component::{Type, Val};

use super::convert::{Written, quoted};

/// Reads one value. Its depth is bounded by the parser: 100.
pub(super) fn parse(text: &str) -> Result<UntypedValue<'_>, String> {
    UntypedValue::parse(text).map_err(|error| escape(&error.to_string()).to_string())
}

/// A part of a text.
#[derive(Clone, Copy)]
pub(super) struct Wave<'a> {
    pub(super) node: &'a Node,
    pub(super) text: &'a str,
}

impl<'a> Wave<'a> {
    fn source(self) -> &'a str {
        self.text.get(self.node.span()).unwrap_or_default()
    }

    fn with(self, node: &'a Node) -> Wave<'a> {
        Wave { node, ..self }
    }

    /// A bare value in place of `some` or `ok`.
    fn flat(self, payload: Option<&Type>) -> Option<Wave<'a>> {
        let is_flat = payload.is_some_and(|ty| !matches!(ty, Type::Option(_) | Type::Result(_)));
        is_flat.then_some(self)
    }
}

impl<'a> Written<'a> for Wave<'a> {
    fn found(self) -> String {
        let kind = match self.node.ty() {
            NodeType::BoolTrue | NodeType::BoolFalse => "",
            NodeType::Number => "number ",
            NodeType::Char => "char ",
            NodeType::String | NodeType::MultilineString => "string ",
            NodeType::Tuple => "tuple ",
            NodeType::List => "list ",
            NodeType::Record => "record ",
            NodeType::Flags => "flags ",
            NodeType::Label | NodeType::VariantWithPayload => "case ",
            NodeType::OptionSome | NodeType::OptionNone => "option ",
            NodeType::ResultOk | NodeType::ResultErr => "result ",
        };
        format!("{kind}{}", quoted(self.source()))
    }

    fn bool(self) -> Option<bool> {
        self.node.as_bool().ok()
    }

    fn integer(self, _: bool) -> Option<Cow<'a, str>> {
        (self.node.ty() == NodeType::Number).then(|| self.source().into())
    }

    fn f32(self) -> Option<f32> {
        let value: f32 = self.node.as_number(self.text).ok()?;
        (value.is_finite() || !self.is_finite()).then_some(value)
    }

    fn f64(self) -> Option<f64> {
        let value: f64 = self.node.as_number(self.text).ok()?;
        (value.is_finite() || !self.is_finite()).then_some(value)
    }

    fn char(self) -> Option<char> {
        self.node.as_char(self.text).ok()
    }

    fn string(self) -> Option<Cow<'a, str>> {
        self.node.as_str(self.text).ok()
    }

    fn list(self) -> Option<Vec<Self>> {
        Some(self.node.as_list().ok()?.map(|node| self.with(node)).collect())
    }

    fn bytes(self) -> Option<Result<Vec<u8>, String>> {
        None
    }

    fn tuple(self) -> Option<Vec<Self>> {
        Some(self.node.as_tuple().ok()?.map(|node| self.with(node)).collect())
    }

    fn record(self) -> Option<Vec<(&'a str, Self)>> {
        let fields = self.node.as_record(self.text).ok()?;
        Some(fields.map(|(name, node)| (name, self.with(node))).collect())
    }

    fn case(self) -> Option<(&'a str, Option<Self>)> {
        let (name, payload) = self.node.as_variant(self.text).ok()?;
        Some((name, payload.map(|node| self.with(node))))
    }

    fn label(self) -> Option<&'a str> {
        self.node.as_enum(self.text).ok()
    }

    fn flags(self) -> Option<Vec<&'a str>> {
        let flags = self.node.as_flags(self.text).ok()?;
        Some(flags.map(|flag| flag.strip_prefix('%').unwrap_or(flag)).collect())
    }

    fn option(self, payload: &Type) -> Option<Option<Self>> {
        match self.node.as_option() {
            Ok(payload) => Some(payload.map(|node| self.with(node))),
            Err(_) => self.flat(Some(payload)).map(Some),
        }
    }

    fn result(self, ok: Option<&Type>, _: Option<&Type>) -> Option<Result<Option<Self>, Option<Self>>> {
        let with = |payload: Option<&'a Node>| payload.map(|node| self.with(node));
        match self.node.as_result() {
            Ok(Ok(payload)) => Some(Ok(with(payload))),
            Ok(Err(payload)) => Some(Err(with(payload))),
            Err(_) => self.flat(ok).map(|value| Ok(Some(value))),
        }
    }
}

impl Wave<'_> {
    /// Whether a number is written with digits.
    fn is_finite(self) -> bool {
        self.source().contains(|c: char| c.is_ascii_digit())
    }
}

/// Writes a value as one line of WAVE.
pub(super) fn write(out: &mut String, value: &Val) {
    match value {
        Val::Bool(value) => push(out, value),
        Val::S8(value) => push(out, value),
        Val::U8(value) => push(out, value),
        Val::S16(value) => push(out, value),
        Val::U16(value) => push(out, value),
        Val::S32(value) => push(out, value),
        Val::U32(value) => push(out, value),
        Val::S64(value) => push(out, value),
        Val::U64(value) => push(out, value),
        Val::Float32(value) if value.is_nan() => out.push_str("nan"),
        Val::Float64(value) if value.is_nan() => out.push_str("nan"),
        // Infinities are `inf` and `-inf` in Rust too.
        Val::Float32(value) => out.push_str(without_zero(&format!("{value:?}"))),
        Val::Float64(value) => out.push_str(without_zero(&format!("{value:?}"))),
        Val::Char(value) => {
            out.push('\'');
            character(out, *value);
            out.push('\'');
        }
        Val::String(value) => {
            out.push('"');
            value.chars().for_each(|c| character(out, c));
            out.push('"');
        }
        Val::List(items) | Val::FixedLengthList(items) => list(out, ('[', ']'), items.iter(), write),
        Val::Tuple(items) => list(out, ('(', ')'), items.iter(), write),
        Val::Record(fields) => {
            // What is left out is none.
            let mut fields = fields.iter().filter(|(_, value)| !matches!(value, Val::Option(None)));
            match fields.clone().next() {
                None => out.push_str("{:}"),
                Some(_) => list(out, ('{', '}'), &mut fields, |out, (name, value)| {
                    out.push_str(name);
                    out.push_str(": ");
                    write(out, value);
                }),
            }
        }
        Val::Variant(name, payload) => {
            label(out, name);
            parenthesised(out, payload.as_deref());
        }
        Val::Enum(name) => label(out, name),
        Val::Option(None) => out.push_str("none"),
        Val::Option(payload) => {
            out.push_str("some");
            parenthesised(out, payload.as_deref());
        }
        Val::Result(Ok(payload)) => {
            out.push_str("ok");
            parenthesised(out, payload.as_deref());
        }
        Val::Result(Err(payload)) => {
            out.push_str("err");
            parenthesised(out, payload.as_deref());
        }
        Val::Flags(names) => list(out, ('{', '}'), names.iter(), |out, name| out.push_str(name)),
        // A function with these types is refused when it is looked up.
        Val::Map(_) | Val::Resource(_) | Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => {
            out.push_str("none");
        }
    }
}

fn push(out: &mut String, value: &impl Display) {
    out.push_str(&value.to_string());
}

/// A number as WAVE's own writer prints it.
fn without_zero(number: &str) -> &str {
    number.strip_suffix(".0").unwrap_or(number)
}

fn list<T>(
    out: &mut String,
    (open, close): (char, char),
    items: impl Iterator<Item = T>,
    mut item: impl FnMut(&mut String, T),
) {
    out.push(open);
    for (index, value) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        item(out, value);
    }
    out.push(close);
}

fn parenthesised(out: &mut String, payload: Option<&Val>) {
    if let Some(value) = payload {
        out.push('(');
        write(out, value);
        out.push(')');
    }
}

/// A case, marked where it would be a word of the language.
fn label(out: &mut String, name: &str) {
    if matches!(name, "true" | "false" | "some" | "none" | "ok" | "err" | "inf" | "nan") {
        out.push('%');
    }
    out.push_str(name);
}

/// A character of a string, escaped if it controls a terminal.
fn character(out: &mut String, c: char) {
    match c {
        '"' | '\'' | '\\' => {
            out.push('\\');
            out.push(c);
        }
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if is_deceptive(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        c => out.push(c),
    }
}
