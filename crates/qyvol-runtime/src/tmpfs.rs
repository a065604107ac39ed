//! A file system in memory that belongs to one process and ends with it.
//!
//! A tmpfs that is mounted nowhere: `fsmount` (Linux 5.2) returns a descriptor
//! of its root, and the kernel frees all of it with the last descriptor, however
//! the process ends. Nothing is left that anybody would have to remove. Its size
//! and number of files are bounded by the kernel.
//!
//! Mounting needs `CAP_SYS_ADMIN` over a mount namespace. Whoever lacks it gets
//! it in a user namespace of their own (user_namespaces(7)); this process must
//! not enter one, so a child does, mounts, and sends the descriptor back
//! (unix(7), `SCM_RIGHTS`).

use std::ffi::CString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, WaitOptions, getegid, geteuid};
use rustix::thread::UnshareFlags;

/// Limits of a file system in memory, enforced by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TmpfsLimits {
    /// Bytes of all files. Rounded up to pages.
    pub bytes: u64,
    /// Files and directories.
    pub files: u64,
}

/// A file system in memory, open to its user alone. Dropped, it is gone, unless
/// something in it is still open.
#[derive(Debug)]
pub struct Tmpfs {
    root: OwnedFd,
}

impl Tmpfs {
    /// Makes an empty one.
    ///
    /// Fails with [`io::ErrorKind::PermissionDenied`] or
    /// [`io::ErrorKind::Unsupported`] where the host bars it: a container
    /// without user namespaces, a kernel before 5.2.
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

/// What is written to the kernel, made before the fork: a child of a process
/// with threads must not allocate.
struct Options {
    size: CString,
    inodes: CString,
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
}

impl Options {
    fn new(limits: TmpfsLimits) -> io::Result<Options> {
        // 0 would mean no bound.
        let number = |n: u64| CString::new(n.max(1).to_string()).map_err(io::Error::other);
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        Ok(Options {
            size: number(limits.bytes)?,
            // The root is one of them.
            inodes: number(limits.files.saturating_add(1))?,
            uid_map: format!("{uid} {uid} 1").into_bytes(),
            gid_map: format!("{gid} {gid} 1").into_bytes(),
        })
    }
}

/// Makes the file system. Allocates nothing.
fn mount(options: &Options) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, c"size", options.size.as_c_str())?;
    rustix::mount::fsconfig_set_string(&context, c"nr_inodes", options.inodes.as_c_str())?;
    rustix::mount::fsconfig_set_string(&context, c"mode", c"0700")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Makes the file system in a child process with a user namespace of its own.
fn mount_in_namespace(options: &Options) -> io::Result<OwnedFd> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the child calls the kernel alone, by rustix's own system calls on
    // memory of before the fork, takes no lock, allocates nothing and ends in
    // `_exit`: what other threads held at the fork doesn't matter to it. Broken
    // by whoever puts anything else into `child`.
    #[allow(unsafe_code)]
    let pid = unsafe { libc::fork() };
    match Pid::from_raw(pid) {
        None => {
            let status = i32::from(child(options, &theirs).is_err());
            // SAFETY: it never returns and runs nothing of this process.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(status)
            }
        }
        Some(_) if pid < 0 => Err(io::Error::last_os_error()),
        Some(pid) => {
            // So that its death is the end of what can be received.
            drop(theirs);
            let received = receive(&ours);
            // Where SIGCHLD is ignored there is nothing to wait for.
            let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
            received
        }
    }
}

/// The child's part: the descriptor is sent, or the error's number.
fn child(options: &Options, parent: &OwnedFd) -> Result<(), Errno> {
    let made = enter_namespace(options).and_then(|()| mount(options));
    let number = match &made {
        Ok(_) => 0,
        Err(error) => error.raw_os_error(),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let root;
    if let Ok(fd) = &made {
        root = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&root));
    }
    let bytes = number.to_ne_bytes();
    rustix::net::sendmsg(parent, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Enters a user namespace that has this user alone in it, and a mount
/// namespace of that.
fn enter_namespace(options: &Options) -> Result<(), Errno> {
    // SAFETY: descriptors are not unshared.
    #[allow(unsafe_code)]
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    }
    // user_namespaces(7): who has no privilege outside maps groups only after
    // giving up setgroups.
    write(c"/proc/self/setgroups", b"deny")?;
    write(c"/proc/self/uid_map", &options.uid_map)?;
    write(c"/proc/self/gid_map", &options.gid_map)
}

fn write(path: &std::ffi::CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes)?;
    Ok(())
}

/// What the child sent.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut number = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut number)];
        rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let root = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (received.bytes, i32::from_ne_bytes(number), root) {
        (4, 0, Some(root)) => Ok(root),
        (4, error, _) if error != 0 => Err(io::Error::from_raw_os_error(error)),
        _ => Err(io::Error::other("the child that mounts it has died")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const LIMITS: TmpfsLimits = TmpfsLimits {
        bytes: 1 << 20,
        files: 8,
    };

    /// Both ways, as far as the host has them; all of them for `cargo xtask test`
    /// as root.
    #[allow(clippy::disallowed_methods, reason = "a test")]
    fn both() -> Vec<Tmpfs> {
        let options = Options::new(LIMITS).unwrap();
        let mut made = Vec::new();
        match mount_in_namespace(&options) {
            Ok(root) => made.push(Tmpfs { root }),
            Err(error) => assert!(
                !std::env::var("QYVOL_TEST_ALL").is_ok_and(|all| all.contains("namespaces")),
                "no user namespaces here: {error}"
            ),
        }
        if let Ok(root) = mount(&options) {
            made.push(Tmpfs { root });
        }
        #[allow(clippy::disallowed_methods, reason = "a test")]
        let required = std::env::var("QYVOL_TEST_ALL").is_ok_and(|all| all.contains("root"));
        assert!(!required || !made.is_empty());
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
