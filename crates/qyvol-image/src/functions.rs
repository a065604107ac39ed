//! A component of core modules and the types of their functions.
//!
//! ```text
//!   WAT, .wasm --one for each source--> core module + world --wit-component--> component
//!   several components --joined--> one component
//! ```
//!
//! Functions of one source share a module, and with it its memory. Components of several
//! sources are joined by the caller, who can link components ([`JoinSources`]).
//!
//! The bytes are a pure function of the manifest and the files that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qyvol_types::{AppFunction, FunctionCode, ModuleSource, Os, escape};
use wasmparser::{ExternalKind, Parser, Payload as Section};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, Type, TypeDefKind, WorldId, WorldItem};

use crate::wasm::{PREVIEW1, Payload};
use crate::wasm_file::read_wasm;
use crate::{FileId, ImageError};

/// The import name of the interface of the caller; a function's name follows it.
const CONTEXT: &str = "qyvol:call/context@0.1.0::";
/// The interface.
const CONTEXT_WIT: &str = include_str!("../../../formats/wit/call.wit");

/// Maximum length of a reported error of the WebAssembly tools, in characters.
const MESSAGE: usize = 300;

/// The result of compiling the functions of a manifest.
pub(crate) struct Made {
    /// The component.
    pub(crate) component: Vec<u8>,
    /// The files that it is made from.
    pub(crate) files: Vec<(PathBuf, FileId)>,
}

/// A component that was made from one source.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in messages.
    pub label: String,
    /// The component.
    pub component: Vec<u8>,
    /// The functions that it exports.
    pub functions: Vec<String>,
}

/// Joins the components of several sources into one that exports all of their functions. Each
/// keeps an instance of its own; an import that several need is imported once.
pub type JoinSources = fn(&[Source]) -> Result<Vec<u8>, String>;

/// The functions of one source, by their names.
type Signatures<'a> = BTreeMap<&'a str, &'a str>;

/// Makes the component of functions that have code in the manifest; none if there are none.
pub(crate) fn make(
    functions: &BTreeMap<String, AppFunction>,
    directory: &Path,
    join: JoinSources,
) -> Result<Option<Made>, ImageError> {
    let mut sources: BTreeMap<&ModuleSource, Signatures<'_>> = BTreeMap::new();
    for (name, function) in functions {
        if let Some(FunctionCode { module, signature }) = &function.code {
            sources.entry(module).or_default().insert(name, signature);
        }
    }
    let mut files = Vec::new();
    let mut parts = Vec::new();
    for (source, signatures) in sources {
        let label = label(source, &signatures);
        let module = match source {
            ModuleSource::Wat(text) => {
                wat::parse_str(text).map_err(|error| ImageError::Wasm(format!("{label}: {}", shown(&error))))?
            }
            ModuleSource::File(path) => {
                let (bytes, file) = read_wasm(directory, path, "read the module")?;
                files.push(file);
                bytes
            }
        };
        let component = component(&module, &signatures).map_err(|why| ImageError::Wasm(format!("{label}: {why}")))?;
        parts.push(Source {
            label,
            component,
            functions: signatures.into_keys().map(str::to_string).collect(),
        });
    }
    let component = match parts.len() {
        0 => return Ok(None),
        1 => parts.pop().map(|part| part.component).unwrap_or_default(),
        _ => join(&parts).map_err(ImageError::Wasm)?,
    };
    Ok(Some(Made { component, files }))
}

/// The name of a source in messages.
fn label(source: &ModuleSource, signatures: &Signatures<'_>) -> String {
    match source {
        ModuleSource::File(path) => format!("`{}`", escape(path)),
        ModuleSource::Wat(_) => {
            let names: Vec<&str> = signatures.keys().copied().collect();
            format!("the wat of {}", names.join(", "))
        }
    }
}

/// An error with its causes.
fn failed(error: impl std::fmt::Display) -> String {
    shown(&format_args!("{error:#}"))
}

/// The first message of an error and its place in the text, without terminal control
/// characters.
fn shown(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut lines = text.lines();
    let what: String = lines.next().unwrap_or_default().chars().take(MESSAGE).collect();
    let place = lines.find_map(|line| line.trim_start().strip_prefix("--> <anon>:"));
    let place = place.and_then(|place| place.split_once(':'));
    let place = place.map_or(String::new(), |(line, column)| {
        format!(" (line {line}, column {column} of it)")
    });
    escape(&format!("{what}{place}")).to_string()
}

/// Makes a component of a core module.
fn component(module: &[u8], signatures: &Signatures<'_>) -> Result<Vec<u8>, String> {
    let payload = Payload::read(module).map_err(|error| error.to_string())?;
    if payload.os == Os::Wasip2 {
        return Err("it is a component, whose functions have types: name them by `method`, without wit".to_string());
    }
    check_imports(&payload)?;
    let exports = exports(module);
    let has_function = |name: &&&str| exports.contains(&((**name).to_string(), ExternalKind::Func));
    if let Some(name) = signatures.keys().find(|name| !has_function(name)) {
        return Err(format!("it exports no function `{}`", escape(name)));
    }
    let mut resolve = Resolve::default();
    let has_context = payload.imports.iter().any(|import| import.starts_with(CONTEXT));
    if has_context {
        resolve.push_source("call.wit", CONTEXT_WIT).map_err(failed)?;
    }
    let package = resolve
        .push_source("wit", &world(signatures, has_context))
        .map_err(|error| format!("its wit can't be read: {}", failed(error)))?;
    let world = resolve.select_world(&[package], Some("functions")).map_err(failed)?;
    let found = &resolve.worlds[world].exports;
    if found.len() != signatures.len() || resolve.worlds[world].imports.len() != usize::from(has_context) {
        return Err("its wit is more than a function".to_string());
    }
    check_memory(&resolve, world, &exports)?;
    let mut module = without_types(module);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(failed)?;
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.adapter(PREVIEW1, adapter))
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| format!("it can't be made a component: {}", failed(error)))
}

/// A world that exports functions with these types. The manifest's reader has checked that a
/// signature has no other characters.
fn world(signatures: &Signatures<'_>, has_context: bool) -> String {
    let mut text = "package qyvol:made;\n\nworld functions {\n".to_string();
    if has_context {
        text.push_str("  import qyvol:call/context@0.1.0;\n");
    }
    for signature in signatures.values() {
        // The name may be a word of WIT.
        text.push_str(&format!("  export %{signature};\n"));
    }
    text.push_str("}\n");
    text
}

/// Refuses imports that nothing would satisfy. They include modules that wit-component treats
/// specially, and panics on.
fn check_imports(payload: &Payload) -> Result<(), String> {
    let preview1 = format!("{PREVIEW1}::");
    let is_known = |import: &str| {
        let name = import.strip_prefix(CONTEXT).or_else(|| import.strip_prefix(&preview1));
        name.is_some_and(|name| !name.contains('['))
    };
    match payload.imports.iter().find(|import| !is_known(import)) {
        None => Ok(()),
        Some(import) => Err(format!(
            "it imports {}: a module with `wit` can import WASI preview 1 ({PREVIEW1}) and {}, and nothing else",
            escape(import),
            CONTEXT.trim_end_matches(':')
        )),
    }
}

/// A valid module without the sections that state the types of its functions: the manifest
/// states them.
fn without_types(module: &[u8]) -> Vec<u8> {
    let mut left = wasm_encoder::Module::new();
    for section in Parser::new(0).parse_all(module).flatten() {
        let is_of_types =
            matches!(&section, Section::CustomSection(custom) if custom.name().starts_with("component-type"));
        match section.as_section() {
            Some((id, range)) if !is_of_types => left.section(&wasm_encoder::RawSection {
                id,
                data: &module[range],
            }),
            _ => &mut left,
        };
    }
    left.finish()
}

/// What a module exports.
fn exports(module: &[u8]) -> Vec<(String, ExternalKind)> {
    let mut exports = Vec::new();
    for section in Parser::new(0).parse_all(module).flatten() {
        if let Section::ExportSection(reader) = section {
            let found = reader.into_iter().flatten();
            exports.extend(found.map(|export| (export.name.to_string(), export.kind)));
        }
    }
    exports
}

/// Whether a module exports what is needed to pass strings and lists.
fn check_memory(resolve: &Resolve, world: WorldId, exports: &[(String, ExternalKind)]) -> Result<(), String> {
    let has = |name: &str, kind: ExternalKind| exports.iter().any(|(own, is)| own == name && *is == kind);
    for item in resolve.worlds[world].exports.values() {
        let WorldItem::Function(function) = item else { continue };
        let takes = function
            .params
            .iter()
            .any(|parameter| in_memory(resolve, &parameter.ty));
        let returns = function.result.iter().any(|ty| in_memory(resolve, ty));
        let name = escape(&function.name);
        if (takes || returns) && !has("memory", ExternalKind::Memory) {
            return Err(format!(
                "it exports no `memory`, through which {name} passes strings and lists"
            ));
        }
        if takes && !has("cabi_realloc", ExternalKind::Func) {
            return Err(format!(
                "it exports no function `cabi_realloc`, which makes room for the strings and lists of {name}"
            ));
        }
    }
    Ok(())
}

/// Whether a value of this type, or one in it, is a string or a list.
fn in_memory(resolve: &Resolve, ty: &Type) -> bool {
    let any = |ty: &Option<Type>| ty.iter().any(|ty| in_memory(resolve, ty));
    match ty {
        Type::String => true,
        Type::Id(id) => match &resolve.types[*id].kind {
            TypeDefKind::List(_) => true,
            TypeDefKind::Option(ty) | TypeDefKind::Type(ty) => in_memory(resolve, ty),
            TypeDefKind::Result(result) => any(&result.ok) || any(&result.err),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().any(|ty| in_memory(resolve, ty)),
            _ => false,
        },
        _ => false,
    }
}
