//! A guest's open files in directories with a quota.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Weak};

use super::walk::space_of;
use super::{Quota, Usage};

/// Minimum number of entries before those of closed files are removed.
const LEAST_PRUNED: usize = 64;

/// Open files by identity. Streams hold a file open in addition to its descriptor, so each
/// entry is checked for whether it is still in use.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: HashMap<(u64, u64), Vec<Weak<File>>>,
    known: usize,
    prune_at: usize,
}

impl OpenFiles {
    pub(super) fn add(&mut self, identity: (u64, u64), file: &Arc<File>) {
        if self.known >= self.prune_at.max(LEAST_PRUNED) {
            self.prune();
            self.prune_at = self.known.saturating_mul(2);
        }
        self.files.entry(identity).or_default().push(Arc::downgrade(file));
        self.known += 1;
    }

    fn prune(&mut self) {
        self.known = 0;
        self.files.retain(|_, open| {
            open.retain(|file| file.strong_count() > 0);
            self.known += open.len();
            !open.is_empty()
        });
    }

    /// Whether a file is open.
    pub(super) fn has(&self, identity: (u64, u64)) -> bool {
        let open = self.files.get(&identity);
        open.is_some_and(|open| open.iter().any(|file| file.strong_count() > 0))
    }

    /// Whether a file is open elsewhere.
    pub(super) fn has_other(&self, identity: (u64, u64), file: &Arc<File>) -> bool {
        let is_other = |open: &Weak<File>| open.strong_count() > 0 && open.as_ptr() != Arc::as_ptr(file);
        self.files.get(&identity).is_some_and(|open| open.iter().any(is_other))
    }

    /// What is open and has no name.
    pub(super) fn nameless(&mut self) -> Usage {
        self.prune();
        let mut usage = Usage::default();
        for open in self.files.values() {
            if let Some(file) = open.iter().find_map(Weak::upgrade)
                && let Ok(stat) = rustix::fs::fstat(&file)
                && stat.st_nlink == 0
            {
                usage.space = usage.space.saturating_add(space_of(&stat));
                usage.entries = usage.entries.saturating_add(1);
            }
        }
        usage
    }
}

/// An open file or directory, and the quota that it is under.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) quota: Arc<Quota>,
    pub(crate) file: Arc<File>,
}

impl Held {
    /// Whether both are under one quota, or neither is under any. Otherwise the guest sees two
    /// file systems, and calls across them fail.
    pub(crate) fn are_together(a: Option<&Held>, b: Option<&Held>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => Arc::ptr_eq(&a.quota, &b.quota),
            (a, b) => a.is_none() && b.is_none(),
        }
    }
}

/// Which of a component's descriptors are under which quota.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    mounts: Vec<Option<Arc<Quota>>>,
    open: HashMap<u32, Arc<Quota>>,
}

impl Quotas {
    /// Those of the mounts, in their order.
    pub(crate) fn new(mounts: impl Iterator<Item = Option<Arc<Quota>>>) -> Quotas {
        let mounts: Vec<_> = mounts.collect();
        let is_any = mounts.iter().any(Option::is_some);
        Quotas {
            // Without a quota, no mount is queried.
            mounts: if is_any { mounts } else { Vec::new() },
            open: HashMap::new(),
        }
    }

    pub(crate) fn of(&self, descriptor: u32) -> Option<&Arc<Quota>> {
        match self.open.is_empty() {
            true => None,
            false => self.open.get(&descriptor),
        }
    }

    pub(crate) fn opened_mount(&mut self, mount: usize, descriptor: u32) {
        if let Some(Some(quota)) = self.mounts.get(mount) {
            self.open.insert(descriptor, Arc::clone(quota));
        }
    }

    pub(crate) fn opened(&mut self, descriptor: u32, quota: Arc<Quota>) {
        self.open.insert(descriptor, quota);
    }

    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }
}
