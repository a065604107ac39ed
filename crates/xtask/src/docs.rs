//! `cargo xtask docs`: documents that are written from the code, so that they
//! can't say something else.

use std::path::Path;

use crate::tree::{Tree, root};

/// A generated file and what it must hold.
type Document = (&'static str, String);

fn documents() -> Vec<Document> {
    vec![("formats/media-types.json", media_types())]
}

/// Writes the documents; with `--check`, only says which would change.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    match args {
        [] => {
            for (path, text) in documents() {
                let file = root().join(path);
                let written = std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))
                    .and_then(|()| std::fs::write(&file, text));
                written.map_err(|e| format!("writing {path}: {e}"))?;
                println!("wrote {path}");
            }
            command_reference()
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
    let mut cargo = std::process::Command::new("cargo");
    let output = cargo
        .args(["run", "--quiet", "-p", "qyv", "--", "reference"])
        .current_dir(root())
        .output();
    let output = output.map_err(|e| format!("can't run cargo: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "`qyv reference` failed: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    std::fs::write(root().join(path), output.stdout).map_err(|e| format!("writing {path}: {e}"))?;
    println!("wrote {path}");
    Ok(())
}

/// The documents that differ from what the code says.
pub(crate) fn stale(tree: &Tree) -> Result<Vec<&'static str>, String> {
    let differs = |(path, text): &Document| tree.get(path) != Some(text.as_str());
    Ok(documents().into_iter().filter(differs).map(|(path, _)| path).collect())
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
