//! The host's policy: which keys must have signed what.

use std::cmp::Reverse;
use std::time::Duration;

use qyvol_sandbox::Capabilities;
use qyvol_types::{Digest, Reference, RepositoryName, Resources, Timestamp};
use serde::Serialize;

use crate::revoked::Revoked;
use crate::{Form, KeyError, KeyId, PolicyRoot, PublicKey, Scope, Signer, Subject};

/// A checked policy. What no rule covers is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustPolicy {
    pub(crate) name: Option<String>,
    pub(crate) serial: u64,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) update: Option<Update>,
    pub(crate) deny_development: bool,
    /// Whether it stands for a key that was named on the command line.
    pub(crate) given: bool,
    pub(crate) roots: Vec<PolicyRoot>,
    /// Identities first, then keys.
    pub(crate) keys: Vec<PolicyKey>,
    pub(crate) revoked: Revoked,
    pub(crate) rules: Vec<Rule>,
}

/// Who replaces a policy by its successor (`update` in `trust.yaml`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// Indices into the policy's keys.
    pub(crate) keys: Vec<usize>,
    /// How many distinct keys of these.
    pub(crate) threshold: usize,
    /// The repository that has the documents.
    pub from: Option<RepositoryName>,
    /// Keys that say which document is the newest.
    pub(crate) freshness: Vec<usize>,
    /// For how long such a statement holds.
    pub max_lag: Option<Duration>,
}

/// A key or identity, and when it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyKey {
    /// Its name in the policy.
    pub name: String,
    /// Who it is.
    pub signer: Signer,
    /// It is good from here.
    pub from: Option<Timestamp>,
    /// It is good before here.
    pub until: Option<Timestamp>,
    /// Whether nobody has compared its fingerprint with the publisher's. Changes no verdict.
    pub unchecked: bool,
}

/// What images of a scope need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it covers.
    pub scope: Scope,
    /// All of these.
    pub require: Vec<Requirement>,
    /// Whether the signed name and version must be those asked for.
    pub identity: Identity,
    /// How much of the asked repository the signed name must repeat.
    pub names: Names,
    /// What a mirror's repositories are called where they come from.
    pub remap: Option<Remap>,
    /// How old a signature may be.
    pub max_age: Option<Duration>,
    /// Whether an older image than one accepted before is refused.
    pub deny_rollback: bool,
    /// What must be attested of an image.
    pub attest: Vec<AttestCondition>,
    /// What a run of what it accepts may do, where that is bounded. Most rules bound nothing.
    pub(crate) ceiling: Option<Box<Ceiling>>,
}

/// What a host lets an application do, whatever its manifest asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Permissions; without it, all that the manifest asks for.
    pub allow: Option<Capabilities>,
    /// Limits: the least of these and the manifest's holds.
    pub limits: Resources,
}

/// So many distinct keys in a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The role.
    pub role: String,
    /// The form of the signatures that count. Absent, either will do: for a key that was
    /// named on the command line.
    pub form: Option<Form>,
    /// Indices into the policy's keys.
    pub(crate) keys: Vec<usize>,
    /// How many distinct keys.
    pub threshold: usize,
}

/// Whether the signed name and version must be those asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// The name must fit the asked repository, the version be the asked tag.
    #[default]
    Exact,
    /// The name must fit the asked repository; the tag may be any.
    Repository,
    /// Any name and version will do.
    Any,
}

/// How much of the asked repository the signed name must repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// Its trailing whole segments: `app` for `acme/team/app`.
    #[default]
    Trailing,
    /// All of it.
    Full,
}

/// What a mirror's repositories are called where they come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remap {
    /// Leading whole segments of `registry/repository` as asked for.
    pub prefix: String,
    /// What stands in their place in signed names; nothing if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
}

impl Requirement {
    /// Whether a signature of this form counts.
    pub(crate) fn takes(&self, form: Form) -> bool {
        self.form.is_none_or(|asked| asked == form)
    }
}

impl Rule {
    /// A rule that asks for one requirement and leaves the rest as it is.
    pub(crate) fn new(scope: Scope, requirement: Requirement) -> Rule {
        Rule {
            scope,
            require: vec![requirement],
            identity: Identity::default(),
            names: Names::default(),
            remap: None,
            max_age: None,
            deny_rollback: false,
            attest: Vec::new(),
            ceiling: None,
        }
    }

    /// What a run of what it accepts may do.
    pub fn ceiling(&self) -> Ceiling {
        self.ceiling.as_deref().cloned().unwrap_or_default()
    }

    /// Whether a signed name and version are those of what was asked for.
    pub(crate) fn fits(&self, asked: &Reference, name: &str, version: &str) -> bool {
        if self.identity == Identity::Any {
            return true;
        }
        let repository = self.signed_repository(asked);
        let named = repository == name || self.names == Names::Trailing && ends_in(&repository, name);
        named && (self.identity == Identity::Repository || asked.tag().is_none_or(|tag| tag == version))
    }

    /// The asked repository as its publisher calls it.
    pub(crate) fn signed_repository(&self, asked: &Reference) -> String {
        let (Some(remap), Some(registry)) = (&self.remap, asked.registry()) else {
            return asked.repository().to_string();
        };
        let whole = format!("{registry}/{}", asked.repository());
        let rest = whole.strip_prefix(&remap.prefix).and_then(|rest| match rest {
            "" => Some(""),
            rest => rest.strip_prefix('/'),
        });
        match (rest, &remap.signed) {
            (None, _) => asked.repository().to_string(),
            (Some(""), signed) => signed.clone().unwrap_or_default(),
            (Some(rest), None) => rest.to_string(),
            (Some(rest), Some(signed)) => format!("{signed}/{rest}"),
        }
    }
}

/// Whether a signed name is a repository's, or its trailing whole segments.
fn ends_in(repository: &str, name: &str) -> bool {
    let start = repository.strip_suffix(name);
    start.is_some_and(|start| start.is_empty() || start.ends_with('/'))
}

/// The strictest `identity` with which a rule with trailing names accepts an
/// image signed as `signed` under the name `asked`.
pub fn required_identity(asked: &Reference, signed: &Reference) -> Identity {
    match (
        ends_in(asked.repository(), signed.repository()),
        asked.tag() == signed.tag(),
    ) {
        (true, true) => Identity::Exact,
        (true, false) => Identity::Repository,
        (false, _) => Identity::Any,
    }
}

impl TrustPolicy {
    /// The policy of a host that has none.
    pub fn reject_all() -> TrustPolicy {
        TrustPolicy::default()
    }

    /// A policy that asks one key for a release, whatever the image: for
    /// someone who names the key on the command line. What the host's own
    /// policy revokes stays revoked.
    pub fn single_key(key: PublicKey, revoked: Revoked) -> TrustPolicy {
        let rule = |scope| {
            let requirement = Requirement {
                role: "release".to_string(),
                form: None,
                keys: vec![0],
                threshold: 1,
            };
            Rule::new(scope, requirement)
        };
        TrustPolicy {
            keys: vec![PolicyKey {
                name: "given".to_string(),
                signer: Signer::Key(key),
                from: None,
                until: None,
                unchecked: false,
            }],
            rules: vec![rule(Scope::files()), rule(Scope::registries())],
            revoked,
            given: true,
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
             \x20 - scope: \"{}\"\n\
             \x20   require: [{{ role: release, keys: [{name}], threshold: 1 }}]\n",
            key.fingerprint(),
            Scope::files(),
        )
    }

    /// Counts the changes of the policy.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether manifests under development may run, which nobody signs.
    pub fn allows_development(&self) -> bool {
        !self.deny_development
    }

    /// What it revokes.
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// The rule that decides for a subject: of those that cover it, the one
    /// with the most literal segments; between equals one without `**`, then
    /// the first.
    pub fn rule(&self, subject: &Subject<'_>) -> Option<&Rule> {
        let place = subject.place();
        let covering = self.rules.iter().enumerate();
        let covering = covering.filter(|(_, rule)| rule.scope.covers(&place));
        let best = covering.max_by_key(|(index, rule)| (rule.scope.precision(), Reverse(*index)));
        best.map(|(_, rule)| rule)
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The key that the policy calls so.
    pub fn key_by_name(&self, name: &str) -> Option<&PublicKey> {
        self.signer_by_name(name).and_then(Signer::key)
    }

    /// The key or identity that the policy calls so.
    pub fn signer_by_name(&self, name: &str) -> Option<&Signer> {
        self.keys.iter().find(|key| key.name == name).map(|key| &key.signer)
    }

    /// The fingerprint of the key that was named on the command line, if this
    /// policy stands for one.
    pub(crate) fn given_key(&self) -> Option<String> {
        self.keys
            .first()
            .filter(|_| self.given)
            .and_then(|key| key.signer.key())
            .map(PublicKey::fingerprint)
    }

    /// The owner of the data that accepted images keep on the host: the rule's
    /// scope, so that its keys can be replaced; or the key that was named on the
    /// command line.
    pub(crate) fn owner(&self, rule: &Rule) -> String {
        self.given_key().unwrap_or_else(|| rule.scope.to_string())
    }

    /// The names of the keys that a requirement takes.
    pub fn key_names(&self, requirement: &Requirement) -> Vec<&str> {
        let keys = requirement.keys.iter().filter_map(|index| self.keys.get(*index));
        keys.map(|key| key.name.as_str()).collect()
    }

    /// The names of the keys whose signatures over an image can meet a requirement: those
    /// that are not revoked for it.
    pub(crate) fn counting_key_names(&self, requirement: &Requirement, image: &Digest) -> Vec<&str> {
        let keys = requirement.keys.iter().filter_map(|index| self.keys.get(*index));
        let counting = keys.filter(|key| !self.revoked.forbids(key.signer.id(), image));
        counting.map(|key| key.name.as_str()).collect()
    }

    /// The keys that a rule names, each once.
    pub(crate) fn keys_of<'p>(&'p self, rule: Option<&Rule>) -> Vec<&'p PolicyKey> {
        let mut indices: Vec<usize> = rule
            .iter()
            .flat_map(|r| &r.require)
            .flat_map(|q| q.keys.clone())
            .collect();
        indices.sort_unstable();
        indices.dedup();
        indices.iter().filter_map(|index| self.keys.get(*index)).collect()
    }

    /// Whether the key has been revoked, whatever it is called.
    pub(crate) fn is_revoked(&self, id: KeyId) -> bool {
        self.revoked.has_key(id)
    }

    /// Finds keys under which no signature verifies: points that are not on
    /// their curve. Parsing a policy skips this: it costs more than a signature
    /// check, which includes it.
    pub fn check_keys(&self) -> Result<(), (&str, KeyError)> {
        for key in &self.keys {
            let checked = key.signer.key().map_or(Ok(()), PublicKey::check_on_curve);
            checked.map_err(|error| (key.name.as_str(), error))?;
        }
        Ok(())
    }
}

/// An attestation that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttestCondition {
    /// The type of the predicate.
    pub(crate) kind: Pattern,
    /// Indices into the policy's keys: one of them must have signed it.
    pub(crate) keys: Vec<usize>,
    pub(crate) builder: Option<Pattern>,
    pub(crate) source: Option<Pattern>,
    pub(crate) source_ref: Option<Pattern>,
}

/// A text, or with a `*` at its end a beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) String);

impl Pattern {
    /// Whether a text is one of those that it stands for.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(identity: Identity, names: Names, remap: Option<(&str, Option<&str>)>) -> Rule {
        let requirement = Requirement {
            role: "release".to_string(),
            form: Some(Form::Qyvol),
            keys: vec![0],
            threshold: 1,
        };
        Rule {
            identity,
            names,
            remap: remap.map(|(prefix, signed)| Remap {
                prefix: prefix.to_string(),
                signed: signed.map(str::to_string),
            }),
            ..Rule::new(Scope::registries(), requirement)
        }
    }

    // [SIGN-026]
    #[test]
    fn signed_name_is_the_asked_repositorys_trailing_whole_segments() {
        let exact = rule(Identity::Exact, Names::Trailing, None);
        let full = rule(Identity::Exact, Names::Full, None);
        let moving = rule(Identity::Repository, Names::Trailing, None);
        for (asked, name, [by_trailing, by_full, by_repository]) in [
            ("r.example/acme/team/app:1", "acme/team/app", [true, true, true]),
            ("r.example/acme/team/app:1", "team/app", [true, false, true]),
            ("r.example/acme/team/app:1", "app", [true, false, true]),
            ("r.example/acme/team/app:latest", "app", [false, false, true]),
            ("r.example/acme/team/app:1", "p", [false, false, false]),
            ("r.example/acme/team/app:1", "acme/team", [false, false, false]),
            ("r.example/acme/team/app:1", "acme/app", [false, false, false]),
            ("r.example/acme/team/app:1", "", [false, false, false]),
            ("r.example/acme/team/app:1", "/app", [false, false, false]),
            ("r.example/app:1", "r.example/app", [false, false, false]),
        ] {
            let asked: Reference = asked.parse().unwrap();
            let fits = [&exact, &full, &moving].map(|rule| rule.fits(&asked, name, "1"));
            assert_eq!(fits, [by_trailing, by_full, by_repository], "{asked} {name}");
        }
        let any = rule(Identity::Any, Names::Full, None);
        assert!(any.fits(&"r.example/x:2".parse().unwrap(), "app", "1"));
    }

    // [SIGN-026]
    #[test]
    fn remap_gives_a_mirrors_repository_its_publishers_name() {
        let asked: Reference = "m.example/hub/acme/app:1".parse().unwrap();
        for (prefix, signed, name, fits) in [
            ("m.example/hub", None, "acme/app", true),
            ("m.example/hub", None, "hub/acme/app", false),
            ("m.example/hub/acme", Some("corp"), "corp/app", true),
            ("m.example/hub/acme/app", Some("tool"), "tool", true),
            ("m.example/hub/ac", Some("corp"), "hub/acme/app", true),
            ("other.example/hub", None, "hub/acme/app", true),
        ] {
            let rule = rule(Identity::Exact, Names::Full, Some((prefix, signed)));
            assert_eq!(rule.fits(&asked, name, "1"), fits, "{prefix} {signed:?} {name}");
        }
    }
}
