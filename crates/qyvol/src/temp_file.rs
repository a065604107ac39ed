//! Files that are being written and have no name in their directory yet.
//!
//! If the file system supports it, such a file has no name at all (`O_TMPFILE`), and nothing is
//! left of it however the process ends. Elsewhere, and while a file replaces another, it has a
//! name of its own, which [`TempFiles`] records, so that a process that is ended by a signal
//! can remove it first. What a killed process leaves is removed by the next command that writes
//! to that directory: each has a lock that its process holds.

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qyvol_image::{is_temporary_name, temporary_name};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, flock, fstat, linkat, openat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

/// The named temporaries of this process. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct TempFiles(Arc<Mutex<Vec<Named>>>);

#[derive(Clone, Debug)]
struct Named {
    directory: Arc<OwnedFd>,
    name: String,
}

/// While this lives, no temporary gets a name. See [`TempFiles::remove_all`].
#[must_use = "temporaries appear again once it is dropped"]
pub struct CleanupGuard<'a> {
    _list: MutexGuard<'a, Vec<Named>>,
}

impl TempFiles {
    fn list(&self) -> MutexGuard<'_, Vec<Named>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, in whoever calls [`TempFiles::remove_all`], until this is dropped.
    pub(crate) fn hold(&self) -> CleanupGuard<'_> {
        CleanupGuard { _list: self.list() }
    }

    /// Removes those that have a name, before the process ends. A file that is
    /// just being put in its place is waited for.
    pub fn remove_all(&self) -> CleanupGuard<'_> {
        let mut list = self.list();
        for named in list.drain(..) {
            named.remove();
        }
        CleanupGuard { _list: list }
    }
}

impl Named {
    fn remove(&self) {
        // It is gone already, or the next command finds it.
        let _ = unlinkat(&*self.directory, &self.name, AtFlags::empty());
    }
}

/// A file that is being written. Dropped, it is gone.
pub(crate) struct TempFile<'a> {
    file: File,
    directory: Arc<OwnedFd>,
    /// Its name, where it has one.
    named: Option<Named>,
    all: &'a TempFiles,
}

impl<'a> TempFile<'a> {
    /// Starts a file in `directory`, on a file system of its own if need be.
    /// Removes what killed processes of this user have left there.
    pub(crate) fn create(all: &'a TempFiles, directory: &Path, mode: u32) -> io::Result<TempFile<'a>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = Arc::new(openat(CWD, directory, flags, Mode::empty())?);
        sweep(&directory);
        let mode = Mode::from_raw_mode(mode);
        match unnamed(&directory, mode) {
            Some(file) => Ok(TempFile {
                file,
                directory,
                named: None,
                all,
            }),
            None => TempFile::named(all, directory, mode),
        }
    }

    /// A file that has a name from the start.
    fn named(all: &'a TempFiles, directory: Arc<OwnedFd>, mode: Mode) -> io::Result<TempFile<'a>> {
        loop {
            let name = fresh_name();
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut list = all.list();
            let file = match openat(&*directory, &name, flags, mode) {
                Ok(file) => File::from(file),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            lock(&file);
            // Another process may have swept it away before it was locked.
            if !is_entry(&directory, &name, &file) {
                continue;
            }
            let named = Named { directory, name };
            list.push(named.clone());
            drop(list);
            return Ok(TempFile {
                file,
                directory: named.directory.clone(),
                named: Some(named),
                all,
            });
        }
    }

    /// The file, to write to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file a name that nothing has yet.
    pub(crate) fn persist_noclobber(mut self, name: &OsStr) -> io::Result<()> {
        let all = self.all;
        let mut list = all.list();
        match &self.named {
            None => link(&self.file, &self.directory, name)?,
            Some(named) => {
                match renameat_with(
                    &*self.directory,
                    &named.name,
                    &*self.directory,
                    name,
                    RenameFlags::NOREPLACE,
                ) {
                    // Not every file system supports this: look for an existing
                    // entry instead.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                        match statat(&*self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                            Err(Errno::NOENT) => renameat(&*self.directory, &named.name, &*self.directory, name)?,
                            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
                            Err(error) => return Err(error.into()),
                        }
                    }
                    result => result?,
                }
            }
        }
        self.settled(&mut list);
        Ok(())
    }

    /// Replaces another file with it.
    pub(crate) fn replace(mut self, name: &OsStr) -> io::Result<()> {
        let all = self.all;
        // No signal ends the process between the two steps.
        let mut list = all.list();
        let named = match self.named.take() {
            Some(named) => named,
            None => {
                lock(&self.file);
                let named = Named {
                    directory: self.directory.clone(),
                    name: fresh_name(),
                };
                link(&self.file, &self.directory, OsStr::new(&named.name))?;
                named
            }
        };
        let renamed = renameat(&*self.directory, &named.name, &*self.directory, name);
        if renamed.is_err() {
            named.remove();
        }
        list.retain(|other| other.name != named.name);
        Ok(renamed?)
    }

    /// It has its final name: there is nothing left to remove.
    fn settled(&mut self, list: &mut Vec<Named>) {
        if let Some(named) = self.named.take() {
            list.retain(|other| other.name != named.name);
        }
    }
}

impl Drop for TempFile<'_> {
    fn drop(&mut self) {
        if let Some(named) = self.named.take() {
            let mut list = self.all.list();
            named.remove();
            list.retain(|other| other.name != named.name);
        }
    }
}

/// A file without a name, where the file system has them and this process can
/// give it one later, for which `/proc` is needed.
fn unnamed(directory: &OwnedFd, mode: Mode) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(openat(directory, ".", flags, mode).ok()?);
    let reached = statat(CWD, proc_path(&file), AtFlags::empty()).ok()?;
    let own = fstat(&file).ok()?;
    ((reached.st_dev, reached.st_ino) == (own.st_dev, own.st_ino)).then_some(file)
}

fn proc_path(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Gives a file without a name one.
fn link(file: &File, directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    linkat(CWD, proc_path(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

/// A temporary name that nothing has.
pub(crate) fn fresh_name() -> String {
    temporary_name(RandomState::new().build_hasher().finish())
}

/// Marks a file as in use. Without locks, it is never swept.
fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Whether `name` still leads to this file.
fn is_entry(directory: &OwnedFd, name: &str, file: &File) -> bool {
    let entry = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    match (entry, fstat(file)) {
        (Ok(entry), Ok(own)) => (entry.st_dev, entry.st_ino) == (own.st_dev, own.st_ino),
        _ => false,
    }
}

/// Removes temporaries whose process is gone: regular files of this user, by
/// name, that nobody has locked. Files that can't be read stay.
fn sweep(directory: &OwnedFd) {
    let user = rustix::process::geteuid().as_raw();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(directory, ".", flags, Mode::empty());
    let Ok(entries) = listed.and_then(Dir::new) else { return };
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().ok().filter(|name| is_temporary_name(name)) else {
            continue;
        };
        let ours = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| stat.st_uid == user && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        if !ours {
            continue;
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(directory, name, flags, Mode::empty()) else {
            continue;
        };
        let file = File::from(file);
        if lock(&file) && is_entry(directory, name, &file) {
            let _ = unlinkat(directory, name, AtFlags::empty());
        }
    }
}
