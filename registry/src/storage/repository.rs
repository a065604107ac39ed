//! One repository: an OCI image layout in a directory `_layout`, a journal
//! beside it, and its state in memory.
//!
//! A change is made durable in the journal and then applied to the state. Concurrent changes
//! share a line and a sync: a request that arrives while another one writes leaves its change
//! for the next write. `index.json` is rewritten from memory shortly afterwards and the journal
//! is emptied ([`StoredRepository::compact`]).
//!
//! No file is held open between operations, so file descriptors don't limit the number of
//! repositories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use qyvol_types::{Algorithm, Digest};

use super::disk::Disk;
use super::journal::{self, Journal};
use super::state::{Record, State};
use crate::cache::lock;
use crate::error::HubError;
use crate::names::{LAYOUT, Name};

const JOURNAL: &str = "_journal";
const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Share of the time that writing one index may take: one in this many.
const COMPACTING: u32 = 20;

/// The result of a change that another request writes.
type Outcome = Arc<Mutex<Option<io::Result<()>>>>;

pub(crate) struct StoredRepository {
    /// A short name for caches, unique in this process.
    pub(crate) id: u64,
    pub(crate) name: Name,
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    state: RwLock<State>,
    /// Changes that are not being written yet.
    waiting: Mutex<Vec<(Record, Outcome)>>,
    journal: Mutex<Journal>,
    dirty: AtomicBool,
}

impl StoredRepository {
    /// Creates the repository's directories if they are missing, or reads what exists.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path, name: Name, id: u64) -> Result<StoredRepository, HubError> {
        let directory = name.directory(root);
        let path = directory.join(LAYOUT).join("index.json");
        let failed = |what| HubError::storage(what, &directory);
        let (state, sequence) = match fs::read(&path) {
            Ok(bytes) => State::from_index(&bytes).map_err(|reason| HubError::Damaged { path, reason })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(&*disk, root, &directory, &path)?;
                (State::default(), 0)
            }
            Err(error) => return Err(failed("can't read the repository")(error)),
        };
        let path = directory.join(JOURNAL);
        let damaged = |reason| HubError::Damaged {
            path: path.clone(),
            reason,
        };
        let lines = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("it is missing, and changes may be lost".to_string()));
            }
            Err(error) => return Err(failed("can't read the journal")(error)),
        };
        let mut state = state;
        let sequence = journal::replay(&lines, sequence, &mut state).map_err(damaged)?;
        let repository = StoredRepository {
            id,
            name,
            directory: directory.clone(),
            disk,
            state: RwLock::new(state),
            waiting: Mutex::default(),
            journal: Mutex::new(Journal::new(path, sequence, !lines.is_empty())),
            dirty: AtomicBool::new(false),
        };
        if !lines.is_empty() {
            repository.compact().map_err(failed("can't write the index"))?;
        }
        Ok(repository)
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        blobs(&self.directory, algorithm)
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.blobs(digest.algorithm());
        path.push(digest.hex());
        path
    }

    /// Makes a change: it is durable when this returns.
    pub(super) fn commit(&self, change: Record) -> io::Result<()> {
        let outcome = Outcome::default();
        lock(&self.waiting).push((change, outcome.clone()));
        let mut journal = lock(&self.journal);
        if let Some(outcome) = lock(&outcome).take() {
            return outcome;
        }
        let batch = std::mem::take(&mut *lock(&self.waiting));
        let written = self.write(&mut journal, &batch);
        for (_, outcome) in &batch {
            *lock(outcome) = Some(written.as_ref().map_err(same).copied());
        }
        written
    }

    fn write(&self, journal: &mut Journal, batch: &[(Record, Outcome)]) -> io::Result<()> {
        if journal.broken {
            self.write_index(journal)?;
        }
        self.dirty.store(true, Ordering::Release);
        journal.append(&*self.disk, batch.iter().map(|(change, _)| change).collect())?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        batch.iter().for_each(|(change, _)| state.apply(change));
        Ok(())
    }

    /// Rewrites `index.json` and empties the journal.
    pub(super) fn compact(&self) -> io::Result<()> {
        self.write_index(&mut lock(&self.journal))
    }

    fn write_index(&self, journal: &mut Journal) -> io::Result<()> {
        let started = Instant::now();
        let index = self.state().to_index(journal.sequence)?;
        self.disk
            .replace(&self.directory.join(LAYOUT).join("index.json"), &index)?;
        journal.clear(&*self.disk)?;
        journal.compacted = Some((Instant::now(), started.elapsed()));
        self.dirty.store(false, Ordering::Release);
        Ok(())
    }

    /// Whether there is something to compact, and time for it: pushes to this repository wait
    /// meanwhile.
    pub(super) fn is_due(&self, any: bool) -> bool {
        if !self.dirty.load(Ordering::Acquire) {
            return false;
        }
        let rested = |(when, took): (Instant, Duration)| when.elapsed() >= took * COMPACTING;
        any || lock(&self.journal).compacted.is_none_or(rested)
    }
}

fn blobs(directory: &Path, algorithm: Algorithm) -> PathBuf {
    let mut path = directory.join(LAYOUT);
    path.push("blobs");
    path.push(algorithm.name());
    path
}

/// Creates an empty repository; its index is written last. If there is anything that only a
/// repository with an index can have, the index was lost.
fn create(disk: &dyn Disk, root: &Path, directory: &Path, index: &Path) -> Result<(), HubError> {
    let failed = || HubError::storage("can't create the repository", directory);
    let journal = directory.join(JOURNAL);
    let mut rest = fs::metadata(&journal).is_ok_and(|metadata| metadata.len() > 0);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let blobs = blobs(directory, algorithm);
        disk.make_directories(root, &blobs).map_err(failed())?;
        rest |= fs::read_dir(&blobs).map_err(failed())?.next().is_some();
    }
    if rest {
        return Err(HubError::Damaged {
            path: index.to_path_buf(),
            reason: "it is missing, and the repository is not empty".to_string(),
        });
    }
    let make = || {
        disk.replace(&directory.join(LAYOUT).join("oci-layout"), OCI_LAYOUT)?;
        disk.replace(&journal, b"")?;
        disk.replace(index, &State::default().to_index(0)?)
    };
    make().map_err(failed())
}

/// A copy of the error, for other requests that it affects: the system's error code decides how
/// clients are answered.
fn same(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The names of all repositories below `root`.
pub(super) fn find(root: &Path) -> io::Result<Vec<Name>> {
    let mut found = Vec::new();
    let mut pending = vec![(root.to_path_buf(), String::new())];
    while let Some((directory, name)) = pending.pop() {
        for child in fs::read_dir(&directory)? {
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
