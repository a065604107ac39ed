//! How many instances a function has, and how long they are kept.

use serde::{Deserialize, Serialize};

use crate::resources::parse_size;
use crate::yaml::{Node, Reader, Value};
use crate::{escape, parse_duration};

/// Most instances of one function.
const INSTANCES: u64 = 1024;
/// Most calls that wait for an instance.
const QUEUE: u64 = 65_536;
/// Instances of a pool that does not say how many.
const DEFAULT_INSTANCES: u64 = 4;
/// Calls that wait, of a pool that does not say how many.
const DEFAULT_QUEUE: u64 = 1024;
/// Milliseconds until an instance of an adaptive pool is given up.
const DEFAULT_IDLE: u64 = 60_000;

const KINDS: &[(&str, PoolKind)] = &[
    ("inline", PoolKind::Inline),
    ("lazy", PoolKind::Lazy),
    ("static", PoolKind::Static),
    ("adaptive", PoolKind::Adaptive),
];

/// Where the instances of a function come from. Only a function whose author says so has
/// instances that see what an earlier call has left in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: PoolKind,
    /// Most instances; none where each call has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// Instances of a static pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Most calls that wait for an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,
    /// Milliseconds after which an adaptive pool gives up an instance that nobody calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// Bytes of linear memory and tables with which an instance is still kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<u64>,
}

/// A kind of pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolKind {
    /// None: each call has an instance of its own.
    #[default]
    Inline,
    /// Instances are made when they are needed, and kept.
    Lazy,
    /// Instances are made at the start.
    Static,
    /// As lazy, and those that nobody calls are given up.
    Adaptive,
}

impl Pool {
    /// The most instances at once; none where each call has its own.
    pub fn instances(&self) -> Option<usize> {
        self.max.or(self.size).and_then(|number| usize::try_from(number).ok())
    }

    /// A pool of a kind with the values that it has where nothing else is said.
    fn of_kind(kind: PoolKind) -> Pool {
        let kept = kind != PoolKind::Inline;
        let is_static = kind == PoolKind::Static;
        Pool {
            kind,
            max: (kept && !is_static).then_some(DEFAULT_INSTANCES),
            size: is_static.then_some(DEFAULT_INSTANCES),
            queue: kept.then_some(DEFAULT_QUEUE),
            idle: (kind == PoolKind::Adaptive).then_some(DEFAULT_IDLE),
            retained: None,
        }
    }

    /// Checks what came in a config; returns what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        let like = Pool::of_kind(self.kind);
        let has = |pool: &Pool| [pool.max, pool.size, pool.queue, pool.idle].map(|value| value.is_some());
        if has(self) != has(&like) || (self.retained.is_some() && self.kind == PoolKind::Inline) {
            return Err("a pool lacks what its type needs, or has what its type does not have".to_string());
        }
        let instances = self.max.or(self.size);
        if instances.is_some_and(|number| number == 0 || number > INSTANCES)
            || self.queue.is_some_and(|number| number > QUEUE)
            || self.idle == Some(0)
            || self.retained == Some(0)
        {
            return Err("a number of a pool is not within its bounds".to_string());
        }
        Ok(())
    }

    /// Reads it in YAML: a word for its kind, or a mapping.
    pub(crate) fn from_yaml(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<Pool> {
        if !matches!(node.value, Value::Mapping(_)) {
            return r.word(node, what, KINDS).map(Pool::of_kind);
        }
        let fields = r.fields(node, what, &["type", "max", "size", "queue", "idle", "retained"])?;
        let kind = r.required(&fields, "type", what)?;
        let mut pool = Pool::of_kind(r.word(kind, &format!("{what}.type"), KINDS)?);
        let has_own_instances = pool.kind == PoolKind::Inline;
        let mut complete = true;
        for (key, value, most) in [
            ("max", &mut pool.max, INSTANCES),
            ("size", &mut pool.size, INSTANCES),
            ("queue", &mut pool.queue, QUEUE),
        ] {
            let Some(node) = fields.get(key) else { continue };
            let what = format!("{what}.{key}");
            if value.is_none() {
                r.problem(node.place, format!("{what} has no meaning with this type of pool"));
            }
            *value = r.integer(node, &what, most);
            if *value == Some(0) && key != "queue" {
                r.problem(node.place, format!("{what} must be over 0"));
            }
            complete &= value.is_some();
        }
        if let Some(node) = fields.get("idle") {
            let what = format!("{what}.idle");
            if pool.idle.is_none() {
                r.problem(node.place, format!("{what} has no meaning with this type of pool"));
            }
            let expected = "a whole number with a unit of ms, s, m or h, such as 30s";
            pool.idle = value(r, node, &what, expected, parse_duration);
            complete &= pool.idle.is_some();
        }
        if let Some(node) = fields.get("retained") {
            let what = format!("{what}.retained");
            if has_own_instances {
                r.problem(node.place, format!("{what} has no meaning with this type of pool"));
            }
            let expected = "a size, such as 32MB or 32MiB, or a number of bytes";
            pool.retained = value(r, node, &what, expected, parse_size);
            complete &= pool.retained.is_some();
        }
        complete.then_some(pool)
    }
}

fn value(r: &mut Reader<'_>, node: &Node, what: &str, expected: &str, parse: fn(&str) -> Option<u64>) -> Option<u64> {
    let text = r.text_or_number(node, what)?;
    let value = parse(text);
    if value.is_none() {
        r.problem(node.place, format!("{what} must be {expected}, not {}", escape(text)));
    }
    value
}
