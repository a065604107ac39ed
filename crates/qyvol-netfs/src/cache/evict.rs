//! Keeps the cache within its limits: the least recently used content is removed.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{BLOBS, Cache, RECORDS, TEMPORARY};
use crate::local::ABANDONED;

/// Maximum number of records. A record is small, and of no use without its content.
pub(super) const MAX_RECORDS: usize = 100_000;

struct Entry {
    path: PathBuf,
    length: u64,
    used: SystemTime,
}

impl Cache {
    /// Counts the content, and removes the oldest until a tenth of the space is free.
    pub(super) fn sweep(&mut self) {
        let mut blobs = self.entries(BLOBS);
        self.bytes = blobs.iter().map(|entry| entry.length).sum();
        if self.bytes > self.max_bytes {
            let goal = self.max_bytes - self.max_bytes / 10;
            blobs.sort_by_key(|entry| entry.used);
            for blob in blobs {
                if self.bytes <= goal {
                    break;
                }
                if is_gone(fs::remove_file(&blob.path)) {
                    self.bytes -= blob.length;
                }
            }
        }
        let mut records = self.entries(RECORDS);
        self.records = records.len();
        if self.records > MAX_RECORDS {
            records.sort_by_key(|entry| entry.used);
            for record in records.iter().take(self.records - MAX_RECORDS / 10 * 9) {
                if is_gone(fs::remove_file(&record.path)) {
                    self.records -= 1;
                }
            }
        }
        // Files that a killed process left behind.
        for entry in self.entries(TEMPORARY) {
            if self.now().duration_since(entry.used).is_ok_and(|age| age > ABANDONED) {
                let _ = fs::remove_file(entry.path);
            }
        }
    }

    fn entries(&self, name: &str) -> Vec<Entry> {
        let Ok(entries) = fs::read_dir(self.root.join(name)) else {
            return Vec::new();
        };
        let entry = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok()?;
            Some(Entry {
                path: entry.path(),
                length: metadata.len(),
                used: metadata.modified().ok()?,
            })
        };
        entries.flatten().filter_map(entry).collect()
    }
}

/// Whether a file was removed, by us or another process.
fn is_gone(removed: io::Result<()>) -> bool {
    match removed {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, read_dir};
    use std::sync::Arc;

    use super::super::tests::{Clock, fetch, open, store};

    #[test]
    fn oldest_content_goes_and_what_was_used_stays() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::default());
        let mut cache = open(directory.path(), 30, &clock);
        let first = store(&mut cache, "1", b"1111111111");
        let second = store(&mut cache, "2", b"2222222222");
        let third = store(&mut cache, "3", b"3333333333");
        fetch(&mut cache, &first, 10).unwrap();
        let fourth = store(&mut cache, "4", b"4444");
        assert!(cache.lookup("2").is_none() && fetch(&mut cache, &second, 10).is_none());
        for (digest, length) in [(first, 10), (third, 10), (fourth, 4)] {
            fetch(&mut cache, &digest, length).unwrap();
        }
    }

    #[test]
    fn content_over_the_bound_is_not_kept() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::default());
        let mut cache = open(directory.path(), 5, &clock);
        let small = store(&mut cache, "1", b"11");
        store(&mut cache, "2", b"222222");
        assert!(cache.lookup("2").is_none());
        fetch(&mut cache, &small, 2).unwrap();
    }

    #[test]
    fn abandoned_temporary_files_are_removed() {
        let (directory, clock) = (tempfile::tempdir().unwrap(), Arc::<Clock>::default());
        open(directory.path(), 5, &clock);
        let temporary = directory.path().join("v1/tmp");
        let now = crate::config::Host::now(&*clock);
        for (name, age) in [("new", 60), ("old", 2 * 24 * 3600)] {
            let file = File::create(temporary.join(name)).unwrap();
            file.set_modified(now - std::time::Duration::from_secs(age)).unwrap();
        }
        open(directory.path(), 5, &clock);
        let left: Vec<_> = read_dir(temporary)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["new"]);
    }
}
