//! A small strict subset of YAML 1.2 as a tree in which each node knows its
//! place, for the two documents that people write: the `.qyv` manifest and the
//! trust policy.
//!
//! Refused, with line and column: anchors, aliases and merge keys (they
//! multiply), tags, more than one document, a key twice, keys that aren't
//! text, nesting past [`limits::NESTING`], more than [`limits::YAML_NODES`] keys and values, text
//! past [`limits::YAML_BYTES`], or [`limits::POLICY_BYTES`] of a trust policy.
//! Scalars stay text; a reader asks for the type it wants, so `yes`, `1.10`
//! and `null` are never turned into something their author did not write.
//!
//! Deliberately absent: writing whole documents. [`Editor`] changes one that a
//! person wrote, and leaves the rest of it alone.

mod edit;
mod problem;
mod reader;
mod tree;

pub use edit::{EditError, Editor, Step, Written, scalar};
pub use problem::{Problem, Problems, Span};
pub use reader::{Fields, Reader, nearest};
pub use tree::{Bare, Document, Key, Node, Value, bare, parse, parse_within};

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Problem {
        parse(text).unwrap_err().0.remove(0)
    }

    #[test]
    fn anchors_aliases_tags_and_merge_keys_are_refused() {
        for text in [
            "a: &a [x, x]\nb: [*a, *a]\n",
            "a: &x 1\n",
            "<<: {a: 1}\n",
            "a: !!str 1\n",
            "--- {}\n--- {}\n",
            "? [a]\n: b\n",
        ] {
            parse(text).expect_err(text);
        }
    }

    // [MAN-001]
    #[test]
    fn problems_past_a_hundred_are_only_counted() {
        // Each of them alone takes time in proportion to the document.
        let keys = 30_000;
        let text: String = (0..keys).map(|n| format!("k{n}:\n")).collect();
        let root = parse(&text).unwrap();
        let mut reader = Reader::new(&text);
        assert!(!reader.refuse_nulls(&root, &[]));
        assert!(reader.fields(&root, "a document", &["k0"]).is_some());
        let problems = reader.finish(Some(())).unwrap_err().0;
        assert_eq!(problems.len(), 101);
        let more = keys + (keys - 1) - 100;
        assert_eq!(problems[100].message, format!("and {more} more problems, not shown"));
    }

    // [MAN-006]
    #[test]
    fn characters_that_yaml_does_not_allow_are_refused() {
        for found in ['\0', '\u{7}', '\u{1b}', '\u{7f}', '\u{9b}', '\u{fffe}'] {
            for text in ["a: \"x@\"\n", "# @\na: x\n", "a: |\n  @\n"] {
                let problem = refused(&text.replace('@', &found.to_string()));
                assert!(problem.message.contains("can't be part of YAML"), "{}", problem.message);
            }
        }
        let problem = refused("a: x\nb: \"ñ\u{1b}\"\n");
        assert_eq!((problem.place.line, problem.place.column), (2, 6));
        for good in ["\u{feff}a: x\n", "a: \"\t\u{85}\u{a0}\u{1f600}\"\r\n"] {
            parse(good).unwrap();
        }
    }

    // [MAN-006]
    #[test]
    fn tabs_are_refused_but_in_text_and_comments() {
        for (text, column) in [
            ("a:\tx\n", 4),
            ("a: x\t# c\n", 5),
            ("a: [x,\ty]\n", 7),
            ("a: {b:\tc}\n", 8),
            ("\t# c\na: x\n", 1),
            ("a: x\n\t\n", 1),
        ] {
            let problem = refused(text);
            assert_eq!(problem.place.column, column, "{text:?}: {}", problem.message);
        }
        for text in [
            "a: \"x\ty\"\n",
            "a: 'x\ty' # c\td\n",
            "a: x\ty\n",
            "# c\td\na: |\n  x\n  \ty\tz\nb: >\n  u\n  \tv\n",
            "a: |\n  \tx\n",
            "a: |-\n  (module\n  \t(func))\n  # no comment\there\nb: 1\n",
        ] {
            parse(text).unwrap_or_else(|e| panic!("{text:?}: {}", e.0[0].message));
        }
    }

    #[test]
    fn duplicate_key_names_both_lines() {
        let problem = refused("name: a\nx: 1\nname: b\n");
        assert_eq!((problem.place.line, problem.place.column), (3, 1));
        assert!(problem.message.contains("first on line 1"), "{problem}");
    }

    #[test]
    fn deep_document_is_refused_without_overflowing_the_stack() {
        parse(&"[".repeat(50_000)).unwrap_err();
        parse(&"- ".repeat(50_000)).unwrap_err();
        parse(&format!("{}x", "a: \n ".repeat(20_000))).unwrap_err();
    }

    #[test]
    fn tab_indentation_is_refused_with_its_place() {
        let problem = refused("permissions:\n\tfs: none\n");
        assert_eq!(problem.place.line, 2);
    }

    #[test]
    fn yaml_1_1_booleans_and_numbers_are_not_strings() {
        for (text, kind) in [
            ("no", Bare::Boolean),
            ("On", Bare::Boolean),
            ("1.10", Bare::Number),
            ("0x1F", Bare::Number),
            ("1e3", Bare::Number),
            ("~", Bare::Null),
            ("1.0.0", Bare::Text),
            ("e3", Bare::Text),
            ("30s", Bare::Text),
            ("inf", Bare::Text),
        ] {
            assert_eq!(bare(text), kind, "{text}");
        }
    }

    #[test]
    fn snippet_points_at_the_column() {
        let text = "a: 1\nñandú: x\nñandú: y\n";
        let problem = refused(text);
        assert_eq!(problem.snippet(), "  |\n3 | ñandú: y\n  | ^^^^^");
    }
}
