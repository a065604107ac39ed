//! Directories whose content is verified entry by entry.
//!
//! The guest sees an entry (by opening it, or asking for its size and times)
//! only after the [`Seal`] of its mount has checked it. This module tracks which
//! of the guest's descriptors are directories of such a mount, and at which
//! path, for components and for preview 1 alike.
//!
//! This defends the guest's data, not the host: a guest that evaded it would
//! read files that it could read anyway.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use qyvol_types::escape;

use crate::{Mount, RuntimeError};

/// Longest path that is followed: more is refused by the system anyway.
const PATH_LIMIT: usize = 4096;

/// Vouches for the content of a mounted directory.
pub trait Seal: Send + Sync + fmt::Debug {
    /// Checks that the entry of this name is what was sealed, or that there is
    /// none where none was; says what is wrong. `path` is relative to the
    /// mount's directory, without `.`, `..` or empty components; empty, it is
    /// that directory.
    fn check(&self, path: &str) -> Result<(), String>;
}

/// What a check found. It ends the guest: a program that takes an unreadable
/// file for an absent one must not go on without it.
#[derive(Debug)]
pub(crate) struct IntegrityError {
    path: String,
    why: String,
}

impl fmt::Display for IntegrityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", escape(&self.path), self.why)
    }
}

impl std::error::Error for IntegrityError {}

impl From<&IntegrityError> for RuntimeError {
    fn from(broken: &IntegrityError) -> RuntimeError {
        RuntimeError::Sealed {
            path: broken.path.clone(),
            why: broken.why.clone(),
        }
    }
}

/// A place in a sealed mount.
#[derive(Clone, Debug)]
pub(crate) struct SealedPath {
    mount: usize,
    path: String,
}

/// The sealed mounts of a guest, and its descriptors that are in one.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    mounts: Vec<(String, Option<Arc<dyn Seal>>)>,
    open: HashMap<u32, SealedPath>,
}

impl Sealed {
    pub(crate) fn new(mounts: &[Mount]) -> Sealed {
        Sealed {
            mounts: mounts.iter().map(|m| (m.guest.clone(), m.seal.clone())).collect(),
            open: HashMap::new(),
        }
    }

    /// Whether any mount is sealed.
    pub(crate) fn any(&self) -> bool {
        self.mounts.iter().any(|(_, seal)| seal.is_some())
    }

    /// The guest got mount number `mount` as a descriptor.
    pub(crate) fn opened_mount(&mut self, mount: usize, descriptor: u32) {
        if self.mounts.get(mount).is_some_and(|(_, seal)| seal.is_some()) {
            let path = String::new();
            self.open.insert(descriptor, SealedPath { mount, path });
        }
    }

    /// The guest opened a place as a descriptor.
    pub(crate) fn opened(&mut self, place: SealedPath, descriptor: u32) {
        self.open.insert(descriptor, place);
    }

    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }

    /// The guest renumbered a descriptor; the one that had the number is closed.
    pub(crate) fn renumbered(&mut self, from: u32, to: u32) {
        if from == to {
            return;
        }
        match self.open.remove(&from) {
            Some(place) => self.open.insert(to, place),
            None => self.open.remove(&to),
        };
    }

    /// Checks the place that `path` leads to from a descriptor, and returns it.
    /// None outside of sealed mounts, and for a path that leads nowhere.
    pub(crate) fn check(&self, descriptor: u32, path: &str) -> Result<Option<SealedPath>, IntegrityError> {
        let Some(directory) = self.open.get(&descriptor) else {
            return Ok(None);
        };
        let Some(place) = directory.join(path) else {
            return Ok(None);
        };
        let Some((guest, Some(seal))) = self.mounts.get(place.mount) else {
            return Ok(None);
        };
        match seal.check(&place.path) {
            Ok(()) => Ok(Some(place)),
            Err(why) => Err(IntegrityError {
                path: format!("{}/{}", guest.trim_end_matches('/'), place.path),
                why,
            }),
        }
    }
}

impl SealedPath {
    /// Resolves a path from here. A sealed mount has no links, so that `..`
    /// removes the component before it.
    fn join(&self, path: &str) -> Option<SealedPath> {
        if path.starts_with('/') || path.len() > PATH_LIMIT {
            return None;
        }
        let mut parts: Vec<&str> = self.path.split('/').filter(|p| !p.is_empty()).collect();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                // Above the mount: the system refuses that.
                ".." => {
                    parts.pop()?;
                }
                part => parts.push(part),
            }
        }
        Some(SealedPath {
            mount: self.mount,
            path: parts.join("/"),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Only(&'static str);

    impl Seal for Only {
        fn check(&self, path: &str) -> Result<(), String> {
            match path == self.0 {
                true => Ok(()),
                false => Err(format!("asked for {path:?}")),
            }
        }
    }

    fn sealed(only: &'static str) -> Sealed {
        let mount = |guest: &str, seal: Option<Arc<dyn Seal>>| Mount {
            host: "/nowhere".into(),
            guest: guest.to_string(),
            writable: false,
            seal,
        };
        let mut sealed = Sealed::new(&[mount("/", None), mount("/assets", Some(Arc::new(Only(only))))]);
        sealed.opened_mount(0, 3);
        sealed.opened_mount(1, 4);
        sealed
    }

    #[test]
    fn path_resolves_as_the_kernel_resolves_it() {
        for path in ["a/b", "./a//b/", "a/c/../b", "x/../a/./b"] {
            assert!(sealed("a/b").check(4, path).unwrap().is_some(), "{path}");
        }
        for path in ["", ".", "a/.."] {
            assert!(sealed("").check(4, path).unwrap().is_some(), "{path}");
        }
        // Refused by the system, each of them.
        for path in ["/a", "..", "a/../../a", "../assets/a"] {
            assert!(sealed("a").check(4, path).unwrap().is_none(), "{path}");
        }
        let broken = sealed("a").check(4, "b").unwrap_err();
        assert_eq!(broken.to_string(), "/assets/b: asked for \"b\"");
    }

    #[test]
    fn descriptors_are_tracked_from_open_to_close() {
        let mut sealed = sealed("a/b");
        assert!(sealed.check(3, "b").unwrap().is_none(), "not in a sealed mount");
        let place = sealed.open[&4].join("a").unwrap();
        sealed.opened(place, 5);
        assert!(sealed.check(5, "b").unwrap().is_some());
        sealed.renumbered(5, 9);
        assert!(sealed.check(5, "x").unwrap().is_none());
        sealed.check(9, "x").unwrap_err();
        sealed.renumbered(3, 9);
        assert!(sealed.check(9, "x").unwrap().is_none());
        sealed.closed(4);
        assert!(sealed.check(4, "x").unwrap().is_none());
    }
}
