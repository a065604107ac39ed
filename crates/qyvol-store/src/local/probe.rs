//! Finding what was installed, compiled code and unpacked trees: without a lock
//! where all is well, and else once more under it.

use std::convert::Infallible;
use std::fs::File;

use super::LocalStore;
use super::staging::Staging;
use crate::StoreError;

/// What was found of something that was installed. `R` is what a new record is made
/// of, for what can be used from another place than it was recorded in.
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
    /// Probes, and where that found neither something good nor nothing, again when
    /// no installation is under way: another process may have been between the
    /// steps of one. The right to repair what was found is absent on a store that
    /// this process can't write.
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
