//! Compiled code, and the key that authenticates it.
//!
//! Compiled code is native: anyone who can put a file here can run anything. So a file is used
//! only with a record that was made with this store's key for this engine and component, and
//! only if it is a regular file of this user, with one link, that nobody else can write. Code
//! never comes from an image or a registry.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_types::{CompiledCode, Digest};

use super::layout::file_name;
use super::probe::Probe;
use super::staging::Staging;
use super::writer::hash_file;
use super::{LocalStore, read_bounded, read_with_meta};
use crate::record::{CODE_RECORD, RecordKey, Stamp};
use crate::{StoreError, sys};

/// The paths of the code that an engine compiled from a component.
struct CodePaths<'a> {
    engine: &'a str,
    component: &'a Digest,
    directory: PathBuf,
    code: PathBuf,
    record: PathBuf,
}

impl LocalStore {
    fn code_paths<'a>(&self, engine: &'a str, component: &'a Digest) -> Result<CodePaths<'a>, StoreError> {
        let directory = self.layout().engine(engine)?;
        let name = file_name(component);
        Ok(CodePaths {
            engine,
            component,
            code: directory.join(&name),
            record: directory.join(format!("{name}.record")),
            directory,
        })
    }

    /// Opens the code that `engine` compiled from `component`. Some only if the record is this
    /// store's and matches the file; a file whose inode differs is hashed. Anything else is
    /// moved to quarantine and counts as absent. Writes nothing if all is well.
    pub fn code(&self, engine: &str, component: &Digest) -> Result<Option<CompiledCode>, StoreError> {
        let found = self.find_code(engine, component)?;
        Ok(found.map(|file| CompiledCode::of(*component, file)))
    }

    fn find_code(&self, engine: &str, component: &Digest) -> Result<Option<File>, StoreError> {
        let place = self.code_paths(engine, component)?;
        let Some(key) = self.record_key()? else {
            return Ok(None);
        };
        match self.probe_settled(|| Ok(probe(&key, &place)))? {
            (Probe::Absent, _) => Ok(None),
            (Probe::Good(file), _) => Ok(Some(file)),
            (Probe::Relocated(file, sha256), installing) => {
                if let Some(installing) = installing {
                    // The store was moved: with a new record, the next probe is fast again.
                    let _ = put_record(&installing.staging, &key, &place, &file, &sha256);
                }
                Ok(Some(file))
            }
            (Probe::Bad(why), installing) => {
                self.quarantine(&place.code, &why);
                if installing.is_some() {
                    let _ = sys::remove(&place.record);
                }
                Ok(None)
            }
        }
    }

    /// Stores code that was compiled on this host. If valid code exists already, that is
    /// returned.
    pub fn put_code(&self, engine: &str, component: &Digest, code: &[u8]) -> Result<CompiledCode, StoreError> {
        let file = self.install_code(engine, component, code)?;
        Ok(CompiledCode::of(*component, file))
    }

    fn install_code(&self, engine: &str, component: &Digest, code: &[u8]) -> Result<File, StoreError> {
        let place = self.code_paths(engine, component)?;
        let staging = Staging::new(self)?;
        let key = self.ensure_key(&staging)?;
        let (path, file) = staging.write(0o400, code)?;
        // The writing end is closed before anyone maps the file.
        drop(file);
        let sha256 = Digest::of(code);
        let _lock = self.lock_install()?;
        match probe(&key, &place) {
            Probe::Good(file) => return Ok(file),
            Probe::Relocated(file, sha256) => {
                put_record(&staging, &key, &place, &file, &sha256)?;
                return Ok(file);
            }
            Probe::Absent => {}
            Probe::Bad(why) => self.quarantine(&place.code, &why),
        }
        let failed = |error| StoreError::io("create", &place.code, error);
        self.engine_directory(&place.directory)?;
        // The new file must not meet a record of other code.
        sys::remove(&place.record).map_err(failed)?;
        sys::remove(&place.code).map_err(failed)?;
        fs::rename(&path, &place.code).map_err(failed)?;
        sys::sync_dir(&place.directory)?;
        let file = sys::open_read(&place.code).map_err(failed)?;
        let sha256: [u8; 32] = sha256.bytes().try_into().unwrap_or_default();
        put_record(&staging, &key, &place, &file, &sha256)?;
        Ok(file)
    }

    /// Makes an engine's directory, or makes one that was loosened private again.
    fn engine_directory(&self, directory: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("create directory", directory, error);
        if let Some(meta) = sys::stat(directory).map_err(failed)? {
            if !meta.is_dir() {
                self.quarantine(directory, "directory of compiled code is a link");
            } else if meta.mode() & 0o022 != 0 {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
            }
        }
        if sys::make_dir(directory, 0o700).map_err(failed)?
            && let Some(parent) = directory.parent()
        {
            sys::sync_dir(parent)?;
        }
        Ok(())
    }

    /// What is wrong with some code, after hashing all of it; for `check`.
    pub(crate) fn check_code(&self, engine: &str, component: &Digest) -> Result<Option<String>, StoreError> {
        let place = self.code_paths(engine, component)?;
        let Ok(Some(key)) = self.usable_key() else {
            return Ok(None);
        };
        let failed = |error| StoreError::io("read", &place.code, error);
        let looked = {
            let _lock = self.lock_install();
            probe(&key, &place)
        };
        match looked {
            Probe::Bad(why) => Ok(Some(why)),
            Probe::Absent | Probe::Relocated(..) => Ok(None),
            Probe::Good(file) => {
                let record = read_bounded(&place.record, CODE_RECORD as u64)?.unwrap_or_default();
                let Some((sha256, _)) = key.verify_code_record(place.engine, place.component, &record) else {
                    return Ok(None);
                };
                let size = file.metadata().map_err(failed)?.len();
                let got = hash_file(&file, &place.code)?;
                let same = got.bytes() == sha256;
                Ok((!same).then(|| format!("compiled code of {size} bytes was altered")))
            }
        }
    }

    /// The key of the records, if the store has one that this process may
    /// read and nobody else can. An unusable key is moved to quarantine.
    pub(crate) fn record_key(&self) -> Result<Option<RecordKey>, StoreError> {
        match self.usable_key() {
            Err(StoreError::Damaged { path, what }) => {
                self.quarantine(&path, &format!("record key: {what}"));
                Ok(None)
            }
            other => other,
        }
    }

    /// Like `record_key`, but leaves an unusable key in place.
    pub(crate) fn usable_key(&self) -> Result<Option<RecordKey>, StoreError> {
        let mut cached = self.inner.key.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if cached.is_none() {
            *cached = match read_key(&self.layout().key()) {
                Ok(key) => key,
                // A store that someone else provides: its records can't be
                // checked.
                Err(StoreError::Denied { .. }) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(cached.clone())
    }

    /// The key of the records, created if there is none. Concurrent processes agree on one key:
    /// it is created under the install lock.
    pub(crate) fn ensure_key(&self, staging: &Staging) -> Result<RecordKey, StoreError> {
        if let Some(key) = self.record_key()? {
            return Ok(key);
        }
        let _lock = self.lock_install()?;
        if let Some(key) = self.record_key()? {
            return Ok(key);
        }
        let mut bytes = [0; RecordKey::LEN];
        sys::random(&mut bytes)?;
        let (path, _) = staging.write(0o600, &bytes)?;
        let target = self.layout().key();
        fs::rename(&path, &target).map_err(|e| StoreError::io("create", &target, e))?;
        sys::sync_dir(&self.layout().directory("state"))?;
        Ok(RecordKey::new(&bytes))
    }
}

/// Reads a key file: 32 bytes of ours that nobody else can read.
pub(crate) fn read_key(path: &Path) -> Result<Option<RecordKey>, StoreError> {
    let Some((bytes, meta)) = read_with_meta(path, RecordKey::LEN as u64)? else {
        return Ok(None);
    };
    let damaged = |what: String| StoreError::Damaged {
        path: path.to_path_buf(),
        what,
    };
    if meta.uid() != sys::user() {
        return Err(damaged(format!("it belongs to user {}", meta.uid())));
    }
    if meta.mode() & 0o077 != 0 {
        return Err(damaged(format!(
            "others can read it (mode {:04o})",
            meta.mode() & 0o7777
        )));
    }
    let bytes: &[u8; RecordKey::LEN] = bytes
        .as_slice()
        .try_into()
        .map_err(|_| damaged(format!("{} bytes, expected {}", bytes.len(), RecordKey::LEN)))?;
    Ok(Some(RecordKey::new(bytes)))
}

/// Writes the record of a file that is in place.
fn put_record(
    staging: &Staging,
    key: &RecordKey,
    place: &CodePaths<'_>,
    file: &File,
    sha256: &[u8; 32],
) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("write", &place.record, error);
    let stamp = Stamp::of(&file.metadata().map_err(failed)?);
    let record = key.code_record(place.engine, place.component, sha256, &stamp);
    let (path, written) = staging.write(0o400, &record)?;
    sys::wait_past(&written, stamp.ctime).map_err(failed)?;
    fs::rename(&path, &place.record).map_err(failed)?;
    sys::sync_dir(&place.directory)
}

fn probe(key: &RecordKey, place: &CodePaths<'_>) -> Probe<File, [u8; 32]> {
    // The record first: if it exists, its code does too.
    let record = match read_bounded(&place.record, CODE_RECORD as u64) {
        Ok(Some(record)) => record,
        // Left over from an installation that was interrupted.
        Ok(None) => return Probe::Absent,
        Err(error) => return Probe::Bad(format!("record of compiled code: {error}")),
    };
    match sys::stat(&place.directory) {
        Ok(Some(meta)) if meta.is_dir() => {
            if let Some(why) = untrusted_reason(&meta) {
                return Probe::Bad(format!("directory of compiled code {why}"));
            }
        }
        _ => return Probe::Bad("directory of compiled code is a link".to_string()),
    }
    let file = match sys::open_read(&place.code) {
        Ok(file) => file,
        Err(error) if sys::is_absent(&error) => return Probe::Absent,
        Err(error) => return Probe::Bad(format!("compiled code can't be opened: {error}")),
    };
    let meta = match file.metadata() {
        Ok(meta) => meta,
        Err(error) => return Probe::Bad(format!("compiled code can't be read: {error}")),
    };
    if !meta.is_file() {
        return Probe::Bad(format!("compiled code is {}", sys::kind_of(&meta)));
    }
    if let Some(why) = untrusted_reason(&meta) {
        return Probe::Bad(format!("compiled code {why}"));
    }
    if meta.nlink() != 1 {
        return Probe::Bad(format!("compiled code has {} links, expected 1", meta.nlink()));
    }
    let Some((sha256, stamp)) = key.verify_code_record(place.engine, place.component, &record) else {
        return Probe::Bad("record of compiled code was not made by this store for it".to_string());
    };
    if Stamp::of(&meta) == stamp {
        return Probe::Good(file);
    }
    match hash_file(&file, &place.code) {
        Ok(got) if got.bytes() == sha256 && meta.len() == stamp.size => Probe::Relocated(file, sha256),
        Ok(_) => Probe::Bad("compiled code was altered".to_string()),
        Err(error) => Probe::Bad(format!("compiled code: {error}")),
    }
}

/// Why the owner or mode of a file or directory can't be trusted.
fn untrusted_reason(meta: &Metadata) -> Option<String> {
    if meta.uid() != sys::user() {
        return Some(format!("belongs to user {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return Some(format!("can be written by others (mode {:04o})", meta.mode() & 0o7777));
    }
    None
}
