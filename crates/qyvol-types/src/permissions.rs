//! What a manifest asks for, unread: names of permissions and their values.
//!
//! What a name means, and which values it takes, is `qyvol-sandbox`'s to say. So
//! an image that asks for what this version does not know can still be listed,
//! inspected, verified and moved; it is only refused when it is to run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The `permissions` of a manifest. What is not granted is not there: `false` and
/// `none` are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permissions(BTreeMap<String, Value>);

impl Permissions {
    /// The value that is asked for under `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !is_denial(value))
    }

    /// Whether `name` stands there with `false` or `none`.
    pub fn is_written_denial(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(is_denial)
    }

    /// Asks for `value` under `name`; `false` and `none` ask for nothing.
    pub fn request(&mut self, name: &str, value: Value) {
        if is_denial(&value) {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_string(), value);
        }
    }

    /// All that is asked for, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.0.iter().map(|(name, value)| (name.as_str(), value));
        all.filter(|(_, value)| !is_denial(value))
    }
}

/// An image may also write out what it doesn't ask for.
fn is_denial(value: &Value) -> bool {
    matches!(value, Value::Bool(false)) || value.as_str() == Some("none")
}
