//! No circle of imports between the files of one crate, so that a file can be
//! understood from those that it imports, without those that import it.
//!
//! A file imports another where its code names an item that the other defines,
//! in a `use` or in a path. `pub use` passes a name on and imports nothing.
//! Deliberately left out:
//!
//! - tests;
//! - what a module uses of the modules that it is in: the file of a module holds
//!   what its children share, and calls them, and Rust gives children access to
//!   its private items for that. Between siblings the rule holds;
//! - methods: a call of one names no file.

mod graph;
mod names;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::graph::{Graph, graph};
use super::Finding;
use crate::tree::Tree;

/// Imports that may close a circle: the file, the file that it imports, and why.
const ALLOWED: &[(&str, &str, &str)] = &[(
    "crates/qyv/src/complete.rs",
    "crates/qyv/src/cli.rs",
    "The words of a line are read by the grammar whose arguments name what completes them.",
)];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_but(tree, ALLOWED)
}

fn check_but(tree: &Tree, allowed: &[(&str, &str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (root, text) in tree.with_ending(".rs") {
        let name = root.rsplit('/').next().unwrap_or_default();
        let parent = root.strip_suffix(name).unwrap_or_default();
        let ours = parent.starts_with("crates/") || parent.starts_with("registry/");
        if !ours || !parent.ends_with("/src/") || !matches!(name, "lib.rs" | "main.rs") {
            continue;
        }
        match graph(tree, root, text) {
            Ok(graph) => crate_circles(graph, parent, allowed, &mut findings),
            Err((path, why)) => findings.push(Finding::new(&path, 0, why)),
        }
    }
    findings
}

fn crate_circles(mut graph: Graph, parent: &str, allowed: &[(&str, &str, &str)], findings: &mut Vec<Finding>) {
    for (from, to, _) in allowed.iter().filter(|(from, ..)| from.starts_with(parent)) {
        let import = (from.to_string(), to.to_string());
        let Some(names) = graph.remove(&import) else {
            let message = format!("imports nothing of {to}: remove it from the list of allowed circles");
            findings.push(Finding::new(from, 0, message));
            continue;
        };
        let closes_circle = reachable(&graph, to).contains(*from);
        if !closes_circle {
            let message = format!("closes no circle with {to}: remove it from the list of allowed circles");
            findings.push(Finding::new(from, 0, message));
            graph.insert(import, names);
        }
    }
    for circle in circles(&graph) {
        findings.push(Finding::new(&circle.files[0], 0, circle.message(&graph, parent)));
    }
}

/// The shortest circle of a strongly connected component: files that all import each other,
/// directly or through others.
struct Circle {
    /// In the order of their imports, each once.
    files: Vec<String>,
    /// How many files the component has.
    component: usize,
}

impl Circle {
    fn message(&self, graph: &Graph, parent: &str) -> String {
        let short = |file: &String| file.strip_prefix(parent).unwrap_or(file).to_string();
        let next = self.files.iter().cycle().skip(1);
        let names: Vec<String> = self
            .files
            .iter()
            .zip(next)
            .filter_map(|(from, to)| graph.get(&(from.clone(), to.clone())))
            .map(|names| names.iter().cloned().collect::<Vec<_>>().join("/"))
            .collect();
        let mut way: Vec<String> = self.files.iter().map(short).collect();
        way.extend(self.files.first().map(short));
        let others = match self.component == self.files.len() {
            true => String::new(),
            false => format!(", one of several among {} files", self.component),
        };
        format!(
            "circle of imports: {} (through {}){others}: move what both use to one of them, or to a file of its own",
            way.join(" → "),
            names.join(", "),
        )
    }
}

/// One circle for each component, the shortest first.
fn circles(graph: &Graph) -> Vec<Circle> {
    let files: BTreeSet<&String> = graph.keys().map(|(from, _)| from).collect();
    let reach: BTreeMap<&String, BTreeSet<String>> = files.iter().map(|file| (*file, reachable(graph, file))).collect();
    let mut seen: BTreeSet<&String> = BTreeSet::new();
    let mut circles = Vec::new();
    for file in &files {
        let Some(others) = reach.get(file).filter(|others| others.contains(*file)) else {
            continue;
        };
        if seen.contains(file) {
            continue;
        }
        let component: Vec<&String> = files
            .iter()
            .copied()
            .filter(|other| others.contains(*other) && reach.get(other).is_some_and(|back| back.contains(*file)))
            .collect();
        seen.extend(&component);
        let shortest = component
            .iter()
            .filter_map(|start| shortest_circle(graph, start))
            .min_by_key(Vec::len);
        circles.extend(shortest.map(|files| Circle {
            files,
            component: component.len(),
        }));
    }
    circles.sort_by_key(|circle| circle.files.len());
    circles
}

fn imports<'g>(graph: &'g Graph, file: &str) -> impl Iterator<Item = &'g String> {
    graph.keys().filter(move |(from, _)| from == file).map(|(_, to)| to)
}

/// What a file imports, and what that imports, and so on.
fn reachable(graph: &Graph, file: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut queue = vec![file];
    while let Some(file) = queue.pop() {
        for next in imports(graph, file) {
            if reached.insert(next.clone()) {
                queue.push(next);
            }
        }
    }
    reached
}

/// The shortest circle through a file, beginning with it.
fn shortest_circle(graph: &Graph, start: &str) -> Option<Vec<String>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in imports(graph, file) {
            if next == start {
                let way = std::iter::successors(Some(file), |file| before.get(file).copied());
                let mut way: Vec<String> = way.map(str::to_string).collect();
                way.reverse();
                return Some(way);
            }
            if !before.contains_key(next.as_str()) {
                before.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
