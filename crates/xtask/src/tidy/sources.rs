//! Rules of Rust sources: `unsafe`, documents at the head, length, unfinished
//! work. What a library may not call is clippy's to find (`clippy.toml`).

use super::Finding;
use crate::rust_source::{code, has_word, lines_with};
use crate::tree::Tree;

/// Lines at which a file should be split, and at which it must.
const LONG: usize = 500;
const TOO_LONG: usize = 800;

/// Programs that only run as guests.
const GUESTS: &str = "tests/guests/";
/// The one crate that may hold `unsafe`.
const UNSAFE_CRATE: &str = "crates/qyvol-runtime/";
/// How far above `unsafe` its note may start.
const NOTE_REACH: usize = 12;

// Written in two parts: this file is searched too.
const UNFINISHED_WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const UNFINISHED_CODE: &[&str] = &[
    concat!("to", "do!"),
    concat!("unimplemented", "!"),
    concat!("#[", "ignore"),
];

/// What is no test, though it stands as one: the process that another test
/// starts.
const HELPERS: &[&str] = &[concat!("#[", "ignore = \"run by ")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_ending(".rs") {
        let code = code(text);
        shape(path, text, &mut findings);
        unfinished(path, text, &code, &mut findings);
        notes_on_unsafe(path, text, &code, &mut findings);
    }
    findings
}

fn shape(path: &str, text: &str, findings: &mut Vec<Finding>) {
    // Sources of guests are written as their users would.
    if !path.starts_with("examples/") && !text.starts_with("//!") {
        findings.push(Finding::new(
            path,
            1,
            "starts without `//!`: say what the module is, its invariants, what it leaves out",
        ));
    }
    let lines = text.lines().count();
    if lines > LONG {
        let message = format!("{lines} lines: aim under {LONG}, split at {TOO_LONG}");
        let warning = lines <= TOO_LONG;
        findings.push(Finding {
            warning,
            ..Finding::new(path, 0, message)
        });
    }
}

fn unfinished(path: &str, text: &str, code: &str, findings: &mut Vec<Finding>) {
    let originals: Vec<&str> = text.lines().collect();
    let words = UNFINISHED_WORDS.iter().map(|word| (*word, lines_with(text, word)));
    let macros = UNFINISHED_CODE.iter().map(|word| (*word, lines_with(code, word)));
    for (word, lines) in words.chain(macros) {
        for line in lines {
            let original = originals.get(line - 1).copied().unwrap_or_default();
            if !HELPERS.iter().any(|helper| original.contains(helper)) {
                let message = format!("`{word}`: finish it, or open an issue and say what holds today");
                findings.push(Finding::new(path, line, message));
            }
        }
    }
}

fn notes_on_unsafe(path: &str, text: &str, code: &str, findings: &mut Vec<Finding>) {
    let lines: Vec<&str> = text.lines().collect();
    for line in lines_with(code, "unsafe") {
        // What a guest does is bounded by the host, not by its compiler.
        if path.starts_with(GUESTS) {
            continue;
        }
        if !path.starts_with(UNSAFE_CRATE) {
            findings.push(Finding::new(path, line, format!("`unsafe` outside {UNSAFE_CRATE}")));
            continue;
        }
        let above = lines.get(line.saturating_sub(NOTE_REACH)..line).unwrap_or_default();
        if !above.iter().any(|line| has_word(line, "SAFETY:")) {
            findings.push(Finding::new(
                path,
                line,
                "`unsafe` without a `SAFETY:` note above it: say who could break it",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        messages(&check(&Tree::from([(path, text)])))
    }

    #[test]
    fn unsafe_needs_its_crate_and_its_note() {
        let bare = "//! x\nfn f() { unsafe { g() } }\n";
        let noted = "//! x\nfn f() {\n // SAFETY: g only reads.\n unsafe { g() }\n}\n";
        assert_eq!(found("crates/qyvol-store/src/a.rs", noted).len(), 1);
        assert_eq!(found("crates/qyvol-runtime/src/a.rs", bare).len(), 1);
        assert!(found("crates/qyvol-runtime/src/a.rs", noted).is_empty());
        assert!(found("tests/guests/a/src/main.rs", bare).is_empty());
        assert!(found("crates/qyvol/src/a.rs", "//! x\n#![deny(unsafe_code)]\n").is_empty());
    }

    #[test]
    fn missing_head_and_length_are_reported() {
        assert_eq!(found("crates/qyvol/src/a.rs", "fn f() {}\n").len(), 1);
        let long = found("crates/qyvol/src/a.rs", &format!("//! x\n{}", "\n".repeat(600)));
        assert!(long[0].starts_with("warning:"), "{long:?}");
        let too_long = found("crates/qyvol/src/a.rs", &format!("//! x\n{}", "\n".repeat(900)));
        assert!(too_long[0].starts_with("error:"), "{too_long:?}");
    }

    #[test]
    fn helper_of_a_test_passes() {
        for helper in HELPERS {
            let text = format!("//! x\n{helper}parent\"]\nfn child() {{}}\n");
            assert!(found("crates/qyvol/tests/a.rs", &text).is_empty(), "{helper}");
        }
    }

    #[test]
    fn unfinished_work_is_found() {
        for mark in UNFINISHED_WORDS {
            assert_eq!(
                found("crates/qyvol/src/a.rs", &format!("//! x\n// {mark}: later\n")).len(),
                1,
                "{mark}"
            );
        }
        for mark in UNFINISHED_CODE {
            assert!(
                !found("crates/qyvol/src/a.rs", &format!("//! x\nfn f() {{ {mark}() }}\n")).is_empty(),
                "{mark}"
            );
        }
    }
}
