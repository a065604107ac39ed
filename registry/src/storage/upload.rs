//! Uploads that are not complete: a file each under `uploads/`, once bytes
//! have come, and a small record in memory.
//!
//! The offset changes only after the file, inside [`Upload::append`], so a
//! client that goes away at any moment leaves an upload that can be continued.
//! The file's name holds the upload's id and a fingerprint of its repository;
//! after a restart that is all there is to know, and the file is hashed again.
//! An upload that has no byte yet is forgotten by a restart.
//!
//! Whoever ends an upload closes it first: from then on its file may be the
//! pool's, which nobody writes to.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qyvol_types::{Algorithm, Digest, Hasher};

use super::disk::Disk;
use crate::cache::lock;
use crate::names::Name;
use crate::shares::Share;

/// The prefix of files that are of no use after a restart.
pub(super) const SCRATCH: &str = "tmp-";

/// The hash of the first bytes of an upload.
struct Progress {
    hasher: Hasher,
    algorithm: Algorithm,
    hashed: u64,
}

/// One open upload.
pub(crate) struct Upload {
    pub(crate) id: String,
    owner: String,
    pub(super) path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Apart from the lock, which is held while a file is written or hashed:
    /// the event loop reads it.
    offset: AtomicU64,
    closed: AtomicBool,
    progress: Mutex<Progress>,
    /// Held for whoever started it; a restart forgets who that was.
    share: Option<Share>,
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
    pub(crate) fn append(&self, parts: &[Bytes]) -> io::Result<u64> {
        let mut progress = lock(&self.progress);
        if self.is_closed() {
            return Err(io::Error::other("the upload has ended"));
        }
        let at = self.offset();
        self.catch_up(&mut progress)?;
        self.disk.write(&self.path, at, parts)?;
        parts.iter().for_each(|part| progress.update(part));
        self.offset.store(progress.hashed, Ordering::Release);
        Ok(progress.hashed)
    }

    /// Hashes what is in the file and was not hashed by this process.
    fn catch_up(&self, progress: &mut Progress) -> io::Result<()> {
        let due = self.offset() - progress.hashed;
        if due == 0 {
            return Ok(());
        }
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(progress.hashed))?;
        let mut rest = file.take(due);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match rest.read(&mut buffer)? {
                0 => break,
                n => progress.update(&buffer[..n]),
            }
        }
        match progress.hashed == self.offset() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The digest of all bytes, hashed again only if it must. The caller is
    /// the one that may write.
    pub(super) fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut progress = lock(&self.progress);
        if progress.algorithm != algorithm {
            *progress = Progress::new(algorithm);
        }
        self.catch_up(&mut progress)?;
        Ok(std::mem::replace(&mut *progress, Progress::new(algorithm))
            .hasher
            .finish())
    }
}

impl Progress {
    fn new(algorithm: Algorithm) -> Progress {
        Progress {
            hasher: Hasher::new(algorithm),
            algorithm,
            hashed: 0,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.hashed += bytes.len() as u64;
    }
}

impl Uploads {
    /// Finds what an earlier process left and removes what it can't use. A
    /// file with another name is the pool's already: the process ended while
    /// it stored that upload.
    pub(super) fn open(disk: Arc<dyn Disk>, directory: PathBuf, limit: usize, now: SystemTime) -> io::Result<Uploads> {
        disk.make_directory(&directory)?;
        let uploads = Uploads {
            disk,
            directory,
            open: Mutex::default(),
            limit,
            scratch: AtomicU64::new(0),
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
                    let progress = Progress::new(Algorithm::Sha256);
                    let upload = uploads.upload(id.to_string(), owner.to_string(), progress, used);
                    upload.offset.store(metadata.len(), Ordering::Release);
                    lock(&uploads.open).insert(id.to_string(), Arc::new(upload));
                }
                _ => _ = uploads.disk.remove(&file.path())?,
            }
        }
        Ok(uploads)
    }

    fn upload(&self, id: String, owner: String, progress: Progress, used: u64) -> Upload {
        Upload {
            path: self.directory.join(format!("{id}.{owner}")),
            id,
            owner,
            disk: self.disk.clone(),
            offset: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            progress: Mutex::new(progress),
            share: None,
            used: AtomicU64::new(used),
            busy: Arc::default(),
        }
    }

    /// A name for a file that nothing will look for after a crash.
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
        share: Option<Share>,
    ) -> Option<Arc<Upload>> {
        let progress = Progress::new(algorithm);
        let mut upload = self.upload(id.clone(), fingerprint(repository), progress, seconds(now));
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

    /// Ends an upload and removes its bytes. False if it was gone already. The
    /// caller is the one that may write.
    pub(crate) fn discard(&self, upload: &Upload) -> io::Result<bool> {
        let there = self.forget(upload);
        self.disk.remove(&upload.path)?;
        Ok(there)
    }

    /// Ends an upload that has no file. False if it was gone already.
    pub(crate) fn forget(&self, upload: &Upload) -> bool {
        upload.closed.store(true, Ordering::Release);
        lock(&self.open).remove(&upload.id).is_some()
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        lock(&self.open).len()
    }

    /// Discards what was not used for `age`; says how many.
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
    use super::*;
    use crate::storage::disk::System;

    #[test]
    fn offset_is_known_while_the_upload_is_written_or_hashed() {
        let root = tempfile::TempDir::new().unwrap();
        let directory = root.path().join("uploads");
        let uploads = Uploads::open(Arc::new(System), directory, 9, UNIX_EPOCH).unwrap();
        let name = Name::parse("a").unwrap();
        let upload = uploads.start(&name, "0".repeat(32), Algorithm::Sha256, UNIX_EPOCH, None);
        let upload = upload.unwrap();
        upload.append(&[Bytes::from_static(b"some")]).unwrap();
        // Held for as long as gigabytes take.
        let _held = lock(&upload.progress);
        assert_eq!((upload.offset(), upload.is_closed()), (4, false));
    }
}
