//! The book: `spec/` by mdBook, into `target/book`.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{found, run};
use crate::tree::root;

/// Installed below `target/` where there is none.
const MDBOOK: &str = "mdbook";
const VERSION: &str = "0.5.4";

/// Builds the book and says where it is.
pub(super) fn build() -> Result<(), String> {
    let mdbook = mdbook()?;
    run(Command::new(mdbook).arg("build").arg(root().join("spec")))?;
    println!("wrote target/book/index.html");
    Ok(())
}

fn mdbook() -> Result<PathBuf, String> {
    let tools = root().join("target/tools");
    let own = tools.join("bin").join(MDBOOK);
    if found(MDBOOK) {
        return Ok(PathBuf::from(MDBOOK));
    }
    if !own.exists() {
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet", "--locked", "--root"]).arg(&tools);
        // Search needs a tokenizer for Chinese, and the server is of no use here.
        cargo.args(["--no-default-features", "--features", "search"]);
        run(cargo.arg(format!("{MDBOOK}@{VERSION}")))?;
    }
    Ok(own)
}
