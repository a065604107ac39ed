//! Reading a rule's conditions on attestations.

use qyvol_types::escape;
use qyvol_types::yaml::{Fields, Node, Reader};

use crate::key_names::KeyNames;
use crate::policy::{AttestCondition, Pattern};

/// Most conditions of a rule.
const MAX_CONDITIONS: usize = 64;

/// A rule's `attest`.
pub(crate) fn conditions(r: &mut Reader<'_>, fields: &Fields<'_>, known: &KeyNames<'_>) -> Vec<AttestCondition> {
    let Some(node) = fields.get("attest") else {
        return Vec::new();
    };
    let items = r.items(node, "attest");
    if items.is_empty() {
        r.problem_with_help(
            node.place,
            "attest asks for nothing",
            "list a condition, or remove the key",
        );
    }
    if items.len() > MAX_CONDITIONS {
        r.problem(node.place, format!("attest has more than {MAX_CONDITIONS} conditions"));
    }
    items.iter().filter_map(|item| condition(r, item, known)).collect()
}

fn condition(r: &mut Reader<'_>, node: &Node, known: &KeyNames<'_>) -> Option<AttestCondition> {
    let what = "a condition on attestations";
    let fields = r.fields(node, what, &["type", "keys", "builder", "source", "ref"])?;
    r.required(&fields, "type", what)?;
    let list = r.required(&fields, "keys", what)?;
    let mut keys: Vec<usize> = Vec::new();
    let items = r.items(list, "keys");
    for item in items {
        let Some(name) = r.text(item, "a key's name") else {
            continue;
        };
        match known.position(name) {
            Some(index) if keys.contains(&index) => {
                r.problem(item.place, format!("`{}` is listed twice", escape(name)));
            }
            Some(index) => keys.push(index),
            None => r.problem(
                item.place,
                format!("there is no key or identity `{}` in this policy", escape(name)),
            ),
        }
    }
    if items.is_empty() {
        r.problem(list.place, "a condition on attestations needs a key");
    }
    Some(AttestCondition {
        kind: pattern(r, &fields, "type")?,
        keys,
        builder: pattern(r, &fields, "builder"),
        source: pattern(r, &fields, "source"),
        source_ref: pattern(r, &fields, "ref"),
    })
}

fn pattern(r: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<Pattern> {
    let node = fields.get(key)?;
    let text = r.text(node, key)?;
    let start = text.strip_suffix('*').unwrap_or(text);
    if start.contains('*') || text.is_empty() {
        r.problem_with_help(
            node.place,
            format!("`{}` is not a pattern", escape(text)),
            "write the whole text, or its beginning followed by `*`",
        );
    } else if key == "source" && start != text && !start.ends_with('/') {
        // `…/acme*` is `…/acme-of-another` too.
        r.problem_with_help(
            node.place,
            format!("`{}` covers repositories of other owners too", escape(text)),
            "put a `/` before the `*`",
        );
    }
    Some(Pattern(text.to_string()))
}
