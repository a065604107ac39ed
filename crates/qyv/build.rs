//! Links the command at a fixed address: tens of thousands of relocations, most
//! of them wasmtime's, are then done once by the linker and not at every start.
//! What that saves and what it gives up is in `spec/decisions/`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
