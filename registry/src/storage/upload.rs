//! Uploads that are not complete: a file each under `uploads/`, once bytes
//! have come, and a small record in memory.
//!
//! Offset and running hash change only together with the file, inside
//! [`Upload::append`], so a client that goes away at any moment leaves an
//! upload that can be continued. The file's name holds the upload's id and a
//! fingerprint of its repository; after a restart that is all there is to
//! know, and the hash is made anew from the file when the upload is closed.
//! An upload that has no byte yet is forgotten by a restart.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qyvol_types::{Algorithm, Digest, Hasher};

use super::files;
use crate::cache::lock;
use crate::names::Name;

/// The prefix of files that are of no use after a restart.
pub(super) const SCRATCH: &str = "tmp-";

struct Progress {
    offset: u64,
    algorithm: Algorithm,
    /// None when the bytes before `offset` were not hashed by this process.
    hasher: Option<Hasher>,
}

/// One open upload.
pub(crate) struct Upload {
    pub(crate) id: String,
    owner: String,
    pub(super) path: PathBuf,
    progress: Mutex<Progress>,
    /// Seconds since 1970 of the last request.
    used: AtomicU64,
    /// Held by the request that writes, and by each write it has started.
    pub(crate) busy: Arc<tokio::sync::Mutex<()>>,
}

/// All open uploads.
pub(crate) struct Uploads {
    folder: PathBuf,
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
        lock(&self.progress).offset
    }

    /// Adds bytes: file, hash and offset together or not at all.
    pub(crate) fn append(&self, parts: &[Bytes]) -> io::Result<u64> {
        let mut progress = lock(&self.progress);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)?;
        let mut at = progress.offset;
        for part in parts {
            file.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        if let Some(hasher) = &mut progress.hasher {
            for part in parts {
                hasher.update(part);
            }
        }
        progress.offset = at;
        Ok(at)
    }

    /// The digest of all bytes, hashed again only if it must.
    pub(super) fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut progress = lock(&self.progress);
        if progress.algorithm == algorithm
            && let Some(hasher) = progress.hasher.take()
        {
            return Ok(hasher.finish());
        }
        let mut hasher = Hasher::new(algorithm);
        if progress.offset == 0 {
            return Ok(hasher.finish());
        }
        let mut file = File::open(&self.path)?.take(progress.offset);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                n => hasher.update(&buffer[..n]),
            }
        }
    }
}

impl Uploads {
    /// Finds what an earlier process left and removes what it can't use.
    pub(super) fn open(folder: PathBuf, limit: usize, now: SystemTime) -> io::Result<Uploads> {
        fs::create_dir_all(&folder)?;
        let mut open = HashMap::new();
        for file in fs::read_dir(&folder)? {
            let file = file?;
            let name = file.file_name();
            let parts = name.to_str().and_then(|name| name.split_once('.'));
            let metadata = file.metadata()?;
            match parts {
                Some((id, owner)) if is_id(id) && is_id(owner) && metadata.is_file() => {
                    let upload = Upload {
                        id: id.to_string(),
                        owner: owner.to_string(),
                        path: file.path(),
                        progress: Mutex::new(Progress {
                            offset: metadata.len(),
                            algorithm: Algorithm::Sha256,
                            hasher: None,
                        }),
                        used: AtomicU64::new(metadata.modified().map_or(seconds(now), seconds)),
                        busy: Arc::default(),
                    };
                    open.insert(id.to_string(), Arc::new(upload));
                }
                _ if metadata.is_file() => fs::remove_file(file.path())?,
                _ => {}
            }
        }
        Ok(Uploads {
            folder,
            open: Mutex::new(open),
            limit,
            scratch: AtomicU64::new(0),
        })
    }

    /// A name for a file that nothing will look for after a crash.
    pub(super) fn scratch(&self) -> PathBuf {
        let number = self.scratch.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{SCRATCH}{number}"))
    }

    /// Starts an upload; none when there are too many.
    pub(crate) fn start(
        &self,
        repository: &Name,
        id: String,
        algorithm: Algorithm,
        now: SystemTime,
    ) -> Option<Arc<Upload>> {
        let owner = fingerprint(repository);
        let upload = Arc::new(Upload {
            path: self.folder.join(format!("{id}.{owner}")),
            id: id.clone(),
            owner,
            progress: Mutex::new(Progress {
                offset: 0,
                algorithm,
                hasher: Some(Hasher::new(algorithm)),
            }),
            used: AtomicU64::new(seconds(now)),
            busy: Arc::default(),
        });
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

    /// Forgets an upload and its bytes. False if it was gone already.
    pub(crate) fn discard(&self, upload: &Upload) -> io::Result<bool> {
        let there = lock(&self.open).remove(&upload.id).is_some();
        files::remove(&upload.path)?;
        Ok(there)
    }

    /// Forgets an upload that has no file.
    pub(crate) fn forget(&self, upload: &Upload) {
        lock(&self.open).remove(&upload.id);
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
