//! One version of each crate in Cargo.lock. The exceptions stand in deny.toml,
//! `[bans] skip`, each with its reason: one list for cargo-deny and for this.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use crate::tree::Tree;

const LOCK: &str = "Cargo.lock";
const DENY: &str = "deny.toml";
/// Import libraries that no supported host compiles.
const ELSEWHERE: &str = "windows";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let (Some(lock), Some(deny)) = (tree.get(LOCK), tree.get(DENY)) else {
        return vec![Finding::new(LOCK, 0, "Cargo.lock and deny.toml must both be there")];
    };
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        if let (Some(name), Some(version)) = (value(package, "name"), value(package, "version")) {
            versions.entry(name).or_default().insert(version);
        }
    }
    let skipped = skipped(deny);
    let mut findings = Vec::new();
    for (name, found) in &versions {
        if found.len() > 1 && !name.starts_with(ELSEWHERE) && !skipped.iter().any(|(skip, _)| skip == name) {
            let list = found.iter().copied().collect::<Vec<_>>().join(", ");
            let message = format!(
                "{name} is there in {} versions ({list}): take one, or add it to `skip` in {DENY} with the reason",
                found.len()
            );
            findings.push(Finding::new(LOCK, 0, message));
        }
    }
    for (name, line) in skipped {
        if versions.get(name).is_none_or(|found| found.len() < 2) {
            let message = format!("`skip` allows a second {name}, and there is none: remove the line");
            findings.push(Finding::new(DENY, line, message));
        }
    }
    findings
}

fn value<'a>(package: &'a str, key: &str) -> Option<&'a str> {
    let line = package
        .lines()
        .find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = ")))?;
    line.split('"').nth(1)
}

/// Names in deny.toml's `skip`, one a line in the form
/// `{ crate = "name@version", reason = "…" }`.
fn skipped(deny: &str) -> Vec<(&str, usize)> {
    deny.lines()
        .enumerate()
        .skip_while(|(_, line)| !line.starts_with("skip = ["))
        .take_while(|(_, line)| !line.starts_with(']'))
        .filter_map(|(index, line)| {
            let rest = line.trim().strip_prefix("{ crate = \"")?;
            let name = rest.split(['"', '@']).next()?;
            Some((name, index + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;

    const TWO: &str = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0.0\"\n";

    #[test]
    fn second_version_needs_a_reason() {
        let found = messages(&check(&Tree::from([(LOCK, TWO), (DENY, "skip = []\n")])));
        assert!(
            found[0].contains("a is there in 2 versions (1.0.0, 2.0.0)"),
            "{found:?}"
        );
        let allowed = "skip = [\n  { crate = \"a@1\", reason = \"b needs it\" },\n]\n";
        assert!(check(&Tree::from([(LOCK, TWO), (DENY, allowed)])).is_empty());
    }

    #[test]
    fn reason_for_what_is_gone_is_found() {
        let deny = "skip = [\n  { crate = \"a@1\", reason = \"\" },\n  { crate = \"z@1\", reason = \"\" },\n]\n";
        let found = messages(&check(&Tree::from([(LOCK, TWO), (DENY, deny)])));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("error: deny.toml:3:"), "{found:?}");
    }
}
