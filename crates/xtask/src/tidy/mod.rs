//! `cargo xtask tidy`: the rules of the house that no compiler checks.
//!
//! Each rule is a pure function from the project's files to findings, so each
//! is tried on a few lines. A finding names the place, the rule and what to do.
//! Deliberately absent: what rustfmt, clippy and cargo-deny check.

mod documents;
mod imports;
mod musts;
mod sources;
mod texts;
mod words;

use std::fmt;

use crate::docs;
use crate::tree::Tree;

/// Something that breaks a rule.
#[derive(Debug)]
pub(crate) struct Finding {
    path: String,
    /// From 1; 0 for the file as a whole.
    line: usize,
    message: String,
    /// Told, but not a failure.
    warning: bool,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Finding {
        let (path, message) = (path.to_string(), message.into());
        Finding {
            path,
            line,
            message,
            warning: false,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.warning { "warning: " } else { "error: " })?;
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

const RULES: &[fn(&Tree) -> Vec<Finding>] = &[
    sources::check,
    imports::check,
    texts::check,
    words::check,
    musts::check,
    documents::check,
];

/// Runs every rule.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if let Some(arg) = args.first() {
        return Err(format!("tidy takes no arguments: got `{arg}`"));
    }
    let tree = Tree::load()?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    for path in docs::stale(&tree)? {
        let message = "differs from what the code says: run `cargo xtask docs`";
        findings.push(Finding::new(path, 0, message));
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.iter().filter(|finding| !finding.warning).count() {
        0 => {
            println!("tidy: {} files keep the rules", tree.iter().count());
            Ok(())
        }
        count => Err(format!("tidy: {count} findings")),
    }
}

#[cfg(test)]
fn messages(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}
