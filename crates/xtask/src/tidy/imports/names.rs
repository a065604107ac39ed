//! What one file defines, passes on and names, read from its syntax tree.
//!
//! Nothing is resolved here. Macros are read as the tokens they are written
//! in: a path of two names or more is one in a macro too.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, UseTree, Visibility};

/// A `use`: a path, and the name that it gets here.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) path: Vec<String>,
    /// None for `*`.
    pub(super) name: Option<String>,
}

/// A module's own names.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) items: BTreeSet<String>,
    pub(super) uses: Vec<Use>,
    /// Modules in files of their own.
    pub(super) children: BTreeSet<String>,
    /// Modules in braces.
    pub(super) inline: Vec<(String, Names)>,
    /// The paths in its code, those of each `use` that isn't public with them.
    pub(super) paths: BTreeSet<Vec<String>>,
}

/// Reads a file without its tests.
pub(super) fn read(file: &File) -> Names {
    let mut names = Names::default();
    names.visit_file(file);
    names
}

impl Names {
    fn define(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Macro(item) => match &item.ident {
                Some(ident) => ident,
                None => return,
            },
            _ => return,
        };
        self.items.insert(name.to_string());
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], public: bool) {
        let with = |name: String| [prefix, &[name]].concat();
        let (path, name) = match tree {
            UseTree::Path(tree) => return self.import(&tree.tree, &with(tree.ident.to_string()), public),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(tree, prefix, public));
            }
            UseTree::Glob(_) => (prefix.to_vec(), None),
            // `use a::{self}` names `a`.
            UseTree::Name(tree) if tree.ident == "self" => (prefix.to_vec(), prefix.last().cloned()),
            UseTree::Rename(tree) if tree.ident == "self" => (prefix.to_vec(), Some(tree.rename.to_string())),
            UseTree::Name(tree) => (with(tree.ident.to_string()), Some(tree.ident.to_string())),
            UseTree::Rename(tree) => (with(tree.ident.to_string()), Some(tree.rename.to_string())),
        };
        if !public && name.is_some() {
            self.paths.insert(path.clone());
        }
        self.uses.push(Use { path, name });
    }

    fn tokens(&mut self, tokens: &TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens.clone() {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.end_of_path(&mut path);
                    colons = 0;
                    match other {
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        TokenTree::Group(group) => self.tokens(&group.stream()),
                        _ => {}
                    }
                }
            }
        }
        self.end_of_path(&mut path);
    }

    fn end_of_path(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

impl<'a> Visit<'a> for Names {
    fn visit_item(&mut self, item: &'a Item) {
        if is_test(attributes(item)) {
            return;
        }
        self.define(item);
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        let name = module.ident.to_string();
        match &module.content {
            // A file elsewhere belongs to several crates, and to none of ours.
            None if module.attrs.iter().any(|attribute| attribute.path().is_ident("path")) => {}
            None => {
                self.children.insert(name);
            }
            Some((_, items)) => {
                let mut inner = Names::default();
                items.iter().for_each(|item| inner.visit_item(item));
                self.inline.push((name, inner));
            }
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let public = !matches!(item.vis, Visibility::Inherited);
        self.import(&item.tree, &[], public);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        if path.leading_colon.is_none() {
            self.paths
                .insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(&call.tokens);
    }

    fn visit_attribute(&mut self, attribute: &'a Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(&list.tokens);
        }
    }

    fn visit_vis_restricted(&mut self, _: &'a syn::VisRestricted) {}

    fn visit_impl_item_fn(&mut self, method: &'a syn::ImplItemFn) {
        if !is_test(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether `#[cfg(test)]` or `#[cfg(all(test, …))]` stands before it.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .filter_map(|attribute| attribute.meta.require_list().ok())
        .any(|list| {
            let mut tokens = list.tokens.clone().into_iter();
            match (tokens.next(), tokens.next()) {
                (Some(TokenTree::Ident(ident)), None) => ident == "test",
                (Some(TokenTree::Ident(ident)), Some(TokenTree::Group(group))) if ident == "all" => group
                    .stream()
                    .into_iter()
                    .any(|token| matches!(token, TokenTree::Ident(ident) if ident == "test")),
                _ => false,
            }
        })
}
