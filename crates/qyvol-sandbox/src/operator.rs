//! `permissions.env` and `permissions.args`: what the operator may set in addition to
//! the manifest. Anything, unless the manifest says otherwise.

use std::fmt;

use qyvol_types::yaml::{self, Node, Reader};
use serde_json::{Value, json};

use crate::capability::Capability;
use crate::words::{Withheld, Words};

/// Maximum number of names in the list.
const MAX_NAMES: usize = 256;
/// The manifest's own, and nothing else.
const FIXED: &str = "fixed";
/// Whatever the operator gives.
const ANY: &str = "any";

/// Which variables the operator may set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Env {
    /// Any.
    #[default]
    Any,
    /// Variables with these names; one that ends in `*` stands for all with that prefix.
    Only(Vec<String>),
}

impl Env {
    /// Whether the operator may set a variable.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Env::Any => true,
            Env::Only(names) => names.iter().any(|own| match own.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => own == name,
            }),
        }
    }
}

impl Env {
    /// Whether every variable that `asked` allows is allowed.
    pub(crate) fn has(&self, asked: &Env) -> bool {
        let Env::Only(asked) = asked else {
            return *self == Env::Any;
        };
        asked.iter().all(|name| match (self, name.strip_suffix('*')) {
            (Env::Any, _) => true,
            (_, None) => self.allows(name),
            (Env::Only(own), Some(start)) => own
                .iter()
                .filter_map(|own| own.strip_suffix('*'))
                .any(|own| start.starts_with(own)),
        })
    }
}

impl fmt::Display for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Env::Any => f.write_str(ANY),
            Env::Only(names) if names.is_empty() => f.write_str(FIXED),
            Env::Only(names) => f.write_str(&names.join(" ")),
        }
    }
}

impl Capability for Env {
    const NAME: &'static str = "env";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        if let yaml::Value::Scalar { .. } = node.value {
            // `any` is the default, so it is written as no request at all.
            let words = [(ANY, None), (FIXED, Some([""; 0]))];
            return Some(
                reader
                    .word(node, what, &words)?
                    .map_or(json!(false), |none| json!(none)),
            );
        }
        let items = reader.items(node, what);
        let mut names = Vec::new();
        for item in items {
            let text = reader.text(item, what)?;
            if !is_name(text) || items.len() > MAX_NAMES {
                reader.problem_with_help(
                    item.place,
                    format!(
                        "{what} has `{}`, which is not the name of a variable",
                        qyvol_types::escape(text)
                    ),
                    format!("at most {MAX_NAMES} names such as LOG_LEVEL, or APP_* for all that start with APP_"),
                );
                return None;
            }
            names.push(text);
        }
        Some(json!(names))
    }

    fn from_json(value: &Value) -> Option<Env> {
        let names = value.as_array().filter(|names| names.len() <= MAX_NAMES)?;
        let name = |name: &Value| name.as_str().filter(|name| is_name(name)).map(str::to_string);
        Some(Env::Only(names.iter().map(name).collect::<Option<_>>()?))
    }

    fn to_json(&self) -> Value {
        match self {
            Env::Any => json!(false),
            Env::Only(names) => json!(names),
        }
    }

    fn describe(&self, words: &mut Words<'_>) {
        match self {
            Env::Any => {}
            Env::Only(names) if names.is_empty() => words.withhold(Withheld {
                noun: words.either("variables from the operator", "variables del operador"),
                verb: words.either("get variables from the operator", "recibir variables del operador"),
            }),
            Env::Only(names) => {
                let is_one = names.len() == 1 && !names.concat().ends_with('*');
                let (see, set) = match is_one {
                    true => (
                        words.either("see the variable", "ver la variable"),
                        words.either(
                            "if the operator sets it, and no others",
                            "si el operador la define, y ninguna otra",
                        ),
                    ),
                    false => (
                        words.either("see the variables", "ver las variables"),
                        words.either(
                            "if the operator sets them, and no others",
                            "si el operador las define, y ninguna otra",
                        ),
                    ),
                };
                words.may(format!("{see} {}, {set}", words.listed(names)));
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    !text.is_empty()
        && text != ANY
        && text != FIXED
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

/// Whether the operator may add arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Args {
    /// Any.
    #[default]
    Any,
    /// The manifest's own alone.
    Fixed,
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Args::Any { ANY } else { FIXED })
    }
}

impl Capability for Args {
    const NAME: &'static str = "args";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        let words = [(ANY, Args::Any), (FIXED, Args::Fixed)];
        let args = reader.word(node, what, &words)?;
        Some(if args == Args::Any { json!(false) } else { json!(FIXED) })
    }

    fn from_json(value: &Value) -> Option<Args> {
        (value.as_str() == Some(FIXED)).then_some(Args::Fixed)
    }

    fn to_json(&self) -> Value {
        match self {
            Args::Any => json!(false),
            Args::Fixed => json!(FIXED),
        }
    }

    fn describe(&self, words: &mut Words<'_>) {
        if *self == Args::Fixed {
            words.withhold(Withheld {
                noun: words.either("arguments from the operator", "argumentos del operador"),
                verb: words.either("get arguments from the operator", "recibir argumentos del operador"),
            });
        }
    }
}
