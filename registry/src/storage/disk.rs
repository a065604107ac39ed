//! All changes on disk, through the few operations that durability rests on.
//!
//! A file is durable once its content and the directory that names it have
//! been synced, in that order. Everything that the storage changes goes
//! through a [`Disk`]; it reads files by itself. Tests replace it with a disk that loses what
//! was not synced (`storage::tests::power`). Nothing here decides what is stored where.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;

/// The operations that change something.
pub(crate) trait Disk: Send + Sync {
    /// Makes a directory; one that is there is fine.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that must not exist.
    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file that must not exist, with the content of another.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Writes at an offset; makes the file if there is none.
    fn write(&self, path: &Path, at: u64, parts: &[Bytes]) -> io::Result<()>;
    /// Cuts a file.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Sets the time of last use, which all links of a file share.
    fn touch(&self, path: &Path, time: SystemTime) -> io::Result<()>;
    /// Makes a file's content and time durable, or the names in a directory.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing what has the other name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Links `from` to `to`. Says whether it was done, or `to` was there already.
    fn link(&self, from: &Path, to: &Path) -> io::Result<bool>;
    /// Removes a file. Says whether it was there.
    fn remove(&self, path: &Path) -> io::Result<bool>;

    /// Makes `path` and its missing parents below `root`, which exists. All of it is made
    /// durable, also what existed before: the process that made it may have been killed before
    /// it was synced.
    fn make_directories(&self, root: &Path, path: &Path) -> io::Result<()> {
        let Ok(below) = path.strip_prefix(root) else {
            return Err(io::Error::other("directory outside its root"));
        };
        let mut at = root.to_path_buf();
        for component in below.components() {
            let above = at.clone();
            at.push(component);
            self.make_directory(&at)?;
            self.sync(&above)?;
        }
        Ok(())
    }

    /// Replaces the file `path` with `bytes`, atomically and durably. Callers hold the lock of
    /// the file's owner, so the temporary name is free except for a leftover.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("new");
        self.remove(&temporary)?;
        self.create(&temporary, bytes)?;
        self.sync(&temporary)?;
        self.rename(&temporary, path)?;
        match path.parent() {
            Some(directory) => self.sync(directory),
            None => Ok(()),
        }
    }
}

/// The file system itself.
pub(super) struct System;

impl Disk for System {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
        io::copy(&mut File::open(from)?, &mut file)?;
        Ok(())
    }

    fn write(&self, path: &Path, at: u64, parts: &[Bytes]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let mut at = at;
        for part in parts {
            file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(length)
    }

    fn touch(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        File::open(path)?.set_modified(time)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<bool> {
        match fs::hard_link(from, to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Metadata of a regular file, or none where there is none.
pub(super) fn stat(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(_) => Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
