//! The WIT of a component.
//!
//! wit-component reads it. It asserts what holds for components that it makes itself, and
//! its recursion trusts them too; a valid component need not be like that. So all types
//! that its reader will meet are walked first, in the same order, and a component for which
//! it would panic is refused.
//!
//! Deliberately absent: what that reader refuses with an error of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use qyvol_types::escape;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentInstanceTypeId,
    ComponentItem, ComponentValType,
};
use wasmparser::names::{ComponentName, ComponentNameKind, InterfaceName};
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator, WasmFeatures};
use wit_component::{DecodedWasm, OutputToString, WitPrinter};
use wit_parser::{Resolve, WorldId};

mod embedded;

pub use self::embedded::check_embedded;

/// Packages that the interfaces of a component are of. The reader recurses into them.
const MAX_PACKAGES: usize = 2_000;

/// The WIT of a component's world, as text. An error is a clause about "it".
pub fn wit(component: &[u8]) -> Result<String, String> {
    let types = Validator::new_with_features(WasmFeatures::all())
        .validate_all(component)
        .map_err(|e| format!("it is not valid: {}", escape(e.message())))?;
    let failed = |why: String| format!("its WIT can't be read: {why}");
    let (resolve, world) = decode(component, types.as_ref()).map_err(failed)?;
    let shown = |what: String| failed(escape(&what).to_string());
    let package = resolve.worlds[world].package;
    let package = package.ok_or_else(|| failed("its world is of no package".to_string()))?;
    let mut printer = WitPrinter::new(OutputToString::default());
    let others = resolve.packages.iter().map(|(id, _)| id);
    let nested: Vec<_> = others.filter(|id| *id != package).collect();
    printer
        .print(&resolve, package, &nested)
        .map_err(|e| shown(format!("{e:#}")))?;
    Ok(printer.output.to_string())
}

/// Reads the types of a validated component.
pub(crate) fn decode(wasm: &[u8], types: TypesRef<'_>) -> Result<(Resolve, WorldId), String> {
    check(wasm, types)?;
    match wit_component::decode(wasm).map_err(|e| escape(&format!("{e:#}")).to_string())? {
        DecodedWasm::Component(resolve, world) => Ok((resolve, world)),
        DecodedWasm::WitPackage(..) => Err("it is a package of WIT, not a component".to_string()),
    }
}

/// Refuses a component that the reader would panic on.
fn check(wasm: &[u8], types: TypesRef<'_>) -> Result<(), String> {
    let mut walk = Walk::new(types);
    let invalid = |e: wasmparser::BinaryReaderError| escape(e.message()).to_string();
    let mut depth = 0u32;
    for section in Parser::new(0).parse_all(wasm) {
        match section.map_err(invalid)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            // What it says is trusted when it is printed.
            Payload::CustomSection(section) if section.name() == "package-docs" => {
                return Err("it has a section `package-docs`, which is of packages of WIT".to_string());
            }
            Payload::ComponentImportSection(reader) if depth == 0 => {
                for import in reader {
                    let name = import.map_err(invalid)?.name.name;
                    let item = types.component_item_for_import(name);
                    walk.import(name, item.ok_or_else(|| missing(name))?)?;
                }
            }
            Payload::ComponentExportSection(reader) if depth == 0 => {
                for export in reader {
                    let name = export.map_err(invalid)?.name.name;
                    let item = types.component_item_for_export(name);
                    walk.export(name, item.ok_or_else(|| missing(name))?)?;
                }
            }
            _ => {}
        }
    }
    check_packages(walk.uses_of_world("root:component"))
}

fn missing(name: &str) -> String {
    format!("`{}` has no type", escape(name))
}

/// What is wrong with a type that another scope has a name for.
const NOT_OWN: &str = "has a type that is of another interface, without a name for it";

/// The world itself, among the scopes.
const WORLD: usize = 0;

/// The world, or an interface: where names are looked up.
#[derive(Default)]
struct Scope {
    /// What messages call it.
    label: String,
    /// The package of an interface with a name.
    package: Option<String>,
    /// Types as they were seen first.
    types: HashMap<String, ComponentAnyTypeId>,
    functions: HashSet<String>,
    /// Resources that are of this scope, and not only used in it.
    resources: HashSet<String>,
}

/// The packages whose types packages use.
type Uses = BTreeMap<String, BTreeSet<String>>;

/// What the reader has seen so far.
struct Walk<'a> {
    types: TypesRef<'a>,
    /// Types that it knows, and the scopes whose names they have, if they have one.
    known: HashMap<ComponentAnyTypeId, Option<usize>>,
    scopes: Vec<Scope>,
    /// Scopes of interfaces with names. What is imported and what is exported of one is one.
    named: HashMap<String, usize>,
    /// The packages whose types a package uses.
    uses: Uses,
    /// Types, and the scopes where they were met first, if none may use those of another
    /// without a name for them: what puts worlds together asserts that.
    own: Option<HashMap<ComponentAnyTypeId, usize>>,
    /// Pairs of types that have been compared.
    same: HashSet<(ComponentAnyTypeId, ComponentAnyTypeId)>,
}

impl<'a> Walk<'a> {
    fn new(types: TypesRef<'a>) -> Walk<'a> {
        Walk {
            types,
            known: HashMap::new(),
            scopes: vec![Scope::default()],
            named: HashMap::new(),
            uses: Uses::new(),
            own: None,
            same: HashSet::new(),
        }
    }

    /// One that refuses types of other scopes where they have no name.
    fn strict(types: TypesRef<'a>) -> Walk<'a> {
        let own = Some(HashMap::new());
        Walk {
            own,
            ..Walk::new(types)
        }
    }

    /// Whether a scope may use a type as it is.
    fn is_own(&mut self, at: usize, id: ComponentAnyTypeId) -> bool {
        let own = self.own.as_mut();
        own.is_none_or(|own| *own.entry(id).or_insert(at) == at)
    }

    /// The packages whose types packages use, with the one that the world is of: that needs
    /// all of them.
    fn uses_of_world(self, package: &str) -> Uses {
        let mut uses = self.uses;
        let others = uses.keys().filter(|other| *other != package).cloned().collect();
        uses.insert(package.to_string(), others);
        uses
    }

    fn import(&mut self, name: &str, item: &ComponentItem) -> Result<(), String> {
        match item.ty {
            ComponentEntityType::Instance(id) => self.instance(name, item, id),
            ComponentEntityType::Func(id) => self.function(WORLD, name, id),
            ComponentEntityType::Type { referenced, created } => self.new_type(WORLD, name, referenced, created),
            // The reader leaves them out.
            _ => Ok(()),
        }
    }

    fn export(&mut self, name: &str, item: &ComponentItem) -> Result<(), String> {
        match item.ty {
            ComponentEntityType::Instance(id) => self.instance(name, item, id),
            ComponentEntityType::Func(id) => self.function(WORLD, name, id),
            _ => Err(format!(
                "it exports `{}`, which is no function or interface",
                escape(name)
            )),
        }
    }

    fn instance(&mut self, name: &str, item: &ComponentItem, id: ComponentInstanceTypeId) -> Result<(), String> {
        let name = item.implements.as_deref().unwrap_or(name);
        let at = self.scope(name, item)?;
        let types = self.types;
        for (name, item) in &types[id].exports {
            match item.ty {
                ComponentEntityType::Type { referenced, created } => match self.scopes[at].types.get(name) {
                    Some(first) => self.again(at, name, *first, referenced, created)?,
                    None => self.new_type(at, name, referenced, created)?,
                },
                ComponentEntityType::Func(id) => {
                    if !self.scopes[at].functions.contains(name) {
                        self.function(at, name, id)?;
                        self.scopes[at].functions.insert(name.clone());
                    }
                }
                _ => return Err(self.refused(at, name, "is no type or function")),
            }
        }
        Ok(())
    }

    /// The scope of an interface: the one that it has, if it has a name.
    fn scope(&mut self, name: &str, item: &ComponentItem) -> Result<usize, String> {
        let new = self.scopes.len();
        let mut scope = Scope {
            label: format!(" of `{}`", escape(name)),
            ..Scope::default()
        };
        let parsed = ComponentName::new(name, 0).map_err(|e| escape(e.message()).to_string())?;
        if let ComponentNameKind::Interface(interface) = parsed.kind() {
            let package = package_of(&interface, item.version_suffix.as_deref())
                .map_err(|why| format!("`{}` has no version: {why}", escape(name)))?;
            let key = format!("{package}/{}", interface.interface());
            if let Some(known) = self.named.get(&key) {
                return Ok(*known);
            }
            self.named.insert(key, new);
            self.uses.entry(package.clone()).or_default();
            scope.package = Some(package);
        }
        self.scopes.push(scope);
        Ok(new)
    }

    /// A type whose name its scope doesn't have yet.
    fn new_type(
        &mut self,
        at: usize,
        name: &str,
        referenced: ComponentAnyTypeId,
        created: ComponentAnyTypeId,
    ) -> Result<(), String> {
        match (self.alias(referenced), referenced) {
            (Some(of), _) => self.check_use(at, name, of)?,
            (None, ComponentAnyTypeId::Defined(id)) => {
                let types = self.types;
                self.defined(at, &types[id])
                    .map_err(|why| self.refused(at, name, &why))?;
            }
            (None, ComponentAnyTypeId::Resource(_)) => {
                self.scopes[at].resources.insert(name.to_string());
            }
            (None, _) => return Err(self.refused(at, name, "is the type of no value")),
        }
        self.scopes[at].types.insert(name.to_string(), referenced);
        self.place(at, name, created)
    }

    /// A type whose name its scope has: the interface is there more than once.
    fn again(
        &mut self,
        at: usize,
        name: &str,
        first: ComponentAnyTypeId,
        referenced: ComponentAnyTypeId,
        created: ComponentAnyTypeId,
    ) -> Result<(), String> {
        let is_same = match (first, referenced) {
            (ComponentAnyTypeId::Resource(_), ComponentAnyTypeId::Resource(_)) => true,
            (ComponentAnyTypeId::Defined(_), ComponentAnyTypeId::Defined(_)) => self.is_same(first, referenced),
            _ => false,
        };
        if !is_same {
            let why = "is another one where it imports the interface than where it exports it";
            return Err(self.refused(at, name, why));
        }
        self.place(at, name, created)
    }

    /// Gives a type its place. It can have only one.
    fn place(&mut self, at: usize, name: &str, created: ComponentAnyTypeId) -> Result<(), String> {
        match self.known.insert(created, Some(at)) {
            None if self.is_own(at, created) => Ok(()),
            _ => Err(self.refused(at, name, "is passed on from where it was imported")),
        }
    }

    fn refused(&self, at: usize, name: &str, why: &str) -> String {
        let of = &self.scopes[at].label;
        format!("`{}`{of} {why}, which WIT can't say", escape(name))
    }

    /// The scope of the type that another stands for, if it stands for one.
    fn alias(&self, id: ComponentAnyTypeId) -> Option<Option<usize>> {
        let mut next = Some(id);
        while let Some(id) = next {
            if let Some(scope) = self.known.get(&id) {
                return Some(*scope);
            }
            next = self.types.peel_alias(id);
        }
        None
    }

    /// Whether a scope may use a type of another: only an interface with a name can be named for it.
    fn check_use(&mut self, at: usize, name: &str, of: Option<usize>) -> Result<(), String> {
        let Some(of) = of.filter(|of| *of != at) else {
            return Ok(());
        };
        let Some(used) = self.scopes[of].package.clone() else {
            return Err(self.refused(at, name, "is of no interface with a name"));
        };
        if let Some(package) = self.scopes[at].package.clone().filter(|package| *package != used) {
            self.uses.entry(package).or_default().insert(used);
        }
        Ok(())
    }

    fn function(&mut self, at: usize, name: &str, id: ComponentFuncTypeId) -> Result<(), String> {
        let types = self.types;
        let ty = &types[id];
        for value in ty.params.iter().map(|(_, value)| value).chain(&ty.result) {
            self.value(at, value).map_err(|why| self.refused(at, name, &why))?;
        }
        let parsed = ComponentName::new(name, 0).map_err(|e| escape(e.message()).to_string())?;
        let resource = match parsed.kind() {
            ComponentNameKind::Label(_) => return Ok(()),
            ComponentNameKind::Constructor(resource) => resource.as_str().to_string(),
            ComponentNameKind::Method(name) | ComponentNameKind::Static(name) => name.resource().as_str().to_string(),
            _ => return Err(self.refused(at, name, "is a function with the name of an interface")),
        };
        match self.scopes[at].resources.contains(&resource) {
            true => Ok(()),
            false => Err(self.refused(at, name, "is of a resource that is defined elsewhere")),
        }
    }

    fn value(&mut self, at: usize, value: &ComponentValType) -> Result<(), String> {
        let ComponentValType::Type(id) = value else {
            return Ok(());
        };
        if !self.is_own(at, (*id).into()) {
            return Err(NOT_OWN.to_string());
        }
        // The validator has bounded how deep types are nested.
        if !self.known.contains_key(&(*id).into()) {
            let types = self.types;
            self.defined(at, &types[*id])?;
            self.known.insert((*id).into(), None);
        }
        Ok(())
    }

    fn defined(&mut self, at: usize, ty: &ComponentDefinedType) -> Result<(), String> {
        if let ComponentDefinedType::Own(resource) | ComponentDefinedType::Borrow(resource) = ty {
            if !self.is_own(at, (*resource).into()) {
                return Err(NOT_OWN.to_string());
            }
            return match self.known.contains_key(&(*resource).into()) {
                true => Ok(()),
                false => Err("has a resource that has no name there".to_string()),
            };
        }
        parts(ty)
            .into_iter()
            .flatten()
            .try_for_each(|value| self.value(at, value))
    }

    /// Whether two types have the same form. The reader takes what the second is made of for
    /// what the first is made of.
    fn is_same(&mut self, first: ComponentAnyTypeId, second: ComponentAnyTypeId) -> bool {
        let (ComponentAnyTypeId::Defined(one), ComponentAnyTypeId::Defined(other)) = (first, second) else {
            return false;
        };
        if !self.same.insert((first, second)) {
            return true;
        }
        let types = self.types;
        let (one, other) = (&types[one], &types[other]);
        let (ours, theirs) = (parts(one), parts(other));
        if !is_same_outside(one, other) || ours.len() != theirs.len() {
            return false;
        }
        ours.into_iter().zip(theirs).all(|pair| match pair {
            (Some(ComponentValType::Type(one)), Some(ComponentValType::Type(other))) => {
                let place = self.known.get(&(*one).into()).copied().flatten();
                self.known.insert((*other).into(), place);
                self.is_same((*one).into(), (*other).into())
            }
            (Some(ComponentValType::Primitive(one)), Some(ComponentValType::Primitive(other))) => one == other,
            (None, None) => true,
            _ => false,
        })
    }
}

/// The name of the package that an interface or world is of, with its version.
fn package_of(name: &InterfaceName<'_>, suffix: Option<&str>) -> Result<String, String> {
    let version = name.version(suffix).map_err(|e| e.to_string())?;
    let version = version.map_or(String::new(), |version| format!("@{version}"));
    Ok(format!("{}:{}{version}", name.namespace(), name.package()))
}

/// Refuses packages that use one another's types: the reader would recurse for ever.
fn check_packages(mut uses: Uses) -> Result<(), String> {
    if uses.len() > MAX_PACKAGES {
        return Err(format!("its interfaces are of more than {MAX_PACKAGES} packages"));
    }
    while !uses.is_empty() {
        let before = uses.len();
        let left: BTreeSet<String> = uses.keys().cloned().collect();
        uses.retain(|_, used| used.iter().any(|used| left.contains(used)));
        if uses.len() == before {
            // Without those that only lead to them, as the world's own does.
            let of_others = |name: &&String| uses.values().any(|used| used.contains(*name));
            let names: Vec<_> = left
                .iter()
                .filter(of_others)
                .take(8)
                .map(|name| escape(name).to_string())
                .collect();
            return Err(format!("packages use types of one another: {}", names.join(", ")));
        }
    }
    Ok(())
}

/// What a type is made of, in its order; nothing where a part may be left out and is.
fn parts(ty: &ComponentDefinedType) -> Vec<Option<&ComponentValType>> {
    match ty {
        ComponentDefinedType::Record(record) => record.fields.values().map(Some).collect(),
        ComponentDefinedType::Variant(variant) => variant.cases.values().map(|case| case.ty.as_ref()).collect(),
        ComponentDefinedType::Tuple(tuple) => tuple.types.iter().map(Some).collect(),
        ComponentDefinedType::List { element, .. } | ComponentDefinedType::FixedLengthList { element, .. } => {
            vec![Some(element)]
        }
        ComponentDefinedType::Map { key, value, .. } => vec![Some(key), Some(value)],
        ComponentDefinedType::Option { ty, .. } => vec![Some(ty)],
        ComponentDefinedType::Result { ok, err, .. } => vec![ok.as_ref(), err.as_ref()],
        ComponentDefinedType::Future { ty, .. } | ComponentDefinedType::Stream { ty, .. } => vec![ty.as_ref()],
        ComponentDefinedType::Primitive(_)
        | ComponentDefinedType::Flags(_)
        | ComponentDefinedType::Enum(_)
        | ComponentDefinedType::Own(_)
        | ComponentDefinedType::Borrow(_) => Vec::new(),
    }
}

/// Whether two types are of one kind with the same names, whatever they are made of.
fn is_same_outside(one: &ComponentDefinedType, other: &ComponentDefinedType) -> bool {
    use ComponentDefinedType as Ty;
    match (one, other) {
        (Ty::Primitive(one), Ty::Primitive(other)) => one == other,
        (Ty::Record(one), Ty::Record(other)) => one.fields.keys().eq(other.fields.keys()),
        (Ty::Variant(one), Ty::Variant(other)) => one.cases.keys().eq(other.cases.keys()),
        (Ty::Flags(one), Ty::Flags(other)) | (Ty::Enum(one), Ty::Enum(other)) => one.iter().eq(other.iter()),
        (Ty::FixedLengthList { length: one, .. }, Ty::FixedLengthList { length: other, .. }) => one == other,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

#[cfg(test)]
mod tests;
