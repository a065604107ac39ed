//! A file system in memory that belongs to one process and ends with it.
//!
//! A tmpfs that is mounted nowhere: `fsmount` (Linux 5.2) returns a descriptor
//! of its root, and the kernel frees all of it with the last descriptor, however
//! the process ends. Nothing is left to clean up. Its size
//! and number of files are bounded by the kernel.
//!
//! Mounting needs `CAP_SYS_ADMIN` over a mount namespace. Without it, a child does it in
//! namespaces of its own ([`crate::namespace`]).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::namespace::{self, IdMaps};

/// Limits of a file system in memory, enforced by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TmpfsLimits {
    /// Bytes of all files. Rounded up to pages.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// A file system in memory, accessible only to its user. When it is dropped it is gone, unless
/// something in it is still open.
#[derive(Debug)]
pub struct Tmpfs {
    root: OwnedFd,
}

impl Tmpfs {
    /// Makes an empty one.
    ///
    /// Fails with [`io::ErrorKind::PermissionDenied`] or
    /// [`io::ErrorKind::Unsupported`] if the host does not allow it: a container without user
    /// namespaces, a kernel before 5.2.
    pub fn new(limits: TmpfsLimits) -> io::Result<Tmpfs> {
        let options = Options::new(limits)?;
        let root = match mount(&options) {
            Err(Errno::PERM) => mount_in_namespace(&options)?,
            mounted => mounted?,
        };
        Ok(Tmpfs { root })
    }

    /// A path to its root, valid for as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }
}

impl AsFd for Tmpfs {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// The mount options, made before the fork: a child of a process
/// with threads must not allocate.
pub(crate) struct Options {
    size: CString,
    inodes: CString,
}

impl Options {
    pub(crate) fn new(limits: TmpfsLimits) -> io::Result<Options> {
        // 0 would mean no bound.
        let number = |n: u64| CString::new(n.max(1).to_string()).map_err(io::Error::other);
        Ok(Options {
            size: number(limits.bytes)?,
            // The root is one of them.
            inodes: number(limits.files.saturating_add(1))?,
        })
    }
}

/// Makes the file system. Allocates nothing.
pub(crate) fn mount(options: &Options) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, c"size", options.size.as_c_str())?;
    rustix::mount::fsconfig_set_string(&context, c"nr_inodes", options.inodes.as_c_str())?;
    rustix::mount::fsconfig_set_string(&context, c"mode", c"0700")?;
    detached(&context)
}

/// Makes what a context describes, mounted nowhere. Allocates nothing.
pub(crate) fn detached(context: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::mount::fsconfig_create(context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Makes the file system in a child process with a user namespace of its own.
fn mount_in_namespace(options: &Options) -> io::Result<OwnedFd> {
    let ids = IdMaps::new();
    let made = namespace::mounted_by_child(&ids, None, || mount(options).map_err(|error| (0, error)));
    made.map_err(|failed| failed.error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{Mode, OFlags};
    use rustix::process::geteuid;

    use super::*;

    const LIMITS: TmpfsLimits = TmpfsLimits {
        bytes: 1 << 20,
        files: 8,
    };

    /// Both ways, as far as the host supports them.
    fn both() -> Vec<Tmpfs> {
        let options = Options::new(LIMITS).unwrap();
        let mut made = Vec::new();
        if !crate::needs::lacks(&["namespaces"]) {
            let root = mount_in_namespace(&options).unwrap();
            made.push(Tmpfs { root });
        }
        if !crate::needs::lacks(&["mounts"]) {
            let root = mount(&options).unwrap();
            made.push(Tmpfs { root });
        }
        made
    }

    // [RUN-030]
    #[test]
    fn size_and_number_of_files_are_bounded_by_the_kernel() {
        for tmpfs in both() {
            let root = tmpfs.path();
            assert_eq!(fs::metadata(&root).unwrap().mode() & 0o7777, 0o700);
            assert_eq!(fs::metadata(&root).unwrap().uid(), geteuid().as_raw());
            fs::write(root.join("a"), vec![1; 1 << 20]).unwrap();
            let full = fs::write(root.join("b"), [1]).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
            fs::write(root.join("a"), "").unwrap();
            for n in 2..LIMITS.files {
                fs::create_dir(root.join(n.to_string())).unwrap();
            }
            let full = fs::create_dir(root.join("more")).unwrap_err();
            assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        }
    }

    #[test]
    fn each_tmpfs_is_separate_and_in_no_mount_table() {
        for (a, b) in both().into_iter().zip(both()) {
            fs::write(a.path().join("file"), "a").unwrap();
            assert!(!b.path().join("file").exists());
            let device = fs::metadata(a.path()).unwrap().dev();
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let device = format!(" {}:{} ", rustix::fs::major(device), rustix::fs::minor(device));
            assert!(!mounts.contains(&device), "{mounts}");
        }
    }

    #[test]
    fn open_files_outlive_the_tmpfs() {
        for tmpfs in both() {
            let root = fs::File::open(tmpfs.path()).unwrap();
            drop(tmpfs);
            let flags = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(&root, "file", flags, Mode::RWXU).unwrap();
        }
    }
}
