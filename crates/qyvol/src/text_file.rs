//! Text files of the user, read within a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use qyvol_image::FileId;
use qyvol_types::limits;

use crate::Error;

/// Reads a text file, within the bound for documents that people write.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    read_text_within(path, limits::YAML_BYTES)
}

/// Reads a text file of at most this many bytes.
pub(crate) fn read_text_within(path: &Path, most: u64) -> Result<String, Error> {
    Ok(open_and_read(path, most)?.0)
}

/// Reads a text file within the bound for documents that people write, and returns its
/// identity.
pub(crate) fn read_text_of(path: &Path) -> Result<(String, FileId), Error> {
    open_and_read(path, limits::YAML_BYTES)
}

fn open_and_read(path: &Path, most: u64) -> Result<(String, FileId), Error> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let meta = file.metadata().map_err(Error::file("open", path))?;
    if meta.is_dir() {
        return Err(Error::file("read", path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let text = read_within(file, path, most)?;
    Ok((text, FileId::of(&meta)))
}

/// Reads an opened text file, within the bound for documents that people write.
pub(crate) fn read_open_file(file: File, path: &Path) -> Result<String, Error> {
    read_within(file, path, limits::YAML_BYTES)
}

/// Reads an opened text file of at most this many bytes.
pub(crate) fn read_within(file: File, path: &Path, most: u64) -> Result<String, Error> {
    // Allocated in full: a growing buffer would leave copies of a key. The size of a pipe is
    // unknown.
    let size = file
        .metadata()
        .ok()
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len());
    let room = size.map_or(limits::YAML_BYTES, |size| size.min(most));
    let mut bytes = Vec::with_capacity(room as usize + 2);
    file.take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > most {
        let why = format!("it is larger than {most} bytes");
        return Err(Error::file("read", path)(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            why,
        )));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::file("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8")))
}
