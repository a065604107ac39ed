//! Who may import whom: the arrows of `spec/architecture.md`, held against the
//! dependencies in each Cargo.toml.

use super::Finding;
use crate::tree::Tree;

/// A package and those of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("qyvol-types", &[]),
    ("qyvol-store", &["qyvol-types"]),
    ("qyvol-image", &["qyvol-types", "qyvol-store"]),
    ("qyvol-trust", &["qyvol-types"]),
    ("qyvol-remote", &["qyvol-types", "qyvol-store"]),
    // Unverified code must not type-check: hence `trust`.
    ("qyvol-runtime", &["qyvol-types", "qyvol-trust"]),
    (
        "qyvol",
        &[
            "qyvol-types",
            "qyvol-store",
            "qyvol-image",
            "qyvol-trust",
            "qyvol-remote",
            "qyvol-runtime",
        ],
    ),
    ("qyv", &["qyvol", "qyvol-hub"]),
    ("qyvol-hub", &["qyvol-types", "qyvol-store"]),
    ("qyvol-testkit", &["qyvol-types", "qyvol-store", "qyvol-trust"]),
    (
        "qyvol-tests",
        &[
            "qyvol-types",
            "qyvol-store",
            "qyvol-image",
            "qyvol-trust",
            "qyvol",
            "qyvol-testkit",
        ],
    ),
    ("xtask", &["qyvol-types"]),
];
/// Only ever among the dev-dependencies, which it may join in any package.
const TESTKIT: &str = "qyvol-testkit";
/// The only importer of wasmtime.
const RUNTIME: &str = "qyvol-runtime";

struct Dependency<'a> {
    name: &'a str,
    line: usize,
    dev: bool,
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_ending("Cargo.toml") {
        let member = ["crates/", "tests/", "xtask/", "registry/"]
            .iter()
            .any(|directory| path.starts_with(directory));
        let Some(package) = package_name(text).filter(|_| member) else {
            continue;
        };
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            let message = format!(
                "package `{package}` has no arrows: add it to spec/architecture.md and xtask/src/tidy/arrows.rs"
            );
            findings.push(Finding::new(path, 0, message));
            continue;
        };
        for dependency in dependencies(text) {
            let Dependency { name, line, dev } = dependency;
            let ours = name == "xtask" || ARROWS.iter().any(|(known, _)| *known == name);
            let fine = match name {
                TESTKIT => dev || allowed.contains(&TESTKIT),
                _ => allowed.contains(&name),
            };
            if ours && !fine {
                let may = match allowed {
                    [] => "nothing of ours".to_string(),
                    names => names.join(", "),
                };
                findings.push(Finding::new(
                    path,
                    line,
                    format!("{package} must not import {name}: it may import {may}"),
                ));
            }
            if (name == "wasmtime" || name.starts_with("wasmtime-")) && package != RUNTIME {
                let message = format!("{package} must not import {name}: only {RUNTIME} does");
                findings.push(Finding::new(path, line, message));
            }
        }
    }
    findings
}

fn package_name(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("[package]")?;
    let line = rest.lines().find(|line| line.trim_start().starts_with("name"))?;
    line.split('"').nth(1)
}

/// The dependencies of a Cargo.toml in the forms that are used here: `name = …`
/// and `name.workspace = true` under a heading, or a heading for each.
fn dependencies(text: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut section = None;
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if let Some(heading) = line.strip_prefix('[') {
            let heading = heading.trim_end_matches(']');
            section = None;
            for (kind, dev) in [
                ("dev-dependencies", true),
                ("build-dependencies", false),
                ("dependencies", false),
            ] {
                let Some((before, name)) = heading.rsplit_once(kind) else {
                    continue;
                };
                if !(before.is_empty() || before.ends_with('.')) {
                    continue;
                }
                match name.strip_prefix('.') {
                    Some(name) => found.push(Dependency {
                        name,
                        line: line_number,
                        dev,
                    }),
                    None => section = Some(dev),
                }
                break;
            }
        } else if let (Some(dev), Some((key, value))) = (section, line.split_once('=')) {
            let key = key.trim().split('.').next().unwrap_or_default().trim_matches('"');
            let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            let name = renamed.unwrap_or(key);
            if !name.starts_with('#') {
                found.push(Dependency {
                    name,
                    line: line_number,
                    dev,
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    #[test]
    fn import_against_the_arrows_is_found_in_every_form() {
        for dependency in [
            "[dependencies]\nqyvol-store.workspace = true\n",
            "[dependencies]\nqyvol-store = { workspace = true }\n",
            "[dependencies]\nshop = { package = \"qyvol-store\", path = \"../x\" }\n",
            "[dependencies.qyvol-store]\npath = \"../x\"\n",
            "[target.'cfg(unix)'.dependencies]\nqyvol-store.workspace = true\n",
            "[dev-dependencies]\nqyvol-store.workspace = true\n",
            "[build-dependencies]\nqyvol-store.workspace = true\n",
        ] {
            let text = format!("[package]\nname = \"qyvol-trust\"\n\n{dependency}");
            let found = messages(&check(&Tree::from([("crates/qyvol-trust/Cargo.toml", text.as_str())])));
            assert_eq!(found.len(), 1, "{dependency}: {found:?}");
            assert!(
                found[0].contains("qyvol-trust must not import qyvol-store"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn arrows_of_the_design_pass() {
        let text = "[package]\nname = \"qyvol-image\"\n[dependencies]\nqyvol-types.workspace = true\n# a note = \"qyvol-trust\"\nserde = \"1\"\n[dev-dependencies]\nqyvol-testkit.workspace = true\n";
        assert!(check(&Tree::from([("crates/qyvol-image/Cargo.toml", text)])).is_empty());
    }

    #[test]
    fn testkit_in_a_shipped_crate_is_found() {
        let text = "[package]\nname = \"qyvol\"\n[dependencies]\nqyvol-testkit.workspace = true\n";
        assert_eq!(check(&Tree::from([("crates/qyvol/Cargo.toml", text)])).len(), 1);
    }

    #[test]
    fn second_importer_of_wasmtime_is_found() {
        let text = "[package]\nname = \"qyvol\"\n[dependencies]\nwasmtime-wasi.workspace = true\n";
        assert_eq!(check(&Tree::from([("crates/qyvol/Cargo.toml", text)])).len(), 1);
    }

    #[test]
    fn package_without_arrows_is_found() {
        let text = "[package]\nname = \"qyvol-extra\"\n";
        assert_eq!(check(&Tree::from([("crates/qyvol-extra/Cargo.toml", text)])).len(), 1);
    }
}
