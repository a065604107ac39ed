//! An application's unpacked assets: the store verifies each of them when the guest uses it.

use std::sync::Arc;

use qyvol_runtime::{Mount, Seal};
use qyvol_store::Tree;

/// A tree of the store, as a seal for the runtime.
#[derive(Debug)]
struct Assets(Tree);

impl Seal for Assets {
    fn check(&self, path: &str) -> Result<(), String> {
        self.0.check(path)
    }
}

/// The seal that verifies the entries of a tree.
pub(crate) fn seal(tree: Tree) -> Arc<dyn Seal> {
    Arc::new(Assets(tree))
}

/// Mounts a tree at `root`, read-only.
pub(crate) fn mount(tree: Tree, root: &str) -> Mount {
    Mount {
        host: tree.path().to_path_buf(),
        guest: root.to_string(),
        writable: false,
        path: String::new(),
        seal: Some(seal(tree)),
        backing: None,
        quota: None,
    }
}
