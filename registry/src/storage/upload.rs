//! Incomplete uploads: each has a file under `uploads/`, once bytes have arrived, and a small
//! record in memory.
//!
//! The offset changes only after the file, inside [`Upload::append`], so a client that
//! disconnects at any time leaves an upload that can be resumed. The file's name holds the
//! upload's id and a fingerprint of its repository. A large upload also has a file with the
//! state of its hash, so that after a restart at most [`STEP`] bytes are hashed again; the
//! state is saved only once the bytes that it covers are durable. A restart drops an upload
//! that has no bytes yet.
//!
//! An upload is closed before it ends: from then on its file may be in the pool, where nothing
//! is written to.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use qyvol_types::{Algorithm, Digest, Hasher};
use serde::{Deserialize, Serialize};

use super::checked_line;
use super::disk::Disk;
use crate::cache::lock;
use crate::names::Name;
use crate::quotas::QuotaGuard;

/// Bytes after which the state of the hash is saved again.
const STEP: u64 = 64 << 20;
/// Suffix of the file with the hash state.
const STATE: &str = "hash";

/// The prefix of files that are useless after a restart.
pub(super) const SCRATCH: &str = "tmp-";

/// The hash of the first bytes of an upload.
struct Progress {
    hasher: Hasher,
    /// How many bytes the saved state covers.
    saved: u64,
}

/// The line of the file beside an upload.
#[derive(Serialize, Deserialize)]
struct Saved {
    /// [`Hasher::state`] in base64.
    state: String,
}

/// One open upload.
pub(crate) struct Upload {
    pub(crate) id: String,
    owner: String,
    pub(super) path: PathBuf,
    disk: Arc<dyn Disk>,
    step: u64,
    /// Outside the lock, which is held while a file is written or hashed, because the event
    /// loop reads it.
    offset: AtomicU64,
    closed: AtomicBool,
    progress: Mutex<Progress>,
    /// The quota of the client that started it; lost by a restart.
    share: Option<QuotaGuard>,
    /// Seconds since 1970 of the last request.
    used: AtomicU64,
    /// Held by the request that writes or ends it, and by each write it has
    /// started.
    pub(crate) busy: Arc<tokio::sync::Mutex<()>>,
}

/// All open uploads.
pub(crate) struct Uploads {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    open: Mutex<HashMap<String, Arc<Upload>>>,
    limit: usize,
    scratch: AtomicU64,
    /// [`STEP`], but for tests.
    pub(super) step: u64,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn fingerprint(repository: &Name) -> String {
    let mut hex = Digest::of(repository.as_str().as_bytes()).hex();
    hex.truncate(32);
    hex
}

impl Upload {
    /// Bytes received.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.load(Ordering::Acquire)
    }

    /// Whether it has ended, and takes no more bytes.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Adds bytes, all or none.
    fn append(&self, parts: &[Bytes]) -> io::Result<()> {
        let mut progress = lock(&self.progress);
        if self.is_closed() {
            return Err(io::Error::other("the upload has ended"));
        }
        self.catch_up(&mut progress.hasher)?;
        self.disk.write(&self.path, self.offset(), parts)?;
        parts.iter().for_each(|part| progress.hasher.update(part));
        self.offset.store(progress.hasher.length(), Ordering::Release);
        if progress.hasher.length() - progress.saved < self.step {
            return Ok(());
        }
        if let Err(error) = self.disk.sync(&self.path) {
            // The file's content is unknown now.
            self.closed.store(true, Ordering::Release);
            return Err(error);
        }
        self.save(&mut progress)
    }

    fn save(&self, progress: &mut Progress) -> io::Result<()> {
        progress.saved = progress.hasher.length();
        let state = STANDARD.encode(progress.hasher.state());
        self.disk
            .replace(&self.state_path(), &checked_line::encode_line(&Saved { state })?)
    }

    /// The state that an earlier process saved.
    fn saved(&self) -> Option<Hasher> {
        let saved: Saved = checked_line::decode_line(&fs::read(self.state_path()).ok()?)?;
        let hasher = Hasher::from_state(&STANDARD.decode(saved.state).ok()?)?;
        (hasher.length() <= self.offset()).then_some(hasher)
    }

    fn state_path(&self) -> PathBuf {
        // The name has one dot, before the owner, which is no extension.
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{STATE}"));
        path.into()
    }

    /// Hashes the part of the file that the hash does not cover yet.
    fn catch_up(&self, hasher: &mut Hasher) -> io::Result<()> {
        let due = self.offset() - hasher.length();
        if due == 0 {
            return Ok(());
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(hasher.length()))?;
        let mut rest = file.take(due);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match rest.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        match hasher.length() == self.offset() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The digest of all bytes, which are hashed again only if necessary. The caller holds the
    /// upload's lock.
    pub(super) fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher = lock(&self.progress).hasher.clone();
        if hasher.algorithm() != algorithm {
            hasher = Hasher::new(algorithm);
        }
        self.catch_up(&mut hasher)?;
        Ok(hasher.finish())
    }
}

impl Uploads {
    /// Finds what an earlier process left, and removes what can't be used. A file with another
    /// link is in the pool already: the process ended while it stored that upload.
    pub(super) fn open(disk: Arc<dyn Disk>, directory: PathBuf, limit: usize, now: SystemTime) -> io::Result<Uploads> {
        disk.make_directory(&directory)?;
        let uploads = Uploads {
            disk,
            directory,
            open: Mutex::default(),
            limit,
            scratch: AtomicU64::new(0),
            step: STEP,
        };
        for file in fs::read_dir(&uploads.directory)? {
            let file = file?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                continue;
            }
            let name = file.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('.'));
            match parts {
                Some((id, owner)) if is_id(id) && is_id(owner) && metadata.nlink() == 1 => {
                    let used = metadata.modified().map_or(seconds(now), seconds);
                    let upload = uploads.upload(id.to_string(), owner.to_string(), Algorithm::Sha256, used);
                    upload.offset.store(metadata.len(), Ordering::Release);
                    if let Some(hasher) = upload.saved() {
                        let saved = hasher.length();
                        *lock(&upload.progress) = Progress { hasher, saved };
                    }
                    lock(&uploads.open).insert(id.to_string(), Arc::new(upload));
                }
                // Of an upload that is there.
                Some((_, rest)) if rest.ends_with(STATE) && file.path().with_extension("").is_file() => {}
                _ => _ = uploads.disk.remove(&file.path())?,
            }
        }
        Ok(uploads)
    }

    fn upload(&self, id: String, owner: String, algorithm: Algorithm, used: u64) -> Upload {
        let hasher = Hasher::new(algorithm);
        Upload {
            path: self.directory.join(format!("{id}.{owner}")),
            id,
            owner,
            disk: self.disk.clone(),
            step: self.step,
            offset: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            progress: Mutex::new(Progress { hasher, saved: 0 }),
            share: None,
            used: AtomicU64::new(used),
            busy: Arc::default(),
        }
    }

    /// A name for a scratch file, which a restart removes.
    pub(super) fn scratch(&self) -> PathBuf {
        let number = self.scratch.fetch_add(1, Ordering::Relaxed);
        self.directory.join(format!("{SCRATCH}{number}"))
    }

    /// Starts an upload; none when there are too many.
    pub(crate) fn start(
        &self,
        repository: &Name,
        id: String,
        algorithm: Algorithm,
        now: SystemTime,
        share: Option<QuotaGuard>,
    ) -> Option<Arc<Upload>> {
        let mut upload = self.upload(id.clone(), fingerprint(repository), algorithm, seconds(now));
        upload.share = share;
        let upload = Arc::new(upload);
        let mut open = lock(&self.open);
        if open.len() >= self.limit {
            return None;
        }
        open.insert(id, upload.clone());
        Some(upload)
    }

    /// The upload `id` of `repository`.
    pub(crate) fn get(&self, repository: &Name, id: &str, now: SystemTime) -> Option<Arc<Upload>> {
        let upload = lock(&self.open).get(id).cloned()?;
        if upload.owner != fingerprint(repository) {
            return None;
        }
        upload.used.store(seconds(now), Ordering::Relaxed);
        Some(upload)
    }

    /// Adds bytes to an upload, all or none. The caller holds the upload's lock.
    pub(crate) fn append(&self, upload: &Upload, parts: &[Bytes]) -> io::Result<()> {
        let added = upload.append(parts);
        if added.is_err() && upload.is_closed() {
            self.discard(upload)?;
        }
        added
    }

    /// Ends an upload and removes its bytes. False if it had ended already. The caller holds
    /// the upload's lock.
    pub(crate) fn discard(&self, upload: &Upload) -> io::Result<bool> {
        let there = self.forget(upload);
        self.disk.remove(&upload.path)?;
        if lock(&upload.progress).saved > 0 {
            self.disk.remove(&upload.state_path())?;
        }
        Ok(there)
    }

    /// Ends an upload that has no file. False if it had ended already.
    pub(crate) fn forget(&self, upload: &Upload) -> bool {
        upload.closed.store(true, Ordering::Release);
        lock(&self.open).remove(&upload.id).is_some()
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Discards uploads that were not used for `age`; returns how many.
    pub(super) fn expire(&self, age: Duration, now: SystemTime) -> io::Result<u64> {
        let before = seconds(now).saturating_sub(age.as_secs());
        let old: Vec<_> = lock(&self.open)
            .values()
            .filter(|upload| upload.used.load(Ordering::Relaxed) < before)
            .cloned()
            .collect();
        let mut expired = 0;
        for upload in old {
            // One that is being written is not idle, however slow it is.
            let Ok(_guard) = upload.busy.try_lock() else { continue };
            self.discard(&upload)?;
            expired += 1;
        }
        Ok(expired)
    }
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::storage::disk::System;

    fn uploads(root: &TempDir, step: u64) -> Uploads {
        let directory = root.path().join("uploads");
        let mut uploads = Uploads::open(Arc::new(System), directory, 9, UNIX_EPOCH).unwrap();
        uploads.step = step;
        uploads
    }

    fn start(uploads: &Uploads) -> Arc<Upload> {
        let name = Name::parse("a").unwrap();
        let upload = uploads.start(&name, "0".repeat(32), Algorithm::Sha256, UNIX_EPOCH, None);
        upload.unwrap()
    }

    fn again(uploads: &Uploads) -> Arc<Upload> {
        let name = Name::parse("a").unwrap();
        uploads.get(&name, &"0".repeat(32), UNIX_EPOCH).unwrap()
    }

    #[test]
    fn offset_is_known_while_the_upload_is_written_or_hashed() {
        let root = TempDir::new().unwrap();
        let uploads = uploads(&root, STEP);
        let upload = start(&uploads);
        uploads.append(&upload, &[Bytes::from_static(b"some")]).unwrap();
        // Held for as long as gigabytes take.
        let _held = lock(&upload.progress);
        assert_eq!((upload.offset(), upload.is_closed()), (4, false));
    }

    #[test]
    fn upload_is_not_hashed_again_after_a_restart() {
        let root = TempDir::new().unwrap();
        let first = uploads(&root, 1000);
        let upload = start(&first);
        for _ in 0..5 {
            first.append(&upload, &[Bytes::from_static(&[7; 700])]).unwrap();
        }
        let whole = Digest::of(&[7; 3500]);
        // If the first bytes were read again, this would change the digest.
        first
            .disk
            .write(&upload.path, 0, &[Bytes::from_static(&[8; 2800])])
            .unwrap();
        drop(first);
        let second = uploads(&root, 1000);
        let upload = again(&second);
        assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), whole);
        assert_ne!(upload.digest(Algorithm::Sha512).unwrap().bytes()[0], 0);
        second.append(&upload, &[Bytes::from_static(&[7; 100])]).unwrap();
        assert_eq!(upload.digest(Algorithm::Sha256).unwrap(), Digest::of(&[7; 3600]));
        second.discard(&upload).unwrap();
        assert_eq!(fs::read_dir(root.path().join("uploads")).unwrap().count(), 0);
    }

    #[test]
    fn mismatched_hash_state_is_ignored() {
        let root = TempDir::new().unwrap();
        let first = uploads(&root, 1000);
        let upload = start(&first);
        first.append(&upload, &[Bytes::from_static(&[7; 2000])]).unwrap();
        let state = upload.state_path();
        let saved = fs::read(&state).unwrap();
        // Truncated, it has fewer bytes than were hashed.
        first.disk.truncate(&upload.path, 1500).unwrap();
        let short = Digest::of(&[7; 1500]);
        assert_eq!(again(&uploads(&root, 1000)).digest(Algorithm::Sha256).unwrap(), short);
        let mut changed = saved.clone();
        changed[40] ^= 1;
        fs::write(&state, changed).unwrap();
        assert_eq!(again(&uploads(&root, 1000)).digest(Algorithm::Sha256).unwrap(), short);
        // One without an upload goes.
        fs::remove_file(&upload.path).unwrap();
        uploads(&root, 1000);
        assert!(!state.exists());
    }
}
