//! The numbered MUSTs of `spec/`: each id stands once, and something tries it.
//!
//! An id is `[ABC-001]` at the head of a line or list item. A test, a vector or
//! another part of the code cites it as `ABC-001`. Where a MUST can't be broken
//! at all, because the types or the layout leave no way to, its text says
//! `(by construction)`.

use std::collections::{BTreeMap, HashSet};

use super::Finding;
use crate::tree::Tree;

const BY_CONSTRUCTION: &str = "(by construction)";

struct Must {
    path: String,
    line: usize,
    text: String,
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut musts: BTreeMap<String, Must> = BTreeMap::new();
    for (path, text) in tree.with_ending(".md").filter(|(path, _)| path.starts_with("spec/")) {
        for (id, must) in musts_of(path, text) {
            if let Some(first) = musts.get(&id) {
                let message = format!("[{id}] stands twice, first at {}:{}", first.path, first.line);
                findings.push(Finding::new(path, must.line, message));
            } else {
                musts.insert(id, must);
            }
        }
    }
    let mut cited: HashSet<&str> = HashSet::new();
    for (path, text) in tree.iter().filter(|(path, _)| is_trial(path)) {
        for (line, id) in citations(text) {
            cited.insert(id);
            // Other projects' ids look like ours; only a family of ours is held to exist.
            let family = |known: &String| known.get(..3) == id.get(..3);
            if !musts.contains_key(id) && musts.keys().any(family) {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("cites {id}, which spec/ doesn't have"),
                ));
            }
        }
    }
    for (id, must) in &musts {
        if !cited.contains(id.as_str()) && !must.text.contains(BY_CONSTRUCTION) {
            let message = format!(
                "[{id}] is tried by no test or vector: cite it in the one that would catch its breach, or mark it `{BY_CONSTRUCTION}`"
            );
            findings.push(Finding::new(&must.path, must.line, message));
        }
    }
    findings
}

/// Whether the file can hold what tries a MUST.
fn is_trial(path: &str) -> bool {
    path.ends_with(".rs") || path.starts_with("formats/vectors/") || path.starts_with("tests/")
}

/// The MUSTs of a document; a MUST's text goes up to the next or a heading.
fn musts_of(path: &str, text: &str) -> Vec<(String, Must)> {
    let mut found: Vec<(String, Must)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let head = line.trim_start_matches([' ', '-', '*', '|', '>', '`']);
        let id = head
            .strip_prefix('[')
            .and_then(id_at)
            .filter(|id| head.get(1 + id.len()..).is_some_and(|r| r.starts_with(']')));
        if let Some(id) = id {
            let must = Must {
                path: path.to_string(),
                line: index + 1,
                text: line.to_string(),
            };
            found.push((id.to_string(), must));
            open = true;
        } else if line.starts_with('#') {
            open = false;
        } else if let Some((_, must)) = found.last_mut().filter(|_| open) {
            must.text.push(' ');
            must.text.push_str(line.trim());
        }
    }
    found
}

/// Every id in the text with its line.
fn citations(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().flat_map(|(index, line)| {
        line.match_indices('-').filter_map(move |(dash, _)| {
            let start = dash.checked_sub(3)?;
            let before = line.get(..start)?.chars().next_back();
            let id = id_at(line.get(start..)?)?;
            let after = line.get(start + id.len()..)?.chars().next();
            let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
            (!joined(before) && !joined(after)).then_some((index + 1, id))
        })
    })
}

/// The id that `text` starts with: three capitals, a dash, three digits.
fn id_at(text: &str) -> Option<&str> {
    let id = text.get(..7)?;
    let (letters, number) = id.split_once('-')?;
    let fine = letters.len() == 3
        && letters.bytes().all(|b| b.is_ascii_uppercase())
        && number.bytes().all(|b| b.is_ascii_digit());
    fine.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    const SPEC: &str = "# Signing\n\n- [SIG-001] A reader MUST refuse it.\n- **[SIG-002]** A writer MUST.\n  This holds (by construction).\n\nSee [SIG-001].\n";

    #[test]
    fn must_that_nothing_tries_is_found() {
        let found = messages(&check(&Tree::from([("spec/signing.md", SPEC)])));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("[SIG-001] is tried by no test"), "{found:?}");
    }

    #[test]
    fn citation_in_a_test_or_vector_counts() {
        for path in ["crates/a/tests/x.rs", "formats/vectors/sig/a.txt"] {
            let tree = Tree::from([("spec/signing.md", SPEC), (path, "must: SIG-001\n")]);
            assert!(check(&tree).is_empty(), "{path}");
        }
    }

    #[test]
    fn id_that_stands_twice_or_nowhere_is_found() {
        let double = format!("{SPEC}- [SIG-001] Again.\n");
        let tree = Tree::from([
            ("spec/a.md", double.as_str()),
            ("tests/a.rs", "// SIG-001 SIG-009 UTF-888\n"),
        ]);
        let found = messages(&check(&tree));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|m| m.contains("stands twice")));
        assert!(found.iter().any(|m| m.contains("SIG-009, which spec/ doesn't have")));
    }
}
