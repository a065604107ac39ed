//! Files that a run leaves at its end, such as a profile or a core dump, and the directories of
//! new projects.
//!
//! Such a file or directory appears under its name when all of it is written, and never replaces
//! another. Whether a file can be created is checked before the guest starts.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::Context;
use crate::temp_file::{TempFile, fresh_name};

/// A file that is to be written. Dropped, nothing of it is left.
pub struct NewFile<'a> {
    temporary: TempFile<'a>,
    path: PathBuf,
    name: OsString,
}

impl<'a> NewFile<'a> {
    /// Begins a file in the directory of `path`, where there must be nothing of that name.
    /// A link in its place is not followed. `mode` is the mode before the umask.
    pub fn create(ctx: &Context<'a>, path: &Path, mode: u32) -> io::Result<NewFile<'a>> {
        let Some(name) = path.file_name() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        if fs::symlink_metadata(path).is_ok() {
            return Err(Errno::EXIST.into());
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(NewFile {
            temporary: TempFile::create(ctx.temporaries, directory, mode)?,
            path: path.to_path_buf(),
            name: name.to_os_string(),
        })
    }

    /// Where it will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the content and gives the file its name, which nothing may have yet.
    pub fn finish<R>(mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<R>) -> io::Result<R> {
        let mut buffered = io::BufWriter::with_capacity(256 << 10, self.temporary.file());
        let written = write(&mut buffered)?;
        buffered.flush()?;
        drop(buffered);
        self.temporary.persist_noclobber(&self.name)?;
        Ok(written)
    }
}

/// Creates a directory, where there must be nothing of that name, with all that `fill` puts into
/// it. No signal ends the process in between.
pub(crate) fn create_directory(
    ctx: &Context<'_>,
    parent: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let _guard = ctx.temporaries.hold();
    let (temporary, path) = (parent.join(fresh_name()), parent.join(name));
    if fs::symlink_metadata(&path).is_ok() {
        return Err(Errno::EXIST.into());
    }
    fs::create_dir(&temporary)?;
    let created = fill(&temporary).and_then(|()| rename_new(&temporary, &path));
    if created.is_err() {
        // What failed is reported, not this.
        let _ = fs::remove_dir_all(&temporary);
    }
    created
}

/// Renames a directory where nothing has the new name.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system supports this. Without it, an empty directory could be replaced
        // that was made since this was checked.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use qyvol_types::Timestamp;

    use super::*;
    use crate::{Home, TempFiles};

    #[test]
    fn new_file_replaces_nothing_and_appears_when_it_is_complete() {
        let scratch = tempfile::tempdir().unwrap();
        let temporaries = TempFiles::default();
        let now = Timestamp::from_unix(1_800_000_000).unwrap();
        let ctx = Context::new(Home::in_directory(scratch.path()), now, &temporaries);
        let path = scratch.path().join("file");
        let file = NewFile::create(&ctx, &path, 0o600).unwrap();
        assert!(!path.exists());
        let failed = file.finish(|_| Err::<(), _>(io::Error::other("full")));
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert!(!path.exists());
        let [file, late] = [(); 2].map(|()| NewFile::create(&ctx, &path, 0o600).unwrap());
        file.finish(|out| out.write_all(b"first")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = late.finish(|out| out.write_all(b"second")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(NewFile::create(&ctx, &path, 0o600).is_err());
        symlink("nowhere", scratch.path().join("link")).unwrap();
        assert!(NewFile::create(&ctx, &scratch.path().join("link"), 0o600).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
    }
}
