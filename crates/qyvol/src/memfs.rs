//! `memfs`: a private file system in memory, gone with the run that made it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::shared_memory::SharedMemory;

/// A file system in memory. Dropped, it is gone.
pub(crate) struct MemFs(SharedMemory);

impl MemFs {
    /// Makes an empty one under `memory`, the host's memory file system.
    pub(crate) fn create(memory: &Path) -> Result<MemFs, Error> {
        SharedMemory::create(memory)
            .map(MemFs)
            .map_err(Error::file("make a file system in memory in", memory))
    }

    /// Makes a directory in it, with those that lead to it.
    pub(crate) fn make_directory(&self, path: &str) -> Result<(), Error> {
        let path = self.root().join(path.trim_start_matches('/'));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(Error::file("make the directory", path))
    }

    /// Removes it. What is left after an error is the next run's to remove.
    pub(crate) fn close(self) -> Result<(), Error> {
        let path = self.root();
        self.0.remove().map_err(Error::file("remove", path))
    }

    /// Leaves it to the next run, for a process that is about to end while the
    /// guest still writes.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    /// Its root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }
}
