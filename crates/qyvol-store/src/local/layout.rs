//! Where things are in a store, and making and checking its directories.
//!
//! Every path is made here, only from parsed digests, checked engine ids and constants.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_types::Digest;

use crate::{StoreError, sys};

/// The directories of a store, with their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("blobs", 0o755),
    ("refs", 0o755),
    ("referrers", 0o755),
    ("trees", 0o755),
    ("code", 0o700),
    ("state", 0o700),
    ("locks", 0o700),
    ("tmp", 0o700),
    ("partial", 0o700),
    ("quarantine", 0o700),
];

/// The paths of one store.
#[derive(Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    v1: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Layout {
        Layout {
            root: root.to_path_buf(),
            v1: root.join("store").join("v1"),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn v1(&self) -> &Path {
        &self.v1
    }

    /// A directory of [`DIRECTORIES`].
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.v1.join(name)
    }

    /// The path of a blob.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let head = hex.get(..2).unwrap_or_default();
        self.v1
            .join(format!("blobs/{}/{head}/{hex}", digest.algorithm().name()))
    }

    /// The directory of an image's referrers.
    pub(crate) fn referrers(&self, subject: &Digest) -> PathBuf {
        self.v1
            .join(format!("referrers/{}/{}", subject.algorithm().name(), subject.hex()))
    }

    /// The file of a name, whose text is hashed because names contain `/` and `:`.
    pub(crate) fn reference(&self, name: &str) -> PathBuf {
        self.v1.join(format!("refs/{}", Digest::of(name.as_bytes()).hex()))
    }

    /// An unpacked tree.
    pub(crate) fn tree(&self, id: &Digest) -> PathBuf {
        self.v1.join(format!("trees/{}", file_name(id)))
    }

    /// The index of an unpacked tree.
    pub(crate) fn tree_index(&self, id: &Digest) -> PathBuf {
        self.v1.join(format!("trees/{}.index", file_name(id)))
    }

    /// The directory of an engine's code. Fails for an id that can't be a name.
    pub(crate) fn engine(&self, engine: &str) -> Result<PathBuf, StoreError> {
        let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if engine.is_empty() || engine.len() > 128 || engine.starts_with('.') || !engine.bytes().all(safe) {
            return Err(StoreError::InvalidEngineId(engine.to_string()));
        }
        Ok(self.v1.join(format!("code/{engine}")))
    }

    /// The received part of a blob.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.v1.join(format!("partial/{}", file_name(digest)))
    }

    /// The lock of a running image.
    pub(crate) fn run_lock(&self, image: &Digest) -> PathBuf {
        self.v1.join(format!("locks/{}", file_name(image)))
    }

    /// The key of the records.
    pub(crate) fn key(&self) -> PathBuf {
        self.v1.join("state/key")
    }

    /// The directory of parsed policies.
    pub(crate) fn policies(&self) -> PathBuf {
        self.v1.join("state/policies")
    }

    /// The parsed form of a policy's text.
    pub(crate) fn policy(&self, text: &Digest) -> PathBuf {
        self.policies().join(file_name(text))
    }

    /// The host's state under a name, whose text is hashed.
    pub(crate) fn seen(&self, name: &str) -> PathBuf {
        self.v1
            .join(format!("state/seen/{}", Digest::of(name.as_bytes()).hex()))
    }

    /// Refuses directories that someone else could have put there or could write to. Absent
    /// ones are accepted.
    pub(crate) fn check_directories(&self) -> Result<(), StoreError> {
        for path in [self.root.as_path(), &self.root.join("store"), &self.v1] {
            if !check_directory(path)? {
                break;
            }
        }
        Ok(())
    }

    /// Creates the store's directories, and refuses those that must not be written.
    pub(crate) fn create(&self) -> Result<(), StoreError> {
        let failed = |path: &Path, error| StoreError::io("create directory", path, error);
        let store = self.root.join("store");
        let mut created = false;
        if sys::stat(&self.root).map_err(|e| failed(&self.root, e))?.is_none() {
            fs::create_dir_all(&self.root).map_err(|e| failed(&self.root, e))?;
            // Whatever the umask: a store is private to its owner.
            fs::set_permissions(&self.root, fs::Permissions::from_mode(0o700)).map_err(|e| failed(&self.root, e))?;
            created = true;
        }
        for path in [store.as_path(), &self.v1] {
            created |= sys::make_dir(path, 0o700).map_err(|e| failed(path, e))?;
        }
        self.check_directories()?;
        for (name, mode) in DIRECTORIES {
            let path = self.v1.join(name);
            if sys::make_dir(&path, *mode).map_err(|e| failed(&path, e))? {
                created = true;
            } else {
                check_directory(&path)?;
            }
        }
        if created {
            for path in [&self.v1, &store, &self.root] {
                sys::sync_dir(path)?;
            }
            if let Some(parent) = self.root.parent().filter(|p| !p.as_os_str().is_empty()) {
                // Another user's directory may be unreadable; the kernel then writes the entry
                // to the device when it likes.
                let _ = sys::sync_dir(parent);
            }
        }
        Ok(())
    }

    /// Moves something into `quarantine/`; false if it is gone already.
    pub(crate) fn quarantine(&self, path: &Path) -> Result<bool, StoreError> {
        let failed = |error| StoreError::io("move to quarantine", path, error);
        let Some(meta) = sys::stat(path).map_err(failed)? else {
            return Ok(false);
        };
        let directory = self.directory("quarantine");
        sys::make_dir(&directory, 0o700).map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = directory.join(format!("{name}-{}", sys::random_name()?));
        // Moving a directory rewrites its `..`, for which it must be writable.
        if meta.is_dir() && meta.mode() & 0o200 == 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        match fs::rename(path, &target) {
            Ok(()) => Ok(true),
            Err(error) if sys::is_absent(&error) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

/// `<hex>` for SHA-256, `sha512-<hex>` for the other.
pub(crate) fn file_name(digest: &Digest) -> String {
    match digest.algorithm() {
        qyvol_types::Algorithm::Sha256 => digest.hex(),
        other => format!("{}-{}", other.name(), digest.hex()),
    }
}

/// The digest that [`file_name`] made this name from.
pub(crate) fn from_file_name(name: &str) -> Option<Digest> {
    match name.split_once('-') {
        Some((algorithm, hex)) if algorithm != "sha256" => format!("{algorithm}:{hex}").parse().ok(),
        Some(_) => None,
        None => format!("sha256:{name}").parse().ok(),
    }
}

/// Whether the directory exists; fails if it must not be used.
fn check_directory(path: &Path) -> Result<bool, StoreError> {
    let Some(meta) = sys::stat(path).map_err(|e| StoreError::io("read", path, e))? else {
        return Ok(false);
    };
    let path = || path.to_path_buf();
    if meta.file_type().is_symlink() {
        return Err(StoreError::SymlinkedDirectory { path: path() });
    }
    if !meta.is_dir() {
        return Err(StoreError::NotADirectory { path: path() });
    }
    let user = sys::user();
    // A store of root's is accepted for every user: root needs no store to control a process.
    if meta.uid() != user && meta.uid() != 0 {
        return Err(StoreError::WrongOwner {
            path: path(),
            owner: meta.uid(),
            user,
        });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(StoreError::WritableByOthers {
            path: path(),
            mode: meta.mode() & 0o7777,
        });
    }
    Ok(true)
}
