//! What is asked of a key before a rule names it, and the rule of a key that was pinned.

use qyvol_types::yaml;

use super::{Edit, PolicyEditError, refused};
use crate::policy::Requirement;
use crate::{Form, Identity, PublicKey, Scope};

/// The roles that the documentation gives a meaning.
const ROLES: [&str; 3] = ["release", "approve", "rebuilt"];

impl Edit {
    /// Trusts a key for the releases of one repository, by a rule of its own.
    pub(super) fn pin(
        &mut self,
        scope: &Scope,
        name: &str,
        key: &PublicKey,
        identity: Identity,
        unchecked: bool,
    ) -> Result<(), PolicyEditError> {
        self.usable(key)?;
        if self.after.rules.iter().any(|rule| rule.scope == *scope) {
            return refused(format!("there is a rule for {scope} already"));
        }
        let requirement = Requirement {
            role: "release".to_string(),
            form: Some(Form::Qyvol),
            keys: vec![self.key(name, key, unchecked)?],
            threshold: 1,
        };
        self.new_rule(scope, requirement, identity)
    }

    /// Refuses a key that no rule can name.
    pub(super) fn usable(&self, key: &PublicKey) -> Result<(), PolicyEditError> {
        if key.check_on_curve().is_err() {
            return refused("the key is not a point of its curve");
        }
        if self.after.is_revoked(key.id()) {
            return refused(format!("the policy revokes the key {}", key.fingerprint()));
        }
        Ok(())
    }

    /// Any word can be a role, so a misspelt one makes a rule that nothing meets.
    pub(super) fn warn_of_role(&mut self, scope: &Scope, role: &str) {
        let used = self.after.rules.iter().flat_map(|rule| &rule.require);
        let known: Vec<&str> = used.map(|requirement| requirement.role.as_str()).chain(ROLES).collect();
        if known.contains(&role) {
            return;
        }
        if let Some(near) = yaml::nearest(role, known) {
            self.warnings.push(format!(
                "`{role}` is not a role in use: did you mean `{near}`? {scope} now accepts only what is signed as `{role}`"
            ));
        }
    }
}
