//! Types in WIT syntax, for signatures and errors, and which of them can't be passed.

use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

/// Levels of types inside each other.
const DEPTH: usize = 100;
/// Types in a signature, each counted where it is used.
const PARTS: usize = 100_000;
/// Length of a signature in messages, in bytes.
const SIGNATURE: usize = 2000;
/// Length of a type in messages, in bytes.
const TYPE: usize = 120;

/// A function's name and types as WIT has them, cut where they are long. Types are spelled
/// out: a compiled component has no names for them.
pub(super) fn signature(name: &str, function: &ComponentFunc) -> String {
    let mut words = Words::new(SIGNATURE);
    words.push(name);
    words.push(if function.async_() { ": async func(" } else { ": func(" });
    words.list(function.params(), |words, (name, ty)| {
        words.push(name);
        words.push(": ");
        words.ty(&ty);
    });
    words.push(")");
    if let Some(ty) = function.results().next() {
        words.push(" -> ");
        words.ty(&ty);
    }
    words.text
}

/// A type as WIT has it, cut where it is long.
pub(super) fn words(ty: &Type) -> String {
    let mut words = Words::new(TYPE);
    words.ty(ty);
    words.text
}

/// Text up to a length: a type may be built of others so that its full text would be much
/// longer than the component.
struct Words {
    text: String,
    limit: usize,
    is_cut: bool,
}

impl Words {
    fn new(limit: usize) -> Words {
        Words {
            text: String::new(),
            limit,
            is_cut: false,
        }
    }

    fn push(&mut self, text: &str) {
        if self.is_cut {
            return;
        }
        if self.text.len() + text.len() > self.limit {
            self.is_cut = true;
            self.text.push('…');
            return;
        }
        self.text.push_str(text);
    }

    fn list<T>(&mut self, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Words, T)) {
        for (index, item) in items.enumerate() {
            if self.is_cut {
                return;
            }
            if index > 0 {
                self.push(", ");
            }
            write(self, item);
        }
    }

    /// One with a type inside.
    fn around(&mut self, name: &str, inner: &Type) {
        self.push(name);
        self.push("<");
        self.ty(inner);
        self.push(">");
    }

    fn names<'a>(&mut self, kind: &str, names: impl Iterator<Item = &'a str>) {
        self.push(kind);
        self.push(" { ");
        self.list(names, Words::push);
        self.push(" }");
    }

    fn ty(&mut self, ty: &Type) {
        if self.is_cut {
            return;
        }
        match ty {
            Type::Bool => self.push("bool"),
            Type::S8 => self.push("s8"),
            Type::U8 => self.push("u8"),
            Type::S16 => self.push("s16"),
            Type::U16 => self.push("u16"),
            Type::S32 => self.push("s32"),
            Type::U32 => self.push("u32"),
            Type::S64 => self.push("s64"),
            Type::U64 => self.push("u64"),
            Type::Float32 => self.push("f32"),
            Type::Float64 => self.push("f64"),
            Type::Char => self.push("char"),
            Type::String => self.push("string"),
            Type::List(list) => self.around("list", &list.ty()),
            Type::Option(option) => self.around("option", &option.ty()),
            Type::Record(record) => {
                self.push("record { ");
                self.list(record.fields(), |words, field| {
                    words.push(field.name);
                    words.push(": ");
                    words.ty(&field.ty);
                });
                self.push(" }");
            }
            Type::Tuple(tuple) => {
                self.push("tuple<");
                self.list(tuple.types(), |words, ty| words.ty(&ty));
                self.push(">");
            }
            Type::Variant(variant) => {
                self.push("variant { ");
                self.list(variant.cases(), |words, case| {
                    words.push(case.name);
                    if let Some(ty) = &case.ty {
                        words.push("(");
                        words.ty(ty);
                        words.push(")");
                    }
                });
                self.push(" }");
            }
            Type::Enum(names) => self.names("enum", names.names()),
            Type::Flags(names) => self.names("flags", names.names()),
            Type::Result(result) => match (result.ok(), result.err()) {
                (None, None) => self.push("result"),
                (Some(ok), None) => self.around("result", &ok),
                (ok, Some(err)) => {
                    self.push("result<");
                    match &ok {
                        Some(ok) => self.ty(ok),
                        None => self.push("_"),
                    }
                    self.push(", ");
                    self.ty(&err);
                    self.push(">");
                }
            },
            Type::Map(map) => {
                self.push("map<");
                self.ty(&map.key());
                self.push(", ");
                self.ty(&map.value());
                self.push(">");
            }
            Type::FixedLengthList(list) => {
                self.push("list<");
                self.ty(&list.ty());
                self.push(&format!(", {}>", list.len()));
            }
            Type::Own(_) => self.push("own<resource>"),
            Type::Borrow(_) => self.push("borrow<resource>"),
            Type::Future(_) => self.push("future"),
            Type::Stream(_) => self.push("stream"),
            Type::ErrorContext => self.push("error-context"),
        }
    }
}

/// Why a function can't be called from outside, if it can't.
pub(super) fn unfit(function: &ComponentFunc) -> Option<String> {
    let mut parts = PARTS;
    for (name, ty) in function.params() {
        if let Some(why) = unfit_type(&ty, DEPTH, &mut parts) {
            return Some(format!("its parameter '{name}' has {why}"));
        }
    }
    let mut results = function.results();
    let why = results.next().and_then(|ty| unfit_type(&ty, DEPTH, &mut parts));
    match why {
        Some(why) => Some(format!("its result has {why}")),
        None if results.next().is_some() => Some("it has several results".to_string()),
        None => None,
    }
}

fn unfit_type(ty: &Type, depth: usize, parts: &mut usize) -> Option<&'static str> {
    let Some(depth) = depth.checked_sub(1) else {
        return Some("more than 100 types nested inside each other");
    };
    *parts = match parts.checked_sub(1) {
        Some(left) => left,
        None => return Some("more than 100,000 parts"),
    };
    let mut inner = |ty: Type| unfit_type(&ty, depth, parts);
    match ty {
        Type::Own(_) | Type::Borrow(_) => Some("a resource, which exists only inside the component"),
        Type::Future(_) => Some("a future, which has no text form"),
        Type::Stream(_) => Some("a stream, which has no text form"),
        Type::ErrorContext => Some("an error-context, which exists only inside the component"),
        Type::Map(_) => Some("a map, which this version does not pass"),
        Type::FixedLengthList(_) => Some("a list of fixed length, which this version does not pass"),
        Type::List(list) => inner(list.ty()),
        Type::Option(option) => inner(option.ty()),
        Type::Record(record) => record.fields().find_map(|field| inner(field.ty)),
        Type::Tuple(tuple) => tuple.types().find_map(inner),
        Type::Variant(variant) => variant.cases().filter_map(|case| case.ty).find_map(inner),
        Type::Result(result) => [result.ok(), result.err()].into_iter().flatten().find_map(inner),
        _ => None,
    }
}
