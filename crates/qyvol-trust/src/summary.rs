//! What a policy says, for `trust show`.

use std::collections::BTreeMap;

use qyvol_sandbox::Capabilities;
use qyvol_types::{Digest, Resources, Timestamp, escape};
use serde::Serialize;

use crate::policy::{PolicyKey, Remap, Requirement, Rule};
use crate::revoked::{HostRevoked, RevokedKey};
use crate::signer::CertifiedName;
use crate::{Form, Identity, KeyId, Names, Signer, TrustPolicy};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    schema: u32,
    serial: u64,
    default: &'static str,
    development: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roots: Vec<RootSummary>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    identities: Vec<IdentitySummary>,
    keys: Vec<KeySummary>,
    revoked: RevokedSummary,
    /// By signed name, the least version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    floors: BTreeMap<String, String>,
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unchecked: bool,
}

#[derive(Serialize)]
struct RootSummary {
    name: String,
    file: String,
    digest: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentitySummary {
    name: String,
    root: Option<String>,
    issuer: String,
    subject: String,
    repository_id: Option<String>,
    owner_id: Option<String>,
    revoked: bool,
}

#[derive(Serialize)]
struct RevokedSummary {
    keys: Vec<String>,
    images: Vec<String>,
    /// By a revoked key's fingerprint, the images that its signatures still count for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    keep: BTreeMap<String, Vec<String>>,
    /// What the host revokes beside the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Box<RevokedSummary>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleSummary {
    scope: String,
    require: Vec<String>,
    identity: Identity,
    names: Names,
    remap: Option<Remap>,
    max_age_seconds: Option<u64>,
    rollback: &'static str,
    /// What must be attested, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attest: Vec<String>,
    /// What a run may do at most, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
    #[serde(skip_serializing_if = "is_unlimited")]
    limits: Resources,
}

fn is_unlimited(limits: &Resources) -> bool {
    *limits == Resources::default()
}

impl TrustPolicy {
    /// What it says, for `trust show`.
    pub fn summary(&self) -> impl Serialize + use<> {
        let keys = self.keys.iter().filter_map(|k| {
            let key = k.signer.key()?;
            Some(KeySummary {
                name: k.name.clone(),
                algorithm: key.algorithm().to_string(),
                fingerprint: key.fingerprint(),
                from: k.from,
                until: k.until,
                revoked: self.is_revoked(key.id()),
                unchecked: k.unchecked,
            })
        });
        let identities = self.keys.iter().filter_map(|k| match &k.signer {
            Signer::Identity(identity) => Some(IdentitySummary {
                name: k.name.clone(),
                root: self.roots.get(identity.root).map(|root| root.name.clone()),
                issuer: identity.name.issuer.clone(),
                subject: identity.name.subject.clone(),
                repository_id: identity.name.repository_id.clone(),
                owner_id: identity.name.owner_id.clone(),
                revoked: self.is_revoked(k.signer.id()),
            }),
            Signer::Key(_) => None,
        });
        let roots = self.roots.iter().map(|root| RootSummary {
            name: root.name.clone(),
            file: root.file.clone(),
            digest: root.digest.to_string(),
        });
        let rules = self.rules.iter().map(|r| RuleSummary {
            scope: r.scope.to_string(),
            require: r.require.iter().map(|q| self.requirement(q)).collect(),
            identity: r.identity,
            names: r.names,
            remap: r.remap.clone(),
            max_age_seconds: r.max_age.map(|a| a.as_secs()),
            rollback: allowed(!r.deny_rollback),
            attest: r.attest.iter().map(|c| c.describe(self)).collect(),
            allow: r.ceiling().allow.as_ref().map(Capabilities::to_string),
            limits: r.ceiling().limits,
        });
        Summary {
            schema: 1,
            floors: self.revoked.floors.clone(),
            serial: self.serial,
            default: "reject",
            development: allowed(!self.deny_development),
            roots: roots.collect(),
            identities: identities.collect(),
            keys: keys.collect(),
            revoked: RevokedSummary {
                host: (self.revoked.host != HostRevoked::default()).then(|| {
                    let host = &self.revoked.host;
                    let mut summary = self.revoked_summary(&host.keys, &host.images);
                    summary.keys.extend(self.unnamed_identities());
                    Box::new(summary)
                }),
                ..self.revoked_summary(&self.revoked.keys, &self.revoked.images)
            },
            rules: rules.collect(),
        }
    }

    /// The identities that the host revokes and the policy does not name.
    fn unnamed_identities(&self) -> impl Iterator<Item = String> {
        let is_named = |name: &CertifiedName| {
            self.keys.iter().any(|key| match &key.signer {
                Signer::Identity(identity) => name.overlaps(&identity.name),
                Signer::Key(_) => false,
            })
        };
        let entries = self.revoked.host.identities.iter().map(|one| &one.name);
        entries
            .filter(move |name| !is_named(name))
            .map(|name| format!("{} by {}", name.subject, name.issuer))
    }

    fn revoked_summary(&self, keys: &[RevokedKey], images: &[Digest]) -> RevokedSummary {
        let kept = keys.iter().filter(|key| !key.keep.is_empty());
        let digests = |list: &[Digest]| list.iter().map(ToString::to_string).collect();
        RevokedSummary {
            keys: keys.iter().map(|key| self.revoked_name(key.id)).collect(),
            images: digests(images),
            keep: kept
                .map(|key| (self.revoked_name(key.id), digests(&key.keep)))
                .collect(),
            host: None,
        }
    }

    fn requirement(&self, requirement: &Requirement) -> String {
        let keys = self.key_names(requirement).join(", ");
        let form = match requirement.form {
            Some(Form::Cosign) => " in cosign's form",
            _ => "",
        };
        format!("{} of {keys} as {}{form}", requirement.threshold, requirement.role)
    }

    /// The same as text.
    pub fn describe(&self) -> String {
        let mut out = format!("serial {}, what no rule covers is refused\n", self.serial);
        if self.deny_development {
            out.push_str("manifests under development are refused\n");
        }
        for root in &self.roots {
            out.push_str(&format!(
                "root {} {} {}\n",
                escape(&root.name),
                escape(&root.file),
                root.digest
            ));
        }
        for key in &self.keys {
            out.push_str(&self.describe_signer(key));
        }
        let host = &self.revoked.host;
        for (keys, images, by) in [
            (&self.revoked.keys, &self.revoked.images, ""),
            (&host.keys, &host.images, "on this host: "),
        ] {
            for revoked in keys {
                let fingerprint = self.revoked_name(revoked.id);
                if !by.is_empty() || self.keys.iter().all(|key| key.signer.id() != revoked.id) {
                    out.push_str(&format!("{by}revoked key {fingerprint}\n"));
                }
                for digest in &revoked.keep {
                    out.push_str(&format!("{by}key {fingerprint} still counts for {digest}\n"));
                }
            }
            for image in images {
                out.push_str(&format!("{by}revoked image {image}\n"));
            }
        }
        for identity in self.unnamed_identities() {
            out.push_str(&format!("on this host: revoked identity {}\n", escape(&identity)));
        }
        for (name, version) in &self.revoked.floors {
            out.push_str(&format!("floor {} {}\n", escape(name), escape(version)));
        }
        for rule in &self.rules {
            out.push_str(&format!("rule {}: {}\n", rule.scope, self.describe_rule(rule)));
        }
        out
    }

    /// A key by its fingerprint; an identity has none.
    fn revoked_name(&self, id: KeyId) -> String {
        let identity = self
            .keys
            .iter()
            .find(|key| key.signer.key().is_none() && key.signer.id() == id);
        identity.map_or_else(|| id.fingerprint(), |identity| escape(&identity.name).to_string())
    }

    fn describe_signer(&self, key: &PolicyKey) -> String {
        let state = if self.is_revoked(key.signer.id()) {
            ", revoked"
        } else {
            ""
        };
        let unchecked = if key.unchecked { ", unchecked" } else { "" };
        let bound = |word, time: Option<Timestamp>| time.map_or_else(String::new, |t| format!(", {word} {t}"));
        let name = escape(&key.name);
        match &key.signer {
            Signer::Key(own) => format!(
                "key  {name} {} {}{}{}{state}{unchecked}\n",
                own.algorithm(),
                own.fingerprint(),
                bound("from", key.from),
                bound("until", key.until),
            ),
            Signer::Identity(identity) => {
                let number = |word, id: &Option<String>| {
                    id.as_deref()
                        .map_or_else(String::new, |id| format!(", {word} {}", escape(id)))
                };
                format!(
                    "identity {name} {} of {}{}{}{state}\n",
                    escape(&identity.name.subject),
                    escape(&identity.name.issuer),
                    number("repository", &identity.name.repository_id),
                    number("owner", &identity.name.owner_id),
                )
            }
        }
    }

    /// What a rule needs, in words.
    pub fn describe_rule(&self, rule: &Rule) -> String {
        let mut parts: Vec<String> = rule.require.iter().map(|q| self.requirement(q)).collect();
        parts.extend(rule.attest.iter().map(|condition| condition.describe(self)));
        if !rule.scope.is_file() {
            parts.push(format!("identity {}", word(rule.identity)));
        }
        if rule.names == Names::Full {
            parts.push("names full".to_string());
        }
        if let Some(remap) = &rule.remap {
            let signed = remap.signed.as_deref().unwrap_or("nothing");
            parts.push(format!("{} signed as {signed}", remap.prefix));
        }
        if let Some(age) = rule.max_age {
            parts.push(format!("max_age {}", age_text(age.as_secs())));
        }
        if rule.deny_rollback {
            parts.push("rollback deny".to_string());
        }
        let ceiling = rule.ceiling();
        if let Some(allow) = ceiling.allow {
            parts.push(format!("allow {allow}"));
        }
        if !is_unlimited(&ceiling.limits) {
            parts.push(format!("limits {}", ceiling.limits));
        }
        parts.join("; ")
    }
}

fn allowed(yes: bool) -> &'static str {
    if yes { "allow" } else { "deny" }
}

/// As a policy writes it.
pub(crate) fn word(identity: Identity) -> &'static str {
    match identity {
        Identity::Exact => "exact",
        Identity::Repository => "repository",
        Identity::Any => "any",
    }
}

/// As a policy writes it, in the largest unit that is exact.
pub(crate) fn age_text(seconds: u64) -> String {
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}
