//! Rewrites `formats/vectors/archive`: `cargo xtask vectors`. A row whose outcome differs from
//! the table is an error, and is not written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool, from a test's modules")]
#![allow(dead_code, reason = "the test uses the rest")]

#[path = "../tests/hostile/cases/mod.rs"]
mod cases;
#[path = "../tests/hostile/common.rs"]
mod common;
#[path = "../tests/hostile/judge.rs"]
mod judge;
#[path = "../tests/hostile/vector.rs"]
mod vector;

use std::fs;

use cases::{ACCEPT, rows};
use judge::outcome;
use vector::directory;

/// A later zstd may compress better; the decoded content stays the same.
fn main() {
    fs::create_dir_all(directory()).unwrap();
    let mut wrong = Vec::new();
    for row in rows() {
        let bytes = row.case.build();
        let holds = match outcome(&bytes) {
            Ok(holds) if row.outcome == ACCEPT => holds,
            Err((step, _)) if row.outcome == step => Vec::new(),
            got => {
                wrong.push(format!("{}: {got:?}", row.name));
                continue;
            }
        };
        let text = vector::write(&row, &holds, &bytes);
        fs::write(directory().join(format!("{}.txt", row.name)), text).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
