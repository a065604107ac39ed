//! `permissions.net`: sockets and name lookup.

use std::fmt;

use qyvol_types::yaml::{self, Node, Reader};
use serde_json::{Value, json};

use crate::Denied;
use crate::capability::{Capability, Program};

/// Whether sockets and name lookup are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Net(pub bool);

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Capability for Net {
    const NAME: &'static str = "net";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node) -> Option<Value> {
        if matches!(node.value, yaml::Value::Mapping(_)) {
            reader.problem_with_help(
                node.place,
                "permissions.net can't be a list of hosts in this version, which would not enforce it",
                "true or false",
            );
            return None;
        }
        Some(json!(reader.boolean(node, "permissions.net")?))
    }

    fn from_json(value: &Value) -> Option<Net> {
        value.as_bool().map(Net)
    }

    fn denied(&self, program: &Program<'_>) -> Option<Denied> {
        (!self.0).then(|| Denied {
            permission: "net: false",
            effect: "denies such calls",
            grant: "net: true",
            imports: program.imports_of(&["wasi:sockets/", "wasi:http/", "wasi_snapshot_preview1::sock_"]),
        })
    }
}
