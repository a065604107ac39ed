//! Files of WebAssembly that a manifest names.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use qyvol_types::limits;

use crate::{FileId, ImageError};

/// Reads WebAssembly: a regular file inside the directory, within the bound.
pub(crate) fn read_wasm(
    directory: &Path,
    name: &str,
    action: &'static str,
) -> Result<(Vec<u8>, (PathBuf, FileId)), ImageError> {
    let path = directory.join(name);
    let failed = |source| ImageError::File {
        action,
        path: path.clone(),
        source,
    };
    let root = fs::canonicalize(directory).map_err(failed)?;
    let real = fs::canonicalize(&path).map_err(failed)?;
    if !real.starts_with(&root) {
        return Err(ImageError::asset(
            name,
            "it is a link that leaves the manifest's directory",
        ));
    }
    // Opening a pipe would wait for its writer.
    if !fs::metadata(&real).map_err(failed)?.is_file() {
        return Err(ImageError::asset(name, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(&real).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    file.take(limits::COMPONENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limits::COMPONENT_BYTES {
        return Err(ImageError::Limit {
            what: "size of the WebAssembly in bytes",
            got: meta.len(),
            limit: limits::COMPONENT_BYTES,
        });
    }
    Ok((bytes, (real, FileId::of(&meta))))
}
