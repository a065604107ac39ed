//! The few file-system calls that a store uses.
//!
//! Nothing here follows a symbolic link in the last component of a path, and
//! removal follows none at all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::StoreError;

/// Whether a lock keeps others out or lets readers share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Shared,
    Exclusive,
}

/// The user that this process acts as.
pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens for reading. `NONBLOCK` so that a FIFO put in a file's place can't
/// hold the process; regular files ignore it.
pub(crate) fn open_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Creates a file that must not exist yet, open for reading and writing.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        path,
        flags,
        Mode::from_bits_truncate(mode),
    )?))
}

/// Opens a lock file, creating it where absent.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(
        path,
        flags,
        Mode::from_bits_truncate(0o600),
    )?))
}

/// Takes a lock, waiting for it.
pub(crate) fn lock(file: &File, lock: Lock) -> io::Result<()> {
    let operation = match lock {
        Lock::Shared => FlockOperation::LockShared,
        Lock::Exclusive => FlockOperation::LockExclusive,
    };
    Ok(rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation))?)
}

/// Takes an exclusive lock if nobody holds one.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    let operation = FlockOperation::NonBlockingLockExclusive;
    match rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes a directory; returns whether it is new.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<bool> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a directory's entries to the device.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    open_read(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| StoreError::io("sync directory", path, error))
}

/// The metadata of the entry itself, or nothing where there is none.
pub(crate) fn stat(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the error says that the path does not exist.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether a file was not opened because it is a symbolic link.
pub(crate) fn is_link(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// The names in a directory; none where the directory is absent or something else,
/// a link to a directory among them. Sorted, so that everything made from a
/// listing is the same on every file system.
pub(crate) fn names(path: &Path) -> Result<Vec<OsString>, StoreError> {
    list(path).map_err(|error| StoreError::io("list", path, error))
}

fn list(path: &Path) -> io::Result<Vec<OsString>> {
    let dir = match open_dir(path) {
        Ok(dir) => dir,
        Err(error) if is_absent(&error) || is_link(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_os_string());
        }
    }
    names.sort();
    Ok(names)
}

fn open_dir(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Removes whatever is at `path`: a link itself, a directory with all it holds.
/// Directories are made writable first, since unpacked trees are not.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let Some(meta) = stat(path)? else {
        return Ok(());
    };
    let removed = if meta.is_dir() {
        make_removable(path)?;
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}

fn make_removable(top: &Path) -> io::Result<()> {
    let mut directories = vec![top.to_path_buf()];
    while let Some(directory) = directories.pop() {
        let dir = open_dir(&directory)?;
        if dir.metadata()?.mode() & 0o700 != 0o700 {
            dir.set_permissions(fs::Permissions::from_mode(0o700))?;
        }
        for name in list(&directory)? {
            let path = directory.join(name);
            if stat(&path)?.is_some_and(|meta| meta.is_dir()) {
                directories.push(path);
            }
        }
    }
    Ok(())
}

/// Bytes of all files under a path, following no link.
pub(crate) fn usage(path: &Path) -> u64 {
    let mut bytes: u64 = 0;
    let mut left = vec![path.to_path_buf()];
    while let Some(path) = left.pop() {
        let Ok(Some(meta)) = stat(&path) else {
            continue;
        };
        if meta.is_dir() {
            let names = list(&path).unwrap_or_default();
            left.extend(names.into_iter().map(|name| path.join(name)));
        } else {
            bytes = bytes.saturating_add(meta.len());
        }
    }
    bytes
}

/// Free bytes for this user on the file system of a path; none if it is
/// read-only, which a later write reports. For a path that does not exist yet,
/// the nearest directory above it is used.
pub(crate) fn available(path: &Path) -> io::Result<Option<u64>> {
    let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(there)?;
    let writable = !stat.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    Ok(writable.then(|| stat.f_bavail.saturating_mul(stat.f_frsize)))
}

/// Fills a buffer from the system's generator.
pub(crate) fn random(buf: &mut [u8]) -> Result<(), StoreError> {
    SystemRandom::new().fill(buf).map_err(|_| StoreError::Random)
}

/// A unique name.
pub(crate) fn random_name() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    random(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

/// The kind of a file-system object, for messages.
pub(crate) fn kind_of(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_file() {
        "a file"
    } else {
        "a special file"
    }
}

/// Waits until the file system's clock has passed `ctime`, by touching
/// `probe` on the same file system.
///
/// A record that names a file's change time proves nothing about a change
/// made within the same tick of that clock (a few milliseconds on kernels
/// before 6.13). So a record is only put in place once the tick is over. File
/// systems that count whole seconds are not waited for.
pub(crate) fn wait_past(probe: &File, ctime: (i64, i64)) -> io::Result<()> {
    for _ in 0..40 {
        let now = rustix::fs::Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_NOW,
        };
        let times = rustix::fs::Timestamps {
            last_access: now,
            last_modification: now,
        };
        rustix::fs::futimens(probe, &times)?;
        let meta = probe.metadata()?;
        if (meta.ctime(), meta.ctime_nsec()) > ctime {
            break;
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    Ok(())
}
