//! The suite's guests that send requests by `wasi:http`: one program in Rust and in C, for
//! WASI 0.2 and 0.3.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Start, bindings, c, component, rust};

pub(super) fn build(root: &Path) -> Result<(), String> {
    let directory = root.join("tests/guests/http");
    let target = root.join("target/guests");
    let module = rust(&directory, &target, Start::Main, "http")?;
    component(&module, &directory.join("http.component.wasm"), Start::Main)?;
    let later = directory.join("p3");
    let module = rust(&later, &target, Start::Export, "http-p3")?;
    component(&module, &directory.join("rust3.wasm"), Start::Export)?;
    for (version, package, of, sends) in [
        (2, &directory, "wasip2", "outgoing-handler"),
        (3, &later, "wasip3", "client"),
    ] {
        let interfaces = bindings::interfaces(package, of)?;
        let bindings = target.join(format!("http-c{version}"));
        let wit = world(&interfaces, sends, &bindings.join("wit"))?;
        bindings::generate(&wit, "http", version, &bindings)?;
        let shared = directory.join("c");
        let sources = [
            shared.join("program.c"),
            shared.join(format!("http{version}.c")),
            bindings.join("http.c"),
            bindings.join("http_component_type.o"),
        ];
        let flags = [
            format!("-DVERSION={version}"),
            format!("-I{}", shared.display()),
            format!("-I{}", bindings.display()),
            "-mexec-model=reactor".to_string(),
        ];
        let module = target.join(format!("http-c{version}.wasm"));
        c(&sources, &module, &flags)?;
        component(&module, &directory.join(format!("c{version}.wasm")), Start::Export)?;
    }
    Ok(())
}

/// Makes a package of the C program's world: a command that sends requests by the
/// interface `sends`. No world of `wasi:http` is a command.
fn world(interfaces: &bindings::Interfaces, sends: &str, out: &Path) -> Result<PathBuf, String> {
    let version = &interfaces.version;
    let world = format!(
        "package suite:http;

world http {{
  import wasi:cli/environment@{version};
  import wasi:http/{sends}@{version};
  export wasi:cli/run@{version};
}}
"
    );
    let failed = |e| format!("can't make {}: {e}", out.display());
    fs::create_dir_all(out.join("deps")).map_err(failed)?;
    fs::write(out.join("http.wit"), world).map_err(failed)?;
    for entry in fs::read_dir(interfaces.directory.join("deps")).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        fs::copy(entry.path(), out.join("deps").join(entry.file_name())).map_err(failed)?;
    }
    Ok(out.to_path_buf())
}
