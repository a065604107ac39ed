//! `permissions.fs`: what a guest may do with the file system at its `/`.

use std::fmt;

use qyvol_types::yaml::{self, Node, Reader};
use qyvol_types::{AssetPath, FsKind, escape};
use serde_json::{Value, json};

use crate::Denied;
use crate::capability::{Capability, Program};
use crate::words::{Withheld, Words};

/// Maximum number of paths in both lists together.
const MAX_PATHS: usize = 64;
/// The lists of the granular form.
const READ: &str = "read";
const WRITE: &str = "write";

/// Access to the configured file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FsAccess {
    /// Nothing but the assets.
    #[default]
    None,
    /// The file system, read-only.
    Read,
    /// Some of its directories, and no others.
    Paths(FsPaths),
    /// The file system, read and write.
    Write,
    /// Also directories of the host that the operator grants.
    Full,
}

/// Directories of the guest's file system, by absolute paths. No directory that may
/// only be read is inside one that may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsPaths(Vec<FsPath>);

/// A directory that a guest is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsPath {
    /// Absolute, and not `/`.
    pub path: String,
    /// Whether the guest may write there.
    pub writable: bool,
}

/// Each access as an image has it.
const WORDS: [(&str, FsAccess); 4] = [
    ("none", FsAccess::None),
    ("read", FsAccess::Read),
    ("write", FsAccess::Write),
    ("full", FsAccess::Full),
];

impl FsPaths {
    /// The directories.
    pub fn iter(&self) -> impl Iterator<Item = &FsPath> {
        self.0.iter()
    }

    fn new(read: Vec<String>, write: Vec<String>) -> Result<FsPaths, String> {
        if read.len() + write.len() > MAX_PATHS {
            return Err(format!("it has more than {MAX_PATHS} paths"));
        }
        if let Some((inner, outer)) = inside(&read, &write) {
            return Err(format!(
                "{inner} can't be read-only: it is inside {outer}, which may be written"
            ));
        }
        let paths = |list: Vec<String>, writable| list.into_iter().map(move |path| FsPath { path, writable });
        Ok(FsPaths(paths(read, false).chain(paths(write, true)).collect()))
    }

    fn list(&self, writable: bool) -> Vec<&str> {
        let of_list = self.0.iter().filter(|path| path.writable == writable);
        of_list.map(|path| path.path.as_str()).collect()
    }
}

/// The first of `inner` that is one of `outer` or inside it.
fn inside<'a>(inner: &'a [String], outer: &'a [String]) -> Option<(&'a str, &'a str)> {
    let pairs = inner
        .iter()
        .flat_map(|i| outer.iter().map(move |o| (i.as_str(), o.as_str())));
    pairs.into_iter().find(|(inner, outer)| is_within(inner, outer))
}

/// Whether a path equals another, or is below it.
fn is_within(inner: &str, outer: &str) -> bool {
    inner
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl FsAccess {
    /// Whether the guest may write to any part of the file system.
    pub fn writes(&self) -> bool {
        match self {
            FsAccess::None | FsAccess::Read => false,
            FsAccess::Paths(paths) => paths.iter().any(|path| path.writable),
            FsAccess::Write | FsAccess::Full => true,
        }
    }

    /// Whether the guest may write to the whole file system.
    pub fn is_writable(&self) -> bool {
        matches!(self, FsAccess::Write | FsAccess::Full)
    }

    /// What both allow.
    pub fn within(&self, ceiling: &FsAccess) -> FsAccess {
        match (self, ceiling) {
            (FsAccess::None, _) | (_, FsAccess::None) => FsAccess::None,
            (FsAccess::Full, other) | (other, FsAccess::Full) | (FsAccess::Write, other) | (other, FsAccess::Write) => {
                other.clone()
            }
            (FsAccess::Read, FsAccess::Read) => FsAccess::Read,
            (FsAccess::Read, FsAccess::Paths(paths)) | (FsAccess::Paths(paths), FsAccess::Read) => {
                let read_only = |path: &FsPath| FsPath {
                    path: path.path.clone(),
                    writable: false,
                };
                FsAccess::Paths(FsPaths(paths.iter().map(read_only).collect()))
            }
            (FsAccess::Paths(own), FsAccess::Paths(other)) => {
                let mut both: Vec<FsPath> = Vec::new();
                for (a, b) in own.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                    let inner = match (is_within(&a.path, &b.path), is_within(&b.path, &a.path)) {
                        (true, _) => a,
                        (_, true) => b,
                        _ => continue,
                    };
                    let path = FsPath {
                        path: inner.path.clone(),
                        writable: own.may_write(&inner.path) && other.may_write(&inner.path),
                    };
                    if !both.contains(&path) {
                        both.push(path);
                    }
                }
                match both.is_empty() {
                    true => FsAccess::None,
                    false => FsAccess::Paths(FsPaths(both)),
                }
            }
        }
    }
}

impl FsAccess {
    /// Whether everything that `asked` allows is allowed.
    pub(crate) fn has(&self, asked: &FsAccess) -> bool {
        match (self, asked) {
            (_, FsAccess::None) | (FsAccess::Full, _) | (FsAccess::Read, FsAccess::Read) => true,
            (FsAccess::Write, asked) => *asked != FsAccess::Full,
            (FsAccess::Read, FsAccess::Paths(_)) => !asked.writes(),
            (FsAccess::Paths(own), FsAccess::Paths(asked)) => asked.iter().all(|path| {
                let mut outer = own.iter().filter(|own| is_within(&path.path, &own.path));
                match path.writable {
                    true => own.may_write(&path.path),
                    false => outer.next().is_some(),
                }
            }),
            _ => false,
        }
    }
}

impl FsPaths {
    /// Whether a path may be written: the innermost directory decides.
    fn may_write(&self, path: &str) -> bool {
        let outer = self.0.iter().filter(|own| is_within(path, &own.path));
        outer.max_by_key(|own| own.path.len()).is_some_and(|own| own.writable)
    }
}

impl fmt::Display for FsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let FsAccess::Paths(paths) = self {
            let lists = [(READ, paths.list(false)), (WRITE, paths.list(true))];
            let lists = lists.into_iter().filter(|(_, paths)| !paths.is_empty());
            let lists: Vec<String> = lists
                .map(|(list, paths)| format!("{list} {}", paths.join(" ")))
                .collect();
            return f.write_str(&lists.join(", "));
        }
        let word = WORDS.iter().find(|(_, access)| access == self);
        f.write_str(word.map_or("none", |(word, _)| word))
    }
}

impl Capability for FsAccess {
    const NAME: &'static str = "fs";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        let words = [
            ("none", "none"),
            ("read", "read"),
            ("read-only", "read"),
            ("write", "write"),
            ("read-write", "write"),
            ("full", "full"),
        ];
        match node.value {
            yaml::Value::Mapping(_) => {}
            yaml::Value::Sequence(_) => {
                let message = format!("{what} must be one word, or directories under `read` and `write`");
                reader.problem_with_help(node.place, message, "such as fs: { read: [/data], write: [/tmp] }");
                return None;
            }
            _ => return Some(json!(reader.word(node, what, &words)?)),
        }
        let fields = reader.fields(node, what, &[READ, WRITE])?;
        let mut list = |name: &str| {
            let what = format!("{what}.{name}");
            fields
                .get(name)
                .map_or(Some(Vec::new()), |node| paths(reader, node, &what))
        };
        let (read, write) = (list(READ), list(WRITE));
        match FsPaths::new(read?, write?) {
            Ok(paths) => Some(to_json(&paths)),
            Err(why) => {
                reader.problem(node.place, format!("{what}: {why}"));
                None
            }
        }
    }

    fn from_json(value: &Value) -> Option<FsAccess> {
        if let Some(text) = value.as_str() {
            return WORDS
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, access)| access.clone());
        }
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for (name, paths) in value.as_object()? {
            let list = match name.as_str() {
                READ => &mut read,
                WRITE => &mut write,
                _ => return None,
            };
            for path in paths.as_array()? {
                list.push(path.as_str().filter(|path| check_path(path).is_ok())?.to_string());
            }
        }
        match FsPaths::new(read, write).ok()? {
            paths if paths.0.is_empty() => Some(FsAccess::None),
            paths => Some(FsAccess::Paths(paths)),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            FsAccess::Paths(paths) => to_json(paths),
            access => json!(access.to_string()),
        }
    }

    fn describe(&self, words: &mut Words<'_>) {
        let root = vec!["/"];
        let (read, written) = match self {
            FsAccess::None => (Vec::new(), Vec::new()),
            FsAccess::Read => (root, Vec::new()),
            FsAccess::Write | FsAccess::Full => (Vec::new(), root),
            FsAccess::Paths(paths) => (paths.list(false), paths.list(true)),
        };
        if !read.is_empty() {
            let under = words.either("read files under", "leer archivos bajo");
            let place = place(words, false);
            words.may(format!("{under} {} ({place})", words.listed(&read)));
        }
        if !written.is_empty() {
            let place = place(words, true);
            let under = words.either("read and write files under", "leer y escribir archivos bajo");
            words.may(format!("{under} {} ({place})", words.listed(&written)));
        }
        if *self == FsAccess::Full {
            let added = words.either(
                "use host directories that the operator adds with --dir",
                "usar directorios de la máquina que el operador añade con --dir",
            );
            words.may(added.to_string());
        }
        let is_told = words.app.assets_root == "/" && *self != FsAccess::None;
        if words.has_assets && !is_told {
            let under = words.either("read its assets under", "leer sus archivos incluidos bajo");
            words.may(format!("{under} {}", escape(&words.app.assets_root)));
        } else if *self == FsAccess::None {
            words.withhold(Withheld {
                noun: words.either("files", "archivos"),
                verb: words.either("read or write files", "leer ni escribir archivos"),
            });
        }
    }

    /// Without a file system, a program can still read its assets: only one that has no
    /// assets either can't open any file.
    fn denied(&self, program: &Program<'_>) -> Option<Denied> {
        let nothing_to_open = *self == FsAccess::None && !program.has_assets;
        nothing_to_open.then(|| Denied {
            permission: "fs: none",
            effect: "without assets leaves it no file to open",
            grant: "fs: read      # or write",
            imports: program.imports_of(&["wasi:filesystem/types", "wasi_snapshot_preview1::path_"]),
        })
    }
}

/// Where the guest's files are, and what becomes of those that it writes.
fn place(words: &Words<'_>, writes: bool) -> String {
    let mut place = match (words.app.fs.kind, &words.app.fs.source) {
        (FsKind::Netfs, Some(source)) => format!("{} {}", words.either("those at", "los de"), escape(source)),
        (FsKind::Netfs, None) => words.either("of a server", "de un servidor").to_string(),
        (FsKind::Diskfs, _) => {
            let kept = words.either(
                "on the host's disk, kept for later runs",
                "en el disco de la máquina, se conservan para otras ejecuciones",
            );
            kept.to_string()
        }
        (FsKind::Memfs, _) if writes => {
            let gone = words.either(
                "in memory, gone after each run",
                "en memoria, desaparecen tras cada ejecución",
            );
            gone.to_string()
        }
        (FsKind::Memfs, _) => words.either("in memory", "en memoria").to_string(),
    };
    if words.has_assets && words.app.assets_root == "/" {
        place.push_str(words.either(
            "; its assets are there too",
            "; sus archivos incluidos también están ahí",
        ));
    }
    place
}

fn to_json(paths: &FsPaths) -> Value {
    let lists = [(READ, paths.list(false)), (WRITE, paths.list(true))];
    let lists = lists.into_iter().filter(|(_, paths)| !paths.is_empty());
    let lists: serde_json::Map<String, Value> = lists.map(|(list, paths)| (list.to_string(), json!(paths))).collect();
    match lists.is_empty() {
        true => json!("none"),
        false => Value::Object(lists),
    }
}

/// A list of directories of the guest.
fn paths(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    let mut complete = true;
    for item in reader.items(node, what) {
        let Some(text) = reader.text(item, what) else {
            complete = false;
            continue;
        };
        match check_path(text) {
            Ok(()) => paths.push(text.to_string()),
            Err(why) => {
                let help = match text {
                    "/" => "for all of it write `fs: read` or `fs: write`",
                    _ => "a directory of the guest, such as /data",
                };
                reader.problem_with_help(item.place, format!("{what}: {why}"), help);
                complete = false;
            }
        }
    }
    complete.then_some(paths)
}

/// Whether a path is absolute and normal, and not `/`.
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    let shown = qyvol_types::escape(path);
    match path.strip_prefix('/').map(AssetPath::parse) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) if path == "/" => Err("`/` is the root itself".to_string()),
        Some(Err(why)) => Err(format!("`{shown}` {why}")),
        None => Err(format!("`{shown}` is not absolute")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn access(value: Value) -> FsAccess {
        FsAccess::from_json(&value).unwrap()
    }

    #[test]
    fn ceiling_leaves_what_both_allow() {
        let words = ["none", "read", "write", "full"];
        for (own, a) in words.iter().enumerate() {
            for (ceiling, b) in words.iter().enumerate() {
                let least = words[own.min(ceiling)];
                assert_eq!(
                    access(json!(a)).within(&access(json!(b))),
                    access(json!(least)),
                    "{a} within {b}"
                );
            }
        }
        let paths = access(json!({"read": ["/etc"], "write": ["/data"]}));
        assert_eq!(paths.within(&access(json!("full"))), paths);
        assert_eq!(access(json!("write")).within(&paths), paths);
        assert_eq!(
            paths.within(&access(json!("read"))),
            access(json!({"read": ["/etc", "/data"]}))
        );
        for (ceiling, left) in [
            (
                json!({"write": ["/data/cache", "/other"]}),
                json!({"write": ["/data/cache"]}),
            ),
            (json!({"read": ["/data"]}), json!({"read": ["/data"]})),
            (json!({"write": ["/dat"]}), json!("none")),
            (
                json!({"read": ["/data"], "write": ["/data/a"]}),
                json!({"read": ["/data"], "write": ["/data/a"]}),
            ),
        ] {
            assert_eq!(paths.within(&access(ceiling)), access(left));
        }
    }

    #[test]
    fn path_that_is_no_directory_of_the_guest_is_not_understood() {
        for value in [
            json!({"read": ["data"]}),
            json!({"read": ["/"]}),
            json!({"read": ["/a/../b"]}),
            json!({"read": ["/a/"]}),
            json!({"read": "/a"}),
            json!({"read": ["/a"], "write": ["/a"]}),
            json!({"read": ["/a/b"], "write": ["/a"]}),
            json!({"list": ["/a"]}),
            json!({"write": vec!["/a"; MAX_PATHS + 1]}),
        ] {
            assert_eq!(FsAccess::from_json(&value), None, "{value}");
        }
        assert_eq!(
            access(json!({"read": ["/ab"], "write": ["/a"]})).to_string(),
            "read /ab, write /a"
        );
    }
}
