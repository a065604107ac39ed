//! `permissions.fs`: what a guest may do with the file system at its `/`.

use std::fmt;

use qyvol_types::yaml::{Node, Reader};
use serde_json::{Value, json};

use crate::Denied;
use crate::capability::{Capability, Program};

/// Access to the configured file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FsAccess {
    /// Nothing but the assets.
    #[default]
    None,
    /// The file system, read-only.
    Read,
    /// The file system, read and write.
    Write,
    /// Also directories of the host that the operator grants.
    Full,
}

/// Each access as an image has it.
const WORDS: [(&str, FsAccess); 4] = [
    ("none", FsAccess::None),
    ("read", FsAccess::Read),
    ("write", FsAccess::Write),
    ("full", FsAccess::Full),
];

impl FsAccess {
    /// Whether the guest may change the file system.
    pub fn is_writable(self) -> bool {
        matches!(self, FsAccess::Write | FsAccess::Full)
    }
}

impl fmt::Display for FsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WORDS.iter().find(|(_, access)| access == self);
        f.write_str(word.map_or("none", |(word, _)| word))
    }
}

impl Capability for FsAccess {
    const NAME: &'static str = "fs";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node) -> Option<Value> {
        let words = [
            ("none", "none"),
            ("read", "read"),
            ("read-only", "read"),
            ("write", "write"),
            ("read-write", "write"),
            ("full", "full"),
        ];
        Some(json!(reader.word(node, "permissions.fs", &words)?))
    }

    fn from_json(value: &Value) -> Option<FsAccess> {
        let text = value.as_str()?;
        WORDS.iter().find(|(word, _)| *word == text).map(|(_, access)| *access)
    }

    /// Without a file system a program still reads its assets: only one that has
    /// none either can open no file.
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
