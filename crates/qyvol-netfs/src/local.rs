//! The private directory that the guest sees. It is accessed only through descriptors.
//!
//! Every path is opened beneath the root, and no symbolic link is followed, whatever
//! the guest has put there (`openat2(2)`, Linux 5.6). Files are completed in the staging
//! directory, which the guest doesn't see, and then renamed: a file has its whole content
//! or none, and a file that a guest has open is never written to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qyvol_types::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, SeekFrom, Timespec, Timestamps};

use crate::path;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What is at a path here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    /// A symbolic link, or something that no guest can create.
    Other,
}

/// The state of a file at one time. If a file was placed with a time in the past and still
/// has the same stamp, it has not been written to since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    pub(crate) length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is at a path, with its stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) stamp: Stamp,
}

/// The root and the staging directory next to it.
#[derive(Debug)]
pub(crate) struct Local {
    root: OwnedFd,
    staging: OwnedFd,
    counter: AtomicU64,
}

/// A file that has not been placed yet. If it never is, it is removed.
#[derive(Debug)]
pub(crate) struct Staged {
    local: Arc<Local>,
    name: String,
    pub(crate) file: File,
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(&self.local.staging, self.name.as_str(), AtFlags::empty());
    }
}

impl Local {
    /// Both directories must be on the same file system.
    pub(crate) fn new(root: OwnedFd, staging: OwnedFd) -> Local {
        Local {
            root,
            staging,
            counter: AtomicU64::new(0),
        }
    }

    /// Opens beneath the root.
    fn open(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let opened = rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        Ok(opened)
    }

    /// The directory that a path is in.
    fn parent(&self, path: &str) -> io::Result<OwnedFd> {
        self.open(path::parent(path).unwrap_or_default(), OFlags::PATH | OFlags::DIRECTORY)
    }

    /// What is at a path, without following a link. None if there is nothing, or if the
    /// path leads nowhere.
    pub(crate) fn stat(&self, path: &str) -> io::Result<Option<Seen>> {
        let found = if path.is_empty() {
            rustix::fs::fstat(&self.root)
        } else {
            match self.parent(path) {
                Ok(parent) => rustix::fs::statat(&parent, path::name(path), AtFlags::SYMLINK_NOFOLLOW),
                Err(error) if is_no_way(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        match found {
            Ok(stat) => Ok(Some(seen(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates a directory in an existing one; succeeds if it exists already.
    pub(crate) fn make_directory(&self, path: &str) -> io::Result<()> {
        let parent = self.parent(path)?;
        match rustix::fs::mkdirat(&parent, path::name(path), Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => match self.stat(path)? {
                Some(seen) if seen.kind == Kind::Directory => Ok(()),
                _ => Err(io::ErrorKind::NotADirectory.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Creates an empty file to be written and placed.
    pub(crate) fn stage(self: &Arc<Local>) -> io::Result<Staged> {
        let name = format!("{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        let file = File::from(rustix::fs::openat(&self.staging, name.as_str(), flags, mode)?);
        Ok(Staged {
            local: self.clone(),
            name,
            file,
        })
    }

    /// Puts a file in its place, and replaces a file that is there.
    pub(crate) fn place(&self, staged: Staged, path: &str, modified: Option<Timestamp>) -> io::Result<Stamp> {
        // A time at which nothing was written: when a guest writes, the time changes.
        let modified = modified.map_or(0, |time| i64::try_from(time.unix()).unwrap_or_default());
        let time = Timespec {
            tv_sec: modified,
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&staged.file, &times)?;
        let parent = self.parent(path)?;
        rustix::fs::renameat(&self.staging, staged.name.as_str(), &parent, path::name(path))?;
        Local::stamp(&staged)
    }

    /// Puts a file of `length` bytes, but without content, in its place.
    pub(crate) fn place_hollow(
        self: &Arc<Local>,
        path: &str,
        length: u64,
        modified: Option<Timestamp>,
    ) -> io::Result<Stamp> {
        let staged = self.stage()?;
        staged.file.set_len(length)?;
        self.place(staged, path, modified)
    }

    /// The state of a staged file.
    pub(crate) fn stamp(staged: &Staged) -> io::Result<Stamp> {
        Ok(seen(&rustix::fs::fstat(&staged.file)?).stamp)
    }

    /// Opens a regular file for reading, with its state when it was opened.
    pub(crate) fn read(&self, path: &str) -> io::Result<(File, Stamp)> {
        let file = File::from(self.open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)?);
        let seen = seen(&rustix::fs::fstat(&file)?);
        match seen.kind {
            Kind::File => Ok((file, seen.stamp)),
            _ => Err(io::Error::other("it is no regular file")),
        }
    }

    /// Whether a file that was placed without content still has none. The change time of
    /// its inode is not enough to tell: a link or a new owner changes that too.
    pub(crate) fn is_hollow(&self, path: &str, placed: Stamp, now: Stamp) -> bool {
        let changed = Stamp {
            changed: now.changed,
            ..placed
        };
        now == placed || (now == changed && self.has_no_data(path).unwrap_or(false))
    }

    /// Whether all of a file is a hole.
    fn has_no_data(&self, path: &str) -> io::Result<bool> {
        let (file, _) = self.read(path)?;
        match rustix::fs::seek(&file, SeekFrom::Data(0)) {
            Ok(_) => Ok(false),
            Err(rustix::io::Errno::NXIO) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file; succeeds if there is none.
    pub(crate) fn remove_file(&self, path: &str) -> io::Result<()> {
        self.remove(path, AtFlags::empty())
    }

    /// Removes an empty directory; succeeds if there is none.
    pub(crate) fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.remove(path, AtFlags::REMOVEDIR)
    }

    fn remove(&self, path: &str, flags: AtFlags) -> io::Result<()> {
        let removed = self.parent(path).and_then(|parent| {
            rustix::fs::unlinkat(&parent, path::name(path), flags)?;
            Ok(())
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Checks that a descriptor refers to a directory.
pub(crate) fn check_directory(directory: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(directory.as_fd())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(()),
        _ => Err(io::ErrorKind::NotADirectory.into()),
    }
}

fn is_no_way(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

fn seen(stat: &rustix::fs::Stat) -> Seen {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        _ => Kind::Other,
    };
    let part = |n: u64| i64::try_from(n).unwrap_or_default();
    Seen {
        kind,
        stamp: Stamp {
            inode: stat.st_ino,
            length: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime, part(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, part(stat.st_ctime_nsec)),
        },
    }
}

/// How long a file that nobody finished is left in a directory of ours.
pub(crate) const ABANDONED: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    fn local() -> (tempfile::TempDir, Arc<Local>) {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            fs::create_dir(directory.path().join(name)).unwrap();
            OwnedFd::from(File::open(directory.path().join(name)).unwrap())
        };
        let local = Arc::new(Local::new(open("root"), open("staging")));
        (directory, local)
    }

    fn put(local: &Arc<Local>, path: &str, content: &[u8]) -> io::Result<Stamp> {
        let mut staged = local.stage()?;
        staged.file.write_all(content)?;
        local.place(staged, path, None)
    }

    #[test]
    fn nothing_is_written_through_a_link_of_the_guest() {
        let (directory, local) = local();
        let outside = directory.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "as it was").unwrap();
        symlink(&outside, directory.path().join("root/link")).unwrap();
        symlink(outside.join("file"), directory.path().join("root/to-file")).unwrap();

        assert!(put(&local, "link/file", b"x").is_err());
        assert!(local.make_directory("link/new").is_err());
        assert!(local.make_directory("link").is_err());
        assert!(local.remove_file("link/file").is_err());
        assert!(local.read("link/file").is_err() && local.read("to-file").is_err());
        assert_eq!(local.stat("link/file").unwrap(), None);
        assert_eq!(local.stat("link").unwrap().unwrap().kind, Kind::Other);
        // A link itself is replaced, not followed.
        put(&local, "to-file", b"x").unwrap();
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "as it was");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(fs::read(directory.path().join("root/to-file")).unwrap(), b"x");
    }

    #[test]
    fn nothing_is_reached_above_the_root() {
        let (directory, local) = local();
        fs::write(directory.path().join("secret"), "x").unwrap();
        assert!(local.read("../secret").is_err());
        assert!(put(&local, "../secret", b"y").is_err());
        assert!(local.remove_file("../secret").is_err());
    }

    #[test]
    fn staged_file_without_a_place_is_gone() {
        let (directory, local) = local();
        drop(local.stage().unwrap());
        put(&local, "a", b"x").unwrap();
        assert_eq!(fs::read_dir(directory.path().join("staging")).unwrap().count(), 0);
    }

    #[test]
    fn every_write_changes_the_stamp() {
        let (directory, local) = local();
        let place = directory.path().join("root/a");
        let stamp = local.place_hollow("a", 3, None).unwrap();
        assert_eq!(local.stat("a").unwrap().unwrap().stamp, stamp);
        fs::write(&place, "abc").unwrap();
        assert_ne!(local.stat("a").unwrap().unwrap().stamp, stamp);
        let stamp = local.place_hollow("a", 0, None).unwrap();
        File::options().write(true).truncate(true).open(&place).unwrap();
        assert_ne!(local.stat("a").unwrap().unwrap().stamp, stamp);
    }
}
