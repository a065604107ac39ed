//! `memfs`: a private file system in memory, gone with the run that made it.
//!
//! It is a tmpfs of the process's own, mounted nowhere, which the kernel frees
//! with its last descriptor. Where the host bars that, it is a directory in the
//! host's memory file system, removed when the run ends; what a killed process
//! left there is removed by the next run.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use qyvol_runtime::{Tmpfs, TmpfsLimits};
use rustix::io::Errno;

use crate::Error;
use crate::shared_memory::SharedMemory;

/// Bytes of all files, unless the manifest says otherwise.
pub(crate) const DEFAULT_BYTES: u64 = 512 << 20;
/// Bytes for each file that there may be: a file takes about a kilobyte of the
/// kernel's memory, or a block of a disk's, beside its content.
const BYTES_PER_FILE: u64 = 8 << 10;
/// Minimum number of files, however small it is.
const MIN_FILES: u64 = 1024;

/// Bounds of a file system in memory of so many bytes.
pub(crate) fn limits(bytes: u64) -> TmpfsLimits {
    TmpfsLimits {
        bytes,
        files: files_for(bytes),
    }
}

/// Maximum number of files and directories in a file system of so many bytes.
pub(crate) fn files_for(bytes: u64) -> u64 {
    (bytes / BYTES_PER_FILE).max(MIN_FILES)
}

/// A file system in memory. Dropped, it is gone.
pub(crate) struct MemFs(Kind);

enum Kind {
    Private(Tmpfs),
    Shared(SharedMemory),
}

impl MemFs {
    /// Makes an empty one of at most `bytes`. `shared` is the host's memory file
    /// system, for hosts that bar a private one.
    pub(crate) fn create(shared: Option<&Path>, bytes: u64) -> Result<MemFs, Error> {
        let error = match Tmpfs::new(limits(bytes)) {
            Ok(tmpfs) => return Ok(MemFs(Kind::Private(tmpfs))),
            Err(error) => error,
        };
        match shared.filter(|_| is_unavailable(&error)) {
            Some(shared) => SharedMemory::create(shared)
                .map(|directory| MemFs(Kind::Shared(directory)))
                .map_err(Error::file("make a file system in memory in", shared)),
            None => Err(Error::file("make", "a file system in memory")(error)),
        }
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

    /// Removes it. After an error, the next run removes what is left.
    pub(crate) fn close(self) -> Result<(), Error> {
        let path = self.root();
        match self.0 {
            // The kernel frees it.
            Kind::Private(_) => Ok(()),
            Kind::Shared(directory) => directory.remove().map_err(Error::file("remove", path)),
        }
    }

    /// Leaves it to the kernel or the next run, for a process that is about to
    /// end while the guest still writes.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    /// A path to its root directory, good for as long as this value lives.
    pub(crate) fn root(&self) -> PathBuf {
        match &self.0 {
            Kind::Private(tmpfs) => tmpfs.path(),
            Kind::Shared(directory) => directory.path().to_path_buf(),
        }
    }
}

/// Whether the host gives no process like this one a file system of its own:
/// a kernel without the calls, a container or policy without user namespaces,
/// or none left of those that a user may have (user_namespaces(7)).
fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::NOSPC | Errno::USERS | Errno::INVAL | Errno::NODEV)
    )
}
