//! Reading `trust.yaml`, strictly: what is not understood refuses the file.

mod identities;

use std::collections::{HashMap, HashSet};

use qyvol_sandbox::read_ceiling;
use qyvol_types::yaml::{self, Fields, Node, Problems, Reader};
use qyvol_types::{Digest, Resources, escape, limits};

pub(crate) use self::identities::certified_name;
use crate::attest_yaml::conditions;
use crate::key_names::KeyNames;
use crate::policy::{Ceiling, Identity, Names, PolicyKey, Remap, Requirement, Rule};
use crate::revoked::RevokedKey;
use crate::statement::{is_role, sequence_of};
use crate::time_yaml::{age, time};
use crate::update_yaml::updates;
use crate::{Form, KeyId, KeyType, PublicKey, Scope, Signer, TrustPolicy};

/// Most keys, rules and requirements.
pub(crate) const MAX_ENTRIES: usize = 1000;
/// Largest serial: every JSON reader keeps it (RFC 7493).
pub(crate) const SERIAL_MAX: u64 = (1 << 53) - 1;

impl TrustPolicy {
    /// Reads a policy.
    pub fn parse(text: &str) -> Result<TrustPolicy, Problems> {
        let root = yaml::parse_within(text, limits::POLICY_BYTES)?;
        let mut reader = Reader::new(text);
        // Without these it accepts less: `trust remove` leaves an empty list of rules.
        if !reader.refuse_nulls(&root, &["roots", "identities", "keys", "rules"]) {
            return reader.finish(None);
        }
        let policy = policy(&mut reader, &root);
        reader.finish(policy)
    }
}

fn policy(r: &mut Reader<'_>, root: &Node) -> Option<TrustPolicy> {
    let fields = r.fields(
        root,
        "the policy",
        &[
            "version",
            "name",
            "serial",
            "expires",
            "update",
            "default",
            "development",
            "roots",
            "identities",
            "keys",
            "revoked",
            "floors",
            "rules",
        ],
    )?;
    let version = r.required(&fields, "version", "the policy")?;
    if r.integer(version, "version", 1) == Some(0) {
        r.problem(version.place, "version must be 1");
    }
    let serial = fields
        .get("serial")
        .and_then(|n| r.integer(n, "serial", SERIAL_MAX))
        .unwrap_or(0);
    if let Some(node) = fields.get("default") {
        r.word(node, "default", &[("reject", ())]);
    }
    let mut policy = TrustPolicy {
        serial,
        deny_development: denied(r, &fields, "development"),
        ..TrustPolicy::default()
    };
    if let Some(node) = fields.get("roots") {
        identities::roots(r, node, &mut policy);
    }
    // Before the keys, so that commands can add keys behind both.
    if let Some(node) = fields.get("identities") {
        identities::identities(r, node, &mut policy);
    }
    if let Some(node) = fields.get("keys") {
        keys(r, node, &mut policy);
    }
    if let Some(node) = fields.get("revoked") {
        revoked(r, node, &mut policy);
    }
    if let Some(node) = fields.get("floors") {
        floors(r, node, &mut policy);
    }
    updates(r, &fields, &mut policy);
    if let Some(node) = fields.get("rules") {
        let (keys, mut scopes) = (KeyNames::of(&policy), HashSet::new());
        let mut rules = Vec::new();
        for item in r.items(node, "rules").iter().take(MAX_ENTRIES + 1) {
            if let Some(rule) = rule(r, item, &keys) {
                if !scopes.insert(rule.scope.clone()) {
                    r.problem(item.place, format!("a second rule for the scope {}", rule.scope));
                }
                rules.push(rule);
            }
        }
        policy.rules = rules;
    }
    if policy.keys.len() > MAX_ENTRIES || policy.rules.len() > MAX_ENTRIES {
        r.problem(root.place, format!("more than {MAX_ENTRIES} keys or rules"));
    }
    Some(policy)
}

/// `allow`, the default, or `deny`.
fn denied(r: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> bool {
    let words = [("allow", false), ("deny", true)];
    fields
        .get(key)
        .and_then(|node| r.word(node, key, &words))
        .unwrap_or_default()
}

fn keys(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    let identities: HashSet<String> = policy.keys.iter().map(|key| key.name.clone()).collect();
    let mut by_id: HashMap<KeyId, usize> = HashMap::new();
    for (name, value) in r.entries(node, "keys").iter().take(MAX_ENTRIES + 1) {
        let Some(fields) = r.fields(value, "a key", &["pem", "from", "until", "unchecked"]) else {
            continue;
        };
        let Some(pem) = r.required(&fields, "pem", "a key") else {
            continue;
        };
        let Some(text) = r.text(pem, "pem") else { continue };
        let from = time(r, &fields, "from");
        let until = time(r, &fields, "until");
        let unchecked = fields.get("unchecked").and_then(|node| r.boolean(node, "unchecked"));
        match PublicKey::from_pem_unchecked(text) {
            Ok(key) => {
                if identities.contains(&name.text) {
                    let message = format!("`{}` is the name of an identity already", escape(&name.text));
                    r.problem(name.place, message);
                }
                // Whoever revokes one of two names would believe the key gone.
                let twin = by_id.insert(key.id(), policy.keys.len());
                if let Some(twin) = twin.and_then(|index| policy.keys.get(index)) {
                    r.problem(
                        name.place,
                        format!(
                            "`{}` is the key `{}` under another name",
                            escape(&name.text),
                            escape(&twin.name)
                        ),
                    );
                }
                policy.keys.push(PolicyKey {
                    name: name.text.clone(),
                    signer: Signer::Key(key),
                    from,
                    until,
                    unchecked: unchecked.unwrap_or_default(),
                });
            }
            Err(why) => r.problem(
                pem.place,
                format!("the key `{}` can't be used: {why}", escape(&name.text)),
            ),
        }
    }
}

fn revoked(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    let Some(fields) = r.fields(node, "revoked", &["keys", "images"]) else {
        return;
    };
    if let Some(list) = fields.get("keys") {
        let (keys, mut revoked) = (KeyNames::of(policy), Vec::new());
        for item in r.items(list, "revoked.keys") {
            let (name, keep) = match &item.value {
                yaml::Value::Mapping(_) => match revoked_key(r, item) {
                    Some(found) => found,
                    None => continue,
                },
                _ => (item, Vec::new()),
            };
            let Some(text) = r.text(name, "a revoked key") else {
                continue;
            };
            let named = keys.position(text).and_then(|index| policy.keys.get(index));
            match named
                .map(|key| key.signer.id())
                .or_else(|| KeyId::from_fingerprint(text))
            {
                Some(id) => revoked.push(RevokedKey { id, keep }),
                // A name that is misspelt would revoke nothing.
                None => r.problem(
                    name.place,
                    format!("`{}` is neither a key of this policy nor a fingerprint", escape(text)),
                ),
            }
        }
        policy.revoked.keys = revoked;
    }
    if let Some(list) = fields.get("images") {
        policy.revoked.images = digests(r, list, "revoked.images");
    }
}

/// A revoked key with images that it still counts for: its name, and their digests.
fn revoked_key<'n>(r: &mut Reader<'_>, node: &'n Node) -> Option<(&'n Node, Vec<Digest>)> {
    let fields = r.fields(node, "a revoked key", &["key", "keep"])?;
    let name = r.required(&fields, "key", "a revoked key")?;
    let keep = fields.get("keep").map(|list| digests(r, list, "keep"));
    Some((name, keep.unwrap_or_default()))
}

pub(crate) fn digests(r: &mut Reader<'_>, list: &Node, what: &str) -> Vec<Digest> {
    let items = r.items(list, what);
    items.iter().filter_map(|item| digest(r, item)).collect()
}

pub(crate) fn digest(r: &mut Reader<'_>, item: &Node) -> Option<Digest> {
    let found = r.text(item, "a digest")?.parse();
    found
        .map_err(|why| r.problem(item.place, format!("not a digest: {why}")))
        .ok()
}

fn floors(r: &mut Reader<'_>, node: &Node, policy: &mut TrustPolicy) {
    for (name, value) in r.entries(node, "floors") {
        let text = name.text.as_str();
        if text.contains('*') || format!("file:{text}").parse::<Scope>().is_err() {
            r.problem(
                name.place,
                format!("`{}` can't be the signed name of an image", escape(text)),
            );
        }
        let Some(version) = r.text(value, "a floor") else {
            continue;
        };
        // It would lie below every version, and hold none back.
        if sequence_of(version) == sequence_of("") {
            r.problem_with_help(
                value.place,
                format!("`{}` is no version to compare with", escape(version)),
                "numbers, such as 1.4.2; quote 1.4, which is a number to YAML",
            );
        }
        policy.revoked.floors.insert(text.to_string(), version.to_string());
    }
    if policy.revoked.floors.len() > MAX_ENTRIES {
        r.problem(node.place, format!("more than {MAX_ENTRIES} floors"));
    }
}

fn rule(r: &mut Reader<'_>, node: &Node, keys: &KeyNames<'_>) -> Option<Rule> {
    let known = [
        "scope", "require", "identity", "names", "remap", "max_age", "rollback", "attest", "allow", "limits",
    ];
    let fields = r.fields(node, "a rule", &known)?;
    let scope_node = r.required(&fields, "scope", "a rule")?;
    let text = r.text(scope_node, "scope")?;
    let scope = text.parse::<Scope>().map_err(|error| {
        r.problem_with_help(
            scope_node.place,
            format!("`{}` can't be a scope: {error}", escape(text)),
            escape(error.help()).to_string(),
        );
    });
    let mut require = Vec::new();
    let list = r.required(&fields, "require", "a rule")?;
    let items = r.items(list, "require");
    for item in items {
        require.extend(requirement(r, item, keys));
    }
    if items.is_empty() {
        r.problem(list.place, "a rule must require something");
    }
    let identity = match fields.get("identity") {
        Some(node) => {
            let words = [
                ("exact", Identity::Exact),
                ("repository", Identity::Repository),
                ("any", Identity::Any),
            ];
            r.word(node, "identity", &words)?
        }
        None => Identity::default(),
    };
    let names = match fields.get("names") {
        Some(node) => r.word(node, "names", &[("trailing", Names::Trailing), ("full", Names::Full)])?,
        None => Names::default(),
    };
    let remap = fields.get("remap").and_then(|node| remap(r, node));
    let max_age = fields.get("max_age").and_then(|n| age(r, n, "max_age"));
    let deny_rollback = denied(r, &fields, "rollback");
    let attest = conditions(r, &fields, keys);
    let ceiling = ceiling(r, &fields);
    let scope = scope.ok()?;
    // A file's only name is its own: there is nothing to hold it against.
    for key in ["names", "remap"] {
        if let Some(node) = fields.get(key).filter(|_| scope.is_file()) {
            r.problem(
                node.place,
                format!("{key} has no effect under {scope}, which covers no registry"),
            );
        }
    }
    Some(Rule {
        scope,
        require,
        identity,
        names,
        remap,
        max_age,
        deny_rollback,
        attest,
        ceiling,
    })
}

/// What a rule bounds.
fn ceiling(r: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Box<Ceiling>> {
    let (allow, limits) = (fields.get("allow"), fields.get("limits"));
    if let Some(node) = limits
        && matches!(&node.value, yaml::Value::Mapping(entries) if entries.is_empty())
    {
        r.problem_with_help(node.place, "limits sets none", "name a limit, or remove the key");
    }
    let ceiling = Ceiling {
        allow: allow.and_then(|node| read_ceiling(r, node, "allow")),
        limits: limits
            .and_then(|node| Resources::from_yaml(r, node, "limits"))
            .unwrap_or_default(),
    };
    (allow.is_some() || limits.is_some()).then(|| Box::new(ceiling))
}

fn remap(r: &mut Reader<'_>, node: &Node) -> Option<Remap> {
    let fields = r.fields(node, "remap", &["prefix", "signed"])?;
    let prefix_node = r.required(&fields, "prefix", "remap")?;
    let prefix = r.text(prefix_node, "prefix")?;
    // A scope without wildcards, or a registry alone.
    let scope: Result<Scope, _> = format!("{prefix}/x").parse();
    let plain = |text: &str| !text.contains('*') && !text.is_empty();
    if !plain(prefix) || scope.is_err() || scope.is_ok_and(|s| s.is_file()) {
        r.problem_with_help(
            prefix_node.place,
            format!("`{}` can't be a prefix", escape(prefix)),
            "HOST or HOST/REPOSITORY by whole segments, without wildcards",
        );
    }
    let signed = match fields.get("signed") {
        Some(node) => {
            let text = r.text(node, "signed")?;
            if !plain(text) || format!("file:{text}").parse::<Scope>().is_err() {
                r.problem_with_help(
                    node.place,
                    format!("`{}` can't be the start of a signed name", escape(text)),
                    "a repository by whole segments; leave `signed` out to drop the prefix",
                );
            }
            Some(text.to_string())
        }
        None => None,
    };
    Some(Remap {
        prefix: prefix.to_string(),
        signed,
    })
}

fn requirement(r: &mut Reader<'_>, node: &Node, known: &KeyNames<'_>) -> Option<Requirement> {
    let fields = r.fields(node, "a requirement", &["form", "role", "keys", "threshold"])?;
    let form = match fields.get("form") {
        Some(node) => r.word(node, "form", &[("qyvol", Form::Qyvol), ("cosign", Form::Cosign)])?,
        None => Form::default(),
    };
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
        match known.position(name) {
            Some(index) if keys.contains(&index) => {
                r.problem(item.place, format!("`{}` is listed twice", escape(name)));
            }
            Some(index) => {
                let key = known.keys.get(index).and_then(|key| key.signer.key());
                if form == Form::Cosign && key.is_some_and(|key| key.algorithm() != KeyType::EcdsaP256) {
                    r.problem(
                        item.place,
                        format!(
                            "`{}` is no ECDSA P-256 key: of cosign's signatures only those are verified",
                            escape(name)
                        ),
                    );
                }
                keys.push(index);
            }
            None => {
                let known = known.keys.iter().map(|k| k.name.as_str());
                let message = format!("there is no key `{}` in this policy", escape(name));
                r.unknown(item.place, message, name, known);
            }
        }
    }
    let threshold = match fields.get("threshold") {
        Some(node) => {
            let number = r.integer(node, "threshold", MAX_ENTRIES as u64)?;
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
        form: Some(form),
        keys,
        threshold,
    })
}
