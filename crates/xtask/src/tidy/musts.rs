//! The numbered MUSTs of `spec/`: each id is unique and has a test.
//!
//! An id is `[SIGN-NNN]`, its letters the document's own, at the head of a line
//! or list item. Either the MUST's text names its test in backquotes, or a test
//! or vector cites the id. Where a MUST can't be broken at all, because the
//! types or the layout leave no way to, its text says `(by construction)`, or
//! `(by construction: …)` with what sees to it.

use std::collections::{BTreeMap, HashSet};

use super::Finding;
use crate::tree::Tree;

const BY_CONSTRUCTION: &str = "(by construction";
/// Underscores from which on a word in backquotes can only be a test's name.
const SENTENCE: usize = 3;

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
            let family = |known: &String| known.split('-').next() == id.split('-').next();
            if !musts.contains_key(id) && musts.keys().any(family) {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("cites {id}, which spec/ doesn't have"),
                ));
            }
        }
    }
    let functions = functions(tree);
    for (id, must) in &musts {
        let mut tried = cited.contains(id.as_str()) || must.text.contains(BY_CONSTRUCTION);
        for name in named_tests(&must.text) {
            if name == "tests" || functions.contains(name) {
                tried = true;
            } else if name.matches('_').count() >= SENTENCE {
                findings.push(Finding::new(
                    &must.path,
                    must.line,
                    format!("[{id}] names the test {name}, which is not there"),
                ));
            }
        }
        if !tried {
            let message =
                format!("[{id}] is tried by nothing: name its test, cite it in one, or mark it `(by construction)`");
            findings.push(Finding::new(&must.path, must.line, message));
        }
    }
    findings
}

/// Names of every function.
fn functions(tree: &Tree) -> HashSet<&str> {
    let texts = tree.with_ending(".rs").map(|(_, text)| text);
    let heads = texts.flat_map(|text| text.split("fn ").skip(1));
    heads.filter_map(|head| head.split(['(', '<']).next()).collect()
}

/// Words in backquotes that could be a test's or a test module's name, without
/// the path before them.
fn named_tests(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.map(|name| name.rsplit("::").next().unwrap_or(name));
    names.filter(|name| {
        name.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

/// Whether the file can hold a test of a MUST.
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
            let letters = line
                .get(..dash)?
                .bytes()
                .rev()
                .take_while(u8::is_ascii_uppercase)
                .count();
            let start = dash - letters;
            let before = line.get(..start)?.chars().next_back();
            let id = id_at(line.get(start..)?)?;
            let after = line.get(start + id.len()..)?.chars().next();
            let joined = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
            (!joined(before) && !joined(after)).then_some((index + 1, id))
        })
    })
}

/// The id that `text` starts with: two to six capitals, a dash, three digits.
fn id_at(text: &str) -> Option<&str> {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let id = text.get(..letters + 4)?;
    let number = id.get(letters..)?.strip_prefix('-')?;
    ((2..=6).contains(&letters) && number.bytes().all(|b| b.is_ascii_digit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    const SPEC: &str = "# Signing\n\n- [ZED-001] A reader MUST refuse it.\n- **[ZED-002]** A writer MUST.\n  This holds (by construction).\n\nSee [ZED-001].\n";

    #[test]
    fn untested_must_is_reported() {
        let found = messages(&check(&Tree::from([("spec/signing.md", SPEC)])));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("[ZED-001] is tried by nothing"), "{found:?}");
    }

    #[test]
    fn citation_in_a_test_or_vector_counts() {
        for path in ["crates/a/tests/x.rs", "formats/vectors/sig/a.txt"] {
            let tree = Tree::from([("spec/signing.md", SPEC), (path, "must: ZED-001\n")]);
            assert!(check(&tree).is_empty(), "{path}");
        }
    }

    #[test]
    fn named_test_counts_and_one_that_is_gone_is_found() {
        let spec = "[ZED-001] It MUST. (`suite::it_does_what_it_must`, `field_name`)\n\n[ZED-002] It MUST. Test: `it_was_renamed_last_week`.\n";
        let tests = "#[test]\nfn it_does_what_it_must() {}\n";
        let found = messages(&check(&Tree::from([
            ("spec/a.md", spec),
            ("crates/a/tests/a.rs", tests),
        ])));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|m| m.contains("ZED-002")), "{found:?}");
    }

    #[test]
    fn id_that_stands_twice_or_nowhere_is_found() {
        let double = format!("{SPEC}- [ZED-001] Again.\n");
        let tree = Tree::from([
            ("spec/a.md", double.as_str()),
            ("tests/a.rs", "// ZED-001 ZED-009 UTF-888\n"),
        ]);
        let found = messages(&check(&tree));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|m| m.contains("stands twice")));
        assert!(found.iter().any(|m| m.contains("ZED-009, which spec/ doesn't have")));
    }
}
