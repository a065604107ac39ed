//! Looking into WebAssembly: what kind it is, what it imports and exports, the
//! WIT of a component, and making a component of a core module.

use qyvol_types::limits::{COMPONENT_DEPTH, COMPONENT_PARTS};
use qyvol_types::{Os, escape};
use wasmparser::{Encoding, Parser, Payload as Section, Validator, WasmFeatures};
use wit_component::DecodedWasm;
use wit_parser::WorldItem;

use crate::ImageError;

/// What is known of a component or module.
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

/// Refuses what would take too long to validate.
fn check_parts(wasm: &[u8]) -> Result<(), ImageError> {
    let (mut parts, mut depth) = (0usize, 0usize);
    // The validator says what is wrong.
    for section in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match section {
            Section::ModuleSection { .. } | Section::ComponentSection { .. } => {
                parts += 1;
                depth += 1;
            }
            Section::End(_) => depth = depth.saturating_sub(1),
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
    /// Validates `wasm` and lists its imports and exports. Every feature counts
    /// as valid: which of them can be run is the runtime's to say.
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

/// Makes a component of a core module for WASI preview 1, with the adapter of
/// this version's wasmtime.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, ImageError> {
    let payload = Payload::read(module)?;
    if payload.os == Os::Wasip2 {
        return Err(ImageError::Wasm(
            "it is a component already: leave out --componentize".to_string(),
        ));
    }
    let adapter = match payload.check_command() {
        Ok(()) => wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        Err(_) => wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let failed = |error: &dyn std::fmt::Display| ImageError::Wasm(format!("it can't be made a component: {error}"));
    wit_component::ComponentEncoder::default()
        .module(module)
        .and_then(|e| e.adapter(PREVIEW1, adapter))
        .and_then(|mut e| e.encode())
        .map_err(|e| failed(&format_args!("{e:#}")))
}

/// The WIT of a component's world, as text.
pub fn wit(component: &[u8]) -> Result<String, ImageError> {
    let failed = |error: &dyn std::fmt::Display| ImageError::Wasm(format!("its WIT can't be read: {error}"));
    let decoded = wit_component::decode(component).map_err(|e| failed(&format_args!("{e:#}")))?;
    let mut printer = wit_component::WitPrinter::new(wit_component::OutputToString::default());
    let nested: Vec<_> = decoded
        .resolve()
        .packages
        .iter()
        .map(|(id, _)| id)
        .filter(|id| *id != decoded.package())
        .collect();
    printer
        .print(decoded.resolve(), decoded.package(), &nested)
        .map_err(|e| failed(&format_args!("{e:#}")))?;
    Ok(printer.output.to_string())
}

/// The functions that a component exports: the interface, if it is one's, and the name.
/// Those of resources are left out.
pub fn functions(component: &[u8]) -> Result<Vec<(Option<String>, String)>, ImageError> {
    let failed = |why: &str| ImageError::Wasm(format!("its WIT can't be read: {why}"));
    let decoded = wit_component::decode(component).map_err(|e| failed(&format!("{e:#}")))?;
    let DecodedWasm::Component(resolve, world) = &decoded else {
        return Err(failed("it is no component"));
    };
    let mut found = Vec::new();
    for (key, item) in &resolve.worlds[*world].exports {
        match item {
            WorldItem::Function(function) => found.push((None, function)),
            WorldItem::Interface { id, .. } => {
                let name = resolve.name_world_key(key);
                let functions = resolve.interfaces[*id].functions.values();
                found.extend(functions.map(|function| (Some(name.clone()), function)));
            }
            WorldItem::Type { .. } => {}
        }
    }
    let free = found
        .into_iter()
        .filter(|(_, function)| function.kind.resource().is_none());
    Ok(free
        .map(|(interface, function)| (interface, function.name.clone()))
        .collect())
}
