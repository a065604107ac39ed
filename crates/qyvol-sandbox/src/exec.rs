//! `permissions.exec`: starting programs of the host. No host grants it yet.

use std::fmt;

use qyvol_types::yaml::{Node, Reader};
use serde_json::{Value, json};

use crate::capability::Capability;

/// Starting programs of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exec(pub bool);

impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Capability for Exec {
    const NAME: &'static str = "exec";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        Some(json!(reader.boolean(node, what)?))
    }

    fn from_json(value: &Value) -> Option<Exec> {
        value.as_bool().map(Exec)
    }

    fn unsupported(&self) -> Option<&'static str> {
        self.0
            .then_some("its manifest asks for `exec`, which this version does not support")
    }
}
