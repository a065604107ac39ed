//! A directory of a process's own in a memory file system that all users share.
//!
//! Its name has the user's id in it, its mode is 0700, and its process holds a
//! lock (flock) on the directory itself. A process that makes one takes the lock and then
//! checks that the directory still exists; a process that removes one holds the lock. So
//! neither removes the other's, and no second name is needed that another user could take
//! first.
//!
//! Other users may have put anything next to it: only directories are opened, no link is
//! followed, and only this user's own are touched.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, DirEntry, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// Names that are checked to find leftovers of killed processes. Others may have made any
/// number of them.
const NAMES: usize = 1 << 16;
/// Entries that one run removes. More are left to the next.
const ENTRIES: u64 = 1 << 20;
/// How often a directory that another process took for a leftover, between its
/// making and its locking, is made again.
const TRIES: usize = 1000;

/// The directory. It is removed on drop.
pub(crate) struct SharedMemory {
    parent: OwnedFd,
    /// Open and locked.
    directory: OwnedFd,
    path: PathBuf,
    removed: bool,
}

impl SharedMemory {
    /// Makes one in `memory`, and removes what this user's killed processes
    /// left there.
    pub(crate) fn create(memory: &Path) -> io::Result<SharedMemory> {
        let parent = rustix::fs::open(memory, directory_flags(), Mode::empty())?;
        let prefix = format!("qyvol-{}-", rustix::process::geteuid().as_raw());
        sweep(&parent, &prefix);
        for _ in 0..TRIES {
            let made = tempfile::Builder::new()
                .prefix(&prefix)
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(memory)?;
            // From here on its removal is this module's.
            let path = made.keep();
            if let Some(directory) = lock(&parent, name_of(&path))? {
                return Ok(SharedMemory {
                    parent,
                    directory,
                    path,
                    removed: false,
                });
            }
        }
        Err(io::Error::other(
            "other processes took away each directory that was made",
        ))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Empties and removes it. What is left after an error is the next run's to
    /// remove.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        self.remove_now()
    }

    fn remove_now(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        let mut left = ENTRIES;
        remove(&self.parent, name_of(&self.path), &self.directory, &mut left)
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // On the way out of an error, which matters more than this one.
        let _ = self.remove_now();
    }
}

fn name_of(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC
}

/// Opens and locks this user's directory `name`. None if it is something else,
/// somebody else's, in use or gone.
fn lock(parent: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let directory = match rustix::fs::openat(parent, name, directory_flags(), Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if rustix::fs::fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
        return Ok(None);
    }
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    // Asked after the lock: whoever removes it holds the lock until it is gone.
    let gone = rustix::fs::fstat(&directory)?.st_nlink == 0;
    Ok((!gone).then_some(directory))
}

/// Removes directories whose process is gone. What can't be removed now is
/// tried again by the next run; nothing depends on it.
fn sweep(parent: &OwnedFd, prefix: &str) {
    let Ok(entries) = Dir::read_from(parent) else { return };
    let mut left = ENTRIES;
    for entry in entries.take(NAMES).flatten() {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if !name.as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        if let Ok(Some(directory)) = lock(parent, name)
            && remove(parent, name, &directory, &mut left).is_err()
            && left == 0
        {
            return;
        }
    }
}

/// Removes a directory and all it holds, at most `left` entries.
///
/// However deep it goes, a handful of descriptors is open and nothing recurses:
/// a directory that isn't empty is moved up to the top before it is looked at.
fn remove(parent: &OwnedFd, name: &OsStr, top: &OwnedFd, left: &mut u64) -> io::Result<()> {
    let mut moved = 0u64;
    loop {
        let mut empty = true;
        for entry in list(top)? {
            let entry = entry?;
            empty = false;
            if unlink(top, entry.file_name(), left)? {
                continue;
            }
            let inner = rustix::fs::openat(top, entry.file_name(), directory_flags(), Mode::empty())?;
            for entry in list(&inner)? {
                let entry = entry?;
                let mut gone = unlink(&inner, entry.file_name(), left)?;
                while !gone {
                    moved += 1;
                    // Taken where an earlier removal came to its bound.
                    let target = format!("{}.{moved}", name.to_string_lossy());
                    gone = match rustix::fs::renameat(&inner, entry.file_name(), top, target) {
                        Ok(()) => true,
                        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => false,
                        Err(error) => return Err(error.into()),
                    };
                    spend(left)?;
                }
            }
            rustix::fs::unlinkat(top, entry.file_name(), AtFlags::REMOVEDIR)?;
        }
        if empty {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?);
        }
        // A listing need not show what was moved while it went on.
    }
}

/// The entries of a directory but `.` and `..`.
fn list(directory: &OwnedFd) -> io::Result<impl Iterator<Item = Result<DirEntry, Errno>>> {
    let itself = |name: &CStr| matches!(name.to_bytes(), b"." | b"..");
    Ok(Dir::read_from(directory)?.filter(move |entry| !entry.as_ref().is_ok_and(|e| itself(e.file_name()))))
}

/// Removes a file or an empty directory. False if it is a directory with
/// something in it.
fn unlink(directory: &OwnedFd, name: &CStr, left: &mut u64) -> io::Result<bool> {
    spend(left)?;
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn spend(left: &mut u64) -> io::Result<()> {
    *left = left
        .checked_sub(1)
        .ok_or_else(|| io::Error::other("it holds more than one run removes"))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn names(memory: &Path) -> Vec<String> {
        let entries = fs::read_dir(memory).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Leaves the directory behind, as a process that is killed does.
    fn killed(mut shared: SharedMemory) -> PathBuf {
        shared.removed = true;
        shared.path().to_path_buf()
    }

    fn own_prefix() -> String {
        format!("qyvol-{}-", rustix::process::geteuid().as_raw())
    }

    /// One directory in the other, deeper than descriptors or a stack reach.
    fn nest(top: &Path, levels: usize) {
        let mut at = rustix::fs::open(top, directory_flags(), Mode::empty()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            let file = OFlags::CREATE | OFlags::WRONLY;
            rustix::fs::openat(&at, "f", file, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", directory_flags(), Mode::empty()).unwrap();
        }
    }

    // [RUN-030]
    #[test]
    fn directory_is_private_and_gone_when_dropped() {
        let memory = tempfile::tempdir().unwrap();
        let shared = SharedMemory::create(memory.path()).unwrap();
        assert_eq!(fs::metadata(shared.path()).unwrap().mode() & 0o7777, 0o700);
        fs::write(shared.path().join("file"), "x").unwrap();
        drop(shared);
        assert_eq!(names(memory.path()), [""; 0]);
    }

    #[test]
    fn tree_deeper_than_descriptors_and_stack_is_removed() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let shared = SharedMemory::create(memory.path()).unwrap();
        nest(shared.path(), 20_000);
        // Less than a recursion would need.
        let small = std::thread::Builder::new().stack_size(128 << 10);
        small.spawn(move || shared.remove().unwrap()).unwrap().join().unwrap();
        assert_eq!(names(memory.path()), [""; 0]);
    }

    #[test]
    fn cleanup_removes_leftovers_of_dead_processes_only() {
        let memory = tempfile::tempdir().unwrap();
        let dead = SharedMemory::create(memory.path()).unwrap();
        let living = SharedMemory::create(memory.path()).unwrap();
        let dead = killed(dead);
        nest(&dead, 3);
        let next = SharedMemory::create(memory.path()).unwrap();
        assert!(!dead.exists());
        assert!(living.path().exists() && next.path().exists());
    }

    #[test]
    fn cleanup_ignores_links_fifos_and_files() {
        let memory = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("file"), "x").unwrap();
        let name = |what: &str| memory.path().join(format!("{}{what}", own_prefix()));
        rustix::fs::mkfifoat(rustix::fs::CWD, name("fifo"), Mode::RWXU).unwrap();
        symlink(outside.path(), name("link")).unwrap();
        fs::write(name("file"), "x").unwrap();
        // A link and a FIFO in what was left behind.
        let left = name("left");
        fs::create_dir(&left).unwrap();
        symlink(outside.path(), left.join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, left.join("lock"), Mode::RWXU).unwrap();
        drop(SharedMemory::create(memory.path()).unwrap());
        assert!(outside.path().join("file").exists());
        let kinds = ["fifo", "file", "link"].map(|k| format!("{}{k}", own_prefix()));
        assert_eq!(names(memory.path()), kinds);
    }

    #[test]
    fn directory_of_another_user_is_not_touched() {
        if crate::needs::lacks(&["root"]) {
            return;
        }
        let memory = tempfile::tempdir().unwrap();
        let theirs = memory.path().join(format!("{}theirs", own_prefix()));
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
        drop(SharedMemory::create(memory.path()).unwrap());
        assert!(theirs.exists());
    }

    #[test]
    fn concurrent_processes_each_get_a_directory() {
        let memory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let shared = SharedMemory::create(memory.path()).unwrap();
                        fs::write(shared.path().join("file"), "x").unwrap();
                    }
                });
            }
        });
        assert_eq!(names(memory.path()), [""; 0]);
    }

    #[test]
    fn removal_stops_at_its_limit_and_resumes_next_time() {
        let memory = tempfile::tempdir().unwrap();
        let shared = SharedMemory::create(memory.path()).unwrap();
        nest(shared.path(), 10);
        let (name, mut left) = (name_of(&shared.path).to_os_string(), 5);
        remove(&shared.parent, &name, &shared.directory, &mut left).unwrap_err();
        assert!(shared.path().exists());
        drop(shared);
        assert_eq!(names(memory.path()), [""; 0]);
    }
}
