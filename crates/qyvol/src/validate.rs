//! `validate`: reads a `.qyv` and says all that is wrong with it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use qyvol_types::{AppManifest, limits, parse_app_manifest};

use crate::Error;

/// A manifest and where it came from.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The file.
    pub path: PathBuf,
    /// The folder that its paths are relative to.
    pub folder: PathBuf,
    /// What it says.
    pub app: AppManifest,
}

/// Reads the manifest at `path`, or the one `.qyv` in that folder.
pub fn validate(path: &Path) -> Result<Validated, Error> {
    let path = if path.is_dir() {
        find_manifest(path)?
    } else {
        path.to_path_buf()
    };
    let text = read_text(&path)?;
    let app = parse_app_manifest(&text).map_err(|problems| Error::Yaml {
        path: path.clone(),
        problems,
    })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    Ok(Validated { path, folder, app })
}

/// The one `.qyv` of a folder.
pub(crate) fn find_manifest(folder: &Path) -> Result<PathBuf, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        if path.extension().is_some_and(|e| e == "qyv") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::Usage(format!(
            "there is no .qyv manifest in {}",
            folder.display()
        ))),
        many => Err(Error::Usage(format!(
            "there are {} .qyv manifests in {}: name one of {}",
            many.len(),
            folder.display(),
            many.iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}

/// Reads a text file, within the bound for documents that people write.
pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let meta = file.metadata().map_err(Error::file("open", path))?;
    if meta.is_dir() {
        return Err(Error::file("read", path)(std::io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::with_capacity(meta.len().min(limits::YAML_BYTES) as usize + 1);
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
