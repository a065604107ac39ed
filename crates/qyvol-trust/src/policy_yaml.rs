//! Reading `trust.yaml`, strictly: what is not understood refuses the file.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use qyvol_types::Timestamp;
use qyvol_types::yaml::{self, Fields, Node, Problems, Reader};

use crate::policy::{FILE, Identity, PolicyKey, Requirement, Rule};
use crate::statement::is_role;
use crate::{PublicKey, TrustPolicy};

/// Most keys, rules and requirements.
const MANY: usize = 1000;

impl TrustPolicy {
    /// Reads a policy.
    pub fn parse(text: &str) -> Result<TrustPolicy, Problems> {
        let root = yaml::parse(text)?;
        let mut reader = Reader::new(text);
        let policy = policy(&mut reader, &root);
        reader.finish(policy)
    }
}

fn policy(r: &mut Reader<'_>, root: &Node) -> Option<TrustPolicy> {
    let fields = r.fields(
        root,
        "the policy",
        &["version", "serial", "default", "keys", "revoked", "rules"],
    )?;
    let version = r.required(&fields, "version", "the policy")?;
    if r.integer(version, "version", 1) == Some(0) {
        r.problem(version.place, "version must be 1");
    }
    let serial = fields
        .get("serial")
        .and_then(|n| r.integer(n, "serial", (1 << 53) - 1))
        .unwrap_or(0);
    if let Some(node) = fields.get("default") {
        r.word(node, "default", &[("reject", ())]);
    }
    let mut policy = TrustPolicy {
        serial,
        ..TrustPolicy::default()
    };
    if let Some(node) = fields.get("keys") {
        keys(r, node, &mut policy);
    }
    if let Some(node) = fields.get("revoked") {
        revoked(r, node, &mut policy);
    }
    if let Some(node) = fields.get("rules") {
        for item in r.items(node, "rules") {
            if let Some(rule) = rule(r, item, &policy) {
                if policy.rules.iter().any(|other| other.scope == rule.scope) {
                    r.problem(
                        item.place,
                        format!("a second rule for the scope {}", qyvol_types::escape(&rule.scope)),
                    );
                }
                policy.rules.push(rule);
            }
        }
    }
    if policy.keys.len() > MANY || policy.rules.len() > MANY {
        r.problem(root.place, format!("more than {MANY} keys or rules"));
    }
    Some(policy)
}

fn keys(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    for (name, value) in r.entries(node, "keys") {
        let Some(fields) = r.fields(value, "a key", &["pem", "from", "until"]) else {
            continue;
        };
        let Some(pem) = r.required(&fields, "pem", "a key") else {
            continue;
        };
        let Some(text) = r.text(pem, "pem") else { continue };
        let from = time(r, &fields, "from");
        let until = time(r, &fields, "until");
        match PublicKey::from_pem(text) {
            Ok(key) => policy.keys.push(PolicyKey {
                name: name.text.clone(),
                key,
                from,
                until,
            }),
            Err(why) => r.problem(
                pem.place,
                format!("the key `{}` can't be used: {why}", qyvol_types::escape(&name.text)),
            ),
        }
    }
}

fn time(r: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<Timestamp> {
    let node = fields.get(key)?;
    let text = r.text(node, key)?;
    match text.parse() {
        Ok(time) => Some(time),
        Err(why) => {
            r.problem(node.place, format!("{key} is {why}"));
            None
        }
    }
}

fn revoked(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    let Some(fields) = r.fields(node, "revoked", &["keys", "images"]) else {
        return;
    };
    if let Some(list) = fields.get("keys") {
        for item in r.items(list, "revoked.keys") {
            let Some(text) = r.text(item, "a revoked key") else {
                continue;
            };
            // A name that is misspelt would revoke nothing.
            if !is_fingerprint(text) && !policy.keys.iter().any(|k| k.name == text) {
                r.problem(
                    item.place,
                    format!(
                        "`{}` is neither a key of this policy nor a fingerprint",
                        qyvol_types::escape(text)
                    ),
                );
            }
            policy.revoked_keys.push(text.to_string());
        }
    }
    if let Some(list) = fields.get("images") {
        for item in r.items(list, "revoked.images") {
            let Some(text) = r.text(item, "a revoked image") else {
                continue;
            };
            match text.parse() {
                Ok(digest) => policy.revoked_images.push(digest),
                Err(why) => r.problem(item.place, format!("not a digest: {why}")),
            }
        }
    }
}

/// Whether it is `SHA256:` and 32 bytes as fingerprints are written.
fn is_fingerprint(text: &str) -> bool {
    let digits = text.strip_prefix("SHA256:");
    digits.is_some_and(|d| STANDARD_NO_PAD.decode(d).is_ok_and(|hash| hash.len() == 32))
}

fn rule(r: &mut Reader<'_>, node: &Node, policy: &TrustPolicy) -> Option<Rule> {
    let fields = r.fields(node, "a rule", &["scope", "require", "identity", "max_age", "rollback"])?;
    let scope_node = r.required(&fields, "scope", "a rule")?;
    let scope = r.text(scope_node, "scope")?.to_string();
    let segments: Vec<&str> = scope.split('/').collect();
    let last = segments.len() - 1;
    let wild = |(i, s): (usize, &&str)| s.is_empty() || (s.contains('*') && *s != "*" && !(*s == "**" && i == last));
    if scope != FILE && segments.iter().enumerate().any(wild) {
        r.problem_with_help(
            scope_node.place,
            format!("`{}` can't be a scope", qyvol_types::escape(&scope)),
            "\"file:\", or whole segments as registry.example/acme/app, with `*` for one and `**` at the end for the rest",
        );
    }
    let mut require = Vec::new();
    let list = r.required(&fields, "require", "a rule")?;
    let items = r.items(list, "require");
    for item in items {
        require.extend(requirement(r, item, policy));
    }
    if items.is_empty() {
        r.problem(list.place, "a rule must require something");
    }
    let identity = match fields.get("identity") {
        Some(node) => r.word(node, "identity", &[("exact", Identity::Exact), ("any", Identity::Any)])?,
        None => Identity::Exact,
    };
    let max_age = fields.get("max_age").and_then(|n| age(r, n));
    if let Some(node) = fields.get("rollback") {
        let words = [("allow", true), ("deny", false)];
        if r.word(node, "rollback", &words) == Some(false) {
            r.problem(
                node.place,
                "rollback: deny is not enforced by this version, which therefore refuses it",
            );
        }
    }
    Some(Rule {
        scope,
        require,
        identity,
        max_age,
    })
}

fn age(r: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let text = r.text(node, "max_age")?;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let seconds = units.iter().find_map(|(unit, seconds)| {
        let digits = text.strip_suffix(unit)?;
        // `parse` takes a sign.
        let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'))?;
        number.checked_mul(*seconds).filter(|s| *s > 0)
    });
    if seconds.is_none() {
        r.problem(
            node.place,
            "max_age must be a number of days, hours, minutes or seconds, as 90d",
        );
    }
    seconds.map(Duration::from_secs)
}

fn requirement(r: &mut Reader<'_>, node: &Node, policy: &TrustPolicy) -> Option<Requirement> {
    let fields = r.fields(node, "a requirement", &["role", "keys", "threshold"])?;
    let role = r.required(&fields, "role", "a requirement").and_then(|n| {
        let text = r.text(n, "role")?;
        if !is_role(text) {
            r.problem(n.place, "a role is up to 32 of a-z, 0-9 and `-`");
        }
        Some(text.to_string())
    });
    let mut keys: Vec<usize> = Vec::new();
    let list = r.required(&fields, "keys", "a requirement")?;
    for item in r.items(list, "keys") {
        let Some(name) = r.text(item, "a key's name") else {
            continue;
        };
        match policy.keys.iter().position(|k| k.name == name) {
            // One key under two names is one key.
            Some(index)
                if keys
                    .iter()
                    .any(|k| policy.keys.get(*k).map(|k| &k.key) == policy.keys.get(index).map(|k| &k.key)) =>
            {
                r.problem(
                    item.place,
                    format!(
                        "`{}` stands twice, or is another name of a key that does",
                        qyvol_types::escape(name)
                    ),
                );
            }
            Some(index) => keys.push(index),
            None => {
                let known: Vec<&str> = policy.keys.iter().map(|k| k.name.as_str()).collect();
                let message = format!("there is no key `{}` in this policy", qyvol_types::escape(name));
                match yaml::nearest(name, &known) {
                    Some(near) => r.problem_with_help(item.place, message, format!("did you mean `{near}`?")),
                    None => r.problem(item.place, message),
                }
            }
        }
    }
    let threshold = match fields.get("threshold") {
        Some(node) => {
            let number = r.integer(node, "threshold", MANY as u64)?;
            if number == 0 || number as usize > keys.len() {
                r.problem(
                    node.place,
                    format!("threshold must be from 1 to the number of keys, {}", keys.len()),
                );
            }
            number as usize
        }
        None => 1,
    };
    if keys.is_empty() {
        r.problem(list.place, "a requirement needs a key");
    }
    Some(Requirement {
        role: role?,
        keys,
        threshold,
    })
}
