//! Reading what a policy says of its own updates: `name`, `expires` and `update`.

use qyvol_types::escape;
use qyvol_types::yaml::{Fields, Node, Reader};

use crate::policy::Update;
use crate::time_yaml::{age, time};
use crate::{Scope, TrustPolicy};

/// Most keys that replace a policy.
pub(crate) const UPDATE_KEYS: usize = 32;

/// Reads the three into a policy whose keys are known.
pub(crate) fn updates(r: &mut Reader<'_>, fields: &Fields<'_>, policy: &mut TrustPolicy) {
    if let Some(node) = fields.get("name") {
        policy.name = name(r, node);
    }
    policy.expires = time(r, fields, "expires");
    let Some(node) = fields.get("update") else { return };
    policy.update = update(r, node, policy);
    if policy.name.is_none() {
        r.problem(node.place, "a policy with `update` needs a `name`");
    }
    if policy.serial == 0 {
        r.problem(node.place, "a policy with `update` needs a `serial` from 1 on");
    }
}

fn name(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = r.text(node, "name")?;
    if text.contains('*') || format!("file:{text}").parse::<Scope>().is_err() {
        r.problem_with_help(
            node.place,
            format!("`{}` can't be a policy's name", escape(text)),
            "lower-case letters and digits, separated by `.`, `_`, `-` or `/`",
        );
    }
    Some(text.to_string())
}

fn update(r: &mut Reader<'_>, node: &Node, policy: &TrustPolicy) -> Option<Update> {
    let known = ["keys", "threshold", "from", "freshness", "max_lag"];
    let fields = r.fields(node, "update", &known)?;
    let list = r.required(&fields, "keys", "update")?;
    let keys = key_list(r, list, "update.keys", policy);
    let freshness_node = fields.get("freshness");
    let freshness = freshness_node.map(|list| key_list(r, list, "update.freshness", policy));
    let freshness = freshness.unwrap_or_default();
    let threshold = match fields.get("threshold") {
        Some(node) => {
            let number = r.integer(node, "update.threshold", u64::MAX)?;
            let threshold = usize::try_from(number).unwrap_or(usize::MAX);
            if threshold == 0 || threshold > keys.len() {
                r.problem(
                    node.place,
                    format!("threshold must be from 1 to the number of keys, {}", keys.len()),
                );
            }
            threshold
        }
        None => 1,
    };
    let from = fields.get("from").and_then(|node| {
        let text = r.text(node, "update.from")?;
        let name = text.parse::<qyvol_types::RepositoryName>().ok();
        let name = name.filter(|name| name.registry().is_some());
        if name.is_none() {
            r.problem_with_help(
                node.place,
                format!("`{}` is not a repository", escape(text)),
                "HOST/REPOSITORY, without a tag",
            );
        }
        name
    });
    let max_lag = fields.get("max_lag").and_then(|node| age(r, node, "max_lag"));
    if fields.get("max_lag").is_some() && freshness.is_empty() {
        r.problem(
            node.place,
            "`max_lag` needs `freshness`: keys that say which document is the newest",
        );
    }
    Some(Update {
        keys,
        threshold,
        from,
        freshness,
        max_lag,
    })
}

/// Keys by their names; each counts at any time, since a chain is followed long after it was
/// signed.
fn key_list(r: &mut Reader<'_>, list: &Node, what: &str, policy: &TrustPolicy) -> Vec<usize> {
    let mut found = Vec::new();
    let items = r.items(list, what);
    for item in items.iter().take(UPDATE_KEYS + 1) {
        let Some(name) = r.text(item, "a key's name") else {
            continue;
        };
        let named = policy.keys.iter().enumerate().find(|(_, key)| key.name == name);
        match named {
            None => r.problem(item.place, format!("there is no key `{}`", escape(name))),
            Some((index, _)) if found.contains(&index) => {
                r.problem(item.place, format!("`{}` is listed twice", escape(name)));
            }
            Some((_, key)) if key.signer.key().is_none() => r.problem(
                item.place,
                format!("`{}` is an identity: {what} names keys", escape(name)),
            ),
            Some((_, key)) if key.from.is_some() || key.until.is_some() => r.problem_with_help(
                item.place,
                format!("`{}` has `from` or `until`, which {what} can't have", escape(name)),
                "a document is followed long after it was signed: the next document removes the key",
            ),
            Some((index, _)) => found.push(index),
        }
    }
    if items.is_empty() || items.len() > UPDATE_KEYS {
        r.problem(list.place, format!("{what} must name 1 to {UPDATE_KEYS} keys"));
    }
    found
}
