//! `cargo xtask order`: writes `crates/qyv/order.txt`, the functions of a warm
//! run in the order in which they are first called, for the linker to put side
//! by side.
//!
//! The command is linked with its symbols and run instruction by instruction
//! (ptrace(2), in the few lines of `step.c`). Linux on x86-64 alone.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::files::write;
use crate::process::run;
use crate::tree::root;

/// Applications whose warm runs count, the plainest first.
const EXAMPLES: &[&str] = &["hello", "greeter-assets"];

/// Writes the list anew.
pub(crate) fn order() -> Result<(), String> {
    let root = root();
    run(Command::new("cargo")
        .args(["build", "--release", "-p", "qyv"])
        .env("QYVOL_KEEP_SYMBOLS", "1")
        .current_dir(&root))?;
    let list = record(&root.join("target/release/qyv"))?;
    write(&root.join("crates/qyv/order.txt"), &list)?;
    println!("{} functions", list.lines().count());
    Ok(())
}

/// The functions of a warm run of a command that has its symbols.
pub(crate) fn record(qyv: &Path) -> Result<String, String> {
    let root = root();
    let scratch = root.join("target/order");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(|e| e.to_string())?;
    let step = scratch.join("step");
    run(Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&step)
        .arg(root.join("crates/xtask/src/order/step.c")))?;
    let symbols = symbols(qyv)?;
    let mut seen = HashSet::new();
    let mut list = String::new();
    for example in EXAMPLES {
        let file = scratch.join(format!("{example}.qyvbin"));
        let addresses = scratch.join(example);
        let home = |command: &mut Command| command.env("QYVOL_HOME", scratch.join("home")).status();
        let ok = |status: std::io::Result<std::process::ExitStatus>| status.is_ok_and(|status| status.success());
        let mut build = Command::new(qyv);
        build
            .args(["build", "--quiet", "-o"])
            .arg(&file)
            .arg(root.join("examples").join(example));
        let mut first = Command::new(qyv);
        let mut warm = Command::new(&step);
        warm.arg(&addresses).arg(qyv);
        if !ok(home(&mut build)) || !ok(home(first.arg("run").arg(&file))) || !ok(home(warm.arg("run").arg(&file))) {
            return Err(format!("{example} can't be built and run"));
        }
        let text = fs::read_to_string(&addresses).map_err(|e| e.to_string())?;
        for address in text.lines().filter_map(|line| u64::from_str_radix(line, 16).ok()) {
            let after = symbols.partition_point(|(start, _)| *start <= address);
            if let Some((_, name)) = after.checked_sub(1).and_then(|at| symbols.get(at))
                && seen.insert(name.as_str())
            {
                list.push_str(name);
                list.push('\n');
            }
        }
    }
    Ok(list)
}

/// The functions of a program, by their addresses.
fn symbols(program: &Path) -> Result<Vec<(u64, String)>, String> {
    let listed = Command::new("nm")
        .args(["--defined-only", "--numeric-sort"])
        .arg(program)
        .output();
    let listed = String::from_utf8(listed.map_err(|e| format!("nm: {e}"))?.stdout).map_err(|e| e.to_string())?;
    let symbol = |line: &str| {
        let mut words = line.split(' ');
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let kind = words.next()?;
        matches!(kind, "t" | "T" | "w" | "W").then(|| words.next().map(|name| (address, name.to_string())))?
    };
    Ok(listed.lines().filter_map(symbol).collect())
}
