//! Hostile archives: each names its defect, is refused at the step in the table, unpacks
//! nothing and costs little memory. The table is written to `formats/vectors/archive` by `cargo
//! xtask vectors`, for other implementations; `archive_vectors_hold` reads the files back.
//!
//! The code that makes the archives shares nothing with the crate's own writer.
#![allow(clippy::disallowed_methods, reason = "a test")]
// Clippy recognises tests by their attribute, not their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]
#![allow(dead_code, reason = "what writes the vectors uses the rest")]

mod bounds;
mod cases;
mod common;
mod judge;
mod swap;
mod vector;

use std::fs;

use qyvol_image::Archive;
use qyvol_store::NoopReporter;

use cases::{ACCEPT, rows};
use judge::outcome;
use vector::Vector;

// [BIN-030] [BIN-033]
#[test]
fn archive_vectors_hold() {
    let vectors = Vector::all();
    let mut wrong = Vec::new();
    for vector in &vectors {
        let bytes = vector.bytes();
        let file = &vector.file;
        match (outcome(&bytes), vector.get("expect")) {
            (Ok(holds), "accept") if holds == vector.holds() => {}
            (Ok(holds), "accept") => wrong.push(format!("{file}: holds {holds:?}")),
            (Err((step, why)), "refuse") if step != vector.get("step") => {
                wrong.push(format!("{file}: refused at {step}: {why}"));
            }
            (Err(_), "refuse") => {}
            (got, _) => wrong.push(format!("{file}: {got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let table = rows();
    let written = table
        .iter()
        .filter(|row| vectors.iter().any(|v| v.file == format!("{}.txt", row.name)));
    assert_eq!(written.count(), table.len(), "run `cargo xtask vectors`");
    assert_eq!(vectors.len(), table.len(), "a vector that no row makes");
}

/// The crate's writer and this test's, which share nothing, agree byte for
/// byte on an archive without assets, and in decoded bytes on all.
// [BIN-001] [BIN-010] [BIN-011]
#[test]
fn archive_written_by_hand_is_the_one_that_the_writer_writes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.qyvbin");
    for row in rows().iter().filter(|r| r.outcome == ACCEPT) {
        let bytes = row.case.build();
        fs::write(&path, &bytes).unwrap();
        let archive = Archive::open(&path).unwrap();
        let mut out = Vec::new();
        qyvol_image::write_archive(archive.head(), &archive, &mut out, &NoopReporter).unwrap();
        let decoded = |bytes: &[u8]| zstd::stream::decode_all(bytes).unwrap();
        assert!(decoded(&out) == decoded(&bytes), "{}", row.name);
    }
}
