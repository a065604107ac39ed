//! A quota per user, so that one user can't use up what all share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::cache::lock;
use crate::peer::Peer;

/// Who is counted: a user by name, anyone else by address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    User(String),
    Peer(Peer),
}

/// The current use of each owner.
pub(crate) struct Quotas {
    each: usize,
    taken: Mutex<HashMap<Owner, usize>>,
}

/// One unit of an owner's quota, returned on drop.
pub(crate) struct QuotaGuard {
    of: Arc<Quotas>,
    owner: Owner,
}

impl Quotas {
    pub(crate) fn new(each: usize) -> Arc<Quotas> {
        Arc::new(Quotas {
            each,
            taken: Mutex::default(),
        })
    }

    /// Takes one unit for this owner. None if its quota is used up.
    pub(crate) fn take(self: &Arc<Quotas>, owner: Owner) -> Option<QuotaGuard> {
        let mut taken = lock(&self.taken);
        let count = taken.get(&owner).copied().unwrap_or_default();
        if count >= self.each {
            return None;
        }
        taken.insert(owner.clone(), count + 1);
        Some(QuotaGuard {
            of: self.clone(),
            owner,
        })
    }
}

impl Drop for QuotaGuard {
    fn drop(&mut self) {
        let mut taken = lock(&self.of.taken);
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}
