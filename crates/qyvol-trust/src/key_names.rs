//! Keys and identities of a policy by their names.

use std::collections::HashMap;

use crate::TrustPolicy;
use crate::policy::PolicyKey;

/// A policy's keys by their names: each of its rules looks some up.
pub(crate) struct KeyNames<'p> {
    pub(crate) keys: &'p [PolicyKey],
    by_name: HashMap<&'p str, usize>,
}

impl<'p> KeyNames<'p> {
    pub(crate) fn of(policy: &'p TrustPolicy) -> KeyNames<'p> {
        let names = policy.keys.iter().enumerate();
        KeyNames {
            keys: &policy.keys,
            by_name: names.map(|(index, key)| (key.name.as_str(), index)).collect(),
        }
    }

    /// The index of the key of this name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}
