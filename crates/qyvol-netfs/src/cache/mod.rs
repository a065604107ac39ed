//! The persistent cache: content by digest, and the last known state of each remote path.
//!
//! Invariants:
//! - content is hashed whenever it is used: if it doesn't match its name, it is removed
//!   and never served;
//! - everything is written to a temporary file and renamed, so that other processes see
//!   whole files only; a reader can go on reading a file that another process removes;
//! - a record is trusted only for exactly the tree and path that it names;
//! - nothing depends on it: if the cache fails, that costs time and gives a notice.
//!
//! The directory belongs to one application of one user, who alone may write to it, and
//! no guest can access it. Content that could not be sent to the server is kept in it too
//! (`kept`); the user decides when to remove that.

mod evict;
mod kept;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use qyvol_types::{Algorithm, Digest, Hasher};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::config::Host;
use crate::error::Error;
use crate::meta::Meta;

/// The version of the format. Another version gets another directory.
const VERSION: &str = "v1";
const BLOBS: &str = "blobs";
const RECORDS: &str = "records";
const TEMPORARY: &str = "tmp";
const KEPT: &str = "kept";
/// Largest record, in bytes.
const RECORD_BYTES: u64 = 16 << 10;

/// The state of a path when it was last fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// [`crate::url::Base::identity`] of the tree.
    tree: String,
    pub(crate) path: String,
    pub(crate) meta: Meta,
    pub(crate) digest: Digest,
}

/// The cache of one tree.
pub(crate) struct Cache {
    root: PathBuf,
    tree: String,
    max_bytes: u64,
    /// Bytes of content, approximately: other processes add and remove content too.
    bytes: u64,
    /// Number of records, also approximately.
    records: usize,
    /// The paths that have a record in this tree, once they have been listed.
    paths: Option<BTreeSet<String>>,
    host: Arc<dyn Host>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Opens or creates the cache in `directory`.
    pub(crate) fn open(directory: &Path, tree: String, max_bytes: u64, host: Arc<dyn Host>) -> Result<Cache, Error> {
        let root = directory.join(VERSION);
        let bad = |place: &Path, error| Error::Directory {
            what: format!("the cache directory {}", place.display()),
            error,
        };
        for name in [BLOBS, RECORDS, TEMPORARY, KEPT] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root.join(name));
            made.map_err(|error| bad(directory, error))?;
        }
        check_ours(directory).map_err(|error| bad(directory, error))?;
        for name in ["", BLOBS, RECORDS, TEMPORARY, KEPT] {
            let place = root.join(name);
            check_ours(&place).map_err(|error| bad(&place, error))?;
        }
        let mut cache = Cache {
            root,
            tree,
            max_bytes,
            bytes: 0,
            records: 0,
            paths: None,
            host,
        };
        cache.sweep();
        Ok(cache)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.hex())
    }

    /// The place of a path's record.
    fn record(&self, path: &str) -> PathBuf {
        let name = Digest::of(format!("{}\0{path}", self.tree).as_bytes());
        self.root.join(RECORDS).join(name.hex())
    }

    /// The last known state of a path, if its content is still there.
    pub(crate) fn lookup(&self, path: &str) -> Option<Record> {
        let record = self.read_record(&self.record(path))?;
        let is_there = record.path == path && self.blob(&record.digest).is_file();
        is_there.then_some(record)
    }

    fn read_record(&self, place: &Path) -> Option<Record> {
        let mut bytes = Vec::new();
        open(place).ok()?.take(RECORD_BYTES + 1).read_to_end(&mut bytes).ok()?;
        if bytes.len() as u64 > RECORD_BYTES {
            return None;
        }
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.tree == self.tree).then_some(record)
    }

    /// Everything that was fetched below a directory, at any depth. Files that other
    /// processes have fetched since the first call may be missing.
    pub(crate) fn below(&mut self, directory: &str) -> Vec<Record> {
        let paths = self.paths.take().unwrap_or_else(|| self.read_paths());
        let from = if directory.is_empty() {
            String::new()
        } else {
            format!("{directory}/")
        };
        let below = paths.range(from.clone()..).take_while(|path| path.starts_with(&from));
        let records = below.filter_map(|path| self.lookup(path)).collect();
        self.paths = Some(paths);
        records
    }

    fn read_paths(&self) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.root.join(RECORDS)) else {
            return BTreeSet::new();
        };
        let entries = entries.flatten().take(evict::MAX_RECORDS * 2);
        let records = entries.filter_map(|entry| self.read_record(&entry.path()));
        let paths = records.map(|record| record.path);
        paths
            .filter(|path| !path.is_empty() && crate::path::check(path).is_ok())
            .collect()
    }

    /// Copies cached content into `file`, which is empty. False if there is none, or if it
    /// was damaged and has been removed. An error is one of `file`.
    pub(crate) fn fetch(&mut self, digest: &Digest, length: Option<u64>, file: &mut File) -> io::Result<bool> {
        let place = self.blob(digest);
        let Ok(mut blob) = open(&place) else {
            return Ok(false);
        };
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 64 << 10];
        let is_read = loop {
            let n = match blob.read(&mut buffer) {
                Ok(0) => break true,
                Ok(n) => n,
                Err(_) => break false,
            };
            let bytes = buffer.get(..n).unwrap_or_default();
            hasher.update(bytes);
            if length.is_some_and(|length| hasher.length() > length) {
                break false;
            }
            file.write_all(bytes)?;
        };
        let is_whole = length.is_none_or(|length| hasher.length() == length);
        if is_read && is_whole && hasher.finish() == *digest {
            // Content that was just used is no longer the oldest.
            let _ = blob.set_modified(self.host.now());
            return Ok(true);
        }
        let _ = fs::remove_file(&place);
        self.host.notice(&format!(
            "the cached copy {} is damaged; it was removed and is fetched again",
            digest.short()
        ));
        file.set_len(0)?;
        file.rewind()?;
        Ok(false)
    }

    /// Records the state of a path and stores its content, which is read from `file`. A
    /// failure only gives a notice.
    pub(crate) fn store(&mut self, path: &str, meta: &Meta, digest: &Digest, file: &mut File) {
        let stored = self.store_blob(digest, file).and_then(|is_stored| {
            if !is_stored {
                return Ok(());
            }
            self.store_record(path, meta, digest)
        });
        if let Err(error) = stored {
            self.host.notice(&format!(
                "a fetched file can't be cached in {}: {error}",
                self.root.display()
            ));
        }
        if self.bytes > self.max_bytes || self.records > evict::MAX_RECORDS {
            self.sweep();
        }
    }

    /// Stores content; false if it doesn't fit.
    fn store_blob(&mut self, digest: &Digest, file: &mut File) -> io::Result<bool> {
        let place = self.blob(digest);
        let length = file.metadata()?.len();
        if length > self.max_bytes {
            return Ok(false);
        }
        if fs::metadata(&place).is_ok_and(|there| there.len() == length) {
            // Not hashed here: that is done when it is used.
            let _ = open(&place).and_then(|blob| blob.set_modified(self.host.now()));
            return Ok(true);
        }
        file.rewind()?;
        let mut temporary = self.temporary()?;
        io::copy(file, temporary.as_file_mut())?;
        temporary.as_file().set_modified(self.host.now())?;
        temporary.persist(place).map_err(|error| error.error)?;
        self.bytes = self.bytes.saturating_add(length);
        Ok(true)
    }

    fn store_record(&mut self, path: &str, meta: &Meta, digest: &Digest) -> io::Result<()> {
        let record = Record {
            tree: self.tree.clone(),
            path: path.to_string(),
            meta: meta.clone(),
            digest: *digest,
        };
        let mut temporary = self.temporary()?;
        temporary.write_all(&serde_json::to_vec(&record)?)?;
        temporary.as_file().set_modified(self.host.now())?;
        temporary.persist(self.record(path)).map_err(|error| error.error)?;
        self.records += 1;
        if let Some(paths) = &mut self.paths {
            paths.insert(path.to_string());
        }
        Ok(())
    }

    /// Removes the record of a path.
    pub(crate) fn forget(&self, path: &str) {
        let _ = fs::remove_file(self.record(path));
    }

    /// A file that only this user can access.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        NamedTempFile::new_in(self.root.join(TEMPORARY))
    }

    fn now(&self) -> SystemTime {
        self.host.now()
    }
}

/// Checks that only this user can write to a directory: trusting a record means trusting
/// whoever wrote it.
fn check_ours(directory: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let stat = rustix::fs::fstat(rustix::fs::open(directory, flags, Mode::empty())?)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    match stat.st_mode & 0o022 {
        0 => Ok(()),
        _ => Err(io::Error::other("others may write to it; expected a mode such as 0700")),
    }
}

/// Opens a file of the cache for reading, without following links and without blocking.
fn open(place: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(place, flags, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::config::ResolveError;

    #[derive(Default)]
    pub(super) struct Clock {
        pub(super) seconds: Mutex<u64>,
        notices: Mutex<Vec<String>>,
    }

    impl Host for Clock {
        fn resolve(&self, _: &str, _: u16) -> Result<Vec<SocketAddr>, ResolveError> {
            Err(ResolveError::Denied)
        }

        fn now(&self) -> SystemTime {
            let mut seconds = self.seconds.lock().unwrap();
            *seconds += 1;
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + *seconds)
        }

        fn wait(&self, _: Duration) -> bool {
            false
        }

        fn notice(&self, message: &str) {
            self.notices.lock().unwrap().push(message.to_string());
        }
    }

    pub(super) fn open(directory: &Path, max_bytes: u64, clock: &Arc<Clock>) -> Cache {
        Cache::open(directory, "https://a.example/".to_string(), max_bytes, clock.clone()).unwrap()
    }

    pub(super) fn store(cache: &mut Cache, path: &str, content: &[u8]) -> Digest {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let digest = Digest::of(content);
        let meta = Meta {
            length: Some(content.len() as u64),
            ..Meta::default()
        };
        cache.store(path, &meta, &digest, &mut file);
        digest
    }

    pub(super) fn fetch(cache: &mut Cache, digest: &Digest, length: u64) -> Option<Vec<u8>> {
        let mut file = tempfile::tempfile().unwrap();
        if !cache.fetch(digest, Some(length), &mut file).unwrap() {
            assert_eq!(file.metadata().unwrap().len(), 0);
            return None;
        }
        let mut content = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut content).unwrap();
        Some(content)
    }

    #[test]
    fn content_is_found_by_path_and_by_another_process() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::default());
        let mut cache = open(directory.path(), 100, &clock);
        let digest = store(&mut cache, "a/b", b"abc");
        let mut other = open(directory.path(), 100, &clock);
        assert_eq!(other.lookup("a/b").unwrap().digest, digest);
        assert_eq!(fetch(&mut other, &digest, 3).unwrap(), b"abc");
        let of_other_tree = Cache::open(directory.path(), "https://b.example/".to_string(), 100, clock).unwrap();
        assert_eq!(of_other_tree.lookup("a/b"), None);
        other.forget("a/b");
        assert_eq!(cache.lookup("a/b"), None);
    }

    #[test]
    fn damaged_content_is_removed_and_never_served() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::<Clock>::default());
        let mut cache = open(directory.path(), 100, &clock);
        for damage in ["abd", "ab", "", "abcd"] {
            let digest = store(&mut cache, "a", b"abc");
            fs::write(cache.blob(&digest), damage).unwrap();
            assert_eq!(fetch(&mut cache, &digest, 3), None, "{damage}");
            assert_eq!(cache.lookup("a"), None, "{damage}");
        }
        assert_eq!(clock.notices.lock().unwrap().len(), 4);
    }

    #[test]
    fn record_of_another_path_or_form_is_none() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::default());
        let mut cache = open(directory.path(), 100, &clock);
        store(&mut cache, "a", b"abc");
        let text = fs::read_to_string(cache.record("a")).unwrap();
        fs::write(cache.record("b"), &text).unwrap();
        assert_eq!(cache.lookup("b"), None);
        for bad in [
            "",
            "{}",
            &text.replace("sha256:", "sha256:../"),
            &format!("{text}{}", " ".repeat(20_000)),
        ] {
            fs::write(cache.record("a"), bad).unwrap();
            assert_eq!(cache.lookup("a"), None, "{bad}");
        }
    }

    #[test]
    fn what_is_below_a_directory_is_found() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::default());
        let mut cache = open(directory.path(), 100, &clock);
        for path in ["a/b", "a/c/d", "ab", "e"] {
            store(&mut cache, path, path.as_bytes());
        }
        let mut paths = |directory| {
            let mut paths: Vec<String> = cache.below(directory).into_iter().map(|record| record.path).collect();
            paths.sort();
            paths
        };
        assert_eq!(paths("a"), ["a/b", "a/c/d"]);
        assert_eq!(paths("").len(), 4);
        assert!(paths("b").is_empty());
    }
}
