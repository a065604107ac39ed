//! The table: name, defect, rule, what must come of it, and how it is made.

use crate::common::{Case, component, tar};

mod accepted;
mod archive;
mod bombs;
mod configs;
mod headers;
mod images;
mod layout;
mod paths;
mod signatures;
mod tars;

pub struct Row {
    pub name: &'static str,
    pub what: &'static str,
    pub must: &'static str,
    /// `accept`, or the step that refuses it.
    pub outcome: &'static str,
    pub case: Case,
}

pub const ACCEPT: &str = "accept";
const OPEN: &str = "open";
const CONTENT: &str = "content";
const CONFIG: &str = "config";
const UNPACK: &str = "unpack";

fn row(name: &'static str, what: &'static str, must: &'static str, outcome: &'static str, case: Case) -> Row {
    Row {
        name,
        what,
        must,
        outcome,
        case,
    }
}

fn good() -> Case {
    Case::default()
}

/// A component of so many bytes.
fn large(len: usize) -> Case {
    Case {
        component: component(len),
        ..good()
    }
}

fn assets(tar: Vec<u8>, files: u64, bytes: u64) -> Case {
    Case {
        assets: Some((tar, files, bytes)),
        ..good()
    }
}

/// Some files as assets, their numbers right.
fn files(list: &[(&str, &[u8])]) -> Case {
    assets(
        tar(list),
        list.len() as u64,
        list.iter().map(|f| f.1.len() as u64).sum(),
    )
}

/// An assets' tar of these bytes before one ordinary file.
fn before(bytes: Vec<u8>) -> Case {
    assets([bytes, tar(&[("z", b"z")])].concat(), 2, 1)
}

fn manifest(from: &'static str, to: &'static str) -> Case {
    Case {
        manifest: Box::new(move |m| {
            assert!(m.contains(from), "{from}");
            m.replacen(from, to, 1)
        }),
        ..good()
    }
}

fn config(from: &'static str, to: &'static str) -> Case {
    Case {
        config: Box::new(move |c| {
            assert!(c.contains(from), "{from}");
            c.replacen(from, to, 1)
        }),
        ..good()
    }
}

/// The head's first header changed.
fn head(edit: impl Fn(Vec<u8>) -> Vec<u8> + 'static) -> Case {
    Case {
        head: Box::new(move |h| [edit(h[..512].to_vec()), h[512..].to_vec()].concat()),
        ..good()
    }
}

fn index(from: &'static str, to: &'static str) -> Case {
    Case {
        index: Box::new(move |m| {
            assert!(m.contains(from), "{from}");
            m.replacen(from, to, 1)
        }),
        ..good()
    }
}

/// The first image under these names, in this order; `@` at the end of one
/// stands for the image's digest.
fn named(names: &'static [&'static str]) -> Box<dyn Fn(String) -> String> {
    Box::new(move |index| {
        let (start, rest) = index.split_once('[').unwrap();
        let (entry, rest) = rest.split_once("}}").unwrap();
        let digest = entry.split('"').nth(7).unwrap();
        let entries = names.iter().map(|name| {
            let whole = match name.strip_suffix('@') {
                Some(name) => format!("{name}@{digest}"),
                None => name.to_string(),
            };
            format!("{}}}}}", entry.replace("a:1.0.0", &whole))
        });
        let entries: Vec<_> = entries.collect();
        format!("{start}[{}{rest}", entries.join(","))
    })
}

fn frames(edit: impl Fn(&mut Vec<(Vec<u8>, u32)>) + 'static) -> Case {
    Case {
        frames: Box::new(move |mut f| {
            edit(&mut f);
            f
        }),
        ..good()
    }
}

fn head_files(edit: impl Fn(&mut Vec<(String, Vec<u8>)>) + 'static) -> Case {
    Case {
        files: Box::new(move |mut f| {
            edit(&mut f);
            f
        }),
        ..good()
    }
}

fn file(edit: impl Fn(&mut Vec<u8>) + 'static) -> Case {
    Case {
        file: Box::new(move |mut f| {
            edit(&mut f);
            f
        }),
        ..good()
    }
}

fn signed() -> Case {
    Case {
        signatures: vec!["one".into(), "two".into()],
        ..good()
    }
}

pub fn rows() -> Vec<Row> {
    let mut rows = accepted::rows();
    rows.extend(archive::rows());
    rows.extend(bombs::rows());
    rows.extend(layout::rows());
    rows.extend(images::rows());
    rows.extend(configs::rows());
    rows.extend(signatures::rows());
    rows.extend(tars::rows());
    rows.extend(tars::types());
    rows.extend(headers::rows());
    rows.extend(paths::rows());
    rows
}
