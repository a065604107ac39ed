//! The end of `cargo test --workspace`: what it left out, and what that needs.
//!
//! Cargo runs the test targets in the order of their packages' names, and this
//! package's is the last; only documentation tests follow. Tests leave their records in `target/tmp/left-out`
//! (`tests/needs.rs`); this prints them and removes them.
#![allow(clippy::print_stdout, reason = "what it is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn main() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("left-out");
    let mut left_out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        for line in fs::read_to_string(entry.path()).unwrap_or_default().lines() {
            if let Some((need, test)) = line.split_once(": ") {
                left_out.entry(need.to_string()).or_default().insert(test.to_string());
            }
        }
    }
    let _ = fs::remove_dir_all(&directory);
    if left_out.is_empty() {
        println!("\nno test was left out");
        return;
    }
    println!("\nThese tests, or parts of them, were left out, because this machine lacks what they need:");
    for (need, tests) in &left_out {
        println!("\n  {need}:");
        for test in tests {
            println!("    {test}");
        }
    }
    println!("\n`cargo xtask test` installs the programs, or says how, and runs all tests if it is root.");
}
