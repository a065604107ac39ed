//! Links the command so that it starts fast: at a fixed address, and with the
//! functions of a warm run side by side. What that saves and what it gives up is
//! in `spec/decisions/`.

use std::env;
use std::path::PathBuf;

/// Set by `cargo xtask order`, which needs the symbols.
const KEEP_SYMBOLS: &str = "QYVOL_KEEP_SYMBOLS";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|v| v == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") || !is("PROFILE", "release") {
        return;
    }
    // Tens of thousands of relocations, most of them wasmtime's, are done once by
    // the linker and not at every start.
    println!("cargo::rustc-link-arg-bins=-no-pie");
    println!("cargo::rerun-if-env-changed={KEEP_SYMBOLS}");
    if env::var_os(KEEP_SYMBOLS).is_none() {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
    // The standard library asks for libgcc_s. A linker script of that name makes
    // of it what is linked in: one library less to load at each start.
    if let Some(directory) = env::var_os("OUT_DIR").map(PathBuf::from) {
        let script = "GROUP ( -l:libgcc_eh.a -l:libgcc.a )\n";
        if std::fs::write(directory.join("libgcc_s.so"), script).is_ok() {
            println!("cargo::rustc-link-search=native={}", directory.display());
        }
    }
    order();
}

/// Puts the functions of a warm run together: they are a thirtieth of the code,
/// and each page of it that is touched is a page fault. `cargo xtask order`
/// writes the list. A name that is no longer there is passed over, so an old list
/// costs speed alone. Only lld, which Rust brings for this target, takes one.
fn order() {
    println!("cargo::rerun-if-changed=order.txt");
    let own_linker = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    let is_ours = env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64");
    if let Some(directory) = env::var_os("CARGO_MANIFEST_DIR").filter(|_| is_ours && !own_linker) {
        let list = PathBuf::from(directory).join("order.txt");
        println!(
            "cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={}",
            list.display()
        );
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}
