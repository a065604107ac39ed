//! What is told of a run's permissions while it goes on.

use std::fmt;

/// A use of a permission, or a denied one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The permission, as the manifest calls it: `net`.
    pub permission: &'static str,
    /// What was asked for: `connect`.
    pub action: &'static str,
    /// On what: `192.0.2.1:443`. Text of the guest's, to be escaped.
    pub object: String,
    /// Whether it was allowed.
    pub allowed: bool,
}

/// Is told of them. It can't change what is allowed, and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something was used or denied.
    fn observed(&self, event: Event);
}
