//! Rules of Rust sources: what a library may not touch, `unsafe`, documents at
//! the head, length, unfinished work.

use std::collections::HashSet;

use super::Finding;
use crate::rust_source::{code, has_word, lines_with, test_modules, without_tests};
use crate::tree::Tree;

/// Lines at which a file should be split, and at which it must.
const LONG: usize = 500;
const TOO_LONG: usize = 800;

/// What only the command may do: libraries take paths, clocks, keys and
/// variables as arguments and give results back.
const FOR_THE_COMMAND: &[(&str, &str)] = &[
    ("println!", "prints"),
    ("print!", "prints"),
    ("eprintln!", "prints"),
    ("eprint!", "prints"),
    ("io::stdout", "prints"),
    ("io::stderr", "prints"),
    ("process::exit", "exits the process"),
    ("process::abort", "exits the process"),
    ("std::env", "reads the environment"),
    ("env::var", "reads the environment"),
    ("env::vars", "reads the environment"),
    ("env::var_os", "reads the environment"),
    ("env::args", "reads the environment"),
    ("env::temp_dir", "reads the environment"),
    ("env::home_dir", "reads the home directory"),
    ("home_dir", "reads the home directory"),
    ("SystemTime::now", "reads the clock"),
];
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
/// starts, and what writes vectors anew.
const HELPERS: &[&str] = &[concat!("#[", "ignore = \"run by "), concat!("#[", "ignore = \"writes ")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let test_files = test_files(tree);
    let mut findings = Vec::new();
    for (path, text) in tree.with_ending(".rs") {
        let code = code(text);
        shape(path, text, &mut findings);
        unfinished(path, text, &code, &mut findings);
        notes_on_unsafe(path, text, &code, &mut findings);
        if is_library(path) && !test_files.contains(path) {
            let shipped = without_tests(&code);
            for (word, does) in FOR_THE_COMMAND {
                for line in lines_with(&shipped, word) {
                    let message = format!("`{word}` {does}: only crates/qyv may, a library takes it as an argument");
                    findings.push(Finding::new(path, line, message));
                }
            }
        }
    }
    findings
}

/// Whether the file is shipped in a crate below the command.
fn is_library(path: &str) -> bool {
    let Some((krate, rest)) = path.strip_prefix("crates/").and_then(|p| p.split_once('/')) else {
        return false;
    };
    !matches!(krate, "qyv" | "xtask") && rest.starts_with("src/")
}

/// Files that are only compiled for tests, by the `mod` that names them.
fn test_files(tree: &Tree) -> HashSet<String> {
    let mut files = HashSet::new();
    for (path, text) in tree.with_ending(".rs") {
        let Some((directory, file)) = path.rsplit_once('/') else {
            continue;
        };
        let directory = match file {
            "lib.rs" | "main.rs" | "mod.rs" => directory.to_string(),
            _ => path.trim_end_matches(".rs").to_string(),
        };
        for module in test_modules(&code(text)) {
            files.insert(format!("{directory}/{module}.rs"));
            files.insert(format!("{directory}/{module}/mod.rs"));
        }
    }
    files
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
    fn library_that_prints_exits_or_looks_around_is_found() {
        for line in [
            "println!();",
            "std::process::exit(1);",
            "let h = std::env::var(\"HOME\");",
            "use std::env;",
            "let t = SystemTime::now();",
            "std::io::stdout().write_all(b\"x\");",
        ] {
            let text = format!("//! x\nfn f() {{ {line} }}\n");
            assert!(!found("crates/qyvol-store/src/a.rs", &text).is_empty(), "{line}");
            assert!(found("crates/qyv/src/main.rs", &text).is_empty(), "{line}");
            assert!(found("crates/qyvol-store/tests/a.rs", &text).is_empty(), "{line}");
        }
    }

    #[test]
    fn comments_strings_and_tests_may_speak_of_it() {
        let text = "//! println!\nfn f() -> &'static str { \"println!\" } // exit: process::exit\nconst V: &str = env!(\"CARGO_PKG_VERSION\");\n#[cfg(test)]\nmod tests {\n fn g() { println!(); }\n}\n";
        assert_eq!(found("crates/qyvol/src/a.rs", text), Vec::<String>::new());
    }

    #[test]
    fn test_module_in_its_own_file_may_print() {
        let tree = Tree::from([
            ("crates/qyvol/src/a.rs", "//! x\n#[cfg(test)]\nmod tests;\n"),
            ("crates/qyvol/src/a/tests.rs", "//! x\nfn f() { println!(); }\n"),
        ]);
        assert_eq!(messages(&check(&tree)), Vec::<String>::new());
    }

    #[test]
    fn unsafe_needs_its_crate_and_its_note() {
        let bare = "//! x\nfn f() { unsafe { g() } }\n";
        let noted = "//! x\nfn f() {\n // SAFETY: g only reads.\n unsafe { g() }\n}\n";
        assert_eq!(found("crates/qyvol-store/src/a.rs", noted).len(), 1);
        assert_eq!(found("crates/qyvol-runtime/src/a.rs", bare).len(), 1);
        assert!(found("crates/qyvol-runtime/src/a.rs", noted).is_empty());
        assert!(found("crates/qyvol/src/a.rs", "//! x\n#![deny(unsafe_code)]\n").is_empty());
    }

    #[test]
    fn missing_head_and_length_are_told() {
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
