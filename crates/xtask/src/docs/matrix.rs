//! `spec/permission-matrix.md`: the cases of `tests/matrix`, as the suite tries them.

use serde_yaml::Value;

use crate::tree::Tree;

const HEAD: &str = "\
# What each permission gives

Every line of this page is a test. A guest in Rust and one in C take the steps from their arguments,
call the interfaces of WASI directly, without a library in between, and print a word for the result of
each. `qyv` packs them into signed images with the permissions in the heading, and runs them as a
module of preview 1, a component of WASI 0.2 and one of 0.3. The cases are in `tests/matrix`, the
guests in `tests/guests/matrix` and, for HTTP, in `tests/guests/http`; `cargo xtask docs` writes this
page. Rust and C get the same words everywhere.

A word is `ok`, what was found, or the name that WASI 0.2 has for the error: `access-denied` where
the network is denied, `not-permitted` where a file is. Preview 1's errors are shown by the same names.
`not-given` comes from the guest itself: it has no such directory. `refused` means that `qyv` did not
build the image or did not start the guest (exit code 125). `trap` ends the guest (exit code 134):
strings of a component are UTF-8, and the Component Model traps if one isn't.

Not covered here: preview 1 has no calls that look names up or open sockets. WASI 0.2 and 0.3 have no
calls for `exec` and `gfx`. `wit-bindgen`'s bindings for C make only blocking calls of 0.3; the Rust
program makes the same calls asynchronously. What names resolve to is set by a `hosts` file; the unit
tests of `NetGuard` in `crates/qyvol-sandbox/src/net/tests.rs` cover other answers of name servers.
`io` for a file that is moved or linked between two mounts stands for `cross-device`: wasmtime-wasi 48
has no name for that error of the host.

[What a guest without permissions sees](unprivileged-guest.md) is a page of its own.
";

/// The tables, in their order on the page.
const TABLES: [&str; 4] = [
    "tests/matrix/files.yaml",
    "tests/matrix/network.yaml",
    "tests/matrix/http.yaml",
    "tests/matrix/operator.yaml",
];

/// What the page has of each case.
const COLUMNS: &str = "| tried | steps | preview 1 | 0.2 | 0.3 |\n| --- | --- | --- | --- | --- |\n";

/// The page, from the cases of the tree.
pub(super) fn page(tree: &Tree) -> Result<String, String> {
    let mut page = HEAD.to_string();
    for path in TABLES {
        let Some(text) = tree.get(path) else { continue };
        let table: Value = serde_yaml::from_str(text).map_err(|e| format!("{path}: {e}"))?;
        let title = string(&table, "title");
        page.push_str(&format!("\n## {title}\n\n{}\n", string(&table, "text")));
        for group in list(&table, "groups") {
            group_of(group, &mut page);
        }
    }
    Ok(page)
}

fn group_of(group: &Value, page: &mut String) {
    page.push_str(&format!("\n### {}\n\n", string(group, "title")));
    for (name, words) in [
        ("text", string(group, "text").to_string()),
        ("manifest", string(group, "manifest").to_string()),
        ("options", joined(group, "options")),
    ] {
        match name {
            _ if words.is_empty() => {}
            "text" => page.push_str(&format!("{words}\n\n")),
            "manifest" => page.push_str(&format!("With `{words}` in the manifest.\n\n")),
            _ => page.push_str(&format!("Run with `{words}`.\n\n")),
        }
    }
    let hosts: Vec<&str> = list(group, "hosts").filter_map(Value::as_str).collect();
    if !hosts.is_empty() {
        page.push_str(&format!("```text\n{}\n```\n\n", hosts.join("\n")));
    }
    page.push_str(COLUMNS);
    for case in list(group, "cases") {
        let gets = |version: &str| match &case["gets"] {
            Value::Mapping(words) => words.get(version).and_then(Value::as_str).map(code),
            word => word.as_str().map(code),
        };
        let words = ["wasi1", "wasi2", "wasi3"].map(|version| gets(version).unwrap_or_default());
        let [first, second, third] = words;
        let options = joined(case, "options");
        let steps = [options.as_str(), string(case, "steps")].join(" ");
        page.push_str(&format!(
            "| {} | {} | {first} | {second} | {third} |\n",
            string(case, "try"),
            code(steps.trim())
        ));
    }
}

fn string<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_sequence().into_iter().flatten()
}

fn joined(value: &Value, key: &str) -> String {
    let words: Vec<&str> = list(value, key).filter_map(Value::as_str).collect();
    words.join(" ")
}

/// Text as code in a cell.
fn code(text: &str) -> String {
    match text.is_empty() {
        true => "nothing".to_string(),
        false => format!("`{}`", text.replace('|', "\\|")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_a_line_with_what_each_version_gets() {
        let table = "title: Files\ntext: T.\ngroups:\n  - title: G\n    options: [--fs, read]\n    cases:\n      - { try: a, steps: read x, gets: ok }\n      - { try: b, steps: '', gets: { wasi2: no, wasi3: none } }\n";
        let page = page(&Tree::from([(TABLES[0], table)])).unwrap_or_default();
        for line in [
            "## Files\n\nT.\n\n### G\n\nRun with `--fs read`.\n",
            "| a | `read x` | `ok` | `ok` | `ok` |",
            "| b | nothing |  | `no` | `none` |",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
}
