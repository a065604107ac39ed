//! Whether a component or module can run here at all; checked before it is signed and before it
//! is compiled.
//!
//! The answer is the engine's own: its list of features ([`Generation::features`]) and the
//! interfaces that [`crate::link`] provides.

use std::collections::BTreeSet;

use qyvol_types::limits::{COMPONENT_DEPTH, COMPONENT_PARTS, TYPE_NESTING};
use qyvol_types::{escape, may_nest_too_deep};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::{EntityType, Types, TypesRef};
use wasmparser::{Parser, Payload, Validator};

use crate::error::Incompatibility;
use crate::generation::{self, Generation, is_entry, names};
use crate::{Engine, link, preview1, serves};

impl Engine {
    /// Why `wasm` can't be run as a command, or as a service in an engine for those.
    /// Nothing is compiled.
    pub fn check(&self, wasm: &[u8]) -> Vec<Incompatibility> {
        if let Some(why) = costs_too_much(wasm) {
            return vec![Incompatibility::Invalid(why)];
        }
        let types = match Validator::new_with_features(self.generation.features()).validate_all(wasm) {
            Ok(types) => types,
            Err(_) if self.generation == Generation::Blocking && is_valid(wasm, Generation::Concurrent) => {
                return vec![Incompatibility::Invalid(
                    "it has asynchronous functions, which this version calls only in components that import or export an interface of WASI 0.3".to_string(),
                )];
            }
            Err(error) => {
                return vec![Incompatibility::Invalid(format!(
                    "it is not valid WebAssembly, or needs a feature that this version lacks: {} (at byte {})",
                    escape(error.message()),
                    error.offset()
                ))];
            }
        };
        if shares_memory(wasm) {
            return vec![Incompatibility::Invalid(
                "it has a shared memory, which this version does not provide".to_string(),
            )];
        }
        let found = match types.as_ref().core_imports() {
            Some(imports) => self.check_module(imports.map(|(m, n, _)| (m, n)), types.as_ref()),
            None => self.check_component(wasm, &types),
        };
        let (missing, entry) = match found {
            Ok(found) => found,
            Err(why) => return vec![Incompatibility::Invalid(why)],
        };
        let mut problems = Vec::new();
        if !missing.is_empty() {
            let names = missing.iter().map(|name| escape(name).to_string());
            problems.push(Incompatibility::MissingImports(names.collect()));
        }
        problems.extend(entry.map(match self.kind.service {
            true => Incompatibility::NotAService,
            false => Incompatibility::NotACommand,
        }));
        problems
    }

    fn check_module<'a>(
        &self,
        imports: impl Iterator<Item = (&'a str, &'a str)>,
        types: TypesRef<'_>,
    ) -> Result<Found, String> {
        let provided = preview1::names(&self.inner).map_err(|e| crate::error::chain(&e))?;
        let missing = imports
            .map(|(module, name)| (module.to_string(), name.to_string()))
            .filter(|import| !provided.contains(import))
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        if self.kind.service {
            let what = "it is a core module: an HTTP service is a component that exports wasi:http/incoming-handler or wasi:http/handler";
            return Ok((missing, Some(what.to_string())));
        }
        let mut exports = types.core_exports().into_iter().flatten();
        let is_function = |ty: EntityType| matches!(ty, EntityType::Func(_) | EntityType::FuncExact(_));
        let entry = match exports
            .by_ref()
            .find(|(name, ty)| *name == "_start" && is_function(*ty))
        {
            Some(_) => None,
            None => {
                let mut exports = types.core_exports().into_iter().flatten();
                Some(match exports.any(|(name, _)| name == "_initialize") {
                    true => "it is a library (a reactor: it exports _initialize), not a command: it exports no function _start".to_string(),
                    false => "it is not a command: it exports no function _start".to_string(),
                })
            }
        };
        Ok((missing, entry))
    }

    fn check_component(&self, wasm: &[u8], types: &Types) -> Result<Found, String> {
        let (imports, exports) = names(wasm).map_err(|e| escape(e.message()).to_string())?;
        let mut missing = BTreeSet::new();
        for name in imports {
            let needed = types
                .component_item_for_import(&name)
                .is_none_or(|item| is_needed(&item.ty, types));
            if needed && !link::provides(&self.inner, self.generation, &name).map_err(|e| crate::error::chain(&e))? {
                missing.insert(name);
            }
        }
        let has_functions = exports.iter().any(|name| has_functions(name, types));
        Ok((missing, self.lacks_entry(&exports, has_functions)))
    }

    /// What a component is if it has no entry point for this engine.
    fn lacks_entry(&self, exports: &[String], has_functions: bool) -> Option<String> {
        let exported = |version, interface| {
            exports
                .iter()
                .any(|name| generation::interface(name) == Some((version, interface)))
        };
        if self.kind.service {
            let what = "it is not an HTTP service, and has no functions to call: it exports";
            return (!serves(exports) && !has_functions).then(|| format!("{what} {NO_HANDLER}, and no function"));
        }
        let runs = |generation| exported(generation, "wasi:cli/run");
        if runs(Generation::Blocking) || (self.generation == Generation::Concurrent && runs(Generation::Concurrent)) {
            return None;
        }
        if serves(exports) {
            return Some(
                "it is an HTTP service (it exports a handler of wasi:http), not a command: it exports no wasi:cli/run"
                    .to_string(),
            );
        }
        let run = exports.iter().find(|name| name.starts_with("wasi:cli/run@"));
        Some(match run {
            Some(name) => format!(
                "it exports {}: this version runs those of WASI 0.2 and 0.3",
                escape(name)
            ),
            None => "it is a library, not a command: it exports no wasi:cli/run".to_string(),
        })
    }
}

/// What a component lacks that answers no requests.
pub const NO_HANDLER: &str = "neither wasi:http/incoming-handler of WASI 0.2 nor wasi:http/handler of WASI 0.3";

/// The names of missing imports, and what it is if it has no entry point.
type Found = (BTreeSet<String>, Option<String>);

fn is_valid(wasm: &[u8], generation: Generation) -> bool {
    let mut validator = Validator::new_with_features(generation.features());
    validator.validate_all(wasm).is_ok()
}

/// Why validating it would take too long, or too much of the stack.
fn costs_too_much(wasm: &[u8]) -> Option<String> {
    let (mut parts, mut depth) = (0usize, 0usize);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => {
                parts += 1;
                depth += 1;
            }
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentTypeSection(types)) if may_nest_too_deep(&wasm[types.range()]) => {
                return Some(format!(
                    "it declares more than {TYPE_NESTING} types of components and instances inside others"
                ));
            }
            Ok(_) => {}
            // The validator reports what is wrong.
            Err(_) => return None,
        }
        if parts > COMPONENT_PARTS || depth > COMPONENT_DEPTH {
            return Some(format!(
                "it has more than {COMPONENT_PARTS} components and modules, or more than {COMPONENT_DEPTH} nested inside each other"
            ));
        }
    }
    None
}

/// Whether a module, at any depth, defines or imports a shared memory. wasmtime
/// compiles it and then refuses to make one (`Config::shared_memory`); no limiter
/// is asked about its growth.
fn shares_memory(wasm: &[u8]) -> bool {
    Parser::new(0).parse_all(wasm).any(|payload| match payload {
        Ok(Payload::MemorySection(memories)) => memories.into_iter().flatten().any(|memory| memory.shared),
        Ok(Payload::ImportSection(imports)) => imports
            .into_imports()
            .flatten()
            .any(|import| matches!(import.ty, wasmparser::TypeRef::Memory(memory) if memory.shared)),
        _ => false,
    })
}

/// Whether an export is a function to call, or has some.
fn has_functions(name: &str, types: &Types) -> bool {
    if is_entry(name) {
        return false;
    }
    match types.component_item_for_export(name).map(|item| &item.ty) {
        Some(ComponentEntityType::Func(_)) => true,
        Some(ComponentEntityType::Instance(id)) => types[*id].exports.iter().any(|(name, item)| {
            // Others are of a resource.
            matches!(item.ty, ComponentEntityType::Func(_)) && !name.starts_with('[')
        }),
        _ => false,
    }
}

/// Whether something must be provided for an import. Types alone need nothing.
fn is_needed(entity: &ComponentEntityType, types: &Types) -> bool {
    match entity {
        ComponentEntityType::Instance(id) => types[*id]
            .exports
            .values()
            .any(|item| matches!(&item.ty, ComponentEntityType::Func(_)) || is_resource(&item.ty)),
        entity => {
            matches!(entity, ComponentEntityType::Func(_) | ComponentEntityType::Module(_)) || is_resource(entity)
        }
    }
}

fn is_resource(entity: &ComponentEntityType) -> bool {
    use wasmparser::component_types::ComponentAnyTypeId;
    matches!(
        entity,
        ComponentEntityType::Type {
            created: ComponentAnyTypeId::Resource(_),
            ..
        }
    )
}
