//! Words that were replaced by the field's own, and may not come back.

use super::Finding;
use crate::rust_source::has_word;
use crate::tree::Tree;

// Written in two parts: this file is searched too.
const REPLACED: &[(&str, &str)] = &[
    (concat!("Head", "Image"), "SignedImage"),
    (concat!("Head", "Signature"), "ImageSignature"),
    (concat!("copy", "_image"), "copy_graph"),
    (concat!("fol", "der"), "directory"),
    (concat!("fol", "ders"), "directories"),
    (concat!("me", "nd"), "repair"),
    (concat!("me", "nded"), "repaired"),
    (concat!("by", "_patience"), "what it is ordered by"),
    (concat!("pati", "ence"), "timeout or deadline"),
    (concat!("AT", "_ONCE"), "CONCURRENCY"),
    (concat!("volun", "teer"), "authenticate_preemptively"),
    (concat!("time", "-out"), "timeout"),
    (concat!("time", "-outs"), "timeouts"),
    (concat!("brought", " along"), "comes with, or carries"),
    (concat!("came", " along"), "comes with"),
    (concat!("held", " against"), "checked against"),
    (concat!("beside", " one another"), "concurrent, or in parallel"),
    (concat!("limits", " that hold"), "limits that apply"),
];

/// What is not English prose or code of ours.
fn is_exempt(path: &str) -> bool {
    path == "CHANGELOG.md"
        || path.contains(".es.")
        || path.contains("/es/")
        || path.starts_with("formats/vectors/")
        || path.starts_with("tests/guests/")
        || path.starts_with("crates/qyvol-image/tests/hostile/cases/")
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| !is_exempt(path)) {
        for (index, line) in text.lines().enumerate() {
            for (word, instead) in REPLACED.iter().filter(|(word, _)| has_word(line, word)) {
                let message = format!("`{word}`: write {instead}");
                findings.push(Finding::new(path, index + 1, message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_word_is_found_wherever_it_stands() {
        for (word, _) in REPLACED {
            for text in [format!("// a {word}.\n"), format!("let x = {word};\n")] {
                assert_eq!(check(&Tree::from([("crates/a.rs", text.as_str())])).len(), 1, "{text}");
                assert!(check(&Tree::from([("CHANGELOG.md", text.as_str())])).is_empty());
            }
        }
        assert!(check(&Tree::from([("a.md", "recommended\n")])).is_empty());
    }
}
