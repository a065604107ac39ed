//! Files that appear whole or not at all, whenever the process ends.
//!
//! They are not synced: after a power failure one may be torn, which every
//! reader of a `.qyvbin` finds.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::Error;

/// A file being written beside its place; dropped, it is gone. What is no file
/// (a pipe, a device) is written to as it is.
pub(crate) struct Output {
    file: BufWriter<Place>,
    path: PathBuf,
    written: u64,
}

enum Place {
    Beside(NamedTempFile),
    Through(File),
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Place::Beside(file) => file.write(bytes),
            Place::Through(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Place::Beside(file) => file.flush(),
            Place::Through(file) => file.flush(),
        }
    }
}

impl Output {
    /// Starts a file that will be `path`.
    pub(crate) fn create(path: &Path) -> Result<Output, Error> {
        // A link's file is written, not the link.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let there = fs::metadata(&real);
        if there.is_ok_and(|there| !there.is_file() && !there.is_dir()) {
            let file = File::options().write(true).open(&real);
            let file = file.map_err(Error::file("write", path))?;
            return Ok(Output {
                file: BufWriter::with_capacity(256 << 10, Place::Through(file)),
                path: real,
                written: 0,
            });
        }
        let path = real.as_path();
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".qyv-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(folder)
            .map_err(Error::file("create a file in", folder))?;
        Ok(Output {
            file: BufWriter::with_capacity(256 << 10, Place::Beside(file)),
            path: path.to_path_buf(),
            written: 0,
        })
    }

    /// Puts the file in its place. What was there stays until it is whole.
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        let failed = |e| Error::file("write", &self.path)(e);
        self.file.flush().map_err(failed)?;
        let file = self
            .file
            .into_inner()
            .map_err(|e| Error::file("write", &self.path)(e.into_error()))?;
        if let Place::Beside(file) = file {
            file.persist(&self.path)
                .map_err(|e| Error::file("write", &self.path)(e.error))?;
        }
        Ok(self.written)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// Makes a folder that only its owner enters.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::file("make the folder", path))
}

/// Writes a small file anew, with `mode`; fails if it is there already.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    private_folder(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".qyv-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
        .tempfile_in(folder)
        .map_err(Error::file("create a file in", folder))?;
    file.write_all(bytes).map_err(Error::file("write", path))?;
    file.as_file().sync_all().map_err(Error::file("write", path))?;
    file.persist_noclobber(path)
        .map_err(|e| Error::file("write", path)(e.error))?;
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(Error::file("write", folder))
}
