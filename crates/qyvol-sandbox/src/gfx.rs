//! `permissions.gfx`: graphics. No host grants it yet.

use std::fmt;

use qyvol_types::yaml::{Node, Reader};
use serde_json::{Value, json};

use crate::capability::Capability;
use crate::words::Words;

/// Graphics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gfx(pub bool);

impl fmt::Display for Gfx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Capability for Gfx {
    const NAME: &'static str = "gfx";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        Some(json!(reader.boolean(node, what)?))
    }

    fn from_json(value: &Value) -> Option<Gfx> {
        value.as_bool().map(Gfx)
    }

    fn to_json(&self) -> Value {
        json!(self.0)
    }

    fn describe(&self, words: &mut Words<'_>) {
        if self.0 {
            let graphics = words.either(
                "show graphics, which this version can't do",
                "mostrar gráficos, lo que esta versión no sabe hacer",
            );
            words.may(graphics.to_string());
        }
    }

    fn unsupported(&self) -> Option<&'static str> {
        self.0
            .then_some("it is a graphical application, which this version can't run")
    }
}
