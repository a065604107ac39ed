//! Which file of a crate imports which: the names of each file, resolved to
//! the file that defines them, through every `use` on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{Names, read};
use crate::tree::Tree;

/// The names by which a file imports another: (from, to) → names.
pub(super) type Graph = BTreeMap<(String, String), BTreeSet<String>>;

/// How many `use`s a name may go through.
const DEPTH: usize = 16;

/// A module's path from the crate's root.
type ModulePath = Vec<String>;

struct Module {
    file: String,
    /// The module that the file belongs to: another where this one stands in braces.
    of_file: ModulePath,
    names: Names,
}

struct Crate {
    modules: BTreeMap<ModulePath, Module>,
}

/// What a path leads to.
enum Target {
    Module(ModulePath),
    /// An item, by the module that defines it.
    Item(ModulePath, String),
}

/// The graph of the crate whose root is this file. Errors are a path, and why
/// it can't be read.
pub(super) fn graph(tree: &Tree, root: &str, text: &str) -> Result<Graph, (String, String)> {
    let mut found = Crate {
        modules: BTreeMap::new(),
    };
    let directory = root.rsplit_once('/').map_or("", |(directory, _)| directory);
    found.load(tree, root, text, directory, Vec::new())?;
    let mut graph = Graph::new();
    for (path, module) in &found.modules {
        for name in &module.names.paths {
            let Some(Target::Item(definer, item)) = found.resolve(path, name, 0) else {
                continue;
            };
            let Some(definer) = found.modules.get(&definer) else {
                continue;
            };
            // Its own, or of a module that it stands in.
            if !module.of_file.starts_with(&definer.of_file) {
                let import = (module.file.clone(), definer.file.clone());
                graph.entry(import).or_default().insert(item);
            }
        }
    }
    Ok(graph)
}

impl Crate {
    /// Reads a file and the files of its modules, which stand in `directory`.
    fn load(
        &mut self,
        tree: &Tree,
        file: &str,
        text: &str,
        directory: &str,
        path: ModulePath,
    ) -> Result<(), (String, String)> {
        let parsed = syn::parse_file(text).map_err(|e| (file.to_string(), format!("reading the source: {e}")))?;
        let names = read(&parsed);
        for child in &names.children {
            let inside = format!("{directory}/{child}");
            let files = [format!("{inside}.rs"), format!("{inside}/mod.rs")];
            // The compiler tells a file that is missing.
            for file in files {
                if let Some(text) = tree.get(&file) {
                    self.load(
                        tree,
                        &file,
                        text,
                        &inside,
                        [&path[..], std::slice::from_ref(child)].concat(),
                    )?;
                }
            }
        }
        self.insert(names, file, &path, path.clone());
        Ok(())
    }

    fn insert(&mut self, mut names: Names, file: &str, of_file: &ModulePath, path: ModulePath) {
        for (name, inner) in std::mem::take(&mut names.inline) {
            self.insert(inner, file, of_file, [&path[..], &[name]].concat());
        }
        let module = Module {
            file: file.to_string(),
            of_file: of_file.clone(),
            names,
        };
        self.modules.insert(path, module);
    }

    /// What a path in the code of a module leads to; None outside the crate.
    fn resolve(&self, module: &ModulePath, path: &[String], depth: usize) -> Option<Target> {
        let mut here = module.clone();
        let mut names = path.iter().peekable();
        let mut anchored = false;
        while let Some(name) = names.next_if(|name| matches!(name.as_str(), "crate" | "self" | "super")) {
            anchored = true;
            match name.as_str() {
                "crate" => here.clear(),
                "super" => drop(here.pop()),
                _ => {}
            }
        }
        while let Some(name) = names.next() {
            match self.lookup(&here, name, names.peek().is_none(), depth) {
                Some(Target::Module(path)) => here = path,
                Some(item) => return Some(item),
                // What a macro defines.
                None if anchored => return Some(Target::Item(here, name.clone())),
                None => return None,
            }
            anchored = true;
        }
        Some(Target::Module(here))
    }

    /// What a name means in a module. A module and a function may share one:
    /// the last name of a path is the function.
    fn lookup(&self, module: &ModulePath, name: &str, last: bool, depth: usize) -> Option<Target> {
        if depth > DEPTH {
            return None;
        }
        let names = &self.modules.get(module)?.names;
        let child = [&module[..], &[name.to_string()]].concat();
        let mut as_module = self.modules.contains_key(&child).then_some(Target::Module(child));
        if as_module.is_some() && !last {
            return as_module;
        }
        if names.items.contains(name) {
            return Some(Target::Item(module.clone(), name.to_string()));
        }
        for import in names.uses.iter().filter(|import| import.name.as_deref() == Some(name)) {
            match self.resolve(module, &import.path, depth + 1) {
                Some(Target::Module(path)) => as_module = as_module.or(Some(Target::Module(path))),
                Some(item) if last || as_module.is_none() => return Some(item),
                _ => {}
            }
        }
        if as_module.is_some() {
            return as_module;
        }
        for import in names.uses.iter().filter(|import| import.name.is_none()) {
            if let Some(Target::Module(path)) = self.resolve(module, &import.path, depth + 1)
                && path != *module
                && let Some(target) = self.lookup(&path, name, last, depth + 1)
            {
                return Some(target);
            }
        }
        None
    }
}
