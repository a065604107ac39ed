//! Arguments of a call as JSON and as WAVE, against every type of the suite's guest.
#![no_main]

use std::io::Write;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use qyvol_runtime::{Engine, Function, Generation, Language, Program, WasmKind};
use qyvol_trust::Verified;
use qyvol_types::{CompiledCode, Descriptor};

const GUEST: &[u8] = include_bytes!("../../guests/echo/echo.component.wasm");

/// The functions that return what they are given: one for each kind of type.
const NAMES: &[&str] = &[
    "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string", "bytes", "list",
    "tuple", "option", "nested", "result", "empty", "failure", "point", "sparse", "shape", "colour", "rights", "items",
];

static FUNCTIONS: LazyLock<Vec<Function>> = LazyLock::new(|| {
    let engine = Engine::new(Generation::Blocking).unwrap();
    let descriptor = Descriptor::of("application/wasm", GUEST);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&engine.compile(GUEST).unwrap()).unwrap();
    let code = CompiledCode::of(descriptor.digest, file);
    let verified = Verified::dangerously_trust(descriptor, "the suite's own guest");
    let program = Program::load(&engine, &verified, WasmKind::Component, &code).unwrap();
    let functions = program.functions();
    let find = |name: &&str| functions.find(&format!("same-{name}")).unwrap();
    NAMES.iter().map(find).collect()
});

// The first byte says which function and which language.
fuzz_target!(|input: (u8, &str)| {
    let (choice, text) = input;
    let function = &FUNCTIONS[usize::from(choice >> 1) % FUNCTIONS.len()];
    let language = if choice & 1 == 0 { Language::Json } else { Language::Wave };
    let _ = function.read(language, &[text.to_string()]);
    let _ = function.read_array(text);
});
