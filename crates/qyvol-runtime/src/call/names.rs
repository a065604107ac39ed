//! Functions by their full and short names.

use qyvol_types::escape;
use thiserror::Error;

/// Names that an error lists at most.
const LISTED: usize = 20;

/// A function that a component exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exported {
    /// Its interface, as it is exported; none for a function of the world itself.
    pub(super) interface: Option<String>,
    pub(super) function: String,
}

impl Exported {
    /// `ns:pkg/iface@1.0.0.func`.
    pub(super) fn name(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{interface}.{}", self.function),
            None => self.function.clone(),
        }
    }

    /// How much of its name is left out, if it matches.
    fn rank(&self, interface: Option<&str>, function: &str) -> Option<u8> {
        if self.function != function {
            return None;
        }
        match (&self.interface, interface) {
            (None, None) => Some(0),
            (None, Some(_)) => None,
            (Some(_), None) => Some(3),
            (Some(own), Some(asked)) => {
                let without_version = own.split_once('@').map_or(own.as_str(), |(name, _)| name);
                let is_tail = |name: &str| name.strip_suffix(asked).is_some_and(|rest| rest.ends_with([':', '/']));
                if own == asked {
                    Some(0)
                } else if without_version == asked {
                    Some(1)
                } else {
                    (is_tail(own) || is_tail(without_version)).then_some(2)
                }
            }
        }
    }
}

/// Why no function is found.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FunctionError {
    /// None has the name.
    #[error("it exports no function {}{}", escape(name), listed("; it has ", known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The functions that there are.
        known: Vec<String>,
    },
    /// Several have it.
    #[error("{} is ambiguous{}", escape(name), listed(": it can be ", candidates))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The functions that it may mean.
        candidates: Vec<String>,
    },
    /// It can't be called from outside.
    #[error("{} can't be called from outside: {why}", escape(name))]
    Unfit {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
        /// Its types, as WIT has them.
        signature: String,
    },
}

impl FunctionError {
    /// The function's types, as WIT has them, where one was found.
    pub fn signature(&self) -> Option<&str> {
        match self {
            FunctionError::Unfit { signature, .. } => Some(signature),
            _ => None,
        }
    }
}

fn listed(before: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = names.iter().take(LISTED).map(|name| escape(name).to_string()).collect();
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{before}{}{more}", shown.join(", "))
}

/// The one function that a name refers to: by the full name, or an unambiguous part of it. `.`
/// or `#` is between the interface and the function.
pub(super) fn find<'a>(functions: &'a [Exported], name: &str) -> Result<&'a Exported, FunctionError> {
    let (interface, function) = split(name);
    let mut best: Vec<&Exported> = Vec::new();
    let mut best_rank = u8::MAX;
    for candidate in functions {
        match candidate.rank(interface, function) {
            Some(rank) if rank < best_rank => (best, best_rank) = (vec![candidate], rank),
            Some(rank) if rank == best_rank => best.push(candidate),
            _ => {}
        }
    }
    match best.as_slice() {
        [one] => Ok(one),
        [] => Err(FunctionError::Unknown {
            name: name.to_string(),
            known: functions
                .iter()
                .filter(|known| !known.function.starts_with('['))
                .map(Exported::name)
                .collect(),
        }),
        several => Err(FunctionError::Ambiguous {
            name: name.to_string(),
            candidates: several.iter().map(|candidate| candidate.name()).collect(),
        }),
    }
}

/// Which of these functions a name refers to: their interfaces, and their names. Entry points
/// are not included.
///
/// # Errors
///
/// If it is the name of none, or of several.
pub fn find_by_name<'a>(
    functions: impl Iterator<Item = (Option<&'a str>, &'a str)>,
    name: &str,
) -> Result<usize, FunctionError> {
    let is_callable =
        |(_, (interface, _)): &(usize, (Option<&str>, &str))| !interface.is_some_and(crate::generation::is_entry);
    let (places, exported): (Vec<usize>, Vec<Exported>) = functions
        .enumerate()
        .filter(is_callable)
        .map(|(place, (interface, function))| {
            let exported = Exported {
                interface: interface.map(str::to_string),
                function: function.to_string(),
            };
            (place, exported)
        })
        .unzip();
    let found = find(&exported, name)?;
    let lost = || FunctionError::Unknown {
        name: name.to_string(),
        known: Vec::new(),
    };
    let place = exported.iter().zip(places).find(|(one, _)| *one == found);
    place.map(|(_, place)| place).ok_or_else(lost)
}

fn split(name: &str) -> (Option<&str>, &str) {
    // A method, as in `iface.[method]thing.do`, has a dot of its own.
    let method = name
        .rfind('[')
        .filter(|at| name[..*at].is_empty() || name[..*at].ends_with(['.', '#']));
    let at = match (method, name.rfind('#')) {
        (Some(at), _) => at.checked_sub(1),
        (None, Some(at)) => Some(at),
        (None, None) => name.rfind('.'),
    };
    match at {
        Some(at) => (Some(&name[..at]), &name[at + 1..]),
        None => (None, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exported(names: &[(&str, &str)]) -> Vec<Exported> {
        let one = |(interface, function): &(&str, &str)| Exported {
            interface: (!interface.is_empty()).then(|| (*interface).to_string()),
            function: (*function).to_string(),
        };
        names.iter().map(one).collect()
    }

    // [CALL-002]
    #[test]
    fn name_may_leave_out_what_is_not_ambiguous() {
        let functions = exported(&[
            ("acme:calc/ops@1.0.0", "add"),
            ("acme:calc/ops@1.0.0", "[method]sum.add"),
            ("acme:calc/more@1.0.0", "mul"),
            ("acme:other/more@1.0.0", "mul"),
            ("", "mul"),
            ("plain", "twice"),
        ]);
        for (name, found) in [
            ("acme:calc/ops@1.0.0.add", "acme:calc/ops@1.0.0.add"),
            ("acme:calc/ops@1.0.0#add", "acme:calc/ops@1.0.0.add"),
            ("acme:calc/ops.add", "acme:calc/ops@1.0.0.add"),
            ("calc/ops#add", "acme:calc/ops@1.0.0.add"),
            ("ops.add", "acme:calc/ops@1.0.0.add"),
            ("ops@1.0.0.add", "acme:calc/ops@1.0.0.add"),
            ("add", "acme:calc/ops@1.0.0.add"),
            ("ops.[method]sum.add", "acme:calc/ops@1.0.0.[method]sum.add"),
            ("ops#[method]sum.add", "acme:calc/ops@1.0.0.[method]sum.add"),
            ("[method]sum.add", "acme:calc/ops@1.0.0.[method]sum.add"),
            ("other/more.mul", "acme:other/more@1.0.0.mul"),
            // The world's own comes first.
            ("mul", "mul"),
            ("plain.twice", "plain.twice"),
            ("twice", "plain.twice"),
        ] {
            assert_eq!(
                find(&functions, name).map(Exported::name).as_deref(),
                Ok(found),
                "{name}"
            );
        }
        for name in [
            "",
            ".",
            "#",
            "ad",
            "ps.add",
            "acme:calc/ops@1.0.add",
            "ops.",
            ".add",
            "ops.mul",
            "[",
            ".[",
        ] {
            let error = find(&functions, name).unwrap_err();
            assert!(matches!(error, FunctionError::Unknown { .. }), "{name}: {error}");
            assert!(
                error.to_string().contains("it has acme:calc/ops@1.0.0.add, "),
                "{error}"
            );
            assert!(!error.to_string().contains("[method]"), "{error}");
        }
        let error = find(&functions, "more.mul").unwrap_err();
        assert_eq!(
            error.to_string(),
            "more.mul is ambiguous: it can be acme:calc/more@1.0.0.mul, acme:other/more@1.0.0.mul"
        );
    }

    #[test]
    fn list_of_names_has_an_end() {
        let names: Vec<String> = (0..10_000).map(|n| format!("f{n}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| ("", name.as_str())).collect();
        let error = find(&exported(&pairs), "g\u{1b}[0m").unwrap_err().to_string();
        assert!(error.len() < 300 && error.ends_with(" and 9980 more"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}
