//! One component of a composition: what it imports and exports, and their types.

use std::collections::{BTreeMap, BTreeSet};

use qyvol_types::escape;
use wasmparser::component_types::{ComponentEntityType, ComponentItem};
use wasmparser::{ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, Validator, WasmFeatures};
use wit_parser::{InterfaceId, Resolve, WorldItem};

use crate::{Problem, wit};

/// Imports and exports of one component together.
const MAX_EXTERNS: u32 = 2_000;
/// Bytes of the types of a component's imports and exports.
const MAX_TYPE_BYTES: usize = 4 << 20;

/// A component.
pub(crate) struct Part {
    /// Its name in messages.
    pub(crate) label: String,
    pub(crate) wasm: Vec<u8>,
    /// Its types.
    pub(crate) resolve: Resolve,
    /// The interfaces that it imports.
    pub(crate) imports: BTreeMap<String, View>,
    /// The imports in its order.
    pub(crate) import_order: Vec<String>,
    /// In its order.
    pub(crate) exports: Vec<Export>,
}

/// An export.
pub(crate) struct Export {
    pub(crate) name: String,
    pub(crate) kind: ComponentExternalKind,
    /// The interface, if it is one.
    pub(crate) interface: Option<View>,
}

/// An interface as one import or export has it. In a component's types, the imported and the
/// exported part of an interface are merged.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) id: InterfaceId,
    /// The types and functions that are there.
    names: BTreeSet<String>,
}

impl View {
    /// Whether a type or function is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// The content of a component's own sections.
#[derive(Default)]
struct Externs {
    imports: Vec<String>,
    exports: Vec<(String, ComponentExternalKind)>,
}

impl Part {
    /// Reads a component, within bounds.
    pub(crate) fn read(label: &str, wasm: &[u8]) -> Result<Part, Problem> {
        let failed = |why: String| Problem::Part {
            part: label.to_string(),
            why,
        };
        let externs = externs(wasm).map_err(failed)?;
        let types = Validator::new_with_features(WasmFeatures::all())
            .validate_all(wasm)
            .map_err(|e| failed(format!("it is not valid: {}", escape(e.message()))))?;
        let types = types.as_ref();
        let view = |id: InterfaceId, item: Option<&ComponentItem>| {
            let names = match item.map(|item| item.ty) {
                Some(ComponentEntityType::Instance(instance)) => types.get(instance).map(|ty| ty.exports.keys()),
                _ => None,
            };
            let names = names.into_iter().flatten().cloned().collect();
            View { id, names }
        };
        let decoded = wit::decode(wasm, types).map_err(|why| failed(format!("its types can't be read: {why}")));
        let (resolve, world) = decoded?;
        let missing = |name: &str| failed(format!("`{}` is no interface with a name", escape(name)));
        let world = &resolve.worlds[world];
        let mut imports = BTreeMap::new();
        for (key, item) in &world.imports {
            let name = resolve.name_world_key(key);
            match item {
                WorldItem::Interface { id, .. } if resolve.interfaces[*id].name.is_some() => {
                    let view = view(*id, types.component_item_for_import(&name));
                    imports.insert(name, view);
                }
                _ => return Err(missing(&name)),
            }
        }
        if let Some(name) = externs.imports.iter().find(|name| !imports.contains_key(*name)) {
            return Err(missing(name));
        }
        let mut interfaces = BTreeMap::new();
        for (key, item) in &world.exports {
            if let WorldItem::Interface { id, .. } = item {
                let name = resolve.name_world_key(key);
                let view = view(*id, types.component_item_for_export(&name));
                interfaces.insert(name, view);
            }
        }
        let exports = externs.exports.into_iter();
        let exports = exports
            .map(|(name, kind)| Export {
                interface: interfaces.get(&name).cloned(),
                name,
                kind,
            })
            .collect();
        Ok(Part {
            label: label.to_string(),
            wasm: wasm.to_vec(),
            resolve,
            imports,
            import_order: externs.imports,
            exports,
        })
    }

    /// The interfaces that it exports, in its order.
    pub(crate) fn interfaces(&self) -> impl Iterator<Item = (&str, &View)> {
        self.exports
            .iter()
            .filter_map(|export| Some((export.name.as_str(), export.interface.as_ref()?)))
    }

    /// The interface that it exports under a name.
    pub(crate) fn interface(&self, name: &str) -> Option<&View> {
        self.interfaces().find(|(own, _)| *own == name).map(|(_, view)| view)
    }
}

/// Lists what a component imports and exports, without reading types.
fn externs(wasm: &[u8]) -> Result<Externs, String> {
    let mut found = Externs::default();
    let mut depth = 0u32;
    let (mut count, mut bytes) = (0u32, 0usize);
    let invalid = |e: wasmparser::BinaryReaderError| format!("it is not valid: {}", escape(e.message()));
    for section in Parser::new(0).parse_all(wasm) {
        let section = section.map_err(invalid)?;
        let size = match &section {
            Payload::ComponentTypeSection(s) => s.range(),
            Payload::ComponentAliasSection(s) => s.range(),
            Payload::ComponentImportSection(s) => s.range(),
            Payload::ComponentExportSection(s) => s.range(),
            _ => 0..0,
        };
        match section {
            Payload::Version { encoding, .. } if depth == 0 && encoding != Encoding::Component => {
                return Err("it is a core module, not a component".to_string());
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth > 0 => continue,
            Payload::ComponentImportSection(reader) => {
                count = count.saturating_add(reader.count());
                for import in reader.into_iter().take(MAX_EXTERNS as usize) {
                    let import = import.map_err(invalid)?;
                    if !matches!(import.ty, ComponentTypeRef::Instance(_)) {
                        return Err(format!(
                            "it imports `{}`, which is no interface: only interfaces can be linked",
                            escape(import.name.name)
                        ));
                    }
                    found.imports.push(import.name.name.to_string());
                }
            }
            Payload::ComponentExportSection(reader) => {
                count = count.saturating_add(reader.count());
                for export in reader.into_iter().take(MAX_EXTERNS as usize) {
                    let export = export.map_err(invalid)?;
                    found.exports.push((export.name.name.to_string(), export.kind));
                }
            }
            _ => {}
        }
        if depth == 0 {
            bytes = bytes.saturating_add(size.len());
        }
        if count > MAX_EXTERNS {
            return Err(format!("it has more than {MAX_EXTERNS} imports and exports"));
        }
        if bytes > MAX_TYPE_BYTES {
            return Err(format!(
                "its imports and exports have more than {MAX_TYPE_BYTES} bytes of types"
            ));
        }
    }
    Ok(found)
}
