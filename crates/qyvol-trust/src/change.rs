//! Editing a policy by command: text in, text out, with comments, order and
//! spelling preserved.
//!
//! A change is applied to the parsed policy; the text is edited to match, parsed
//! again, and must yield exactly that policy.

mod pin;
mod revoke;

use qyvol_types::yaml::{self, EditError, Editor, Node, Problems, Step, Value, Written, scalar};
use qyvol_types::{Digest, limits};
use thiserror::Error;

use crate::policy::{PolicyKey, Requirement, Rule};
use crate::policy_yaml::SERIAL_MAX;
use crate::statement::is_role;
use crate::summary::word;
use crate::{Form, Identity, KeyId, KeyType, PublicKey, Scope, Signer, TrustPolicy};

/// What a policy starts with.
const EMPTY: &str = "# What this machine trusts. See spec/signing.md.\nversion: 1\nserial: 0\ndefault: reject\n";

/// A change of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyEdit {
    /// Trust a key for a scope.
    Add {
        /// What it signs for.
        scope: Scope,
        /// Its name, if the policy has none for it.
        name: String,
        /// The key.
        key: PublicKey,
        /// The role it signs in.
        role: String,
        /// The form of its signatures.
        form: Form,
        /// How many of the role's keys must sign; as it was, or 1.
        threshold: Option<usize>,
        /// What the signed name is checked against; as it was, or `exact`.
        identity: Option<Identity>,
    },
    /// Trust a key for the releases of one repository that no rule has a scope for yet.
    Pin {
        /// The repository.
        scope: Scope,
        /// The key's name, if the policy has none for it.
        name: String,
        /// The key.
        key: PublicKey,
        /// What the signed name is checked against.
        identity: Identity,
        /// Nobody has compared its fingerprint.
        unchecked: bool,
    },
    /// Remove a rule, or a key from it.
    Remove {
        /// The rule's scope.
        scope: Scope,
        /// The key, where only it is to go.
        key: Option<KeyId>,
    },
    /// Revoke a key, but for its signatures over some images.
    RevokeKey {
        /// The key.
        id: KeyId,
        /// The images' digests.
        keep: Vec<Digest>,
    },
    /// Revoke an image.
    RevokeImage(Digest),
    /// Revoke a key no longer.
    ReinstateKey(KeyId),
    /// Revoke an image no longer.
    ReinstateImage(Digest),
}

/// A changed policy.
#[derive(Clone, Debug)]
pub struct EditedPolicy {
    /// Its text.
    pub text: String,
    /// What the policy said before.
    pub before: TrustPolicy,
    /// What the text says.
    pub policy: TrustPolicy,
    /// What has changed, a line each; nothing if all was so before.
    pub notes: Vec<String>,
    /// What may not have been meant.
    pub warnings: Vec<String>,
}

/// Why a policy was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyEditError {
    /// It can't be read.
    #[error("the policy has problems")]
    Policy(#[source] Problems),
    /// The change makes no sense.
    #[error("{0}")]
    Refused(String),
    /// It is written in a form that isn't edited.
    #[error("its text can't be changed by command ({0}): edit it by hand")]
    Unsupported(String),
}

impl From<EditError> for PolicyEditError {
    fn from(error: EditError) -> PolicyEditError {
        PolicyEditError::Unsupported(error.to_string())
    }
}

fn refused<T>(why: impl Into<String>) -> Result<T, PolicyEditError> {
    Err(PolicyEditError::Refused(why.into()))
}

/// Changes a policy's text, or begins one. The serial grows by one.
pub fn change(text: Option<&str>, change: &PolicyEdit) -> Result<EditedPolicy, PolicyEditError> {
    let text = text.unwrap_or(EMPTY);
    let before = TrustPolicy::parse(text).map_err(PolicyEditError::Policy)?;
    let mut edit = Edit {
        after: before.clone(),
        text: Editor::new(text)?,
        notes: Vec::new(),
        warnings: Vec::new(),
    };
    match change {
        PolicyEdit::Add { .. } => edit.add(change)?,
        PolicyEdit::Pin {
            scope,
            name,
            key,
            identity,
            unchecked,
        } => edit.pin(scope, name, key, *identity, *unchecked)?,
        PolicyEdit::Remove { scope, key } => edit.remove(scope, *key)?,
        PolicyEdit::RevokeKey { id, keep } => edit.revoke_key(*id, keep)?,
        PolicyEdit::RevokeImage(digest) => edit.revoke_image(digest)?,
        PolicyEdit::ReinstateKey(id) => edit.reinstate_key(*id)?,
        PolicyEdit::ReinstateImage(digest) => edit.reinstate_image(digest)?,
    }
    if edit.notes.is_empty() {
        return Ok(EditedPolicy {
            text: text.to_string(),
            policy: before.clone(),
            before,
            notes: Vec::new(),
            warnings: Vec::new(),
        });
    }
    if before.serial >= SERIAL_MAX {
        return refused("its serial can't grow any more");
    }
    edit.after.serial = before.serial + 1;
    edit.text
        .set(&[], "serial", &Written::Inline(edit.after.serial.to_string()))?;
    edit.notes
        .push(format!("serial {} (was {})", edit.after.serial, before.serial));
    let text = edit.text.finish();
    match TrustPolicy::parse(&text) {
        Ok(policy) if policy == edit.after => Ok(EditedPolicy {
            text,
            before,
            policy,
            notes: edit.notes,
            warnings: edit.warnings,
        }),
        Ok(_) => Err(PolicyEditError::Unsupported(
            "it would say something else afterwards".to_string(),
        )),
        Err(problems) => Err(PolicyEditError::Unsupported(format!(
            "it would not be valid afterwards: {problems}"
        ))),
    }
}

struct Edit {
    /// What the text must say in the end.
    after: TrustPolicy,
    text: Editor,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Edit {
    fn add(&mut self, change: &PolicyEdit) -> Result<(), PolicyEditError> {
        let PolicyEdit::Add {
            scope,
            name,
            key,
            role,
            form,
            threshold,
            identity,
        } = change
        else {
            return Ok(());
        };
        if !is_role(role) {
            return refused("a role is up to 32 of a-z, 0-9 and `-`");
        }
        self.warn_of_role(scope, role);
        self.usable(key)?;
        if *form == Form::Cosign && key.algorithm() != KeyType::EcdsaP256 {
            return refused(
                "of cosign's signatures, only those by ECDSA P-256 keys are verified, and this key is no such key",
            );
        }
        let index = self.key(name, key, false)?;
        let Some(at) = self.after.rules.iter().position(|rule| rule.scope == *scope) else {
            let requirement = Requirement {
                role: role.clone(),
                form: Some(*form),
                keys: vec![index],
                threshold: threshold.unwrap_or(1),
            };
            return self.new_rule(scope, requirement, identity.unwrap_or_default());
        };
        self.require(at, index, role, *form, *threshold)?;
        let Some(identity) = identity.filter(|i| self.after.rules.get(at).is_some_and(|r| r.identity != *i)) else {
            return Ok(());
        };
        let path = [Step::Key("rules"), Step::Item(at)];
        self.text
            .set(&path, "identity", &Written::Inline(word(identity).to_string()))?;
        self.notes.push(format!("rule {scope}: identity {}", word(identity)));
        let Some(rule) = self.after.rules.get_mut(at) else {
            return Ok(());
        };
        rule.identity = identity;
        if identity == Identity::Repository && !rule.deny_rollback {
            rule.deny_rollback = true;
            self.text.set(&path, "rollback", &Written::Inline("deny".to_string()))?;
            self.notes.push(format!("rule {scope}: rollback deny"));
        }
        Ok(())
    }

    /// The policy's index of a key, which is added if it is new.
    fn key(&mut self, name: &str, key: &PublicKey, unchecked: bool) -> Result<usize, PolicyEditError> {
        if let Some(index) = self.after.keys.iter().position(|k| k.signer.key() == Some(key)) {
            return Ok(index);
        }
        let taken = |name: &str| self.after.keys.iter().any(|k| k.name == name);
        let mut free = name.to_string();
        let mut number = 2;
        while taken(&free) {
            free = format!("{name}-{number}");
            number += 1;
        }
        let mut entry = vec![("pem".to_string(), Written::Literal(key.to_pem()))];
        if unchecked {
            entry.push(("unchecked".to_string(), Written::Inline("true".to_string())));
        }
        self.put("keys", &free, Written::Mapping(entry))?;
        self.notes
            .push(format!("key {free} {} {}", key.algorithm(), key.fingerprint()));
        self.after.keys.push(PolicyKey {
            name: free,
            signer: Signer::Key(key.clone()),
            from: None,
            until: None,
            unchecked,
        });
        Ok(self.after.keys.len() - 1)
    }

    fn new_rule(&mut self, scope: &Scope, requirement: Requirement, identity: Identity) -> Result<(), PolicyEditError> {
        if requirement.threshold != 1 {
            return refused(format!(
                "{} keys can't sign where {scope} has one: add the keys, then the threshold",
                requirement.threshold
            ));
        }
        let rule = Rule {
            identity,
            deny_rollback: identity == Identity::Repository,
            ..Rule::new(scope.clone(), requirement.clone())
        };
        let mut entries = vec![
            ("scope".to_string(), Written::Inline(scalar(&scope.to_string()))),
            (
                "require".to_string(),
                Written::Inline(format!("[{}]", self.flow(&requirement))),
            ),
        ];
        if !scope.is_file() || identity != Identity::default() {
            entries.push(("identity".to_string(), Written::Inline(word(identity).to_string())));
        }
        if rule.deny_rollback {
            entries.push(("rollback".to_string(), Written::Inline("deny".to_string())));
        }
        let item = Written::Mapping(entries);
        match self.node(&["rules"]) {
            Some(_) => self.text.push(&[Step::Key("rules")], &item)?,
            None => self.text.set(&[], "rules", &Written::List(vec![item]))?,
        }
        self.notes
            .push(format!("rule {scope}: {}", self.after.describe_rule(&rule)));
        self.after.rules.push(rule);
        Ok(())
    }

    /// Adds a key to a rule's requirement of a role and a form.
    fn require(
        &mut self,
        at: usize,
        key: usize,
        role: &str,
        form: Form,
        threshold: Option<usize>,
    ) -> Result<(), PolicyEditError> {
        let Some(rule) = self.after.rules.get(at) else {
            return Ok(());
        };
        let scope = rule.scope.to_string();
        let list = [Step::Key("rules"), Step::Item(at), Step::Key("require")];
        let Some(found) = rule.require.iter().position(|q| q.role == role && q.takes(form)) else {
            let requirement = Requirement {
                role: role.to_string(),
                form: Some(form),
                keys: vec![key],
                threshold: 1,
            };
            if threshold.is_some_and(|t| t != 1) {
                return refused(format!(
                    "{scope} has one key as {role}: add the others, then the threshold"
                ));
            }
            self.text.push(&list, &Written::Inline(self.flow(&requirement)))?;
            self.notes
                .push(format!("rule {scope}: a signature as {role} is needed too"));
            if let Some(rule) = self.after.rules.get_mut(at) {
                rule.require.push(requirement);
            }
            return Ok(());
        };
        let path = [list[0], list[1], list[2], Step::Item(found)];
        let name = self.after.keys.get(key).map(|k| k.name.clone()).unwrap_or_default();
        let Some(requirement) = self.after.rules.get_mut(at).and_then(|r| r.require.get_mut(found)) else {
            return Ok(());
        };
        if !requirement.keys.contains(&key) {
            requirement.keys.push(key);
            let keys = [path[0], path[1], path[2], path[3], Step::Key("keys")];
            self.text.push(&keys, &Written::Inline(scalar(&name)))?;
            self.notes.push(format!("rule {scope}: {name} counts as {role}"));
        }
        let Some(threshold) = threshold.filter(|t| *t != requirement.threshold) else {
            return Ok(());
        };
        if threshold == 0 || threshold > requirement.keys.len() {
            return refused(format!(
                "threshold must be from 1 to the number of keys that {scope} has as {role}, {}",
                requirement.keys.len()
            ));
        }
        requirement.threshold = threshold;
        self.text
            .set(&path, "threshold", &Written::Inline(threshold.to_string()))?;
        self.notes
            .push(format!("rule {scope}: {threshold} keys must sign as {role}"));
        Ok(())
    }

    fn remove(&mut self, scope: &Scope, key: Option<KeyId>) -> Result<(), PolicyEditError> {
        let Some(at) = self.after.rules.iter().position(|rule| rule.scope == *scope) else {
            let scopes: Vec<String> = self.after.rules.iter().map(|r| r.scope.to_string()).collect();
            return refused(format!(
                "there is no rule for {scope}; rules: {}",
                if scopes.is_empty() {
                    "none".to_string()
                } else {
                    scopes.join(", ")
                }
            ));
        };
        let Some(id) = key else {
            return self.remove_rule(at);
        };
        let index = self.after.keys.iter().position(|k| k.signer.id() == id);
        let named = |q: &Requirement| index.and_then(|index| q.keys.iter().position(|k| *k == index));
        let rule = self.after.rules.get(at);
        let places: Vec<(usize, usize, usize)> = rule
            .iter()
            .flat_map(|r| r.require.iter().enumerate())
            .filter_map(|(n, q)| Some((n, named(q)?, q.keys.len())))
            .collect();
        if places.is_empty() {
            return refused(format!("the rule for {scope} does not name this key"));
        }
        if places.iter().all(|(.., keys)| *keys == 1) && rule.is_some_and(|r| r.require.len() == places.len()) {
            return self.remove_rule(at);
        }
        // From the end, so that what is left keeps its place.
        for (requirement, key, keys) in places.into_iter().rev() {
            let list = [Step::Key("rules"), Step::Item(at), Step::Key("require")];
            let Some(rule) = self.after.rules.get_mut(at) else {
                return Ok(());
            };
            if keys == 1 {
                let gone = rule.require.remove(requirement);
                self.text.remove(&list, requirement)?;
                self.notes.push(format!(
                    "rule {scope}: no signature as {} is needed any more",
                    gone.role
                ));
                continue;
            }
            let Some(left) = rule.require.get_mut(requirement) else {
                return Ok(());
            };
            let gone = left.keys.remove(key);
            if left.threshold > left.keys.len() {
                return refused(format!(
                    "the rule for {scope} asks for {} keys as {} and would have {}: lower its threshold first",
                    left.threshold,
                    left.role,
                    left.keys.len()
                ));
            }
            let path = [list[0], list[1], list[2], Step::Item(requirement), Step::Key("keys")];
            self.text.remove(&path, key)?;
            let role = left.role.clone();
            let name = self.after.keys.get(gone).map(|k| k.name.clone()).unwrap_or_default();
            self.notes
                .push(format!("rule {scope}: {name} counts no more as {role}"));
        }
        Ok(())
    }

    fn remove_rule(&mut self, at: usize) -> Result<(), PolicyEditError> {
        let gone = self.after.rules.remove(at);
        self.text.remove(&[Step::Key("rules")], at)?;
        self.notes.push(format!("rule {} removed", gone.scope));
        let name = gone.scope.to_string().replace("**", "x").replace('*', "x");
        let left = self.after.rules.iter().filter(|r| r.scope.covers(&name));
        if let Some(next) = left.max_by_key(|r| r.scope.precision()) {
            self.notes
                .push(format!("what it covered is decided by the rule {}", next.scope));
        }
        Ok(())
    }

    /// Sets a key of one of the root's mappings, which need not be there.
    fn put(&mut self, mapping: &str, key: &str, value: Written) -> Result<(), PolicyEditError> {
        match self.node(&[mapping]) {
            Some(_) => self.text.set(&[Step::Key(mapping)], key, &value)?,
            None => {
                let value = Written::Mapping(vec![(key.to_string(), value)]);
                self.text.set(&[], mapping, &value)?;
            }
        }
        Ok(())
    }

    /// A value under the root, unless it is absent or null.
    fn node(&self, path: &[&str]) -> Option<Node> {
        let mut node = yaml::parse_within(self.text.text(), limits::POLICY_BYTES).ok()?;
        for key in path {
            let Value::Mapping(entries) = node.value else {
                return None;
            };
            node = entries.into_iter().find(|(k, _)| k.text == *key)?.1;
        }
        (!node.is_null()).then_some(node)
    }

    fn flow(&self, requirement: &Requirement) -> String {
        let names: Vec<String> = self.after.key_names(requirement).into_iter().map(scalar).collect();
        let form = match requirement.form {
            Some(Form::Cosign) => "form: cosign, ",
            _ => "",
        };
        format!(
            "{{ {form}role: {}, keys: [{}], threshold: {} }}",
            scalar(&requirement.role),
            names.join(", "),
            requirement.threshold
        )
    }
}
