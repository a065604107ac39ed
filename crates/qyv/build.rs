//! Links the command so that it starts fast: at a fixed address, and with the functions of a
//! warm run next to each other. `spec/decisions/` has what that saves and what it costs.
#![allow(
    clippy::disallowed_methods,
    reason = "Cargo speaks to a build script by its environment"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// Set by `cargo xtask order`, which needs the symbols.
const KEEP_SYMBOLS: &str = "QYVOL_KEEP_SYMBOLS";

/// Set by `cargo xtask dist`: another list than the one in this directory.
const ORDER: &str = "QYVOL_ORDER";

/// Set by `cargo xtask dist`: the commit that the command is built of.
const COMMIT: &str = "QYVOL_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={COMMIT}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    let release = is("PROFILE", "release");
    commit(release);
    if !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    debuggers();
    if !release {
        return;
    }
    println!("cargo::rerun-if-env-changed={KEEP_SYMBOLS}");
    println!("cargo::rerun-if-env-changed={ORDER}");
    if env::var_os(KEEP_SYMBOLS).is_none() {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
    if is("CARGO_CFG_TARGET_ENV", "gnu") {
        fixed();
    }
    order();
}

/// Passes the commit to the command. Development builds leave it out, because they would be
/// linked again after each commit.
fn commit(release: bool) {
    let given = env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    let asked = || {
        println!("cargo::rerun-if-changed=../../.git/HEAD");
        println!("cargo::rerun-if-changed=../../.git/logs/HEAD");
        let output = Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
        let commit = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| commit.trim().to_string())
    };
    let commit = given.or_else(|| release.then(asked).flatten());
    println!("cargo::rustc-env=QYVOL_COMMIT={}", commit.unwrap_or_default());
}

/// Lets debuggers see the guest (`qyv run --debug-info`): they look for code that is made
/// while a program runs under these two names (gdb's manual, "JIT Compilation Interface"),
/// and a stripped program has only the names that it exports.
fn debuggers() {
    for name in ["__jit_debug_register_code", "__jit_debug_descriptor"] {
        println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol={name}");
    }
}

/// Links against glibc so that little is left to do at startup.
fn fixed() {
    // Tens of thousands of relocations, most of them wasmtime's, are done once by
    // the linker and not at every start.
    println!("cargo::rustc-link-arg-bins=-no-pie");
    // The standard library asks for libgcc_s. A linker script of that name replaces it with
    // static libraries: one library less to load at each start.
    if let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) {
        let script = "GROUP ( -l:libgcc_eh.a -l:libgcc.a )\n";
        if std::fs::write(directory.join("libgcc_s.so"), script).is_ok() {
            println!("cargo::rustc-link-search=native={}", directory.display());
        }
    }
}

/// Puts the functions of a warm run together: they are a thirtieth of the code,
/// and each page of it that is touched is a page fault. `cargo xtask order`
/// writes the list. A name that no longer exists is skipped, so an old list costs only speed.
/// Only lld, which Rust includes for this target, accepts a list.
fn order() {
    println!("cargo::rerun-if-changed=order.txt");
    let own_linker = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    let is_ours = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64")
        && env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let own = || Some(PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?).join("order.txt"));
    let given = env::var_os(ORDER).map(PathBuf::from);
    if let Some(list) = given.or_else(|| own().filter(|_| is_ours && !own_linker)) {
        println!(
            "cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={}",
            list.display()
        );
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}
