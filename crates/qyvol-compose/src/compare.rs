//! Whether the types of an import and an export agree, and where they differ if not.
//!
//! Types are compared by structure, as the component model's validator does. A resource is
//! compared by its interface and name: the validator, which sees the instances, decides whether
//! two are the same.

use std::collections::HashSet;
use std::fmt::{self, Write};

use qyvol_types::escape;
use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::name::Track;
use crate::part::View;

/// Characters of a type that a message shows.
const MAX_SHOWN: usize = 240;

/// Where two types differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path to it: ``function `add`, parameter `b` ``.
    pub place: String,
    /// The type in the import, or in the first of two.
    pub wanted: String,
    /// The type in the export, or in the second of two.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { place, wanted, found } = self;
        write!(
            f,
            "{}: expected `{}`, found `{}`",
            escape(place),
            escape(wanted),
            escape(found)
        )
    }
}

/// An interface in its own types.
pub(crate) type In<'a> = (&'a Resolve, &'a View);

/// Checks that an export has all that an import needs, with the same types.
pub(crate) fn satisfies(import: In<'_>, export: In<'_>) -> Result<(), Difference> {
    let mut comparison = Comparison::new(import.0, export.0);
    let (ours, theirs) = (&import.0.interfaces[import.1.id], &export.0.interfaces[export.1.id]);
    for (name, wanted) in ours.types.iter().filter(|(name, _)| import.1.has(name)) {
        let found = theirs.types.get(name).filter(|_| export.1.has(name));
        comparison.at(format!("type `{name}`"), |c| match found {
            Some(found) => c.ty(Type::Id(*wanted), Type::Id(*found)),
            None => c.differ(definition(c.ours, Type::Id(*wanted)), "nothing".to_string()),
        })?;
    }
    for (name, wanted) in ours.functions.iter().filter(|(name, _)| import.1.has(name)) {
        let found = theirs.functions.get(name).filter(|_| export.1.has(name));
        comparison.at(format!("function `{name}`"), |c| match found {
            Some(found) => c.function(wanted, found),
            None => c.differ(signature(c.ours, wanted), "nothing".to_string()),
        })?;
    }
    Ok(())
}

/// A comparison of types of two components.
pub(crate) struct Comparison<'a> {
    ours: &'a Resolve,
    theirs: &'a Resolve,
    /// Pairs that are equal, or are being compared: types have no cycles.
    pub(crate) seen: HashSet<(TypeId, TypeId)>,
    place: Vec<String>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(ours: &'a Resolve, theirs: &'a Resolve) -> Comparison<'a> {
        Comparison {
            ours,
            theirs,
            seen: HashSet::new(),
            place: Vec::new(),
        }
    }

    /// Compares the types at a place.
    pub(crate) fn at(
        &mut self,
        place: String,
        compare: impl FnOnce(&mut Self) -> Result<(), Difference>,
    ) -> Result<(), Difference> {
        self.place.push(place);
        compare(self)?;
        self.place.pop();
        Ok(())
    }

    fn differ(&self, wanted: String, found: String) -> Result<(), Difference> {
        Err(Difference {
            place: self.place.join(", "),
            wanted: cut(wanted),
            found: cut(found),
        })
    }

    /// Compares two functions: names and types of parameters, the result, and whether they are
    /// asynchronous.
    pub(crate) fn function(&mut self, ours: &Function, theirs: &Function) -> Result<(), Difference> {
        let names = |function: &Function| function.params.iter().map(|p| p.name.clone()).collect::<Vec<_>>();
        if ours.kind.is_async() != theirs.kind.is_async()
            || names(ours) != names(theirs)
            || ours.result.is_some() != theirs.result.is_some()
        {
            return self.differ(signature(self.ours, ours), signature(self.theirs, theirs));
        }
        for (a, b) in ours.params.iter().zip(&theirs.params) {
            self.at(format!("parameter `{}`", a.name), |c| c.ty(a.ty, b.ty))?;
        }
        match (ours.result, theirs.result) {
            (Some(a), Some(b)) => self.at("result".to_string(), |c| c.ty(a, b)),
            _ => Ok(()),
        }
    }

    /// Compares two types. The validator has bounded the depth of both.
    pub(crate) fn ty(&mut self, ours: Type, theirs: Type) -> Result<(), Difference> {
        let (a, b) = (peel(self.ours, ours), peel(self.theirs, theirs));
        let (Type::Id(a_id), Type::Id(b_id)) = (a, b) else {
            return match a == b {
                true => Ok(()),
                false => self.differ(definition(self.ours, a), definition(self.theirs, b)),
            };
        };
        if !self.seen.insert((a_id, b_id)) {
            return Ok(());
        }
        let (ours, theirs) = (self.ours, self.theirs);
        let differ = |c: &Self| c.differ(definition(ours, a), definition(theirs, b));
        match (&ours.types[a_id].kind, &theirs.types[b_id].kind) {
            (TypeDefKind::Record(a), TypeDefKind::Record(b)) => {
                if !a.fields.iter().map(|f| &f.name).eq(b.fields.iter().map(|f| &f.name)) {
                    return differ(self);
                }
                for (a, b) in a.fields.iter().zip(&b.fields) {
                    self.at(format!("field `{}`", a.name), |c| c.ty(a.ty, b.ty))?;
                }
                Ok(())
            }
            (TypeDefKind::Variant(a), TypeDefKind::Variant(b)) => {
                let names = a.cases.iter().map(|c| (&c.name, c.ty.is_some()));
                if !names.eq(b.cases.iter().map(|c| (&c.name, c.ty.is_some()))) {
                    return differ(self);
                }
                for (a, b) in a.cases.iter().zip(&b.cases) {
                    self.at(format!("case `{}`", a.name), |c| c.optional(a.ty, b.ty))?;
                }
                Ok(())
            }
            (TypeDefKind::Tuple(a), TypeDefKind::Tuple(b)) if a.types.len() == b.types.len() => {
                for (number, (a, b)) in a.types.iter().zip(&b.types).enumerate() {
                    self.at(format!("item {number}"), |c| c.ty(*a, *b))?;
                }
                Ok(())
            }
            (TypeDefKind::Enum(a), TypeDefKind::Enum(b)) => {
                match a.cases.iter().map(|c| &c.name).eq(b.cases.iter().map(|c| &c.name)) {
                    true => Ok(()),
                    false => differ(self),
                }
            }
            (TypeDefKind::Flags(a), TypeDefKind::Flags(b)) => {
                match a.flags.iter().map(|c| &c.name).eq(b.flags.iter().map(|c| &c.name)) {
                    true => Ok(()),
                    false => differ(self),
                }
            }
            (TypeDefKind::Result(a), TypeDefKind::Result(b))
                if (a.ok.is_some(), a.err.is_some()) == (b.ok.is_some(), b.err.is_some()) =>
            {
                self.at("ok".to_string(), |c| c.optional(a.ok, b.ok))?;
                self.at("error".to_string(), |c| c.optional(a.err, b.err))
            }
            (TypeDefKind::Future(a), TypeDefKind::Future(b)) | (TypeDefKind::Stream(a), TypeDefKind::Stream(b))
                if a.is_some() == b.is_some() =>
            {
                self.at("item".to_string(), |c| c.optional(*a, *b))
            }
            (TypeDefKind::Option(a), TypeDefKind::Option(b)) | (TypeDefKind::List(a), TypeDefKind::List(b)) => {
                self.at("item".to_string(), |c| c.ty(*a, *b))
            }
            (TypeDefKind::FixedLengthList(a, n), TypeDefKind::FixedLengthList(b, m)) if n == m => {
                self.at("item".to_string(), |c| c.ty(*a, *b))
            }
            (TypeDefKind::Map(ak, av), TypeDefKind::Map(bk, bv)) => {
                self.at("key".to_string(), |c| c.ty(*ak, *bk))?;
                self.at("value".to_string(), |c| c.ty(*av, *bv))
            }
            (TypeDefKind::Handle(Handle::Own(a)), TypeDefKind::Handle(Handle::Own(b)))
            | (TypeDefKind::Handle(Handle::Borrow(a)), TypeDefKind::Handle(Handle::Borrow(b))) => {
                self.ty(Type::Id(*a), Type::Id(*b))
            }
            (TypeDefKind::Resource, TypeDefKind::Resource) => match resource(ours, a_id) == resource(theirs, b_id) {
                true => Ok(()),
                false => differ(self),
            },
            _ => differ(self),
        }
    }

    fn optional(&mut self, ours: Option<Type>, theirs: Option<Type>) -> Result<(), Difference> {
        match (ours, theirs) {
            (Some(a), Some(b)) => self.ty(a, b),
            _ => Ok(()),
        }
    }
}

/// What a type is once its aliases are followed.
fn peel(resolve: &Resolve, mut ty: Type) -> Type {
    while let Type::Id(id) = ty {
        match resolve.types[id].kind {
            TypeDefKind::Type(next) => ty = next,
            _ => break,
        }
    }
    ty
}

/// The interface of a resource, and its name there.
fn resource(resolve: &Resolve, id: TypeId) -> (Option<Track>, Option<&str>) {
    let resource = &resolve.types[id];
    let track = match resource.owner {
        TypeOwner::Interface(interface) => Track::of(resolve, interface),
        TypeOwner::World(_) | TypeOwner::None => None,
    };
    (track, resource.name.as_deref())
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A function's type, with the names of the types it uses.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let mut text = String::new();
    if function.kind.is_async() {
        text.push_str("async ");
    }
    text.push_str("func(");
    list(&mut text, function.params.iter(), |text, param| {
        let _ = write!(text, "{}: ", param.name);
        show(resolve, text, param.ty);
    });
    text.push(')');
    if let Some(ty) = function.result {
        text.push_str(" -> ");
        show(resolve, &mut text, ty);
    }
    text
}

/// The definition of a type.
fn definition(resolve: &Resolve, ty: Type) -> String {
    let mut text = String::new();
    let ty = peel(resolve, ty);
    let Type::Id(id) = ty else {
        show(resolve, &mut text, ty);
        return text;
    };
    let def = &resolve.types[id];
    let name = def.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    match &def.kind {
        TypeDefKind::Record(record) => {
            let _ = write!(text, "record{name} {{ ");
            list(&mut text, record.fields.iter(), |text, field| {
                let _ = write!(text, "{}: ", field.name);
                show(resolve, text, field.ty);
            });
            text.push_str(" }");
        }
        TypeDefKind::Variant(variant) => {
            let _ = write!(text, "variant{name} {{ ");
            list(&mut text, variant.cases.iter(), |text, case| {
                text.push_str(&case.name);
                if let Some(ty) = case.ty {
                    text.push('(');
                    show(resolve, text, ty);
                    text.push(')');
                }
            });
            text.push_str(" }");
        }
        TypeDefKind::Enum(cases) => {
            let _ = write!(text, "enum{name} {{ ");
            list(&mut text, cases.cases.iter(), |text, case| text.push_str(&case.name));
            text.push_str(" }");
        }
        TypeDefKind::Flags(flags) => {
            let _ = write!(text, "flags{name} {{ ");
            list(&mut text, flags.flags.iter(), |text, flag| text.push_str(&flag.name));
            text.push_str(" }");
        }
        TypeDefKind::Resource => {
            let _ = write!(text, "resource{name}");
            if let (Some(track), _) = resource(resolve, id) {
                let _ = write!(text, " of {track}");
            }
        }
        kind => anonymous(resolve, &mut text, kind),
    }
    text
}

/// A type by its name, if it has one.
fn show(resolve: &Resolve, text: &mut String, ty: Type) {
    // The rest would be cut anyway.
    if text.len() > 4 * MAX_SHOWN {
        return;
    }
    let word = match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(id) => {
            let def = &resolve.types[id];
            match &def.name {
                Some(name) => text.push_str(name),
                None => anonymous(resolve, text, &def.kind),
            }
            return;
        }
    };
    text.push_str(word);
}

fn anonymous(resolve: &Resolve, text: &mut String, kind: &TypeDefKind) {
    let mut of = |word: &str, types: &[Option<Type>]| {
        text.push_str(word);
        if types.iter().all(Option::is_none) {
            return;
        }
        text.push('<');
        list(text, types.iter(), |text, ty| match ty {
            Some(ty) => show(resolve, text, *ty),
            None => text.push('_'),
        });
        text.push('>');
    };
    match kind {
        TypeDefKind::Handle(Handle::Own(id)) => of("own", &[Some(Type::Id(*id))]),
        TypeDefKind::Handle(Handle::Borrow(id)) => of("borrow", &[Some(Type::Id(*id))]),
        TypeDefKind::Tuple(tuple) => of("tuple", &tuple.types.iter().copied().map(Some).collect::<Vec<_>>()),
        TypeDefKind::Option(ty) => of("option", &[Some(*ty)]),
        TypeDefKind::Result(result) => of("result", &[result.ok, result.err]),
        TypeDefKind::List(ty) => of("list", &[Some(*ty)]),
        TypeDefKind::FixedLengthList(ty, length) => {
            of("list", &[Some(*ty)]);
            let _ = write!(text, " of {length}");
        }
        TypeDefKind::Map(key, value) => of("map", &[Some(*key), Some(*value)]),
        TypeDefKind::Future(ty) => of("future", &[*ty]),
        TypeDefKind::Stream(ty) => of("stream", &[*ty]),
        TypeDefKind::Type(ty) => show(resolve, text, *ty),
        other => text.push_str(other.as_str()),
    }
}

fn list<T>(text: &mut String, items: impl Iterator<Item = T>, mut show: impl FnMut(&mut String, T)) {
    for (number, item) in items.enumerate() {
        if text.len() > 4 * MAX_SHOWN {
            return;
        }
        if number > 0 {
            text.push_str(", ");
        }
        show(text, item);
    }
}
