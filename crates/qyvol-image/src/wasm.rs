//! Reads WebAssembly: its kind, its imports and exports, and the functions of a component; and
//! makes a component from a core module.

use qyvol_types::limits::{COMPONENT_DEPTH, COMPONENT_PARTS, TYPE_NESTING};
use qyvol_types::{Os, escape, may_nest_too_deep};
use wasmparser::component_types::{ComponentEntityType, ComponentFuncTypeId};
use wasmparser::{Encoding, Parser, Payload as Section, Validator, WasmFeatures};

use crate::ImageError;

/// The kind, imports and exports of a component or module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// A component or a core module.
    pub os: Os,
    /// Imports, sorted: interface names of a component (`wasi:cli/stdout@0.2.6`),
    /// `module::name` of a core module.
    pub imports: Vec<String>,
    /// Exports, sorted.
    pub exports: Vec<String>,
}

/// The module through which WASI preview 1 is imported.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Refuses what would take too long to validate, or too much of the stack.
fn check_parts(wasm: &[u8]) -> Result<(), ImageError> {
    let (mut parts, mut depth) = (0usize, 0usize);
    // The validator reports what is wrong.
    for section in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match section {
            Section::ModuleSection { .. } | Section::ComponentSection { .. } => {
                parts += 1;
                depth += 1;
            }
            Section::End(_) => depth = depth.saturating_sub(1),
            Section::ComponentTypeSection(types) if may_nest_too_deep(&wasm[types.range()]) => {
                return Err(ImageError::Wasm(format!(
                    "it declares more than {TYPE_NESTING} types of components and instances inside others"
                )));
            }
            _ => {}
        }
        if parts > COMPONENT_PARTS || depth > COMPONENT_DEPTH {
            return Err(ImageError::Wasm(format!(
                "it has more than {COMPONENT_PARTS} components and modules, or more than {COMPONENT_DEPTH} nested inside each other"
            )));
        }
    }
    Ok(())
}

impl Payload {
    /// Validates `wasm` and lists its imports and exports. Every feature counts as valid: the
    /// runtime decides which of them can be run.
    pub fn read(wasm: &[u8]) -> Result<Payload, ImageError> {
        if !wasm.starts_with(b"\0asm") {
            return Err(ImageError::Wasm(
                "it is not WebAssembly: it does not start with the magic bytes \\0asm".to_string(),
            ));
        }
        check_parts(wasm)?;
        Validator::new_with_features(WasmFeatures::all())
            .validate_all(wasm)
            .map_err(invalid)?;
        let mut os = Os::Wasip1;
        let (mut imports, mut exports) = (Vec::new(), Vec::new());
        let mut depth = 0u32;
        for section in Parser::new(0).parse_all(wasm) {
            match section.map_err(invalid)? {
                Section::Version { encoding, .. } if depth == 0 && encoding == Encoding::Component => os = Os::Wasip2,
                Section::ModuleSection { .. } | Section::ComponentSection { .. } => depth += 1,
                Section::End(_) => depth = depth.saturating_sub(1),
                Section::ComponentImportSection(reader) if depth == 0 => {
                    for import in reader {
                        imports.push(import.map_err(invalid)?.name.name.to_string());
                    }
                }
                Section::ComponentExportSection(reader) if depth == 0 => {
                    for export in reader {
                        exports.push(export.map_err(invalid)?.name.name.to_string());
                    }
                }
                Section::ImportSection(reader) if depth == 0 => {
                    for import in reader.into_imports() {
                        let import = import.map_err(invalid)?;
                        imports.push(format!("{}::{}", import.module, import.name));
                    }
                }
                Section::ExportSection(reader) if depth == 0 => {
                    for export in reader {
                        exports.push(export.map_err(invalid)?.name.to_string());
                    }
                }
                _ => {}
            }
        }
        imports.sort();
        imports.dedup();
        exports.sort();
        exports.dedup();
        Ok(Payload { os, imports, exports })
    }

    /// Whether it can be run as a command; why not, if not.
    pub fn check_command(&self) -> Result<(), String> {
        match self.os {
            Os::Wasip2 if self.exports.iter().any(|e| e.starts_with("wasi:cli/run@")) => Ok(()),
            Os::Wasip2 => Err("it does not export wasi:cli/run".to_string()),
            Os::Wasip1 if self.exports.iter().any(|e| e == "_start") => Ok(()),
            Os::Wasip1 => Err("it does not export _start".to_string()),
        }
    }
}

fn invalid(error: wasmparser::BinaryReaderError) -> ImageError {
    let message = error.message().to_string();
    ImageError::Wasm(format!(
        "it is not valid WebAssembly: {} (at byte {})",
        escape(&message),
        error.offset()
    ))
}

/// Refuses a valid core module because of the types in its custom sections.
pub type CheckTypes = fn(&[u8]) -> Result<(), String>;

/// Makes a component of a core module for WASI preview 1, with the adapter of
/// this version's wasmtime. `check` has to refuse what wit-component would panic on.
pub fn componentize(module: &[u8], check: CheckTypes) -> Result<Vec<u8>, ImageError> {
    let payload = Payload::read(module)?;
    if payload.os == Os::Wasip2 {
        return Err(ImageError::Wasm(
            "it is a component already: leave out --componentize".to_string(),
        ));
    }
    let failed = |error: &dyn std::fmt::Display| ImageError::Wasm(format!("it can't be made a component: {error}"));
    check(module).map_err(|why| failed(&why))?;
    // Modules that wit-component treats specially; it panics on some of them.
    let special = ["__main_module__", "$root", "[export]", "[import"];
    let is_special = |import: &&String| special.iter().any(|prefix| import.starts_with(prefix));
    if let Some(import) = payload.imports.iter().find(is_special) {
        let why = format!("it imports {}, whose module no component has", escape(import));
        return Err(failed(&why));
    }
    let adapter = match payload.check_command() {
        Ok(()) => wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        Err(_) => wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|e| e.adapter(PREVIEW1, adapter))
        .and_then(|mut e| e.encode())
        .map_err(|e| failed(&format_args!("{e:#}")))
}

/// A function that a component exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedFunction {
    /// Its interface; none for a function of the world itself.
    pub interface: Option<String>,
    /// Its name.
    pub name: String,
    /// The names of its parameters.
    pub parameters: Vec<String>,
}

/// The functions that a component exports. Methods and constructors of resources are left
/// out. Read from the validated types, because the reader of WIT panics on some valid
/// components.
pub fn functions(component: &[u8]) -> Result<Vec<ExportedFunction>, ImageError> {
    let payload = Payload::read(component)?;
    if payload.os != Os::Wasip2 {
        return Err(ImageError::Wasm("it is no component".to_string()));
    }
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let types = validator.validate_all(component).map_err(invalid)?;
    let types = types.as_ref();
    let is_free = |name: &str| !name.contains("method]") && !name.contains("constructor]");
    let parameters = |function: ComponentFuncTypeId| {
        let named = types.get(function).into_iter().flat_map(|ty| &ty.params);
        named.map(|(name, _)| name.to_string()).collect()
    };
    let mut found = Vec::new();
    for export in payload.exports {
        match types.component_item_for_export(&export).map(|item| item.ty) {
            Some(ComponentEntityType::Func(function)) => found.push(ExportedFunction {
                interface: None,
                name: export,
                parameters: parameters(function),
            }),
            Some(ComponentEntityType::Instance(instance)) => {
                let items = types.get(instance).into_iter().flat_map(|instance| &instance.exports);
                for (name, item) in items.filter(|(name, _)| is_free(name)) {
                    if let ComponentEntityType::Func(function) = item.ty {
                        found.push(ExportedFunction {
                            interface: Some(export.clone()),
                            name: name.clone(),
                            parameters: parameters(function),
                        });
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_interfaces_and_resources_are_found_without_the_reader_of_wit() {
        // An interface that is imported and exported, with a type: the reader of WIT panics on
        // it.
        let passed_on = wat("(import \"a:b/c@1.0.0\" (instance $i
               (type $t (record (field \"a\" u8))) (export \"t\" (type (eq $t)))
               (export \"f\" (func (param \"of\" u8)))))
             (export \"a:b/c@1.0.0\" (instance $i))");
        let found = ExportedFunction {
            interface: Some("a:b/c@1.0.0".to_string()),
            name: "f".to_string(),
            parameters: vec!["of".to_string()],
        };
        assert_eq!(functions(&passed_on).unwrap(), [found]);
        assert_eq!(functions(&wat("")).unwrap(), []);
        assert!(functions(b"\0asm\x01\0\0\0").is_err(), "a core module");
    }

    #[test]
    fn module_with_imports_that_the_encoder_links_by_is_refused() {
        for module in ["__main_module__", "$root", "[export]a:b/c"] {
            let module = wat::parse_str(format!(
                "(module (import \"{module}\" \"x\" (func)) (func (export \"_start\")))"
            ));
            let refused = componentize(&module.unwrap(), |_| Ok(())).unwrap_err().to_string();
            assert!(refused.contains("whose module no component has"), "{refused}");
        }
    }

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(format!("(component {text})")).unwrap()
    }
}
