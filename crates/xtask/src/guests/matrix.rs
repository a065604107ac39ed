//! The suite's guests that try each permission: one program in Rust and in C, for each
//! version of WASI.

use std::fs;
use std::path::Path;

use super::{Start, bindings, c, component, rust};

pub(super) fn build(root: &Path) -> Result<(), String> {
    let directory = root.join("tests/guests/matrix");
    let target = root.join("target/guests");
    for (program, version, start) in [
        ("matrix-p1", 1, Start::Main),
        ("matrix_p2", 2, Start::Export),
        ("matrix_p3", 3, Start::Export),
    ] {
        let module = rust(&directory, &target, start, program)?;
        finish(&module, &directory, "rust", version, start)?;
    }
    let shared = |name: &str| directory.join("c").join(name);
    let module = target.join("matrix-c1.wasm");
    let sources = ["matrix.c", "see.c", "p1.c"].map(shared);
    c(&sources, &module, &["-DVERSION=1".to_string()])?;
    finish(&module, &directory, "c", 1, Start::Main)?;
    for (version, of) in [(2, "wasip2"), (3, "wasip3")] {
        let wit = bindings::interfaces(&directory, of)?;
        let bindings = target.join(format!("c{version}"));
        let world = format!("wasi:cli/command@{}", wit.version);
        bindings::generate(&wit.directory, &world, version, &bindings)?;
        let module = target.join(format!("matrix-c{version}.wasm"));
        let sources = [
            shared("matrix.c"),
            shared("files.c"),
            shared("see.c"),
            shared(&format!("net{version}.c")),
            bindings.join("command.c"),
            bindings.join("command_component_type.o"),
        ];
        let flags = [
            format!("-DVERSION={version}"),
            format!("-I{}", bindings.display()),
            "-mexec-model=reactor".to_string(),
        ];
        c(&sources, &module, &flags)?;
        finish(&module, &directory, "c", version, Start::Export)?;
    }
    Ok(())
}

/// Puts a module, or the component that is made of it, in its place.
fn finish(module: &Path, directory: &Path, language: &str, version: u8, start: Start) -> Result<(), String> {
    let out = directory.join(format!("{language}{version}.wasm"));
    match version {
        1 => fs::copy(module, &out)
            .map(|_| ())
            .map_err(|e| format!("can't write {}: {e}", out.display())),
        _ => component(module, &out, start),
    }
}
