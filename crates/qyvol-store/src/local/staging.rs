//! Private directories under `tmp/` where content is prepared before it is installed.
//!
//! Each has a lock file next to it that its process holds. The lock file is created and locked
//! before the directory and removed after it, so a directory whose lock is free or absent has
//! no owner and can be swept.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::LocalStore;
use crate::{StoreError, sys};

/// A directory of this process, removed when dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
    lock_path: PathBuf,
    _lock: File,
    // Declared last: prune may only begin when the directory is gone.
    _gc: File,
}

impl Staging {
    /// Makes a directory and sweeps those of dead processes.
    pub(crate) fn new(store: &LocalStore) -> Result<Staging, StoreError> {
        store.layout().create()?;
        let gc = store.lock_gc(sys::Lock::Shared)?;
        let tmp = store.layout().directory("tmp");
        sweep(&tmp);
        loop {
            let name = sys::random_name()?;
            let lock_path = tmp.join(format!("{name}.lock"));
            let failed = |error| StoreError::io("create", &lock_path, error);
            let lock = sys::create_new(&lock_path, 0o600).map_err(failed)?;
            // A sweep may see the file before it is locked: it is then held or gone, and
            // another name is tried.
            if !sys::try_lock(&lock).map_err(failed)? || lock.metadata().map_err(failed)?.nlink() == 0 {
                continue;
            }
            let directory = tmp.join(name);
            let made = Staging {
                directory,
                lock_path,
                _lock: lock,
                _gc: gc,
            };
            sys::make_dir(&made.directory, 0o700)
                .map_err(|e| StoreError::io("create directory", &made.directory, e))?;
            return Ok(made);
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes a file here, synced; it is still to be renamed into place.
    pub(crate) fn write(&self, mode: u32, bytes: &[u8]) -> Result<(PathBuf, File), StoreError> {
        let path = self.directory.join(sys::random_name()?);
        let failed = |error| StoreError::io("write", &path, error);
        let mut file = sys::create_new(&path, mode).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        Ok((path, file))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What can't be removed now is swept later.
        if sys::remove(&self.directory).is_ok() {
            let _ = std::fs::remove_file(&self.lock_path);
        }
    }
}

/// Removes the directories of processes that are gone. Best effort.
pub(crate) fn sweep(tmp: &Path) {
    for (directory, lock_path, _lock) in dead(tmp) {
        if sys::remove(&directory).is_ok() {
            let _ = std::fs::remove_file(&lock_path);
        }
    }
}

/// The directories of processes that are gone, each with its lock, now held.
pub(crate) fn dead(tmp: &Path) -> Vec<(PathBuf, PathBuf, Option<File>)> {
    let mut found = Vec::new();
    for name in sys::names(tmp).unwrap_or_default() {
        let name = name.to_string_lossy().into_owned();
        let stem = name.strip_suffix(".lock").unwrap_or(&name);
        let (directory, lock_path) = (tmp.join(stem), tmp.join(format!("{stem}.lock")));
        let lock = match sys::open_read(&lock_path) {
            Ok(lock) if sys::try_lock(&lock).unwrap_or(false) => Some(lock),
            Ok(_) => continue,
            Err(error) if sys::is_absent(&error) => None,
            Err(_) => continue,
        };
        // Both the directory and its lock file are listed.
        if found.last().is_none_or(|(last, _, _)| *last != directory) {
            found.push((directory, lock_path, lock));
        }
    }
    found
}

impl LocalStore {
    /// Takes the lock between writers and prune.
    pub(crate) fn lock_gc(&self, lock: sys::Lock) -> Result<File, StoreError> {
        self.lock_file("gc.lock", lock)
    }

    /// Takes the lock under which content is installed or removed.
    pub(crate) fn lock_install(&self) -> Result<File, StoreError> {
        self.lock_file("install.lock", sys::Lock::Exclusive)
    }

    fn lock_file(&self, name: &str, lock: sys::Lock) -> Result<File, StoreError> {
        let path = self.layout().directory("locks").join(name);
        let failed = |error| StoreError::io("lock", &path, error);
        let file = sys::open_lock(&path).map_err(failed)?;
        sys::lock(&file, lock).map_err(failed)?;
        Ok(file)
    }
}
