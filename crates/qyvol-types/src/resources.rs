//! `resources`: limits on a run, in a manifest and in a rule of a trust policy.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::escape;
use crate::yaml::{Node, Reader};

/// Limits on a run. What is absent has the host's default, or no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Bytes of linear memory, all memories together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Milliseconds of wall clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Milliseconds of processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u64>,
    /// WebAssembly instructions, about one each, as wasmtime counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Bytes of all files: in memory, on disk, or with `netfs` of fetched content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<u64>,
    /// Bytes written to stdout and stderr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Files and directories open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Sockets open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u64>,
}

impl fmt::Display for Resources {
    /// As `--limit` takes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limits = *self;
        let mut separator = "";
        for (name, unit, limit) in limits.each() {
            if let Some(limit) = limit {
                let unit = if matches!(unit, Unit::Time) { "ms" } else { "" };
                write!(f, "{separator}{name}={limit}{unit}")?;
                separator = " ";
            }
        }
        Ok(())
    }
}

/// How a limit is written.
enum Unit {
    Bytes,
    Time,
    Number,
}

impl Unit {
    fn parse(&self, text: &str) -> Option<u64> {
        match self {
            Unit::Bytes => parse_size(text),
            Unit::Time => parse_duration(text),
            Unit::Number => text.parse().ok().filter(|n| *n > 0 && !text.starts_with('+')),
        }
    }

    fn expected(&self) -> &'static str {
        match self {
            Unit::Bytes => "a size, such as 256MB or 64MiB, or a number of bytes",
            Unit::Time => "a whole number with a unit of ms, s, m or h, such as 30s",
            Unit::Number => "a whole number over 0",
        }
    }
}

impl Resources {
    /// Each limit, with its name and its unit.
    fn each(&mut self) -> [(&'static str, Unit, &mut Option<u64>); 8] {
        [
            ("memory", Unit::Bytes, &mut self.memory),
            ("timeout", Unit::Time, &mut self.timeout),
            ("cpu", Unit::Time, &mut self.cpu),
            ("fuel", Unit::Number, &mut self.fuel),
            ("storage", Unit::Bytes, &mut self.storage),
            ("output", Unit::Bytes, &mut self.output),
            ("files", Unit::Number, &mut self.files),
            ("sockets", Unit::Number, &mut self.sockets),
        ]
    }

    /// Reads them in YAML; `what` is their key there.
    pub fn from_yaml(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<Resources> {
        let mut resources = Resources::default();
        let known = resources.each().map(|(name, _, _)| name);
        let fields = r.fields(node, what, &known)?;
        let mut complete = true;
        for (name, unit, limit) in resources.each() {
            let Some(node) = fields.get(name) else { continue };
            let what = format!("{what}.{name}");
            let text = r.text_or_number(node, &what);
            *limit = text.and_then(|text| unit.parse(text));
            if let (Some(text), None) = (text, &limit) {
                let message = format!("{what} must be {}", unit.expected());
                // A bare number most likely means seconds.
                match unit.parse(&format!("{text}s")) {
                    Some(_) => r.problem_with_help(node.place, message, format!("write {}s", escape(text))),
                    None => r.problem(node.place, message),
                }
            }
            complete &= limit.is_some();
        }
        complete.then_some(resources)
    }

    /// Reads one of `NAME=VALUE`, as a command line has it.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let known = self.each().map(|(name, _, _)| name).join(", ");
        let Some((name, value)) = text.split_once('=') else {
            return Err(format!("`{}` is not NAME=VALUE", escape(text)));
        };
        let Some((name, unit, limit)) = self.each().into_iter().find(|(known, _, _)| *known == name) else {
            return Err(format!("there is no limit `{}`: there are {known}", escape(name)));
        };
        let parsed = unit.parse(value);
        *limit = Some(parsed.ok_or_else(|| format!("{name} must be {}", unit.expected()))?);
        Ok(())
    }

    /// The least of both, limit by limit.
    pub fn least(mut self, mut other: Resources) -> Resources {
        for ((_, _, own), (_, _, other)) in self.each().into_iter().zip(other.each()) {
            *own = match (*own, *other) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        self
    }

    /// These limits, but for those that `other` has.
    pub fn overridden_by(mut self, mut other: Resources) -> Resources {
        for ((_, _, own), (_, _, other)) in self.each().into_iter().zip(other.each()) {
            *own = other.or(*own);
        }
        self
    }
}

/// Bytes of a size with a decimal (`MB`) or binary (`MiB`) unit.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// Milliseconds of a duration such as `30s`: one whole number and one unit of
/// `ms`, `s`, `m` or `h`, so that two readers
/// can't disagree on it.
pub fn parse_duration(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.strip_prefix(' ').unwrap_or(unit) {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)
        .filter(|millis| *millis > 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn lower_of_two_limits_applies() {
        let mut a = Resources::default();
        for limit in ["memory=1MiB", "timeout=2s", "files=7"] {
            a.set(limit).unwrap();
        }
        let mut b = Resources::default();
        for limit in ["memory=2MiB", "timeout=1s", "sockets=3"] {
            b.set(limit).unwrap();
        }
        let least = a.least(b);
        assert_eq!((least.memory, least.timeout), (Some(1 << 20), Some(1000)));
        assert_eq!((least.files, least.sockets, least.cpu), (Some(7), Some(3), None));
        assert_eq!(b.least(a), least);
        assert_eq!(a.overridden_by(b).memory, Some(2 << 20));
        for wrong in [
            "memory",
            "memory=",
            "memory=0",
            "memory=-1",
            "ram=1",
            "timeout=5",
            "files=1k",
            "files=+1",
        ] {
            a.set(wrong).unwrap_err();
        }
    }
}
