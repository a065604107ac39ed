//! Files that a run leaves at its end: a profile, a core dump.
//!
//! Such a file appears under its name when all of it is written, and never in the place of
//! another. Whether it can be made is found out before the guest starts.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Context;
use crate::temp_file::TempFile;

/// A file that is to be written. Dropped, nothing of it is left.
pub struct NewFile<'a> {
    temporary: TempFile<'a>,
    path: PathBuf,
    name: OsString,
}

impl<'a> NewFile<'a> {
    /// Begins a file in the directory of `path`, where there must be nothing of that name.
    /// A link in its place is not followed. `mode` is what umask takes from.
    pub fn create(ctx: &Context<'a>, path: &Path, mode: u32) -> io::Result<NewFile<'a>> {
        let Some(name) = path.file_name() else {
            return Err(io::ErrorKind::IsADirectory.into());
        };
        if fs::symlink_metadata(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use qyvol_types::Timestamp;

    use super::*;
    use crate::{Home, TempFiles};

    #[test]
    fn new_file_takes_the_place_of_nothing_and_appears_when_it_is_whole() {
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
