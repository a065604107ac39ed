//! Rules of the documents for people: a translated README or page of the guide
//! shows the same code as its original, what a document points to is there, and the change log has
//! a place for this version.

use super::Finding;
use crate::tree::Tree;

const CHANGELOG: &str = "CHANGELOG.md";
const TRANSLATED: &str = "README.es.md";
const GUIDE: &str = "spec/guide/";
const TRANSLATED_GUIDE: &str = "spec/guide/es/";
const OUR_DIRECTORIES: &[&str] = &["crates/", "examples/", "formats/", "registry/", "spec/", "tests/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    readmes(tree, &mut findings);
    pointers(tree, &mut findings);
    changelog(tree, &mut findings);
    findings
}

fn readmes(tree: &Tree, findings: &mut Vec<Finding>) {
    for path in ["README.md", TRANSLATED] {
        if tree.get(path).is_none() {
            findings.push(Finding::new(path, 0, "is missing"));
        }
    }
    for (path, translated) in tree.with_ending(".md") {
        let Some(original_path) = original(path) else { continue };
        let Some(original) = tree.get(&original_path) else {
            findings.push(Finding::new(
                path,
                0,
                format!("translates {original_path}, which is missing"),
            ));
            continue;
        };
        let (ours, theirs) = (code_blocks(translated), code_blocks(original));
        if ours.len() != theirs.len() {
            let message = format!("has {} code blocks, {original_path} has {}", ours.len(), theirs.len());
            findings.push(Finding::new(path, 0, message));
        }
        for ((line, code), (there, other)) in ours.iter().zip(&theirs) {
            if code != other {
                let message = format!("this code block differs from {original_path}:{there}");
                findings.push(Finding::new(path, *line, message));
            }
        }
    }
}

/// The document that `path` is a translation of, if it is one.
fn original(path: &str) -> Option<String> {
    match path.strip_suffix(TRANSLATED) {
        Some(directory) => Some(format!("{directory}README.md")),
        None => Some(match path.strip_prefix(TRANSLATED_GUIDE)? {
            // The front page of the book.
            "README.md" => "spec/README.md".to_string(),
            page => format!("{GUIDE}{page}"),
        }),
    }
}

/// The fenced blocks with the line they start on. Comments are left out, for
/// they are translated.
fn code_blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            if inside {
                blocks.push((index + 1, format!("{}\n", line.trim())));
            }
        } else if let Some((_, code)) = blocks.last_mut().filter(|_| inside) {
            let line = if line.starts_with('#') { "" } else { line };
            let line = line.split_once(" #").map_or(line, |(before, _)| before);
            code.push_str(line.trim_end());
            code.push('\n');
        }
    }
    blocks
}

/// Links by a relative path, and files of ours that are named in backquotes.
fn pointers(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in tree.with_ending(".md") {
        let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
        let mut inside = false;
        for (index, line) in text.lines().enumerate() {
            inside ^= line.trim_start().starts_with("```");
            if inside {
                continue;
            }
            let links = line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split([')', '#', ' ']).next());
            let links = links
                .filter(|to| !to.is_empty() && !to.contains(':'))
                .map(|to| resolve(directory, to));
            let named = line.split('`').skip(1).step_by(2);
            let named = named.filter(|name| OUR_DIRECTORIES.iter().any(|directory| name.starts_with(directory)));
            let named = named.filter(|name| !name.contains(['*', '<', '{', ' ', '…', '$']) && name.contains('.'));
            for to in links.chain(named.map(str::to_string)) {
                if !tree.has(&to) {
                    findings.push(Finding::new(
                        path,
                        index + 1,
                        format!("points to {to}, which is not there"),
                    ));
                }
            }
        }
    }
}

/// A relative path from `directory`, without `.` and `..`.
fn resolve(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn changelog(tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(text) = tree.get(CHANGELOG) else {
        findings.push(Finding::new(CHANGELOG, 0, "is missing"));
        return;
    };
    let version = tree.get("Cargo.toml").and_then(|manifest| {
        let (_, rest) = manifest.split_once("[workspace.package]")?;
        let line = rest.lines().find(|line| line.starts_with("version"))?;
        line.split('"').nth(1)
    });
    let headings = [Some("Unreleased"), version];
    let there = |name: &str| text.lines().any(|line| line.starts_with(&format!("## [{name}]")));
    if !headings.into_iter().flatten().any(there) {
        let message = format!(
            "has neither `## [Unreleased]` nor `## [{}]`",
            version.unwrap_or("VERSION")
        );
        findings.push(Finding::new(CHANGELOG, 0, message));
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    const LOG: &str = "# Changelog\n\n## [Unreleased]\n";

    fn found(original: &str, translated: &str) -> Vec<String> {
        messages(&check(&Tree::from([
            ("README.md", original),
            (TRANSLATED, translated),
            (CHANGELOG, LOG),
        ])))
    }

    #[test]
    fn translated_readme_with_other_code_is_found() {
        let original = "Run:\n\n```sh\nqyv build # packs\nqyv run x\n```\n";
        assert!(found(original, "Corre:\n\n```sh\nqyv build # empaqueta\nqyv run x\n```\n").is_empty());
        assert_eq!(found(original, "```sh\nqyv build\nqyv run y\n```\n").len(), 1);
        assert_eq!(found(original, "Corre.\n").len(), 1);
    }

    #[test]
    fn pointer_to_what_is_not_there_is_found() {
        let tree = Tree::from([
            (
                "README.md",
                "[a](spec/a.md#x), `spec/a.md`, [web](https://x.example), [here](#here), [f](spec/)\n",
            ),
            (
                "spec/a.md",
                "[up](../README.md) [b](b.md) `formats/gone.json` `formats/*.json`\n",
            ),
            (TRANSLATED, "x\n"),
            (CHANGELOG, LOG),
        ]);
        let found = messages(&check(&tree));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|m| m.contains("spec/b.md")) && found.iter().any(|m| m.contains("formats/gone.json")));
    }

    #[test]
    fn missing_readme_and_heading_are_found() {
        let tree = Tree::from([
            (CHANGELOG, "# Changelog\n"),
            ("Cargo.toml", "[workspace.package]\nversion = \"0.1.0\"\n"),
        ]);
        let all = messages(&check(&tree));
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[2].contains("`## [0.1.0]`"), "{all:?}");
    }
}
