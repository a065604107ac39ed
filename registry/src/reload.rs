//! Values that are made from files and remade when these change.
//!
//! Files are compared by content, because two changes may have the same time, and because files
//! mounted into a container change by a symbolic link. An invalid change is reported once, and
//! the previous value stays.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use qyvol_types::{Algorithm, Digest, Hasher};

use crate::cache::lock;
use crate::error::HubError;

/// Size limit of a file: a longer file is not one of these.
const FILE_BYTES: u64 = 1 << 20;

/// Makes the value from the contents of the files.
type Make<T> = Box<dyn Fn(&[Vec<u8>]) -> Result<T, HubError> + Send + Sync>;

/// A value, and the files that it comes from, if any.
pub(crate) struct Reloadable<T> {
    current: RwLock<Arc<T>>,
    source: Option<WatchedFiles<T>>,
}

struct WatchedFiles<T> {
    paths: Vec<PathBuf>,
    make: Make<T>,
    seen: Mutex<Option<Digest>>,
}

/// The content of a small file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, HubError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
        .and_then(|_| match bytes.len() as u64 > FILE_BYTES {
            true => Err(io::Error::other(format!("larger than {FILE_BYTES} bytes"))),
            false => Ok(()),
        })
        .map_err(HubError::storage("can't read", path))?;
    Ok(bytes)
}

impl<T> WatchedFiles<T> {
    /// A new value, if the files have changed.
    fn make(&self) -> Result<Option<T>, HubError> {
        let contents = self
            .paths
            .iter()
            .map(|path| read(path))
            .collect::<Result<Vec<_>, _>>()?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for content in &contents {
            hasher.update(&(content.len() as u64).to_be_bytes());
            hasher.update(content);
        }
        let digest = Some(hasher.finish());
        let mut seen = lock(&self.seen);
        if *seen == digest {
            return Ok(None);
        }
        *seen = digest;
        drop(seen);
        (self.make)(&contents).map(Some)
    }
}

impl<T> Reloadable<T> {
    /// A fixed value.
    pub(crate) fn fixed(value: T) -> Reloadable<T> {
        Reloadable {
            current: RwLock::new(Arc::new(value)),
            source: None,
        }
    }

    /// A value from files.
    pub(crate) fn open(paths: Vec<PathBuf>, make: Make<T>) -> Result<Reloadable<T>, HubError> {
        let source = WatchedFiles {
            paths,
            make,
            seen: Mutex::new(None),
        };
        let value = source
            .make()?
            .ok_or_else(|| HubError::Access("nothing was read".to_string()))?;
        Ok(Reloadable {
            current: RwLock::new(Arc::new(value)),
            source: Some(source),
        })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks the files. True if there is a new value.
    pub(crate) fn refresh(&self) -> Result<bool, HubError> {
        let Some(source) = &self.source else { return Ok(false) };
        let Some(value) = source.make()? else { return Ok(false) };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_change_is_reported_once_and_ignored() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("number");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let make = |contents: &[Vec<u8>]| {
            let text = String::from_utf8_lossy(&contents[0]);
            text.parse::<u32>().map_err(|e| HubError::Access(e.to_string()))
        };
        write("1");
        let number = Reloadable::open(vec![path.clone()], Box::new(make)).unwrap();
        assert!(!number.refresh().unwrap());
        write("2");
        assert!(number.refresh().unwrap());
        write("x");
        assert!(number.refresh().is_err());
        assert!(!number.refresh().unwrap());
        assert_eq!(*number.current(), 2);
        write("3");
        assert!(number.refresh().unwrap());
        assert_eq!(*number.current(), 3);
        std::fs::remove_file(&path).unwrap();
        assert!(number.refresh().is_err());
        assert_eq!(*number.current(), 3);
    }
}
