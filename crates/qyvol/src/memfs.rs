//! `memfs`: a private folder in the host's memory file system, gone with the
//! run that made it.
//!
//! Each folder has a lock that its process holds; what a killed process left is
//! removed by the next run that makes one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::Error;

/// A file system in memory. Dropped, it is gone.
pub(crate) struct MemFs {
    root: PathBuf,
    // Held for its lock, released after the folder is gone.
    _lock: File,
    _folder: TempDir,
}

impl MemFs {
    /// Makes an empty one under `memory`, the host's memory file system.
    pub(crate) fn create(memory: &Path) -> Result<MemFs, Error> {
        let prefix = format!("qyvol-{}-", rustix::process::geteuid().as_raw());
        sweep(memory, &prefix);
        let failed = || Error::file("make a file system in memory in", memory);
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(memory)
            .map_err(failed())?;
        let lock = File::create(folder.path().join("lock")).map_err(failed())?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| failed()(e.into()))?;
        let root = folder.path().join("root");
        fs::create_dir(&root).map_err(failed())?;
        Ok(MemFs {
            root,
            _lock: lock,
            _folder: folder,
        })
    }

    /// Its root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

/// Removes folders whose process is gone. What can't be removed is another
/// process's business; nothing depends on it.
fn sweep(memory: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(memory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.to_str().is_some_and(|n| n.starts_with(prefix)) {
            continue;
        }
        let Ok(lock) = File::open(entry.path().join("lock")) else {
            continue;
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
