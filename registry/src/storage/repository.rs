//! One repository: an OCI image layout in a folder `_layout`, a journal beside
//! it, and its state in memory.
//!
//! A change is a line appended to the journal and synced; whoever syncs, syncs
//! for all that have appended before, so many pushes at once share one sync.
//! `index.json` is rewritten from memory a moment later and the journal
//! emptied ([`Repository::compact`]). A reader may see a change that is
//! appended but not yet synced; the client that made it is not answered before.
//!
//! No file is held open between operations, so the number of repositories is
//! not bound by the number of file descriptors.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use qyvol_types::{Algorithm, Digest};

use super::files;
use super::state::{Record, State};
use crate::cache::lock;
use crate::error::HubError;
use crate::names::{LAYOUT, Name};

const JOURNAL: &str = "_journal";
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Of the time, the part that may be spent on writing one index: 1 in this.
const COMPACTING: u32 = 20;

struct Journal {
    /// Bytes of whole records.
    length: u64,
    /// When the index was last written, and how long that took.
    compacted: Option<(Instant, Duration)>,
    /// Records appended since this process started.
    appended: u64,
}

pub(crate) struct Repository {
    /// A short name for caches, unique in this process.
    pub(crate) id: u64,
    pub(crate) name: Name,
    folder: PathBuf,
    state: RwLock<State>,
    journal: Mutex<Journal>,
    /// Records known to be on disk.
    synced: Mutex<u64>,
    dirty: AtomicBool,
}

impl Repository {
    /// Makes the repository's folders if they are missing, or reads what is
    /// there.
    pub(super) fn open(root: &Path, name: Name, id: u64) -> Result<Repository, HubError> {
        let folder = name.folder(root);
        let layout = folder.join(LAYOUT);
        let failed = |what| HubError::storage(what, &layout);
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let blobs = layout.join("blobs").join(algorithm.name());
            files::make_folders(root, &blobs).map_err(failed("cannot create the repository"))?;
        }
        let state = match fs::read(layout.join("index.json")) {
            Ok(bytes) => State::from_index(&bytes).map_err(|reason| HubError::Damaged {
                path: layout.join("index.json"),
                reason,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(failed("cannot read the repository")(error)),
        };
        let repository = Repository {
            id,
            name,
            folder,
            state: RwLock::new(state),
            journal: Mutex::new(Journal {
                length: 0,
                compacted: None,
                appended: 0,
            }),
            synced: Mutex::new(0),
            dirty: AtomicBool::new(false),
        };
        let replayed = repository.replay().map_err(failed("cannot read the journal"))?;
        if files::stat(&layout.join("oci-layout"))
            .map_err(failed("cannot read the repository"))?
            .is_none()
        {
            files::replace(&layout.join("oci-layout"), OCI_LAYOUT).map_err(failed("cannot create the repository"))?;
        }
        if replayed || !layout.join("index.json").exists() {
            repository.compact().map_err(failed("cannot write the index"))?;
        }
        Ok(repository)
    }

    /// Applies what the journal holds. A last line without its end was never
    /// acknowledged, and nothing can stand after it: the journal is emptied
    /// before anything is appended again.
    fn replay(&self) -> io::Result<bool> {
        let bytes = match fs::read(self.folder.join(JOURNAL)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            match serde_json::from_slice::<Record>(line) {
                Ok(record) => state.apply(&record),
                // Blocks of an append may reach the disk in any order, so a
                // torn end may look like a line.
                Err(_) => break,
            }
        }
        Ok(!bytes.is_empty())
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        let mut path = self.folder.join(LAYOUT);
        path.push("blobs");
        path.push(algorithm.name());
        path
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.blobs(digest.algorithm());
        path.push(digest.hex());
        path
    }

    /// Makes a change: it is durable when this returns.
    pub(super) fn commit(&self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let path = self.folder.join(JOURNAL);
        let mine = {
            let mut journal = lock(&self.journal);
            let mut file = OpenOptions::new().append(true).create(true).open(&path)?;
            let fresh = file.metadata()?.len() == 0;
            if let Err(error) = file.write_all(&line) {
                // What was written of it must not stand before the next line.
                file.set_len(journal.length)?;
                return Err(error);
            }
            if fresh {
                // The name itself may be new.
                files::sync_folder(&self.folder)?;
            }
            journal.length += line.len() as u64;
            journal.appended += 1;
            self.state.write().unwrap_or_else(PoisonError::into_inner).apply(record);
            self.dirty.store(true, Ordering::Release);
            journal.appended
        };
        let mut synced = lock(&self.synced);
        if *synced < mine {
            let upto = lock(&self.journal).appended;
            OpenOptions::new().append(true).open(&path)?.sync_data()?;
            *synced = upto;
        }
        Ok(())
    }

    /// Writes `index.json` anew and empties the journal.
    pub(super) fn compact(&self) -> io::Result<()> {
        // Both locks, in the order of `commit`'s sync: nobody is between its
        // append and its sync while the journal is cut.
        let mut synced = lock(&self.synced);
        let mut journal = lock(&self.journal);
        let started = Instant::now();
        self.dirty.store(false, Ordering::Release);
        let index = self.state().to_index()?;
        let written = files::replace(&self.folder.join(LAYOUT).join("index.json"), &index);
        if let Err(error) = written {
            self.dirty.store(true, Ordering::Release);
            return Err(error);
        }
        match OpenOptions::new().write(true).open(self.folder.join(JOURNAL)) {
            Ok(file) => file.set_len(0)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        journal.length = 0;
        journal.compacted = Some((Instant::now(), started.elapsed()));
        *synced = journal.appended;
        Ok(())
    }

    /// Whether there is something to compact and it would not take too much of
    /// the time: pushes to this repository wait meanwhile.
    pub(super) fn is_due(&self, any: bool) -> bool {
        if !self.dirty.load(Ordering::Acquire) {
            return false;
        }
        let rested = |(when, took): (Instant, Duration)| when.elapsed() >= took * COMPACTING;
        any || lock(&self.journal).compacted.is_none_or(rested)
    }
}

/// The names of all repositories below `root`.
pub(super) fn find(root: &Path) -> io::Result<Vec<Name>> {
    let mut found = Vec::new();
    let mut pending = vec![(root.to_path_buf(), String::new())];
    while let Some((folder, name)) = pending.pop() {
        for child in fs::read_dir(&folder)? {
            let child = child?;
            let Some(part) = child.file_name().to_str().map(str::to_string) else {
                continue;
            };
            if part == LAYOUT {
                found.extend(Name::parse(&name));
            } else if !part.starts_with('_') && child.file_type()?.is_dir() {
                let joined = if name.is_empty() {
                    part
                } else {
                    format!("{name}/{part}")
                };
                pending.push((child.path(), joined));
            }
        }
    }
    Ok(found)
}
