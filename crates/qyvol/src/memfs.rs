//! `memfs`: a private file system in memory, which ends with its run.
//!
//! It is a tmpfs of the process's own, mounted nowhere, which the kernel frees
//! with its last descriptor. If the host does not allow that, it is a directory in the host's
//! memory file system, removed when the run ends; what a killed process left there is removed
//! by the next run. The kernel bounds the first; the second has a quota, which the mount must
//! use ([`MemFs::quota`]).

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_runtime::{Quota, Tmpfs, TmpfsLimits};
use rustix::io::Errno;

use crate::Error;
use crate::shared_memory::SharedMemory;

/// Bytes of all files, unless the manifest says otherwise.
pub(crate) const DEFAULT_BYTES: u64 = 512 << 20;
/// Bytes for each file that there may be: a file takes about a kilobyte of the
/// kernel's memory, or a block of a disk, in addition to its content.
const BYTES_PER_FILE: u64 = 8 << 10;
/// Minimum number of files, however small it is.
const MIN_FILES: u64 = 1024;

/// The guest's root in a shared one. Its process holds a lock on the directory around it,
/// and a quota takes one on the directory that it bounds.
const ROOT: &str = "root";

/// Bounds of a file system in memory of this many bytes.
pub(crate) fn limits(bytes: u64) -> TmpfsLimits {
    TmpfsLimits {
        bytes,
        files: files_for(bytes),
    }
}

/// Maximum number of files and directories in a file system of this many bytes.
pub(crate) fn files_for(bytes: u64) -> u64 {
    (bytes / BYTES_PER_FILE).max(MIN_FILES)
}

/// A file system in memory. Dropped, it is gone.
pub(crate) struct MemFs(Kind);

enum Kind {
    Private(Tmpfs),
    Shared(SharedMemory, Arc<Quota>),
}

impl MemFs {
    /// Makes an empty one of at most `bytes`. `shared` is the host's memory file system, for
    /// hosts that don't allow a private one.
    pub(crate) fn create(shared: Option<&Path>, bytes: u64) -> Result<MemFs, Error> {
        let error = match Tmpfs::new(limits(bytes)) {
            Ok(tmpfs) => return Ok(MemFs(Kind::Private(tmpfs))),
            Err(error) => error,
        };
        match shared.filter(|_| is_unavailable(&error)) {
            Some(shared) => bounded(shared, bytes).map_err(Error::file("make a file system in memory in", shared)),
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

    /// The bound of one that the kernel does not bound.
    pub(crate) fn quota(&self) -> Option<Arc<Quota>> {
        match &self.0 {
            Kind::Private(_) => None,
            Kind::Shared(_, quota) => Some(Arc::clone(quota)),
        }
    }

    /// Removes it. After an error, the next run removes what is left.
    pub(crate) fn close(self) -> Result<(), Error> {
        let path = self.root();
        match self.0 {
            // The kernel frees it.
            Kind::Private(_) => Ok(()),
            Kind::Shared(directory, _) => directory.remove().map_err(Error::file("remove", path)),
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
            Kind::Shared(directory, _) => directory.path().join(ROOT),
        }
    }
}

fn bounded(shared: &Path, bytes: u64) -> io::Result<MemFs> {
    let directory = SharedMemory::create(shared)?;
    let root = directory.path().join(ROOT);
    DirBuilder::new().mode(0o700).create(&root)?;
    let quota = Quota::new(&root, bytes, files_for(bytes))?;
    Ok(MemFs(Kind::Shared(directory, Arc::new(quota))))
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
