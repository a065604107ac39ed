//! The book: `spec/` by mdBook, into `target/book`, and its links.

use std::fs;
use std::path::{Path, PathBuf};
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
    let book = root().join("target/book");
    let mut broken = Vec::new();
    check(&book, &book, &mut broken)?;
    if !broken.is_empty() {
        return Err(format!("the book has links that lead nowhere:\n{}", broken.join("\n")));
    }
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

/// Pages that mdBook makes of others, whose links are those of the others.
const COLLECTED: &[&str] = &["print.html", "toc.html", "404.html"];

/// Finds the links of the pages in `directory` that lead to no file or anchor.
fn check(book: &Path, directory: &Path, broken: &mut Vec<String>) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", directory.display());
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            check(book, &path, broken)?;
        } else if name.ends_with(".html") && !COLLECTED.contains(&name.as_str()) {
            let page = fs::read_to_string(&path).map_err(failed)?;
            for link in links(&page).filter(|link| !leads(&path, link)) {
                let page = path.strip_prefix(book).unwrap_or(&path);
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    Ok(())
}

fn links(page: &str) -> impl Iterator<Item = &str> {
    ["href=\"", "src=\""]
        .into_iter()
        .flat_map(|attribute| page.split(attribute).skip(1))
        .filter_map(|rest| rest.split('"').next())
}

/// Whether a link of a page leads to something, if it stays in the book.
fn leads(page: &Path, link: &str) -> bool {
    if link.contains(':') || link.starts_with("//") {
        return true;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match path.is_empty() {
        true => page.to_path_buf(),
        false => page.parent().unwrap_or(page).join(path),
    };
    if anchor.is_empty() {
        return target.exists();
    }
    let id = format!("id=\"{anchor}\"");
    fs::read_to_string(target).is_ok_and(|text| text.contains(&id))
}
