//! `cargo xtask vectors`: writes the vectors that are made of tables in the tests,
//! `formats/vectors/archive` and `formats/vectors/signing`, anew.

use std::process::Command;

use crate::process::run;
use crate::tree::root;

/// The examples that write.
const WRITERS: &[&str] = &["write_archive_vectors", "write_signing_vectors"];

/// Runs every writer.
pub(crate) fn write() -> Result<(), String> {
    for example in WRITERS {
        // Of the workspace, as the tests are: with other features everything that
        // they need would be built again.
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--workspace", "--example", example]);
        run(cargo.current_dir(root()))?;
        run(&mut Command::new(root().join("target/debug/examples").join(example)))?;
    }
    Ok(())
}
