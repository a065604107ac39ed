//! The project's files in memory: what the rules of `tidy` look at, so that
//! each rule can be tried on a few lines.
//!
//! Deliberately absent: ignored files, binary files, anything outside the
//! project's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The project's directory.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.ancestors().nth(2).unwrap_or(xtask).to_path_buf()
}

/// Files by their path from the project's directory, `/`-separated.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
    /// Every file's path, also of those that aren't text.
    names: BTreeSet<String>,
}

impl Tree {
    /// Every file that git tracks or would track. What isn't UTF-8 is left out.
    pub(crate) fn load() -> Result<Tree, String> {
        let root = root();
        let output = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .map_err(|e| format!("listing the project's files: running git: {e}"))?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_string();
            return Err(format!("listing the project's files: git ls-files: {why}"));
        }
        let mut tree = Tree::default();
        for name in String::from_utf8_lossy(&output.stdout).split_terminator('\0') {
            // A file that was removed and not yet committed is listed too.
            if !root.join(name).exists() {
                continue;
            }
            tree.names.insert(name.to_string());
            if let Ok(text) = std::fs::read_to_string(root.join(name)) {
                tree.files.insert(name.to_string(), text);
            }
        }
        Ok(tree)
    }

    /// A file's text.
    pub(crate) fn get(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is such a file, or a directory with one.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.names.contains(path)
            || self
                .names
                .iter()
                .any(|name| name.strip_prefix(path).is_some_and(|r| r.starts_with('/')))
    }

    /// Every path with its text.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The files whose name ends so.
    pub(crate) fn with_ending(&self, ending: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(move |(path, _)| path.ends_with(ending))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Tree {
        let files = files.map(|(path, text)| (path.to_string(), text.to_string()));
        let names = files.iter().map(|(path, _)| path.clone()).collect();
        Tree {
            files: files.into(),
            names,
        }
    }
}
