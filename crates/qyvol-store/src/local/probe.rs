//! Finds what was installed, compiled code and unpacked trees: without a lock if all is well,
//! otherwise once more under the lock.

use std::convert::Infallible;
use std::fs::File;

use super::LocalStore;
use super::staging::Staging;
use crate::StoreError;

/// The state of an installed thing. `R` is what a new record is made from if it was moved from
/// where it was recorded.
pub(super) enum Probe<T, R = Infallible> {
    Absent,
    Good(T),
    /// The content is right; the record describes another inode.
    Relocated(T, R),
    Bad(String),
}

/// The right to change what is installed.
pub(super) struct Installing {
    // Released before the staging directory goes.
    _lock: File,
    pub(super) staging: Staging,
}

impl LocalStore {
    /// Probes; if that finds neither valid content nor nothing, probes again while no
    /// installation is under way, because another process may have been in the middle of one.
    /// The right to repair is absent on a store that this process can't write.
    pub(super) fn probe_settled<T, R>(
        &self,
        probe: impl Fn() -> Result<Probe<T, R>, StoreError>,
    ) -> Result<(Probe<T, R>, Option<Installing>), StoreError> {
        let first = probe()?;
        if matches!(first, Probe::Absent | Probe::Good(_)) {
            return Ok((first, None));
        }
        // Staging comes first because its lock does.
        let installing = Staging::new(self).and_then(|staging| {
            let _lock = self.lock_install()?;
            Ok(Installing { _lock, staging })
        });
        Ok((probe()?, installing.ok()))
    }
}
