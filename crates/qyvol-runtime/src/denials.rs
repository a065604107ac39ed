//! Reports to the observer of a run which calls on files were denied: changes in a mount
//! that the guest can only read, and paths that lead out of a mount.
//!
//! The host's file system answers both with "not permitted". They are reported with the
//! path as the guest gave it. Without an observer, nothing is recorded and nothing is
//! compared.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use qyvol_sandbox::{Event, Observer};

use crate::Mount;
use crate::watched::renumber;

/// Maximum length of a recorded and reported path, in bytes.
const MAX_SHOWN: usize = 512;

/// The paths of a guest's open files and directories, by descriptor.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    observer: Option<Arc<dyn Observer>>,
    mounts: Vec<String>,
    open: HashMap<u32, String>,
}

/// A call that may be denied.
pub(crate) struct Asked {
    observer: Arc<dyn Observer>,
    action: &'static str,
    object: String,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.action, self.object)
    }
}

impl Denials {
    pub(crate) fn new(mounts: &[Mount], observer: Option<&Arc<dyn Observer>>) -> Denials {
        let Some(observer) = observer else {
            return Denials::default();
        };
        Denials {
            observer: Some(Arc::clone(observer)),
            mounts: mounts.iter().map(|mount| mount.guest.clone()).collect(),
            open: HashMap::new(),
        }
    }

    /// Whether there is an observer.
    pub(crate) fn is_on(&self) -> bool {
        self.observer.is_some()
    }

    /// The guest is about to do something at a path from a descriptor, or with an empty
    /// path, to the file or directory of the descriptor. None without an observer.
    pub(crate) fn asked(&self, action: &'static str, descriptor: u32, path: &str) -> Option<Asked> {
        let observer = self.observer.as_ref()?;
        let from = self.open.get(&descriptor).map_or("", String::as_str);
        Some(Asked {
            observer: Arc::clone(observer),
            action,
            object: joined(from, path),
        })
    }

    /// The guest got mount number `mount` as a descriptor.
    pub(crate) fn opened_mount(&mut self, mount: usize, descriptor: u32) {
        if let Some(path) = self.mounts.get(mount) {
            self.open.insert(descriptor, path.clone());
        }
    }

    /// The guest opened what it asked for.
    pub(crate) fn opened(&mut self, asked: Option<Asked>, descriptor: u32) {
        if let Some(asked) = asked {
            self.open.insert(descriptor, asked.object);
        }
    }

    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }

    /// The guest renumbered a descriptor; the one that had the number is closed.
    pub(crate) fn renumbered(&mut self, from: u32, to: u32) {
        renumber(&mut self.open, from, to);
    }
}

impl Asked {
    /// The call was denied.
    pub(crate) fn denied(self) {
        self.observer.observed(Event {
            permission: "fs",
            action: self.action,
            object: self.object,
            allowed: false,
        });
    }
}

/// A path relative to another, as given: `..` and links are not resolved. An absolute path
/// is returned alone.
fn joined(from: &str, path: &str) -> String {
    let mut all = match (path.starts_with('/'), path.is_empty()) {
        (true, _) => String::new(),
        (false, true) => from.to_string(),
        (false, false) => format!("{}/", from.trim_end_matches('/')),
    };
    all.extend(path.chars().take(MAX_SHOWN));
    if all.len() > MAX_SHOWN {
        all.truncate(all.floor_char_boundary(MAX_SHOWN));
        all.push('…');
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    // [RUN-064]
    #[test]
    fn path_is_reported_as_given_and_cut_if_it_is_long() {
        assert_eq!(joined("/", "a/../b"), "/a/../b");
        assert_eq!(joined("/data", "../x"), "/data/../x");
        assert_eq!(joined("/data/", ""), "/data/");
        assert_eq!(joined("/data", "/etc/passwd"), "/etc/passwd");
        let long = joined("/data", &"é".repeat(100_000));
        assert!(long.len() <= MAX_SHOWN + '…'.len_utf8(), "{}", long.len());
        assert!(joined(&long, "more").len() <= MAX_SHOWN + '…'.len_utf8());
    }
}
