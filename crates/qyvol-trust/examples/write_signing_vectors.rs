//! Writes `formats/vectors/signing` anew: `cargo xtask vectors`. A row that has
//! another outcome than its table says is an error.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool, from a test's modules"
)]
#![allow(dead_code, reason = "the test uses the rest")]

#[path = "../tests/vectors/judge.rs"]
mod judge;
#[path = "../tests/vectors/make.rs"]
mod make;
#[path = "../tests/vectors/rows/mod.rs"]
mod rows;
#[path = "../tests/vectors/vector.rs"]
mod vector;

use judge::{judge, outcome};
use vector::directory;

fn main() {
    std::fs::create_dir_all(directory("signing")).unwrap();
    let mut wrong = Vec::new();
    for row in rows::rows() {
        let vector = row.vector();
        let said = outcome(&judge(&vector));
        let due = [
            match row.exit {
                0 => vec![("expect", "accept".to_string())],
                exit => vec![("expect", "refuse".into()), ("exit", exit.to_string())],
            },
            vec![("verdicts", row.verdicts.to_string())],
        ];
        let due = due.concat();
        if said[..due.len()] != due {
            wrong.push(format!("{}: {said:?}", vector.file));
        }
        std::fs::write(directory("signing").join(&vector.file), vector.write(&said)).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
