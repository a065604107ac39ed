//! The host's policy: which keys must have signed what.

use std::time::Duration;

use qyvol_types::{Digest, Reference, Timestamp};
use serde::Serialize;

use crate::PublicKey;

/// A checked policy. What no rule covers is refused.
#[derive(Clone, Debug, Default)]
pub struct TrustPolicy {
    pub(crate) serial: u64,
    pub(crate) keys: Vec<PolicyKey>,
    /// Names or fingerprints.
    pub(crate) revoked_keys: Vec<String>,
    pub(crate) revoked_images: Vec<Digest>,
    pub(crate) rules: Vec<Rule>,
}

/// A key and when it is good.
#[derive(Clone, Debug)]
pub struct PolicyKey {
    /// Its name in the policy.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// It is good from here.
    pub from: Option<Timestamp>,
    /// It is good before here.
    pub until: Option<Timestamp>,
}

/// What images of a scope need.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `file:` or a pattern of whole path segments.
    pub scope: String,
    /// All of these.
    pub require: Vec<Requirement>,
    /// Whether the signed name must be the one asked for.
    pub identity: Identity,
    /// How old a signature may be.
    pub max_age: Option<Duration>,
}

/// So many distinct keys in a role.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// The role.
    pub role: String,
    /// Indices into the policy's keys.
    pub(crate) keys: Vec<usize>,
    /// How many distinct keys.
    pub threshold: usize,
}

/// Whether the signed name must be the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Name and version must be those asked for.
    Exact,
    /// Any will do.
    Any,
}

/// Where an image came from, as rules see it.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    /// A file, or a name of this machine's store alone.
    File,
    /// A name with a registry.
    Name(&'a Reference),
}

/// The scope of files.
pub(crate) const FILE: &str = "file:";

impl Scope<'_> {
    /// As rules and reports write it: `file:` or `registry/repository`.
    pub(crate) fn text(&self) -> String {
        match self {
            Scope::File => FILE.to_string(),
            Scope::Name(name) => match name.registry() {
                Some(registry) => format!("{registry}/{}", name.repository()),
                None => FILE.to_string(),
            },
        }
    }
}

impl TrustPolicy {
    /// The policy of a host that has none.
    pub fn reject_all() -> TrustPolicy {
        TrustPolicy::default()
    }

    /// A policy that asks one key for a release, whatever the image: for
    /// someone who names the key on the command line.
    pub fn single_key(key: PublicKey) -> TrustPolicy {
        let rule = |scope: &str| Rule {
            scope: scope.to_string(),
            require: vec![Requirement {
                role: "release".to_string(),
                keys: vec![0],
                threshold: 1,
            }],
            identity: Identity::Exact,
            max_age: None,
        };
        TrustPolicy {
            keys: vec![PolicyKey {
                name: "given".to_string(),
                key,
                from: None,
                until: None,
            }],
            rules: vec![rule(FILE), rule("**")],
            ..TrustPolicy::default()
        }
    }

    /// The text of a machine's first policy: `key` for local files alone.
    pub fn first_use(name: &str, key: &PublicKey) -> String {
        let pem: String = key.to_pem().lines().map(|line| format!("      {line}\n")).collect();
        format!(
            "# What this machine trusts. See spec/signing.md.\n\
             version: 1\n\
             serial: 1\n\
             default: reject\n\
             keys:\n  {name}: # {}\n    pem: |\n{pem}\
             revoked: {{ keys: [], images: [] }}\n\
             rules:\n\
             \x20 - scope: \"{FILE}\"\n\
             \x20   require: [{{ role: release, keys: [{name}], threshold: 1 }}]\n",
            key.fingerprint(),
        )
    }

    /// The rule that decides for a scope: the one with the most literal
    /// segments; between equals one without `**`, then the first.
    pub(crate) fn rule(&self, scope: &Scope<'_>) -> Option<&Rule> {
        let text = scope.text();
        let matching = self
            .rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| matches(&rule.scope, &text));
        let best = matching.max_by_key(|(index, rule)| {
            let segments: Vec<&str> = rule.scope.split('/').collect();
            let literal = segments.iter().filter(|s| !s.contains('*')).count();
            (literal, !segments.contains(&"**"), std::cmp::Reverse(*index))
        });
        best.map(|(_, rule)| rule)
    }

    /// Whether the key has been revoked, by its name or fingerprint.
    pub(crate) fn is_revoked(&self, key: &PolicyKey) -> bool {
        let fingerprint = key.key.fingerprint();
        self.revoked_keys.iter().any(|r| *r == key.name || *r == fingerprint)
    }

    /// What it says, for `trust show`.
    pub fn summary(&self) -> impl Serialize + use<> {
        let keys = self.keys.iter().map(|k| KeySummary {
            name: k.name.clone(),
            algorithm: k.key.algorithm().to_string(),
            fingerprint: k.key.fingerprint(),
            from: k.from,
            until: k.until,
            revoked: self.is_revoked(k),
        });
        let rules = self.rules.iter().map(|r| RuleSummary {
            scope: r.scope.clone(),
            require: r.require.iter().map(|q| self.requirement(q)).collect(),
            identity: r.identity,
            max_age_seconds: r.max_age.map(|a| a.as_secs()),
        });
        Summary {
            schema: 1,
            serial: self.serial,
            default: "reject",
            keys: keys.collect(),
            rules: rules.collect(),
        }
    }

    fn requirement(&self, requirement: &Requirement) -> String {
        let names = requirement
            .keys
            .iter()
            .filter_map(|i| self.keys.get(*i))
            .map(|k| k.name.as_str());
        format!(
            "{} of {} as {}",
            requirement.threshold,
            names.collect::<Vec<_>>().join(", "),
            requirement.role
        )
    }

    /// The same as text.
    pub fn describe(&self) -> String {
        let mut out = format!("serial {}, what no rule covers is refused\n", self.serial);
        for key in &self.keys {
            let state = if self.is_revoked(key) { ", revoked" } else { "" };
            out.push_str(&format!(
                "key  {} {} {}{state}\n",
                key.name,
                key.key.algorithm(),
                key.key.fingerprint()
            ));
        }
        for rule in &self.rules {
            let needs: Vec<String> = rule.require.iter().map(|q| self.requirement(q)).collect();
            out.push_str(&format!("rule {}: {}\n", rule.scope, needs.join("; ")));
        }
        out
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    schema: u32,
    serial: u64,
    default: &'static str,
    keys: Vec<KeySummary>,
    rules: Vec<RuleSummary>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeySummary {
    name: String,
    algorithm: String,
    fingerprint: String,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    revoked: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleSummary {
    scope: String,
    require: Vec<String>,
    identity: Identity,
    max_age_seconds: Option<u64>,
}

/// Whether a pattern covers a scope, by whole segments: `*` is one, `**` at the
/// end is one or more.
fn matches(pattern: &str, scope: &str) -> bool {
    if pattern == FILE || scope == FILE {
        return pattern == scope;
    }
    let mut segments = scope.split('/');
    let mut patterns = pattern.split('/').peekable();
    while let Some(part) = patterns.next() {
        if part == "**" && patterns.peek().is_none() {
            return segments.next().is_some();
        }
        match segments.next() {
            Some(segment) if part == "*" || part == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    // [SIGN-022]
    #[test]
    fn pattern_matches_whole_segments_only() {
        for (pattern, scope, expected) in [
            ("r.example/acme/**", "r.example/acme/app", true),
            ("r.example/acme/**", "r.example/acme/a/b", true),
            ("r.example/acme/**", "r.example/acme", false),
            ("r.example/acme/**", "r.example/acme-evil/app", false),
            ("r.example/*/app", "r.example/x/app", true),
            ("r.example/*/app", "r.example/x/y/app", false),
            ("r.example/acme", "r.example/acme/app", false),
            ("**", "r.example/a", true),
            ("**", "file:", false),
            ("file:", "file:", true),
            ("file:", "r.example/a", false),
        ] {
            assert_eq!(matches(pattern, scope), expected, "{pattern} on {scope}");
        }
    }
}
