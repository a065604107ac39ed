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

/// Whether the test that calls this has to be left out. `needs` are programs in
/// `PATH`, or `root`, `namespaces` (of an unprivileged user), `oras` and
/// `netfs-servers` (PyPI's) and `sigstore-verify` (npm's).
#[track_caller]
#[must_use]
pub fn lacks(needs: &[&str]) -> bool {
    let unmet: Vec<&str> = needs.iter().copied().filter(|need| !is_met(need)).collect();
    let Some(first) = unmet.first() else {
        return false;
    };
    let required = env::var(ALL).unwrap_or_default();
    let is_required = |need: &str| {
        let program = !matches!(need, "root" | "namespaces");
        required
            .split(' ')
            .any(|word| word == need || (word == "programs" && program))
    };
    if let Some(need) = unmet.iter().find(|need| is_required(need)) {
        panic!("this test needs {need}: run `cargo xtask test`, which installs it or says how");
    }
    let thread = thread::current();
    record(thread.name().unwrap_or("a test"), first);
    true
}

fn is_met(need: &str) -> bool {
    match need {
        "root" => rustix::process::geteuid().is_root(),
        "namespaces" => {
            let mut unshare = Command::new("unshare");
            unshare.args(["-rn", "true"]).stderr(Stdio::null());
            unshare.status().is_ok_and(|status| status.success())
        }
        "oras" | "netfs-servers" => {
            let mut python = Command::new(installed(need).join("bin/python"));
            python.arg("--version").stdout(Stdio::null());
            installed(need).join("ready").exists() && python.status().is_ok_and(|status| status.success())
        }
        "sigstore-verify" => installed(need).join("ready").exists(),
        program => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|directory| directory.join(program).is_file())
        }
    }
}

/// Where `cargo xtask test` installs what no distribution has.
pub fn installed(name: &str) -> PathBuf {
    scratch().join("../oracles").join(name)
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
