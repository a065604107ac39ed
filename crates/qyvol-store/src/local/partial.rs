//! Interrupted downloads, kept so that the next ingest resumes them.
//!
//! A file in `partial/` is named by its expected digest, and nothing else about it is trusted:
//! it may end anywhere, and have any content after a crash of the machine. So it is hashed
//! again, and discarded if the complete file has another digest. Its writer holds its lock
//! until it is committed or abandoned; prune removes partial files while there are no writers.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_types::{Descriptor, Digest, Hasher};

use super::LocalStore;
use crate::{StoreError, sys};

/// A partly stored blob; its file is locked and positioned at its end.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The hash of the bytes stored so far.
    pub(super) hasher: Hasher,
    pub(super) bytes: u64,
}

impl Partial {
    /// Opens the stored part of a blob, perhaps empty; none if another process
    /// is fetching it or it can't be kept.
    pub(super) fn open(store: &LocalStore, descriptor: &Descriptor) -> Result<Option<Partial>, StoreError> {
        let path = store.layout().partial(&descriptor.digest);
        let file = match lock(&path) {
            Ok(Some(file)) => file,
            // A planted link or directory has no effect.
            Err(error) if sys::is_link(&error) || error.kind() == io::ErrorKind::IsADirectory => return Ok(None),
            Ok(None) => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path, error)),
        };
        let failed = |e| StoreError::io("read", &path, e);
        if file.metadata().map_err(failed)?.len() > descriptor.size {
            file.set_len(0).map_err(failed)?;
        }
        let (hasher, bytes) = hash(&file, &descriptor.digest).map_err(failed)?;
        Ok(Some(Partial {
            path,
            file,
            hasher,
            bytes,
        }))
    }
}

/// The file of this name, created if missing, and locked; none if another process holds it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    loop {
        let (file, written) = match sys::open_lock(path) {
            Ok(file) => (file, false),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => (sys::open_read(path)?, true),
            Err(error) => return Err(error),
        };
        if !sys::try_lock(&file)? {
            return Ok(None);
        }
        // It may have been committed or removed before it was locked: then the
        // name refers to another file, or none.
        let opened = file.metadata()?;
        let named = sys::stat(path)?;
        if named.is_none_or(|named| (named.dev(), named.ino()) != (opened.dev(), opened.ino())) {
            continue;
        }
        if !opened.is_file() {
            return Err(io::Error::other(format!(
                "expected a file, got {}",
                sys::kind_of(&opened)
            )));
        }
        if written {
            // A process was killed while it installed this.
            file.set_permissions(fs::Permissions::from_mode(0o600))?;
            continue;
        }
        return Ok(Some(file));
    }
}

/// Hashes a file from its start and leaves it at its end.
fn hash(mut file: &File, digest: &Digest) -> io::Result<(Hasher, u64)> {
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; super::CHUNK_SIZE];
    let mut bytes = 0;
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher, bytes)),
            Ok(n) => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                bytes += n as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
