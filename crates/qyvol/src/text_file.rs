//! Text files of the user, read within a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use qyvol_image::FileId;
use qyvol_types::limits;

use crate::Error;

/// Reads a text file, within the bound for documents that people write.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    Ok(read_text_of(path)?.0)
}

/// The same, and which file it was.
pub(crate) fn read_text_of(path: &Path) -> Result<(String, FileId), Error> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let meta = file.metadata().map_err(Error::file("open", path))?;
    if meta.is_dir() {
        return Err(Error::file("read", path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let text = read_open_file(file, path)?;
    Ok((text, FileId::of(&meta)))
}

/// Reads an opened text file, within the same bound.
pub(crate) fn read_open_file(file: File, path: &Path) -> Result<String, Error> {
    // Room for all of it: nothing of a key is left behind where it grew. Of a
    // pipe no size is known.
    let size = file
        .metadata()
        .ok()
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len());
    let room = size.map_or(limits::YAML_BYTES, |size| size.min(limits::YAML_BYTES));
    let mut bytes = Vec::with_capacity(room as usize + 2);
    file.take(limits::YAML_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limits::YAML_BYTES {
        let why = format!("it is larger than {} bytes", limits::YAML_BYTES);
        return Err(Error::file("read", path)(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            why,
        )));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::file("read", path)(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8")))
}
