//! Events about the permissions that a run uses, as they happen.

use std::fmt;

/// A use of a permission, or a denied one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The permission, as the manifest calls it: `net`.
    pub permission: &'static str,
    /// What the guest tried to do: `connect`.
    pub action: &'static str,
    /// With what: `192.0.2.1:443`. The text comes from the guest and must be escaped.
    pub object: String,
    /// Whether it was allowed.
    pub allowed: bool,
}

/// Receives the events. It can't change what is allowed, and must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something was used or denied.
    fn observed(&self, event: Event);
}
