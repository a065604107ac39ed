//! Links the command at a fixed address: tens of thousands of relocations, most
//! of them wasmtime's, are then done once by the linker and not at every start.
//! What that saves and what it gives up is in `spec/decisions/`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|v| v == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("PROFILE", "release") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
        // The standard library asks for libgcc_s. A linker script of that name
        // makes of it what is linked in: one library less to load at each start.
        if let Some(directory) = std::env::var_os("OUT_DIR").map(std::path::PathBuf::from) {
            let script = "GROUP ( -l:libgcc_eh.a -l:libgcc.a )\n";
            if std::fs::write(directory.join("libgcc_s.so"), script).is_ok() {
                println!("cargo::rustc-link-search=native={}", directory.display());
            }
        }
    }
}
