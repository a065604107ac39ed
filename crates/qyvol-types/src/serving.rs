//! `serve` of a manifest: how an application wants to be served.

use serde::{Deserialize, Serialize};

use crate::yaml::{Node, Reader};

/// Most requests that one instance answers.
const REUSE: u64 = 1_000_000;

/// How an application wants to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// Requests that one instance answers, one after another: 1 to 1,000,000. With more
    /// than 1, a request finds what earlier ones have left in the instance.
    pub reuse: u64,
}

impl Default for Serving {
    /// Each request has an instance of its own.
    fn default() -> Serving {
        Serving { reuse: 1 }
    }
}

impl Serving {
    /// Whether an instance answers more than one request.
    pub fn reuses(&self) -> bool {
        self.reuse > 1
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Serving::default()
    }

    /// Checks what came in a config; returns what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.reuse {
            1..=REUSE => Ok(()),
            _ => Err(format!("serve.reuse is not a number from 1 to {REUSE}")),
        }
    }

    /// Reads it in YAML.
    pub(crate) fn from_yaml(r: &mut Reader<'_>, node: &Node) -> Option<Serving> {
        let fields = r.fields(node, "serve", &["reuse"])?;
        let Some(node) = fields.get("reuse") else {
            return Some(Serving::default());
        };
        let reuse = r.integer(node, "serve.reuse", REUSE)?;
        if reuse == 0 {
            r.problem(node.place, format!("serve.reuse must be 1 to {REUSE}"));
            return None;
        }
        Some(Serving { reuse })
    }
}
