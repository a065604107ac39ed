//! `cargo xtask docs`: documents that are written from the code, so that they
//! can't say something else, and the book that they are in.

mod book;
mod matrix;
mod schemas;

use std::process::Command;

use crate::files::write;
use crate::process::output;
use crate::tree::{Tree, root};

/// A generated file and what it must hold.
type Document = (&'static str, String);

fn documents(tree: &Tree) -> Result<Vec<Document>, String> {
    Ok(vec![
        ("formats/media-types.json", media_types()),
        ("spec/schemas.md", schemas::page(tree)?),
        ("spec/permission-matrix.md", matrix::page(tree)?),
    ])
}

/// Writes the documents and the book; with `--check`, only says which documents
/// would change.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    match args {
        [] => {
            for (path, text) in documents(&Tree::load()?)? {
                write(&root().join(path), text)?;
                println!("wrote {path}");
            }
            command_reference()?;
            book::build()
        }
        [arg] if arg == "--check" => match stale(&Tree::load()?)?.as_slice() {
            [] => Ok(()),
            stale => Err(format!("{} differ: run `cargo xtask docs`", stale.join(", "))),
        },
        _ => Err("usage: cargo xtask docs [--check]".to_string()),
    }
}

/// Writes `spec/cli.md` from the command itself, which has to be built for it;
/// the black-box suite holds the two together.
fn command_reference() -> Result<(), String> {
    let path = "spec/cli.md";
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "-p", "qyv", "--", "reference"]);
    let text = output(cargo.current_dir(root()))?;
    write(&root().join(path), text)?;
    println!("wrote {path}");
    Ok(())
}

/// The documents that differ from what the code says.
pub(crate) fn stale(tree: &Tree) -> Result<Vec<&'static str>, String> {
    let differs = |(path, text): &Document| tree.get(path) != Some(text.as_str());
    Ok(documents(tree)?
        .into_iter()
        .filter(differs)
        .map(|(path, _)| path)
        .collect())
}

/// The media types as `{ "mediaTypes": [ { "mediaType", "use" } ] }`.
fn media_types() -> String {
    let rows: Vec<String> = qyvol_types::media_type::ALL
        .iter()
        .map(|(media_type, usage)| {
            format!("    {{\n      \"mediaType\": {media_type:?},\n      \"use\": {usage:?}\n    }}")
        })
        .collect();
    format!("{{\n  \"mediaTypes\": [\n{}\n  ]\n}}\n", rows.join(",\n"))
}
