//! Permissions as one word in place of the mapping, in a `.qyv` and in a policy. An
//! image has what the word stands for, never the word.

use qyvol_types::Permissions;
use qyvol_types::yaml::{Node, Reader};
use serde_json::{Value, json};

/// Each word, and the permissions that it stands for.
type Preset = (&'static str, &'static [(&'static str, fn() -> Value)]);

const PRESETS: [Preset; 3] = [
    ("sandbox", &[]),
    ("restricted", &[("fs", || json!("write"))]),
    (
        "full",
        &[
            ("fs", || json!("full")),
            ("net", || json!(true)),
            ("exec", || json!(true)),
        ],
    ),
];

/// Reads the word.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Permissions> {
    let chosen = reader.word(node, what, &PRESETS)?;
    let mut permissions = Permissions::default();
    for (name, value) in chosen {
        permissions.request(name, value());
    }
    Some(permissions)
}
