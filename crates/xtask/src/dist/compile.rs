//! The static binary.
//!
//! rustup's toolchain has a standard library for musl; where that can't be had,
//! Debian's compiler builds one from its sources. For x86-64 it is linked twice: the
//! functions of a warm run are put side by side, and which they are is seen by running
//! the first link. `crates/qyv/order.txt` is of the default build: names of functions
//! have hashes of the toolchain and the target in them.
//!
//! No two runs take the same path (keys of hash tables are drawn at random), so the
//! list is an input like the sources: it is released with the binary, and who builds
//! the release again passes it on.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Release;
use crate::files::{read, write};
use crate::order::record;
use crate::process::{found, output, run};

/// Debian's compiler and its sources (`rustc-web`, `rust-web-src`).
const DEBIANS_RUSTC: &str = "/usr/bin/rustc";
const DEBIANS_SOURCES: &str = "/usr/lib/rustlib/src/rust/library";

/// What a build takes from the environment: where its tools are, and how they get at
/// the registry.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
];

/// Where debuggers look for code that is made while a program runs (gdb's manual, "JIT
/// Compilation Interface"). A static program exports nothing, so these stay in its table.
const DEBUGGERS: [&str; 2] = ["__jit_debug_register_code", "__jit_debug_descriptor"];

/// Builds `qyv` for the release's target.
pub(super) fn binary(release: &Release) -> Result<PathBuf, String> {
    let target = release.root.join("target/dist/build");
    let binary = target.join(&release.target).join("dist/qyv");
    let flags = Flags::new(release, &target)?;
    if !found("objcopy") {
        return Err("objcopy is missing: install the Debian package binutils".to_string());
    }
    if release.target.starts_with("x86_64") {
        let order = match &release.order {
            Some(given) => given.clone(),
            None => {
                build(release, &target, &flags, None)?;
                record(&binary)?
            }
        };
        let list = release.list();
        write(&list, order)?;
        build(release, &target, &flags, Some(&list))?;
    } else {
        build(release, &target, &flags, None)?;
    }
    let stripped = strip(&binary, &target.join(&release.target).join("stripped"))?;
    check_paths(&stripped, &[&release.root, &cargo_home()])?;
    Ok(stripped)
}

/// A copy without symbols but those that debuggers need.
fn strip(binary: &Path, directory: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let stripped = directory.join("qyv");
    let mut objcopy = Command::new("objcopy");
    objcopy.arg("--strip-all");
    objcopy.args(DEBUGGERS.map(|name| format!("--keep-symbol={name}")));
    run(objcopy.arg(binary).arg(&stripped))?;
    Ok(stripped)
}

/// How the compiler is called.
struct Flags {
    rust: Vec<String>,
    c: String,
    /// The standard library has to be built too.
    from_source: bool,
}

impl Flags {
    fn new(release: &Release, target: &Path) -> Result<Flags, String> {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let sysroot = PathBuf::from(sysroot.trim());
        let host = output(Command::new("rustc").args(["--print", "host-tuple"]))?;
        let lld = sysroot.join("lib/rustlib").join(host.trim()).join("bin/gcc-ld");
        let libraries = sysroot.join("lib/rustlib").join(&release.target).join("lib");
        let from_source = release.from_source;
        // No path of this machine gets into the binary.
        let debian = PathBuf::from("/usr/lib/rustlib");
        let mut from = vec![(release.root.clone(), "/qyvol"), (sysroot, "/rust"), (debian, "/rust")];
        from.push((cargo_home(), "/cargo"));
        let mut rust: Vec<String> = from
            .iter()
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .collect();
        let c: Vec<String> = from
            .iter()
            .map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()))
            .collect();
        let link = [
            "-Ctarget-feature=+crt-static".to_string(),
            "-Crelocation-model=static".to_string(),
            // The only linker that takes a list of functions.
            format!("-Clink-arg=-B{}", lld.display()),
            "-Clink-arg=-fuse-ld=lld".to_string(),
            // musl-gcc names one, and lld would ask for it at each start.
            "-Clink-arg=-Wl,--no-dynamic-linker".to_string(),
        ];
        rust.extend(link);
        if !from_source && !libraries.is_dir() {
            return Err(format!(
                "there is no standard library for {0}: run `rustup target add {0}`, or add --std-from-source",
                release.target
            ));
        }
        if from_source {
            for needed in [DEBIANS_RUSTC, DEBIANS_SOURCES] {
                if !Path::new(needed).exists() {
                    return Err(format!(
                        "{needed} is missing: install Debian's rustc-web and rust-web-src"
                    ));
                }
            }
            rust.push(format!("-Lnative={}", unwinder(target)?.display()));
            rust.push("-Clink-self-contained=no".to_string());
        }
        if !found("musl-gcc") {
            return Err("musl-gcc is missing: install the Debian package musl-tools".to_string());
        }
        Ok(Flags {
            rust,
            c: c.join(" "),
            from_source,
        })
    }
}

/// Where Cargo keeps the sources of dependencies.
fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

/// Fails where the binary has a path of this machine in it.
fn check_paths(binary: &Path, paths: &[&Path]) -> Result<(), String> {
    let bytes = read(binary)?;
    for path in paths {
        let needle = path.as_os_str().as_encoded_bytes();
        if bytes.windows(needle.len()).any(|window| window == needle) {
            return Err(format!("{} has the path {} in it", binary.display(), path.display()));
        }
    }
    Ok(())
}

/// `libunwind.a`, of what gcc has, for a standard library that is built here.
fn unwinder(target: &Path) -> Result<PathBuf, String> {
    let directory = target.join("unwinder");
    let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
    fs::create_dir_all(&directory).map_err(failed)?;
    let found = output(Command::new("gcc").arg("-print-file-name=libgcc_eh.a"))?;
    let library = directory.join("libunwind.a");
    fs::copy(found.trim(), &library).map_err(failed)?;
    // glibc's loader has this; without it frames are found by their tables.
    let stub = directory.join("stub.c");
    let text = "int _dl_find_object(void *a, void *b) { (void)a; (void)b; return -1; }\n";
    fs::write(&stub, text).map_err(failed)?;
    let object = directory.join("stub.o");
    run(Command::new("musl-gcc")
        .args(["-O2", "-c", "-o"])
        .arg(&object)
        .arg(&stub))?;
    run(Command::new("ar").arg("rD").arg(&library).arg(&object))?;
    Ok(directory)
}

/// Links with the functions in the order of a list, if there is one.
fn build(release: &Release, target: &Path, flags: &Flags, order: Option<&Path>) -> Result<(), String> {
    let triple = release.target.replace('-', "_");
    let mut cargo = Command::new("cargo");
    // Nothing else of the environment decides what is built.
    cargo.env_clear();
    cargo.envs(INHERITED.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    cargo.envs([("LC_ALL", "C"), ("TZ", "UTC")]);
    cargo
        .args([
            "build",
            "--profile",
            "dist",
            "--locked",
            "-p",
            "qyv",
            "--target",
            &release.target,
        ])
        .current_dir(&release.root)
        .env("CARGO_TARGET_DIR", target)
        .env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase()), "musl-gcc")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.rust.join("\u{1f}"))
        .env(format!("CC_{triple}"), "musl-gcc")
        .env(format!("CFLAGS_{triple}"), &flags.c)
        .env("QYVOL_COMMIT", &release.commit)
        .env("SOURCE_DATE_EPOCH", release.time.to_string());
    if flags.from_source {
        cargo
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC", DEBIANS_RUSTC)
            .env("RUSTC_BOOTSTRAP", "1");
    }
    cargo.env("QYVOL_KEEP_SYMBOLS", "1");
    if let Some(list) = order {
        cargo.env("QYVOL_ORDER", list);
    }
    run(&mut cargo)
}
