//! The component of a composition: its imports, its parts unchanged, an instance of each, and
//! its exports.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use qyvol_types::limits;
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentInstanceSection,
    ComponentSectionId, RawSection,
};
use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentExternalKind, ComponentTypeDeclaration, Parser, Payload, Validator,
    WasmFeatures,
};
use wit_parser::{LiveTypes, TypeOwner};

use crate::union::{Open, Union, unite};
use crate::{ComposeError, Composition, PartId, Problem};

/// Writes the component of a composition.
pub(crate) fn encode(composition: &Composition) -> Result<Vec<u8>, ComposeError> {
    let parts = &composition.parts;
    let size: u64 = parts.iter().map(|part| part.wasm.len() as u64).sum();
    if size > limits::COMPONENT_BYTES {
        return Err(Problem::Invalid {
            why: format!(
                "all parts together have {size} bytes: a component has at most {}",
                limits::COMPONENT_BYTES
            ),
        }
        .into());
    }
    let order = order(composition)?;
    let mut open = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let names = part.import_order.iter();
        let unlinked = names.filter(|name| composition.linked(PartId(index), name).is_none());
        open.extend(unlinked.filter_map(|name| {
            Some(Open {
                part: index,
                name,
                interface: part.imports.get(name)?,
            })
        }));
    }
    let union = unite(parts, &open)?;
    let bytes = write(composition, &order, &union)?;
    match Validator::new_with_features(WasmFeatures::all()).validate_all(&bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(export_of_linked_types(composition)
            .unwrap_or_else(|| invalid(&error))
            .into()),
    }
}

/// The first export that has types of an interface that was connected. The validator reports
/// only that it is not valid.
fn export_of_linked_types(composition: &Composition) -> Option<Problem> {
    composition.exports.iter().find_map(|export| {
        let part = composition.part(export.part).ok()?;
        let view = part.interface(&export.export)?;
        let mut types = LiveTypes::default();
        types.add_interface(&part.resolve, view.id);
        let uses = types.iter().find_map(|ty| match part.resolve.types[ty].owner {
            TypeOwner::Interface(owner) => {
                let name = part.resolve.id_of(owner)?;
                composition.linked(export.part, &name).is_some().then_some(name)
            }
            _ => None,
        })?;
        Some(Problem::ExportUses {
            exporter: part.label.clone(),
            export: export.export.clone(),
            uses,
        })
    })
}

fn unexpected() -> Problem {
    Problem::Invalid {
        why: "its imports are not encoded as expected".to_string(),
    }
}

fn no_place(name: &str) -> Problem {
    Problem::Invalid {
        why: format!("`{name}` has no place in it"),
    }
}

fn invalid(error: &BinaryReaderError) -> Problem {
    Problem::Invalid {
        why: error.message().to_string(),
    }
}

/// Each part after those that it imports from, otherwise as they were added.
fn order(composition: &Composition) -> Result<Vec<usize>, Problem> {
    let count = composition.parts.len();
    let mut order = Vec::new();
    let mut placed = vec![false; count];
    while order.len() < count {
        let before = order.len();
        for index in 0..count {
            let mut links = composition.links.iter().filter(|link| link.importer.0 == index);
            if !placed[index] && links.all(|link| placed[link.exporter.0]) {
                placed[index] = true;
                order.push(index);
            }
        }
        if order.len() == before {
            let rest = composition.parts.iter().zip(&placed).filter(|(_, placed)| !**placed);
            return Err(Problem::Cycle {
                parts: rest.map(|(part, _)| part.label.clone()).collect(),
            });
        }
    }
    Ok(order)
}

fn write(composition: &Composition, order: &[usize], union: &Union) -> Result<Vec<u8>, Problem> {
    let mut out = Writer::default();
    let world = wit_component::encode(&union.resolve, union.package).map_err(|e| Problem::Invalid {
        why: format!("its imports can't be written: {e:#}"),
    })?;
    let worlds = union.resolve.packages[union.package].worlds.values();
    let imports = worlds.flat_map(|world| union.resolve.worlds[*world].imports.keys());
    let names: Vec<String> = imports.map(|key| union.resolve.name_world_key(key)).collect();
    let declarations = declarations(&world, &names).map_err(|e| invalid(&e))?;
    for (section, item) in declarations.ok_or_else(unexpected)? {
        out.item(section, &world[item]);
    }
    // The imports are the first instances.
    let mut instances: HashMap<usize, u32> = HashMap::new();
    for index in order {
        let part = composition.part(PartId(*index))?;
        out.component.section(&RawSection {
            id: ComponentSectionId::Component.into(),
            data: &part.wasm,
        });
        let component = out.count(ComponentExportKind::Component);
        let mut arguments = Vec::new();
        for name in &part.import_order {
            let place = match composition.linked(PartId(*index), name) {
                Some(link) => {
                    let exporter = instances.get(&link.exporter.0).copied();
                    let exporter = exporter.ok_or_else(|| no_place(&link.export))?;
                    out.alias(exporter, &link.export, ComponentExportKind::Instance)
                }
                None => {
                    let place = union.places.get(&(*index, name.clone())).copied();
                    place.ok_or_else(|| no_place(name))?
                }
            };
            arguments.push((name.as_str(), ComponentExportKind::Instance, place));
        }
        let mut section = ComponentInstanceSection::new();
        section.instantiate(component, arguments);
        out.component.section(&section);
        instances.insert(*index, out.count(ComponentExportKind::Instance));
    }
    for export in &composition.exports {
        let part = composition.part(export.part)?;
        let own = part.exports.iter().find(|own| own.name == export.export);
        let own = own.ok_or_else(|| no_place(&export.export))?;
        let kind = kind(own.kind);
        let instance = instances.get(&export.part.0).copied();
        let instance = instance.ok_or_else(|| no_place(&export.export))?;
        let index = out.alias(instance, &own.name, kind);
        let mut section = ComponentExportSection::new();
        section.export(export.name.as_str(), kind, index, None);
        out.component.section(&section);
        // An export adds one more index of its kind.
        out.count(kind);
    }
    Ok(out.component.finish())
}

fn kind(kind: ComponentExternalKind) -> ComponentExportKind {
    match kind {
        ComponentExternalKind::Module => ComponentExportKind::Module,
        ComponentExternalKind::Func => ComponentExportKind::Func,
        ComponentExternalKind::Value => ComponentExportKind::Value,
        ComponentExternalKind::Type => ComponentExportKind::Type,
        ComponentExternalKind::Instance => ComponentExportKind::Instance,
        ComponentExternalKind::Component => ComponentExportKind::Component,
    }
}

/// A component that is being written, and how many of each kind it has.
#[derive(Default)]
struct Writer {
    component: Component,
    counts: BTreeMap<u8, u32>,
}

impl Writer {
    /// The index of one more of a kind.
    fn count(&mut self, kind: ComponentExportKind) -> u32 {
        let count = self.counts.entry(kind as u8).or_default();
        let place = *count;
        *count += 1;
        place
    }

    /// A section of one item.
    fn item(&mut self, section: ComponentSectionId, item: &[u8]) {
        let mut data = vec![1];
        data.extend_from_slice(item);
        self.component.section(&RawSection {
            id: section.into(),
            data: &data,
        });
        match section {
            ComponentSectionId::Import => self.count(ComponentExportKind::Instance),
            _ => self.count(ComponentExportKind::Type),
        };
    }

    /// Aliases an export of an instance; returns its index.
    fn alias(&mut self, instance: u32, name: &str, kind: ComponentExportKind) -> u32 {
        let mut section = ComponentAliasSection::new();
        section.alias(Alias::InstanceExport { instance, kind, name });
        self.component.section(&section);
        self.count(kind)
    }
}

/// The declarations of the one world in an encoded package, each as the item of a
/// component's section that it has the form of.
///
/// The package is a component with one type: a component that exports one component type,
/// whose declarations (types, aliases of types, imports) are written like items of
/// sections (component model, Binary.md).
///
/// Its imports must be those of `names`, in that order: what places mean.
fn declarations(package: &[u8], names: &[String]) -> Result<Option<Vec<Declaration>>, BinaryReaderError> {
    let mut found = Vec::new();
    let mut names = names.iter();
    for section in Parser::new(0).parse_all(package) {
        let Payload::ComponentTypeSection(types) = section? else {
            continue;
        };
        let range = types.range();
        let mut reader = BinaryReader::new(&package[range.clone()], range.start);
        // One type, a component; its first declaration is a type, the world.
        let (one, wrapper) = (reader.read_var_u32()?, reader.read_u8()?);
        let _declarations = reader.read_var_u32()?;
        let (first, world) = (reader.read_u8()?, reader.read_u8()?);
        if (one, wrapper, first, world) != (1, 0x41, 0x01, 0x41) {
            return Ok(None);
        }
        for _ in 0..reader.read_var_u32()? {
            let start = reader.original_position();
            let section = match reader.read()? {
                ComponentTypeDeclaration::Type(_) => ComponentSectionId::Type,
                ComponentTypeDeclaration::Alias(_) => ComponentSectionId::Alias,
                ComponentTypeDeclaration::Import(import)
                    if names.next().is_some_and(|name| name == import.name.name) =>
                {
                    ComponentSectionId::Import
                }
                _ => return Ok(None),
            };
            // Without the byte that states its kind.
            found.push((section, start + 1..reader.original_position()));
        }
    }
    Ok(names.next().is_none().then_some(found))
}

/// The kind of section that a declaration belongs to, and its bytes.
type Declaration = (ComponentSectionId, Range<usize>);

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::tests::{component, link};

    // [COMP-016]
    #[test]
    fn export_with_types_of_a_dependency_is_refused_with_both_names() {
        let record = "(type $r (record (field \"a\" u8)))";
        let app = component(&format!(
            "(component
               (import \"acme:calc/ops@1.0.0\" (instance $ops {record} (export \"t\" (type (eq $r)))))
               (alias export $ops \"t\" (type $t))
               (core module $m (func (export \"f\") (param i32)))
               (core instance $i (instantiate $m))
               (func $f (param \"a\" $t) (canon lift (core func $i \"f\")))
               (instance $api (export \"f\" (func $f)))
               (export \"acme:app/api@1.0.0\" (instance $api)))"
        ));
        let ops = component(&format!(
            "(component {record} (instance $o (export \"t\" (type $r))) (export \"acme:calc/ops@1.0.0\" (instance $o)))"
        ));
        let problems = link(&app, &[("acme:calc/ops", &ops)]).unwrap_err();
        assert_eq!(
            problems,
            [
                "app exports `acme:app/api@1.0.0` with types of `acme:calc/ops@1.0.0`, which a dependency provides, so that the \
                 result has no name for them: declare these types in an interface of the application"
            ]
        );
    }
}
