//! `permissions.exec`: starting host programs through the import
//! `qyvol:process`. The operator must allow each of them; a manifest alone is not
//! enough to start any.

use std::fmt;

use qyvol_types::yaml::{self, Node, Reader};
use serde_json::{Value, json};

use crate::Denied;
use crate::capability::{Capability, Program};
use crate::fs::check_path;
use crate::words::{Withheld, Words};

/// Maximum number of programs in the list.
const MAX_PROGRAMS: usize = 64;

/// Which host programs a guest may start, if the operator allows them too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exec {
    /// None.
    #[default]
    None,
    /// Any.
    Any,
    /// Those at these absolute paths.
    Only(Vec<String>),
}

impl Exec {
    /// Whether a program may be started, by its absolute path.
    pub fn allows(&self, program: &str) -> bool {
        match self {
            Exec::None => false,
            Exec::Any => true,
            Exec::Only(programs) => programs.iter().any(|own| own == program),
        }
    }
}

impl Exec {
    /// Whether every program that `asked` allows is allowed.
    pub(crate) fn has(&self, asked: &Exec) -> bool {
        match asked {
            Exec::None => true,
            Exec::Any => *self == Exec::Any,
            Exec::Only(programs) => programs.iter().all(|program| self.allows(program)),
        }
    }
}

impl fmt::Display for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exec::None => f.write_str("false"),
            Exec::Any => f.write_str("true"),
            Exec::Only(programs) => f.write_str(&programs.join(" ")),
        }
    }
}

impl Capability for Exec {
    const NAME: &'static str = "exec";

    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value> {
        if let yaml::Value::Scalar { .. } = node.value {
            let expected = "true, false, or a list of the absolute paths of programs";
            return Some(json!(reader.boolean_of(node, what, expected)?));
        }
        let items = reader.items(node, what);
        if items.len() > MAX_PROGRAMS {
            reader.problem(node.place, format!("{what} has more than {MAX_PROGRAMS} programs"));
            return None;
        }
        let mut programs = Vec::new();
        for item in items {
            let text = reader.text(item, what)?;
            if let Err(why) = check_path(text) {
                let help = "the absolute path of a program, such as /usr/bin/git";
                reader.problem_with_help(item.place, format!("{what}: {why}"), help);
                return None;
            }
            programs.push(text);
        }
        Some(match programs.is_empty() {
            true => json!(false),
            false => json!(programs),
        })
    }

    fn from_json(value: &Value) -> Option<Exec> {
        if let Some(any) = value.as_bool() {
            return Some(if any { Exec::Any } else { Exec::None });
        }
        let programs = value.as_array().filter(|programs| programs.len() <= MAX_PROGRAMS)?;
        let path = |program: &Value| program.as_str().filter(|p| check_path(p).is_ok()).map(str::to_string);
        Some(Exec::Only(programs.iter().map(path).collect::<Option<_>>()?))
    }

    fn to_json(&self) -> Value {
        match self {
            Exec::None => json!(false),
            Exec::Any => json!(true),
            Exec::Only(programs) => json!(programs),
        }
    }

    fn describe(&self, words: &mut Words<'_>) {
        match self {
            Exec::Only(programs) if !programs.is_empty() => {
                let start = words.either("start", "iniciar");
                let allowed = words.either(
                    "if the operator allows it with --allow-exec",
                    "si el operador lo permite con --allow-exec",
                );
                words.may(format!("{start} {}, {allowed}", words.listed(programs)));
                words.leave_the_sandbox();
            }
            Exec::Any => {
                let any = words.either(
                    "start any host program that the operator allows with --allow-exec",
                    "iniciar cualquier programa de la máquina que el operador permita con --allow-exec",
                );
                words.may(any.to_string());
                words.leave_the_sandbox();
            }
            _ => words.withhold(Withheld {
                noun: words.either("host programs", "programas de la máquina"),
                verb: words.either("start host programs", "iniciar programas de la máquina"),
            }),
        }
    }

    fn denied(&self, program: &Program<'_>) -> Option<Denied> {
        (*self == Exec::None).then(|| Denied {
            permission: "exec: false",
            effect: "does not let it start host programs",
            grant: "exec: true     # or a list of programs by path",
            imports: program.imports_of(&["qyvol:process/"]),
        })
    }
}
