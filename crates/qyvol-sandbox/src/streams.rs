//! `permissions.stdio`: which of the process's streams a guest is given. All of
//! them, unless the manifest says otherwise.

use std::fmt;

use qyvol_types::yaml::{self, Node, Reader};
use serde_json::{Value, json};

use crate::capability::Capability;
use crate::words::{Withheld, Words};

/// The streams, each as a manifest names it.
const NAMES: [&str; 3] = ["stdin", "stdout", "stderr"];

/// The streams that a guest has. A missing stdin is empty, and output to a missing
/// stdout or stderr is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stdio {
    /// It may read from stdin.
    pub stdin: bool,
    /// It may write to stdout.
    pub stdout: bool,
    /// It may write to stderr.
    pub stderr: bool,
}

impl Default for Stdio {
    fn default() -> Stdio {
        Stdio::from([true; 3])
    }
}

impl From<[bool; 3]> for Stdio {
    fn from([stdin, stdout, stderr]: [bool; 3]) -> Stdio {
        Stdio { stdin, stdout, stderr }
    }
}

impl Stdio {
    fn flags(self) -> [bool; 3] {
        [self.stdin, self.stdout, self.stderr]
    }

    fn names(self) -> Vec<&'static str> {
        let flags = NAMES.into_iter().zip(self.flags());
        flags.filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    /// What both allow.
    pub fn within(self, ceiling: Stdio) -> Stdio {
        let [a, b, c] = self.flags();
        let [d, e, f] = ceiling.flags();
        Stdio::from([a && d, b && e, c && f])
    }
}

impl fmt::Display for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            names if names.is_empty() => f.write_str("none"),
            names => f.write_str(&names.join(" ")),
        }
    }
}

impl Capability for Stdio {
    const NAME: &'static str = "stdio";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        if let yaml::Value::Scalar { .. } = node.value {
            let words = [("none", Stdio::from([false; 3])), ("all", Stdio::default())];
            return Some(reader.word(node, what, &words)?.to_json());
        }
        let mut flags = [false; 3];
        let mut complete = true;
        for item in reader.items(node, what) {
            let words = [(NAMES[0], 0), (NAMES[1], 1), (NAMES[2], 2)];
            match reader.word(item, what, &words).and_then(|at: usize| flags.get_mut(at)) {
                Some(flag) => *flag = true,
                None => complete = false,
            }
        }
        complete.then(|| Stdio::from(flags).to_json())
    }

    fn from_json(value: &Value) -> Option<Stdio> {
        let mut flags = [false; 3];
        for name in value.as_array()? {
            let at = NAMES.iter().position(|known| Some(*known) == name.as_str())?;
            *flags.get_mut(at)? = true;
        }
        Some(Stdio::from(flags))
    }

    /// All streams are the default, so they are written as no request at all.
    fn to_json(&self) -> Value {
        match *self == Stdio::default() {
            true => json!(false),
            false => json!(self.names()),
        }
    }

    fn describe(&self, words: &mut Words<'_>) {
        let verbs = [
            words.either("read stdin", "leer stdin"),
            words.either("write to stdout", "escribir en stdout"),
            words.either("write to stderr", "escribir en stderr"),
        ];
        for ((noun, verb), given) in NAMES.into_iter().zip(verbs).zip(self.flags()) {
            if !given {
                words.withhold(Withheld { noun, verb });
            }
        }
    }
}
