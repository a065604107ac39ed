//! What the result imports: every interface that its parts still import, once.
//!
//! Parts see different parts of an interface, because a component names only the functions that
//! it uses; and they may have been built against different versions of it. An interface of the
//! union has what any of them needs, under the newest of its compatible versions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::mem;

use wit_parser::{
    Function, Handle, Interface, InterfaceId, Package, PackageId, PackageName, Resolve, Type, TypeDef, TypeDefKind,
    TypeId, TypeOwner, World, WorldItem, WorldKey,
};

use crate::Problem;
use crate::compare::Comparison;
use crate::name::{Track, package_of};
use crate::part::{Part, View};

/// An import of a part that is an import of the result too.
#[derive(Clone, Copy)]
pub(crate) struct Open<'a> {
    /// Index of the part.
    pub(crate) part: usize,
    /// As the part names it.
    pub(crate) name: &'a str,
    pub(crate) interface: &'a View,
}

/// The imports of the result, as the only world of a package.
pub(crate) struct Union {
    pub(crate) resolve: Resolve,
    pub(crate) package: PackageId,
    /// The index of each import of a part among them.
    pub(crate) places: HashMap<(usize, String), u32>,
}

/// The name of the package and of its world, which the result doesn't have.
const ROOT: &str = "root";

/// Unites the open imports of `parts`.
pub(crate) fn unite(parts: &[Part], open: &[Open<'_>]) -> Result<Union, Problem> {
    let mut views: BTreeMap<Track, Vec<Open<'_>>> = BTreeMap::new();
    let mut seen = Vec::new();
    for import in open {
        let track = track(parts, *import)?;
        let all = views.entry(track.clone()).or_default();
        if all.is_empty() {
            seen.push(track);
        }
        all.push(*import);
    }
    let order = order(parts, &views, &seen)?;
    let mut builder = Builder {
        parts,
        resolve: Resolve::default(),
        packages: Vec::new(),
        interfaces: BTreeMap::new(),
        types: HashMap::new(),
        equal: vec![HashSet::new(); parts.len()],
    };
    let mut world = World {
        name: ROOT.to_string(),
        imports: Default::default(),
        exports: Default::default(),
        package: None,
        docs: Default::default(),
        stability: Default::default(),
        includes: Default::default(),
        span: Default::default(),
    };
    let mut places = HashMap::new();
    for (place, track) in order.iter().enumerate() {
        let views = views.get(track).map(Vec::as_slice).unwrap_or_default();
        let id = builder.interface(track, views)?;
        let item = WorldItem::Interface {
            id,
            stability: Default::default(),
            external_id: None,
            docs: Default::default(),
            span: Default::default(),
        };
        world.imports.insert(WorldKey::Interface(id), item);
        for view in views {
            places.insert((view.part, view.name.to_string()), place as u32);
        }
    }
    let mut resolve = builder.resolve;
    let package = resolve.packages.alloc(Package {
        name: PackageName {
            namespace: ROOT.to_string(),
            name: ROOT.to_string(),
            version: None,
        },
        docs: Default::default(),
        interfaces: Default::default(),
        worlds: Default::default(),
    });
    world.package = Some(package);
    let world = resolve.worlds.alloc(world);
    resolve.packages[package].worlds.insert(ROOT.to_string(), world);
    Ok(Union {
        resolve,
        package,
        places,
    })
}

fn track(parts: &[Part], import: Open<'_>) -> Result<Track, Problem> {
    let part = &parts[import.part];
    Track::of(&part.resolve, import.interface.id).ok_or_else(|| no_name(part, import.name))
}

fn no_name(part: &Part, what: &str) -> Problem {
    Problem::Part {
        part: part.label.clone(),
        why: format!("`{}` is of no interface with a name", qyvol_types::escape(what)),
    }
}

/// Interfaces before those that use their types, otherwise as they were seen.
fn order(parts: &[Part], views: &BTreeMap<Track, Vec<Open<'_>>>, seen: &[Track]) -> Result<Vec<Track>, Problem> {
    let mut uses: HashMap<&Track, Vec<Track>> = HashMap::new();
    for (track, all) in views {
        for view in all {
            let part = &parts[view.part];
            for used in part.resolve.interface_direct_deps(view.interface.id) {
                let used = Track::of(&part.resolve, used).ok_or_else(|| no_name(part, view.name))?;
                if !views.contains_key(&used) {
                    let mut imports = part.imports.values();
                    // What an export of the same interface uses is not needed here.
                    if !imports.any(|import| Track::of(&part.resolve, import.id).as_ref() == Some(&used)) {
                        continue;
                    }
                    return Err(Problem::Uses {
                        importer: part.label.clone(),
                        import: view.name.to_string(),
                        uses: used.to_string(),
                    });
                }
                let all = uses.entry(track).or_default();
                if used != *track && !all.contains(&used) {
                    all.push(used);
                }
            }
        }
    }
    let mut order: Vec<Track> = Vec::new();
    let mut placed: HashSet<&Track> = HashSet::new();
    // As many rounds as there are interfaces that use one another in a row.
    while order.len() < seen.len() {
        let before = order.len();
        for track in seen {
            let ready = |used: &Track| placed.contains(used);
            let ready = uses.get(track).is_none_or(|used| used.iter().all(ready));
            if ready && placed.insert(track) {
                order.push(track.clone());
            }
        }
        if order.len() == before {
            let rest = seen.iter().filter(|track| !placed.contains(track));
            return Err(Problem::Cycle {
                parts: rest.map(Track::to_string).collect(),
            });
        }
    }
    Ok(order)
}

struct Builder<'a> {
    parts: &'a [Part],
    resolve: Resolve,
    packages: Vec<(PackageName, PackageId)>,
    interfaces: BTreeMap<Track, InterfaceId>,
    /// Types of parts that have been copied.
    types: HashMap<(usize, TypeId), TypeId>,
    /// For each part, pairs of types here and there that were found equal.
    equal: Vec<HashSet<(TypeId, TypeId)>>,
}

impl Builder<'_> {
    /// Merges an interface from all that parts see of it.
    fn interface(&mut self, track: &Track, views: &[Open<'_>]) -> Result<InterfaceId, Problem> {
        let newest = |view: &&Open<'_>| {
            let name = package_of(&self.parts[view.part].resolve, view.interface.id);
            name.and_then(|name| name.version.clone())
        };
        let Some(first) = views.iter().max_by_key(newest) else {
            return Err(Problem::Cycle { parts: Vec::new() });
        };
        let part = &self.parts[first.part];
        let template = &part.resolve.interfaces[first.interface.id];
        let Some(name) = package_of(&part.resolve, first.interface.id) else {
            return Err(no_name(part, first.name));
        };
        let package = self.package(&name.clone());
        let id = self.resolve.interfaces.alloc(Interface {
            types: Default::default(),
            functions: Default::default(),
            package: Some(package),
            clone_of: None,
            ..template.clone()
        });
        if let Some(name) = &template.name {
            self.resolve.packages[package].interfaces.insert(name.clone(), id);
        }
        self.interfaces.insert(track.clone(), id);
        for view in views {
            let interface = &self.parts[view.part].resolve.interfaces[view.interface.id];
            for (_, ty) in interface.types.iter().filter(|(name, _)| view.interface.has(name)) {
                self.type_id(*view, views, *ty)?;
            }
            let functions = interface.functions.iter();
            for (name, function) in functions.filter(|(name, _)| view.interface.has(name)) {
                self.function(*view, views, id, name, function)?;
            }
        }
        Ok(id)
    }

    fn package(&mut self, name: &PackageName) -> PackageId {
        if let Some((_, id)) = self.packages.iter().find(|(own, _)| own == name) {
            return *id;
        }
        let id = self.resolve.packages.alloc(Package {
            name: name.clone(),
            docs: Default::default(),
            interfaces: Default::default(),
            worlds: Default::default(),
        });
        self.packages.push((name.clone(), id));
        id
    }

    /// Compares the merged types with those of a part.
    fn compare(
        &mut self,
        view: Open<'_>,
        views: &[Open<'_>],
        place: String,
        compare: impl FnOnce(&mut Comparison<'_>) -> Result<(), crate::Difference>,
    ) -> Result<(), Problem> {
        let part = &self.parts[view.part];
        let mut comparison = Comparison::new(&self.resolve, &part.resolve);
        comparison.seen = mem::take(&mut self.equal[view.part]);
        let compared = comparison.at(place, compare);
        let seen = mem::take(&mut comparison.seen);
        self.equal[view.part] = seen;
        compared.map_err(|difference| Problem::Imports {
            first: views.first().map_or(part, |view| &self.parts[view.part]).label.clone(),
            second: part.label.clone(),
            import: view.name.to_string(),
            difference,
        })
    }

    /// The merged type for a type of a part. Its parts come before it, and the validator has
    /// bounded their depth.
    fn type_id(&mut self, view: Open<'_>, views: &[Open<'_>], id: TypeId) -> Result<TypeId, Problem> {
        if let Some(done) = self.types.get(&(view.part, id)) {
            return Ok(*done);
        }
        let part = &self.parts[view.part];
        let def = &part.resolve.types[id];
        let of = match def.owner {
            TypeOwner::Interface(of) => {
                let track = Track::of(&part.resolve, of).ok_or_else(|| no_name(part, view.name))?;
                let name = def.name.as_ref().ok_or_else(|| no_name(part, view.name))?;
                let uses = || Problem::Uses {
                    importer: part.label.clone(),
                    import: view.name.to_string(),
                    uses: track.to_string(),
                };
                Some((*self.interfaces.get(&track).ok_or_else(uses)?, name))
            }
            TypeOwner::None => None,
            TypeOwner::World(_) => return Err(no_name(part, view.name)),
        };
        let existing = of.and_then(|(of, name)| Some((*self.resolve.interfaces[of].types.get(name)?, name)));
        if let Some((here, name)) = existing {
            self.compare(view, views, format!("type `{name}`"), |c| {
                c.ty(Type::Id(here), Type::Id(id))
            })?;
            self.types.insert((view.part, id), here);
            return Ok(here);
        }
        let kind = self.kind(view, views, &def.kind)?;
        let here = self.resolve.types.alloc(TypeDef {
            kind,
            owner: of.map_or(TypeOwner::None, |(of, _)| TypeOwner::Interface(of)),
            ..def.clone()
        });
        if let Some((of, name)) = of {
            self.resolve.interfaces[of].types.insert(name.clone(), here);
        }
        self.types.insert((view.part, id), here);
        Ok(here)
    }

    fn ty(&mut self, view: Open<'_>, views: &[Open<'_>], ty: Type) -> Result<Type, Problem> {
        match ty {
            Type::Id(id) => Ok(Type::Id(self.type_id(view, views, id)?)),
            simple => Ok(simple),
        }
    }

    fn kind(&mut self, view: Open<'_>, views: &[Open<'_>], kind: &TypeDefKind) -> Result<TypeDefKind, Problem> {
        let mut kind = kind.clone();
        let mut map = |ty: &mut Type| -> Result<(), Problem> {
            *ty = self.ty(view, views, *ty)?;
            Ok(())
        };
        match &mut kind {
            TypeDefKind::Record(record) => record.fields.iter_mut().try_for_each(|field| map(&mut field.ty))?,
            TypeDefKind::Variant(variant) => {
                let mut types = variant.cases.iter_mut().filter_map(|case| case.ty.as_mut());
                types.try_for_each(map)?;
            }
            TypeDefKind::Tuple(tuple) => tuple.types.iter_mut().try_for_each(map)?,
            TypeDefKind::Result(result) => {
                let mut types = result.ok.iter_mut().chain(result.err.iter_mut());
                types.try_for_each(map)?;
            }
            TypeDefKind::Future(ty) | TypeDefKind::Stream(ty) => ty.iter_mut().try_for_each(map)?,
            TypeDefKind::Option(ty)
            | TypeDefKind::List(ty)
            | TypeDefKind::FixedLengthList(ty, _)
            | TypeDefKind::Type(ty) => map(ty)?,
            TypeDefKind::Map(key, value) => {
                map(key)?;
                map(value)?;
            }
            TypeDefKind::Handle(Handle::Own(id) | Handle::Borrow(id)) => *id = self.type_id(view, views, *id)?,
            TypeDefKind::Resource | TypeDefKind::Flags(_) | TypeDefKind::Enum(_) | TypeDefKind::Unknown => {}
        }
        Ok(kind)
    }

    fn function(
        &mut self,
        view: Open<'_>,
        views: &[Open<'_>],
        into: InterfaceId,
        name: &str,
        function: &Function,
    ) -> Result<(), Problem> {
        if let Some(existing) = self.resolve.interfaces[into].functions.get(name).cloned() {
            return self.compare(view, views, format!("function `{name}`"), |c| {
                c.function(&existing, function)
            });
        }
        let mut function = function.clone();
        if let Some(id) = function.kind.resource_mut() {
            *id = self.type_id(view, views, *id)?;
        }
        for param in &mut function.params {
            param.ty = self.ty(view, views, param.ty)?;
        }
        if let Some(ty) = &mut function.result {
            *ty = self.ty(view, views, *ty)?;
        }
        self.resolve.interfaces[into]
            .functions
            .insert(name.to_string(), function);
        Ok(())
    }
}
