//! What each permission has to implement.

use qyvol_types::yaml::{Node, Reader};
use serde_json::Value;

use crate::Denied;
use crate::words::Words;

/// Converts a value in a `.qyv` or a policy to the form that an image has.
pub(crate) type FromYaml = fn(&mut Reader<'_>, &Node, &str) -> Option<Value>;

/// A permission. Its default is what an application gets if it doesn't ask.
pub(crate) trait Capability: Sized + Default {
    /// Its name under `permissions`.
    const NAME: &'static str;

    /// Reads its value in a `.qyv` or a policy. Problems are reported to the reader and
    /// name the value `what`.
    fn from_yaml(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Value>;

    /// Reads its value in an image; `None` if this version doesn't know it.
    fn from_json(value: &Value) -> Option<Self>;

    /// Its value in an image: what [`Capability::from_json`] reads, or a denial (`false`, `none`)
    /// where it is the default.
    fn to_json(&self) -> Value;

    /// Says what it allows and what it withholds.
    fn describe(&self, words: &mut Words<'_>);

    /// Why this version can't grant it on any host, if that is so.
    fn unsupported(&self) -> Option<&'static str> {
        None
    }

    /// The imports that are useless with this value.
    fn denied(&self, _program: &Program<'_>) -> Option<Denied> {
        None
    }
}

/// What is known of a program before it runs.
pub(crate) struct Program<'a> {
    pub(crate) imports: &'a [String],
    pub(crate) has_assets: bool,
}

impl Program<'_> {
    /// Its imports that start with one of `prefixes`.
    pub(crate) fn imports_of(&self, prefixes: &[&str]) -> Vec<String> {
        let starts = |import: &&String| prefixes.iter().any(|prefix| import.starts_with(prefix));
        self.imports.iter().filter(starts).cloned().collect()
    }
}
