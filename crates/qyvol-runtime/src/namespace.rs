//! Mounting without privilege: a child does it in a user namespace and a mount
//! namespace of its own (user_namespaces(7)), which this process must not enter,
//! and sends a descriptor of what it mounted (unix(7), `SCM_RIGHTS`).
//!
//! Nobody else sees what the child mounts: mounts propagate into the mount namespace of a child
//! user namespace, and never out of it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, WaitOptions, getegid, geteuid};
use rustix::thread::UnshareFlags;

/// The step at which a child failed: a number of the caller's, from 0 on.
pub(crate) type Step = u8;
/// It was entering its namespaces.
pub(crate) const ENTER: Step = 254;
/// There was no child, or it did not answer.
const CHILD: Step = 255;

/// Why there is no mount.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: Step,
    pub(crate) error: io::Error,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed { step: CHILD, error }
    }
}

impl From<Errno> for Failed {
    fn from(error: Errno) -> Failed {
        Failed::from(io::Error::from(error))
    }
}

/// The id maps for the kernel, made before the fork: a
/// child of a process with threads must not allocate.
pub(crate) struct IdMaps {
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
}

impl IdMaps {
    /// This user and group alone.
    pub(crate) fn new() -> IdMaps {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        IdMaps {
            uid_map: format!("{uid} {uid} 1").into_bytes(),
            gid_map: format!("{gid} {gid} 1").into_bytes(),
        }
    }
}

/// Has a child call `mount` in namespaces of its own, with `directory` as its working
/// directory, so that no path is resolved. `mount` makes only system calls and must not
/// allocate.
pub(crate) fn mounted_by_child(
    ids: &IdMaps,
    directory: Option<BorrowedFd<'_>>,
    mount: impl FnOnce() -> Result<OwnedFd, (Step, Errno)>,
) -> Result<OwnedFd, Failed> {
    let (ours, theirs) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the child makes only system calls, through rustix, on memory from before the
    // fork, takes no lock, allocates nothing and ends in `_exit`: what other threads held at
    // the fork doesn't matter. Broken by anything else in `child` or `mount`.
    #[allow(unsafe_code)]
    let pid = unsafe { libc::fork() };
    match Pid::from_raw(pid) {
        None => {
            let status = i32::from(child(ids, directory, mount, &theirs).is_err());
            // SAFETY: it never returns and runs nothing of this process.
            #[allow(unsafe_code)]
            unsafe {
                libc::_exit(status)
            }
        }
        Some(_) if pid < 0 => Err(io::Error::last_os_error().into()),
        Some(pid) => {
            // So that receiving ends when the child dies.
            drop(theirs);
            let received = receive(&ours);
            // Where SIGCHLD is ignored there is nothing to wait for.
            let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
            received
        }
    }
}

/// The child's part: the descriptor is sent, or where it failed and the error's number.
fn child(
    ids: &IdMaps,
    directory: Option<BorrowedFd<'_>>,
    mount: impl FnOnce() -> Result<OwnedFd, (Step, Errno)>,
    parent: &OwnedFd,
) -> Result<(), Errno> {
    let entered = directory
        .map_or(Ok(()), rustix::process::fchdir)
        .and_then(|()| enter(ids))
        .map_err(|error| (ENTER, error));
    let made = entered.and_then(|()| mount());
    let (step, number) = match &made {
        Ok(_) => (0, 0),
        Err((step, error)) => (*step, error.raw_os_error()),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let root;
    if let Ok(fd) = &made {
        root = [fd.as_fd()];
        ancillary.push(SendAncillaryMessage::ScmRights(&root));
    }
    let (step, number) = ([step], number.to_ne_bytes());
    let parts = [IoSlice::new(&step), IoSlice::new(&number)];
    rustix::net::sendmsg(parent, &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Enters a user namespace that has this user alone in it, and a mount
/// namespace of that.
fn enter(ids: &IdMaps) -> Result<(), Errno> {
    // SAFETY: descriptors are not unshared.
    #[allow(unsafe_code)]
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS)?;
    }
    // user_namespaces(7): without privilege outside, groups can be mapped only after setgroups
    // is disabled.
    write(c"/proc/self/setgroups", b"deny")?;
    write(c"/proc/self/uid_map", &ids.uid_map)?;
    write(c"/proc/self/gid_map", &ids.gid_map)
}

fn write(path: &std::ffi::CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes)?;
    Ok(())
}

/// What the child sent.
fn receive(socket: &OwnedFd) -> Result<OwnedFd, Failed> {
    let (mut step, mut number) = ([0; 1], [0; 4]);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut parts = [IoSliceMut::new(&mut step), IoSliceMut::new(&mut number)];
        rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let root = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (received.bytes, i32::from_ne_bytes(number), root) {
        (5, 0, Some(root)) => Ok(root),
        (5, error, _) if error != 0 => Err(Failed {
            step: u8::from_ne_bytes(step),
            error: io::Error::from_raw_os_error(error),
        }),
        _ => Err(io::Error::other("the child that mounts it has died").into()),
    }
}
