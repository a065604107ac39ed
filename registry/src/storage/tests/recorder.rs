//! A disk that records changes, and computes what a power loss at any time would leave of them.
//!
//! It guarantees what POSIX guarantees: content is durable after a sync of the file, a name
//! after a sync of its directory, and the rest reaches the disk in any order. A rename is
//! atomic. Directories are not removed.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;

use crate::cache::lock;
use crate::storage::disk::{Disk, System};

#[derive(Clone)]
pub(super) enum Change {
    MakeDirectory(PathBuf),
    Create(PathBuf, Vec<u8>),
    Write(PathBuf, u64, Vec<u8>),
    Truncate(PathBuf, u64),
    Touch(PathBuf, SystemTime),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Remove(PathBuf),
    /// This step of this writer was acknowledged to a client.
    Acknowledged(usize, u64),
}

/// Changes the directory without waiting for the disk, and records the changes if asked to.
pub(super) struct Recorder {
    root: PathBuf,
    log: Option<Mutex<Vec<Change>>>,
    /// Called after each write, so that a test can do something between it
    /// and its sync.
    pub(super) after_write: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Recorder {
    pub(super) fn new(root: &Path) -> Recorder {
        Recorder {
            root: root.to_path_buf(),
            log: Some(Mutex::default()),
            after_write: OnceLock::new(),
        }
    }

    pub(super) fn silent(root: &Path) -> Recorder {
        Recorder {
            root: root.to_path_buf(),
            log: None,
            after_write: OnceLock::new(),
        }
    }

    pub(super) fn acknowledge(&self, writer: usize, step: u64) {
        self.record(Change::Acknowledged(writer, step), || Ok(())).unwrap();
    }

    pub(super) fn log(&self) -> Vec<Change> {
        self.log.as_ref().map(|log| lock(log).clone()).unwrap_or_default()
    }

    fn path(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap().to_path_buf()
    }

    /// Changes and records in one step, so that the record is in the order of the changes.
    fn record<T>(&self, change: Change, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut log = self.log.as_ref().map(lock);
        let made = make()?;
        if let Some(log) = &mut log {
            log.push(change);
        }
        Ok(made)
    }
}

impl Disk for Recorder {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let change = Change::MakeDirectory(self.path(path));
        self.record(change, || System.make_directory(path))
    }

    fn create(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let change = Change::Create(self.path(path), bytes.to_vec());
        self.record(change, || System.create(path, bytes))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.create(to, &fs::read(from)?)
    }

    fn write(&self, path: &Path, at: u64, parts: &[Bytes]) -> io::Result<()> {
        let change = Change::Write(self.path(path), at, parts.concat());
        self.record(change, || System.write(path, at, parts))?;
        if let Some(act) = self.after_write.get() {
            act();
        }
        Ok(())
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        let change = Change::Truncate(self.path(path), length);
        self.record(change, || System.truncate(path, length))
    }

    fn touch(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let change = Change::Touch(self.path(path), time);
        self.record(change, || System.touch(path, time))
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let change = Change::Sync(self.path(path));
        self.record(change, || fs::symlink_metadata(path).map(|_| ()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let change = Change::Rename(self.path(from), self.path(to));
        self.record(change, || System.rename(from, to))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<bool> {
        let change = Change::Link(self.path(from), self.path(to));
        self.record(change, || System.link(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<bool> {
        let change = Change::Remove(self.path(path));
        self.record(change, || System.remove(path))
    }
}

/// Which unsynced changes survive the loss.
#[derive(Clone, Copy, Debug)]
pub(super) enum Survives {
    Nothing,
    Everything,
    /// Any part of them, at random.
    Some(u64),
}

impl Survives {
    /// How many of `parts` parts survive.
    fn of(&mut self, parts: usize) -> usize {
        match self {
            Survives::Nothing => 0,
            Survives::Everything => parts,
            Survives::Some(seed) => {
                // SplitMix64.
                *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let chance = usize::try_from((mixed ^ (mixed >> 31)) >> 33).unwrap();
                match chance % 3 {
                    0 => 0,
                    1 => parts,
                    _ => (chance / 3) % (parts + 1),
                }
            }
        }
    }
}

/// A file's content and time: the durable ones, and those in memory.
#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    time: Option<SystemTime>,
    unsynced: Vec<Change>,
}

impl Inode {
    fn apply(&mut self, change: Change, survives: &mut Survives) {
        match change {
            Change::Write(_, at, bytes) => {
                let kept = survives.of(bytes.len());
                let end = usize::try_from(at).unwrap() + kept;
                if kept > 0 {
                    self.bytes.resize(self.bytes.len().max(end), 0);
                    self.bytes[end - kept..end].copy_from_slice(&bytes[..kept]);
                }
            }
            Change::Truncate(_, length) if survives.of(1) == 1 => {
                self.bytes.resize(usize::try_from(length).unwrap(), 0);
            }
            Change::Touch(_, time) if survives.of(1) == 1 => self.time = Some(time),
            _ => {}
        }
    }
}

/// A change of names, with the file that it concerns.
type Naming = (Change, usize);

/// A file system as the recorded changes leave it.
#[derive(Clone, Default)]
pub(super) struct Model {
    inodes: Vec<Inode>,
    /// Names as a running process sees them.
    seen: HashMap<PathBuf, usize>,
    directories: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    unsynced: Vec<Naming>,
}

impl Model {
    pub(super) fn apply(&mut self, change: &Change) {
        match change.clone() {
            Change::MakeDirectory(_) => self.unsynced.push((change.clone(), 0)),
            Change::Create(path, bytes) => {
                let inode = self.make(&path);
                self.inodes[inode].unsynced.push(Change::Write(path, 0, bytes));
            }
            Change::Write(path, ..) | Change::Truncate(path, _) | Change::Touch(path, _) => {
                let inode = self.seen.get(&path).copied();
                let inode = inode.unwrap_or_else(|| self.make(&path));
                self.inodes[inode].unsynced.push(change.clone());
            }
            Change::Sync(path) => match self.seen.get(&path) {
                Some(inode) => {
                    let inode = &mut self.inodes[*inode];
                    for change in std::mem::take(&mut inode.unsynced) {
                        inode.apply(change, &mut Survives::Everything);
                    }
                }
                None => {
                    for (change, inode) in std::mem::take(&mut self.unsynced) {
                        match change.is_in(&path) {
                            true => self.name(&change, inode),
                            false => self.unsynced.push((change, inode)),
                        }
                    }
                }
            },
            Change::Link(from, to) => {
                let inode = self.seen[&from];
                if let Entry::Vacant(name) = self.seen.entry(to) {
                    name.insert(inode);
                    self.unsynced.push((change.clone(), inode));
                }
            }
            Change::Rename(from, to) => {
                let inode = self.seen[&from];
                if self.seen.get(&to) != Some(&inode) {
                    self.seen.remove(&from);
                    self.seen.insert(to, inode);
                    self.unsynced.push((change.clone(), inode));
                }
            }
            Change::Remove(path) => {
                if let Some(inode) = self.seen.remove(&path) {
                    self.unsynced.push((change.clone(), inode));
                }
            }
            Change::Acknowledged(..) => {}
        }
    }

    fn make(&mut self, path: &Path) -> usize {
        let inode = self.inodes.len();
        self.inodes.push(Inode::default());
        self.seen.insert(path.to_path_buf(), inode);
        self.unsynced
            .push((Change::Create(path.to_path_buf(), Vec::new()), inode));
        inode
    }

    /// Makes a change of names durable.
    fn name(&mut self, change: &Change, inode: usize) {
        match change {
            Change::MakeDirectory(path) => _ = self.directories.insert(path.clone()),
            Change::Create(path, _) | Change::Link(_, path) => _ = self.names.insert(path.clone(), inode),
            Change::Rename(from, to) => {
                self.names.remove(from);
                self.names.insert(to.clone(), inode);
            }
            Change::Remove(path) => _ = self.names.remove(path),
            _ => {}
        }
    }

    /// Simulates a power loss now, and writes what is left to `root`.
    pub(super) fn lose_power(&self, mut survives: Survives, root: &Path) {
        let mut left = self.clone();
        for (change, inode) in std::mem::take(&mut left.unsynced) {
            if survives.of(1) == 1 {
                left.name(&change, inode);
            }
        }
        for inode in &mut left.inodes {
            for change in std::mem::take(&mut inode.unsynced) {
                inode.apply(change, &mut survives);
            }
        }
        let mut there = BTreeSet::from([PathBuf::new()]);
        for directory in &left.directories {
            if directory.parent().is_some_and(|above| there.contains(above)) {
                fs::create_dir(root.join(directory)).unwrap();
                there.insert(directory.clone());
            }
        }
        let mut first: HashMap<usize, PathBuf> = HashMap::new();
        for (name, inode) in &left.names {
            if !name.parent().is_some_and(|above| there.contains(above)) {
                continue;
            }
            let path = root.join(name);
            if let Some(first) = first.get(inode) {
                fs::hard_link(first, &path).unwrap();
                continue;
            }
            let content = &left.inodes[*inode];
            fs::write(&path, &content.bytes).unwrap();
            if let Some(time) = content.time {
                fs::File::open(&path).unwrap().set_modified(time).unwrap();
            }
            first.insert(*inode, path);
        }
    }
}

impl Change {
    /// Whether it changes the names in a directory.
    pub(super) fn is_in(&self, directory: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(directory);
        match self {
            Change::MakeDirectory(path) | Change::Create(path, _) | Change::Link(_, path) | Change::Remove(path) => {
                within(path)
            }
            Change::Rename(from, to) => within(from) || within(to),
            _ => false,
        }
    }
}
