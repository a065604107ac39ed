//! The generations of WASI, by the names of the interfaces that a component imports and
//! exports.

use wasmparser::{Encoding, Parser, Payload, WasmFeatures};
use wasmtime::component::Component;

use crate::{identity, process};

/// The features of WebAssembly that are compiled and run: what wasmtime has on
/// by default, without the component model's asynchronous built-ins. Those make
/// every component's calls concurrent, which costs each of them.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM3.union(WasmFeatures::COMPONENT_MODEL);

/// What components of WASI 0.3 need in addition.
pub(crate) const ASYNC_FEATURES: WasmFeatures = WasmFeatures::CM_ASYNC;

/// The interface that answers requests in WASI 0.2.
pub(crate) const BLOCKING: (Generation, &str) = (Generation::Blocking, "wasi:http/incoming-handler");

/// The one in WASI 0.3.
pub(crate) const CONCURRENT: (Generation, &str) = (Generation::Concurrent, "wasi:http/handler");

/// How a component's calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// One after the other: core modules, and components of WASI 0.2.
    Blocking,
    /// Concurrently: components of WASI 0.3, whose functions may be asynchronous. Each call
    /// costs more in such an engine, so the others have an engine without this.
    Concurrent,
}

impl Generation {
    /// The generation that a component with these imports and exports needs, whichever of
    /// its exports is called.
    pub fn of_names(imports: &[String], exports: &[String]) -> Generation {
        let is_concurrent = |name: &String| {
            matches!(
                interface(name),
                Some(CONCURRENT | (Generation::Concurrent, "wasi:cli/run"))
            )
        };
        let needs = |name: &String| match interface(name) {
            Some((generation, interface)) => generation == Generation::Concurrent && interface.starts_with("wasi:"),
            None => false,
        };
        match exports.iter().any(is_concurrent) || imports.iter().any(needs) {
            true => Generation::Concurrent,
            false => Generation::Blocking,
        }
    }

    /// The generation that a component or module needs. The answer for invalid ones has
    /// no meaning.
    pub fn of(wasm: &[u8]) -> Generation {
        names(wasm).map_or(Generation::Blocking, |(imports, exports)| {
            Generation::of_names(&imports, &exports)
        })
    }

    /// The features of WebAssembly that are compiled and run.
    pub(crate) fn features(self) -> WasmFeatures {
        match self {
            Generation::Blocking => FEATURES,
            Generation::Concurrent => FEATURES.union(ASYNC_FEATURES),
        }
    }
}

/// The interface in a name such as `wasi:cli/run@0.2.6`, and its version of WASI.
pub(crate) fn interface(name: &str) -> Option<(Generation, &str)> {
    let (interface, version) = name.split_once('@')?;
    if [process::INTERFACE, identity::INTERFACE].contains(&interface) && version.starts_with("0.1.") {
        return Some((Generation::Blocking, interface));
    }
    if version.starts_with("0.2.") {
        return Some((Generation::Blocking, interface));
    }
    version
        .starts_with("0.3.")
        .then_some((Generation::Concurrent, interface))
}

/// Whether a component exports an interface.
pub(crate) fn exports(component: &Component, sought: (Generation, &str)) -> bool {
    let kind = component.component_type();
    kind.exports(component.engine())
        .any(|(name, _)| interface(name) == Some(sought))
}

/// Whether an export is the entry point of a command or service. Its functions are not for
/// other callers.
pub(crate) fn is_entry(name: &str) -> bool {
    let interface = name.split_once('@').map_or(name, |(interface, _)| interface);
    matches!(
        interface,
        "wasi:cli/run" | "wasi:http/incoming-handler" | "wasi:http/handler"
    )
}

/// The imports and exports of a component.
pub(crate) fn names(wasm: &[u8]) -> Result<(Vec<String>, Vec<String>), wasmparser::BinaryReaderError> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { encoding, .. } if encoding == Encoding::Component && depth == 0 => {}
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(reader) if depth == 0 => {
                for import in reader {
                    imports.push(import?.name.name.to_string());
                }
            }
            Payload::ComponentExportSection(reader) if depth == 0 => {
                for export in reader {
                    exports.push(export?.name.name.to_string());
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}
