//! Which rule decides, and whether the name is the one asked for.

use super::{Case, Row, keys, policy_with, row};

/// A rule of this scope and a name that is asked for.
fn registry(scope: &str, line: &str, asked: &'static str) -> Case {
    let line = match line {
        "" => String::new(),
        line => format!("    {line}\n"),
    };
    let scope = format!("\"{scope}\"\n{line}");
    Case {
        policy: policy_with("\"file:\"\n", &scope),
        asked: Some(asked),
        ..Case::default()
    }
}

/// Two rules, each with its key; `r.example/acme/app:1.0.0` is asked for.
fn two_rules(a: &str, key_of_a: u8, b: &str, key_of_b: u8) -> Case {
    let rule = |scope, key| format!("  - scope: \"{scope}\"\n    require: [{{ role: release, keys: [k{key}] }}]\n");
    Case {
        policy: keys(&[1, 2]) + "rules:\n" + &rule(a, key_of_a) + &rule(b, key_of_b),
        asked: Some("r.example/acme/app:1.0.0"),
        ..Case::default()
    }
}

/// A rule for some files, and one for the rest, each with its key.
fn file_rules(scope: &str, key: u8, key_of_the_rest: u8) -> Case {
    Case {
        asked: None,
        ..two_rules("file:", key_of_the_rest, scope, key)
    }
}

pub fn rows() -> Vec<Row> {
    vec![
        row(
            "identity",
            "name and version that were asked for",
            "SIGN-026",
            0,
            "1 good",
            registry("r.example/**", "", "r.example/acme/app:1.0.0"),
        ),
        row(
            "identity-digest",
            "a repository asked for by digest",
            "SIGN-026",
            0,
            "1 good",
            registry(
                "r.example/**",
                "",
                "r.example/acme/app@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ),
        ),
        row(
            "identity-moving-tag",
            "a tag that is no version",
            "SIGN-026",
            18,
            "1 identity",
            registry("r.example/**", "", "r.example/acme/app:latest"),
        ),
        row(
            "identity-repository",
            "a tag that is no version, where any tag will do",
            "SIGN-026",
            0,
            "1 good",
            registry("r.example/**", "identity: repository", "r.example/acme/app:latest"),
        ),
        row(
            "identity-repository-name",
            "signed for another name, where any tag will do",
            "SIGN-026",
            18,
            "1 identity",
            registry("r.example/**", "identity: repository", "r.example/evil/app:1.0.0"),
        ),
        row(
            "identity-own-name",
            "signed for another name than the image's own",
            "SIGN-026",
            18,
            "1 identity",
            Case {
                image: ("acme/bank", "1.0.0"),
                ..registry("r.example/**", "identity: any", "r.example/acme/app:1.0.0")
            },
        ),
        row(
            "identity-own-version",
            "a file signed for another version than the image's own",
            "SIGN-026",
            18,
            "1 identity",
            Case {
                image: ("acme/app", "1.0.1"),
                ..Case::default()
            },
        ),
        row(
            "identity-version",
            "signed for another version",
            "SIGN-026",
            18,
            "1 identity",
            registry("r.example/**", "", "r.example/acme/app:2.0.0"),
        ),
        row(
            "identity-name",
            "signed for another name",
            "SIGN-026",
            18,
            "1 identity",
            registry("r.example/**", "", "r.example/evil/app:1.0.0"),
        ),
        row(
            "identity-trailing",
            "signed for the trailing segments of the repository",
            "SIGN-026",
            0,
            "1 good",
            registry("r.example/**", "", "r.example/x/acme/app:1.0.0"),
        ),
        row(
            "identity-trailing-part",
            "signed for the end of a segment",
            "SIGN-026",
            18,
            "1 identity",
            registry("r.example/**", "", "r.example/x/not-acme/app:1.0.0"),
        ),
        row(
            "identity-leading",
            "signed for the leading segments of the repository",
            "SIGN-026",
            18,
            "1 identity",
            registry("r.example/**", "", "r.example/acme/app/x:1.0.0"),
        ),
        row(
            "names-full",
            "signed for the whole repository where that is due",
            "SIGN-031",
            0,
            "1 good",
            registry("r.example/**", "names: full", "r.example/acme/app:1.0.0"),
        ),
        row(
            "names-full-trailing",
            "signed for the trailing segments where the whole repository is due",
            "SIGN-031",
            18,
            "1 identity",
            registry("r.example/**", "names: full", "r.example/x/acme/app:1.0.0"),
        ),
        row(
            "remap",
            "a mirror's repository under its publisher's name",
            "SIGN-031",
            0,
            "1 good",
            registry(
                "m.example/**",
                "remap: { prefix: m.example/hub/corp, signed: acme }",
                "m.example/hub/corp/app:1.0.0",
            ),
        ),
        row(
            "remap-strips",
            "a mirror's prefix that stands for nothing",
            "SIGN-031",
            0,
            "1 good",
            registry(
                "m.example/**",
                "names: full\n    remap: { prefix: m.example/hub }",
                "m.example/hub/acme/app:1.0.0",
            ),
        ),
        row(
            "remap-part-of-a-segment",
            "a prefix that is the start of a segment",
            "SIGN-031",
            18,
            "1 identity",
            registry(
                "m.example/**",
                "remap: { prefix: m.example/hub/co, signed: acme }",
                "m.example/hub/corp/app:1.0.0",
            ),
        ),
        row(
            "identity-any",
            "signed for another name, where any will do",
            "SIGN-026",
            0,
            "1 good",
            registry("r.example/**", "identity: any", "r.example/evil/app:9"),
        ),
        row(
            "scope-other-registry",
            "a registry that no rule covers",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("r.example/**", "identity: any", "other.example/acme/app:1.0.0"),
        ),
        row(
            "scope-port",
            "another port of the registry",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("r.example/**", "identity: any", "r.example:5000/acme/app:1.0.0"),
        ),
        row(
            "scope-whole-segments",
            "a pattern that is the start of a segment",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("r.example/acme/**", "identity: any", "r.example/acme-evil/app:1.0.0"),
        ),
        row(
            "scope-directory-itself",
            "`**` that would stand for nothing",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("r.example/acme/app/**", "identity: any", "r.example/acme/app:1.0.0"),
        ),
        row(
            "scope-star-is-one",
            "`*` that would stand for two segments",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("r.example/*/app", "identity: any", "r.example/a/b/app:1.0.0"),
        ),
        row(
            "scope-star",
            "`*` that stands for one segment",
            "SIGN-022",
            0,
            "1 good",
            registry("r.example/*/app", "identity: any", "r.example/a/app:1.0.0"),
        ),
        row(
            "scope-everything",
            "`**` alone",
            "SIGN-022",
            0,
            "1 good",
            registry("**", "identity: any", "r.example/a/app:1.0.0"),
        ),
        row(
            "scope-everything-but-files",
            "a name without a registry under `**`",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("**", "identity: any", "acme/app:1.0.0"),
        ),
        row(
            "scope-file-for-a-name",
            "a name without a registry is a file's",
            "SIGN-022",
            0,
            "1 good",
            registry("file:", "identity: any", "acme/app:1.0.0"),
        ),
        row(
            "scope-file-for-a-registry",
            "a registry's image under the rule of files",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("file:", "identity: any", "r.example/acme/app:1.0.0"),
        ),
        row(
            "scope-everything-for-a-file",
            "a file under `**`",
            "SIGN-022",
            11,
            "1 unknown-key",
            Case {
                asked: None,
                ..registry("**", "identity: any", "a")
            },
        ),
        row(
            "scope-file-pattern",
            "a file's own name under a pattern of files",
            "SIGN-022",
            0,
            "1 good",
            file_rules("file:acme/**", 1, 2),
        ),
        row(
            "scope-file-pattern-other-key",
            "a file's own name under a pattern of files that names another key",
            "SIGN-022",
            11,
            "1 unknown-key",
            file_rules("file:acme/**", 2, 1),
        ),
        row(
            "scope-file-fallback",
            "a file whose own name no pattern of files covers",
            "SIGN-022",
            0,
            "1 good",
            file_rules("file:bank/**", 2, 1),
        ),
        row(
            "scope-file-of-another",
            "the key of some files on a file of another name",
            "SIGN-022",
            11,
            "1 unknown-key",
            file_rules("file:bank/**", 1, 2),
        ),
        row(
            "scope-file-pattern-for-a-registry",
            "a registry's image under a pattern of files",
            "SIGN-022",
            11,
            "1 unknown-key",
            registry("file:acme/**", "", "r.example/acme/app:1.0.0"),
        ),
        row(
            "no-rules",
            "a policy without rules",
            "SIGN-022",
            11,
            "1 unknown-key",
            Case {
                policy: "version: 1\n".into(),
                ..Case::default()
            },
        ),
        row(
            "rule-most-literal",
            "two rules, of which the more literal names the key",
            "SIGN-022",
            0,
            "1 good",
            two_rules("r.example/**", 2, "r.example/acme/app", 1),
        ),
        row(
            "rule-most-literal-other",
            "two rules, of which the more literal names another key",
            "SIGN-022",
            11,
            "1 unknown-key",
            two_rules("r.example/**", 1, "r.example/acme/app", 2),
        ),
        row(
            "rule-star-before-stars",
            "of two equals the one without `**`",
            "SIGN-022",
            0,
            "1 good",
            two_rules("r.example/**", 2, "r.example/*/*", 1),
        ),
        row(
            "rule-first-of-equals",
            "of two equals the first",
            "SIGN-022",
            0,
            "1 good",
            two_rules("r.example/acme/*", 1, "r.example/*/app", 2),
        ),
        row(
            "rule-second-of-equals",
            "of two equals the first, which names another key",
            "SIGN-022",
            11,
            "1 unknown-key",
            two_rules("r.example/acme/*", 2, "r.example/*/app", 1),
        ),
    ]
}
