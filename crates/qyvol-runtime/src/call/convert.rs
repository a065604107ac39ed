//! Converts written values, in either language, to values of a function's types.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::str::FromStr;

use qyvol_types::escape;
use wasmtime::component::types::{Record, Variant};
use wasmtime::component::{Type, Val};

use super::words::words;

/// Values in the arguments of one call, each element and field counted: a few bytes may
/// stand for a record with many fields that are left out.
pub(super) const VALUES: usize = 1 << 20;
/// Length up to which an error quotes what was written, in characters.
const QUOTED: usize = 40;

/// A value as it was written. Each method returns none if the value is not of that kind.
pub(super) trait Written<'a>: Copy {
    /// What it is, for errors.
    fn found(self) -> String;
    fn bool(self) -> Option<bool>;
    /// The text of a number. A type of 64 bits is `wide`.
    fn integer(self, wide: bool) -> Option<Cow<'a, str>>;
    fn f32(self) -> Option<f32>;
    fn f64(self) -> Option<f64>;
    fn char(self) -> Option<char>;
    fn string(self) -> Option<Cow<'a, str>>;
    fn list(self) -> Option<Vec<Self>>;
    /// A list of bytes in one piece, or what is wrong with it.
    fn bytes(self) -> Option<Result<Vec<u8>, String>>;
    fn tuple(self) -> Option<Vec<Self>>;
    /// No field twice.
    fn record(self) -> Option<Vec<(&'a str, Self)>>;
    /// A case of a variant.
    fn case(self) -> Option<(&'a str, Option<Self>)>;
    /// A case of an enum.
    fn label(self) -> Option<&'a str>;
    fn flags(self) -> Option<Vec<&'a str>>;
    fn option(self, payload: &Type) -> Option<Option<Self>>;
    fn result(self, ok: Option<&Type>, err: Option<&Type>) -> Option<Result<Option<Self>, Option<Self>>>;
}

/// A value that does not fit its type.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// The path, innermost step first.
    place: Vec<Step>,
    what: String,
}

#[derive(Debug)]
enum Step {
    Name(String),
    Index(usize),
}

impl Mismatch {
    fn new(what: impl Into<String>) -> Mismatch {
        Mismatch {
            place: Vec::new(),
            what: what.into(),
        }
    }

    fn expected<'a>(ty: &Type, written: impl Written<'a>) -> Mismatch {
        Mismatch::new(format!("expected {}, found {}", words(ty), written.found()))
    }

    fn at(mut self, step: Step) -> Mismatch {
        self.place.push(step);
        self
    }

    fn at_name(self, name: &str) -> Mismatch {
        self.at(Step::Name(name.to_string()))
    }
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            let mut place = String::new();
            for step in self.place.iter().rev() {
                match step {
                    Step::Name(name) if place.is_empty() => place.push_str(name),
                    Step::Name(name) => place.push_str(&format!(".{name}")),
                    Step::Index(index) => place.push_str(&format!("[{index}]")),
                }
            }
            write!(f, "at {}: ", escape(&place))?;
        }
        f.write_str(&self.what)
    }
}

/// A part of what was written, for errors.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    escape(&shown).to_string()
}

/// Reads values, up to a number of them.
pub(super) struct Reader {
    left: usize,
}

impl Reader {
    pub(super) fn new() -> Reader {
        Reader { left: VALUES }
    }

    /// Reads a value. Its depth is that of the type, which is bounded when a function is looked
    /// up.
    pub(super) fn read<'a, W: Written<'a>>(&mut self, written: W, ty: &Type) -> Result<Val, Mismatch> {
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Err(Mismatch::new(format!("more than {VALUES} values in one call"))),
        };
        let mismatch = || Mismatch::expected(ty, written);
        Ok(match ty {
            Type::Bool => Val::Bool(written.bool().ok_or_else(mismatch)?),
            Type::S8 => Val::S8(integer(written, ty, i8::MIN, i8::MAX)?),
            Type::U8 => Val::U8(integer(written, ty, u8::MIN, u8::MAX)?),
            Type::S16 => Val::S16(integer(written, ty, i16::MIN, i16::MAX)?),
            Type::U16 => Val::U16(integer(written, ty, u16::MIN, u16::MAX)?),
            Type::S32 => Val::S32(integer(written, ty, i32::MIN, i32::MAX)?),
            Type::U32 => Val::U32(integer(written, ty, u32::MIN, u32::MAX)?),
            Type::S64 => Val::S64(integer(written, ty, i64::MIN, i64::MAX)?),
            Type::U64 => Val::U64(integer(written, ty, u64::MIN, u64::MAX)?),
            Type::Float32 => Val::Float32(written.f32().ok_or_else(mismatch)?),
            Type::Float64 => Val::Float64(written.f64().ok_or_else(mismatch)?),
            Type::Char => Val::Char(written.char().ok_or_else(mismatch)?),
            Type::String => Val::String(written.string().ok_or_else(mismatch)?.into_owned()),
            Type::List(list) => self.list(written, ty, &list.ty())?,
            Type::Tuple(tuple) => {
                let items = written.tuple().ok_or_else(mismatch)?;
                let types = tuple.types();
                if items.len() != types.len() {
                    let (expected, found) = (words(ty), items.len());
                    let what = format!("expected {expected}, which has {}, found {found}", types.len());
                    return Err(Mismatch::new(what));
                }
                let values = items.into_iter().zip(types).enumerate().map(|(index, (item, ty))| {
                    let value = self.read(item, &ty);
                    value.map_err(|error| error.at(Step::Index(index)))
                });
                Val::Tuple(values.collect::<Result<_, _>>()?)
            }
            Type::Record(record) => self.record(written.record().ok_or_else(mismatch)?, record)?,
            Type::Variant(variant) => {
                let (name, payload) = written.case().ok_or_else(mismatch)?;
                self.variant(name, payload, ty, variant)?
            }
            Type::Enum(names) => {
                let label = written.label().ok_or_else(mismatch)?;
                match names.names().any(|name| name == label) {
                    true => Val::Enum(label.to_string()),
                    false => return Err(mismatch()),
                }
            }
            Type::Flags(names) => {
                let set = written.flags().ok_or_else(mismatch)?;
                for (index, flag) in set.iter().enumerate() {
                    if !names.names().any(|name| name == *flag) {
                        let what = format!("expected {}, found '{}'", words(ty), quoted(flag));
                        return Err(Mismatch::new(what).at(Step::Index(index)));
                    }
                }
                // In their order, each once.
                let set = names.names().filter(|name| set.contains(name));
                Val::Flags(set.map(str::to_string).collect())
            }
            Type::Option(option) => {
                let inner = option.ty();
                match written.option(&inner).ok_or_else(mismatch)? {
                    Some(payload) => Val::Option(Some(Box::new(self.read(payload, &inner)?))),
                    None => Val::Option(None),
                }
            }
            Type::Result(result) => {
                let (ok, err) = (result.ok(), result.err());
                Val::Result(match written.result(ok.as_ref(), err.as_ref()).ok_or_else(mismatch)? {
                    Ok(payload) => Ok(self.payload("ok", payload, ok.as_ref())?),
                    Err(payload) => Err(self.payload("err", payload, err.as_ref())?),
                })
            }
            // Refused when the function was looked up.
            _ => return Err(mismatch()),
        })
    }

    fn list<'a, W: Written<'a>>(&mut self, written: W, ty: &Type, inner: &Type) -> Result<Val, Mismatch> {
        if *inner == Type::U8
            && let Some(bytes) = written.bytes()
        {
            let bytes = bytes.map_err(Mismatch::new)?;
            self.left = match self.left.checked_sub(bytes.len()) {
                Some(left) => left,
                None => return Err(Mismatch::new(format!("more than {VALUES} values in one call"))),
            };
            return Ok(Val::List(bytes.into_iter().map(Val::U8).collect()));
        }
        let items = written.list().ok_or_else(|| Mismatch::expected(ty, written))?;
        let values = items.into_iter().enumerate().map(|(index, item)| {
            let value = self.read(item, inner);
            value.map_err(|error| error.at(Step::Index(index)))
        });
        Ok(Val::List(values.collect::<Result<_, _>>()?))
    }

    fn record<'a, W: Written<'a>>(&mut self, written: Vec<(&'a str, W)>, record: &Record) -> Result<Val, Mismatch> {
        if let Some((unknown, _)) = written
            .iter()
            .find(|(name, _)| !record.fields().any(|field| field.name == *name))
        {
            let names: Vec<&str> = record.fields().map(|field| field.name).collect();
            let (unknown, names) = (quoted(unknown), quoted_names(&names));
            return Err(Mismatch::new(format!("unknown field '{unknown}': it has {names}")));
        }
        let mut fields = Vec::with_capacity(record.fields().len());
        for field in record.fields() {
            let given = written.iter().find(|(name, _)| *name == field.name);
            let value = match (given, &field.ty) {
                (Some((_, value)), ty) => self.read(*value, ty).map_err(|error| error.at_name(field.name))?,
                (None, Type::Option(_)) => {
                    self.left = self.left.saturating_sub(1);
                    Val::Option(None)
                }
                (None, ty) => {
                    let what = format!("the field '{}' is missing ({})", field.name, words(ty));
                    return Err(Mismatch::new(what));
                }
            };
            fields.push((field.name.to_string(), value));
        }
        Ok(Val::Record(fields))
    }

    fn variant<'a, W: Written<'a>>(
        &mut self,
        name: &str,
        payload: Option<W>,
        ty: &Type,
        variant: &Variant,
    ) -> Result<Val, Mismatch> {
        let Some(case) = variant.cases().find(|case| case.name == name) else {
            let what = format!("expected {}, found '{}'", words(ty), quoted(name));
            return Err(Mismatch::new(what));
        };
        let payload = self.payload(case.name, payload, case.ty.as_ref())?;
        Ok(Val::Variant(name.to_string(), payload))
    }

    /// The value of a case.
    fn payload<'a, W: Written<'a>>(
        &mut self,
        case: &str,
        payload: Option<W>,
        ty: Option<&Type>,
    ) -> Result<Option<Box<Val>>, Mismatch> {
        match (payload, ty) {
            (None, None) => Ok(None),
            (Some(payload), Some(ty)) => {
                let value = self.read(payload, ty).map_err(|error| error.at_name(case))?;
                Ok(Some(Box::new(value)))
            }
            (None, Some(ty)) => Err(Mismatch::new(format!("'{case}' needs a value ({})", words(ty)))),
            (Some(payload), None) => Err(Mismatch::new(format!(
                "'{case}' has no value, found {}",
                payload.found()
            ))),
        }
    }
}

fn quoted_names(names: &[&str]) -> String {
    let text = names.join(", ");
    let mut shown: String = text.chars().take(200).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

fn integer<'a, W: Written<'a>, N: FromStr + Display>(written: W, ty: &Type, min: N, max: N) -> Result<N, Mismatch> {
    let wide = matches!(ty, Type::S64 | Type::U64);
    let Some(text) = written.integer(wide) else {
        return Err(Mismatch::expected(ty, written));
    };
    text.parse().map_err(|_| {
        let digits = text.strip_prefix('-').unwrap_or(&text);
        match digits.bytes().all(|byte| byte.is_ascii_digit()) {
            true => {
                let (ty, found) = (words(ty), quoted(&text));
                Mismatch::new(format!("expected {ty}, which is from {min} to {max}, found {found}"))
            }
            false => Mismatch::expected(ty, written),
        }
    })
}
