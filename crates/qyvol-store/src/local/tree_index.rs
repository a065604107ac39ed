//! The index of an unpacked tree: what each file and directory looked like when
//! it was made (`spec/store.md`, "Trees").
//!
//! A run opens few of an application's files, so it pays only for those. The
//! head of an index is authenticated when it is opened; it holds the digest of
//! each page of entries, and a page is read and checked when the first of its
//! entries is asked for. Entries are sorted by path, and the head says with
//! which path each page begins.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use qyvol_types::Digest;

use crate::record::{RecordKey, Stamp};

const MAGIC: &[u8; 8] = b"qyvtree2";
/// Magic, HMAC, length of the head.
const PREFIX: usize = MAGIC.len() + 32 + 4;
/// Bytes after which a page ends.
const PAGE: usize = 8 << 10;
/// Most bytes of a page: one entry more, whose path the file system bounds.
const PAGE_LIMIT: u32 = (PAGE as u32) << 1;
/// Most bytes of a head: millions of entries.
const HEAD_LIMIT: u32 = 64 << 20;
/// Bytes of a head that are read at once.
const FIRST_READ: usize = 16 << 10;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    Directory,
    /// Never unpacked.
    Other,
}

/// An entry of a tree as it was when the index was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    pub(super) stamp: Stamp,
}

/// An index whose head was made with the store's key.
#[derive(Debug)]
pub(super) struct TreeIndex {
    file: File,
    head: Vec<u8>,
    root: Stamp,
    pages: Vec<Page>,
    read: Mutex<HashMap<usize, Arc<Vec<u8>>>>,
}

#[derive(Debug)]
struct Page {
    /// Where the head has the page's first path.
    first: Range<usize>,
    sha256: [u8; 32],
    at: u64,
    len: usize,
}

/// Encodes an index: `entries` are sorted by path and exclude the tree's own
/// directory, which is `root`.
pub(super) fn encode(key: &RecordKey, id: &Digest, root: &Stamp, entries: &[(Vec<u8>, Entry)]) -> Vec<u8> {
    let mut pages: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for (path, entry) in entries {
        if pages.last().is_none_or(|(_, page)| page.len() >= PAGE) {
            pages.push((path, Vec::new()));
        }
        if let Some((_, page)) = pages.last_mut() {
            push_path(page, path);
            page.push(match entry.kind {
                EntryKind::File => b'f',
                EntryKind::Directory => b'd',
                EntryKind::Other => b'o',
            });
            entry.stamp.write(page);
        }
    }
    let mut body = Vec::new();
    root.write(&mut body);
    for (first, page) in &pages {
        body.extend_from_slice(Digest::of(page).bytes());
        body.extend_from_slice(&length(page));
        push_path(&mut body, first);
    }
    let mut signed = length(&body).to_vec();
    signed.extend_from_slice(&body);
    let mut index = MAGIC.to_vec();
    index.extend_from_slice(key.tree_mac(id, &signed).as_ref());
    index.extend_from_slice(&signed);
    for (_, page) in &pages {
        index.extend_from_slice(page);
    }
    index
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn push_path(out: &mut Vec<u8>, path: &[u8]) {
    out.extend_from_slice(&length(path));
    out.extend_from_slice(path);
}

impl TreeIndex {
    /// Reads the head of an index; says what is wrong with it.
    pub(super) fn open(key: &RecordKey, id: &Digest, file: File) -> Result<TreeIndex, String> {
        let broken = || "it was not made by this store for this tree".to_string();
        let unread = |error: std::io::Error| format!("it can't be read: {error}");
        let mut head = vec![0; FIRST_READ];
        let mut have = read_at_most(&file, &mut head, 0).map_err(unread)?;
        let prefix = head.first_chunk::<PREFIX>().filter(|_| have >= PREFIX);
        let prefix = prefix.filter(|p| p.starts_with(MAGIC)).ok_or_else(broken)?;
        let tag: [u8; 32] = prefix[MAGIC.len()..PREFIX - 4].try_into().map_err(|_| broken())?;
        let length = u32_at(prefix, PREFIX - 4)
            .filter(|n| *n <= HEAD_LIMIT)
            .ok_or_else(broken)?;
        let end = PREFIX + length as usize;
        head.resize(end, 0);
        if have < end {
            have += read_at_most(&file, &mut head[have..], have as u64).map_err(unread)?;
        }
        if have < end || !key.verify_tree_mac(id, &head[PREFIX - 4..], &tag) {
            return Err(broken());
        }
        let mut at = PREFIX;
        let root = take(&head, &mut at, Stamp::LEN)
            .and_then(Stamp::read)
            .ok_or_else(broken)?;
        let mut pages = Vec::new();
        let mut place = end as u64;
        while at < end {
            let sha256 = take(&head, &mut at, 32).and_then(|b| b.try_into().ok());
            let len = u32_at(&head, at).filter(|len| *len <= PAGE_LIMIT);
            let path = u32_at(&head, at + 4);
            let (Some(sha256), Some(len), Some(path)) = (sha256, len, path) else {
                return Err(broken());
            };
            at += 8;
            let first = at..at + path as usize;
            at = first.end;
            pages.push(Page {
                first,
                sha256,
                at: place,
                len: len as usize,
            });
            place += u64::from(len);
        }
        if at != end {
            return Err(broken());
        }
        Ok(TreeIndex {
            file,
            head,
            root,
            pages,
            read: Mutex::default(),
        })
    }

    /// The stamp of the tree's own directory.
    pub(super) fn root(&self) -> &Stamp {
        &self.root
    }

    /// The entry of a path, if it has one.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<Entry>, String> {
        let after = self
            .pages
            .partition_point(|page| &self.head[page.first.clone()] <= path);
        let Some(number) = after.checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(number)?;
        let mut at = 0;
        while let Some((found, entry)) = next(&page, &mut at) {
            if found == path {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Calls `each` with every entry.
    pub(super) fn for_each(&self, mut each: impl FnMut(&[u8], Entry) -> Result<(), String>) -> Result<(), String> {
        for number in 0..self.pages.len() {
            let page = self.page(number)?;
            let mut at = 0;
            while let Some((path, entry)) = next(&page, &mut at) {
                each(path, entry)?;
            }
        }
        Ok(())
    }

    fn page(&self, number: usize) -> Result<Arc<Vec<u8>>, String> {
        let altered = || "its index was altered".to_string();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = read.get(&number) {
            return Ok(Arc::clone(page));
        }
        let place = self.pages.get(number).ok_or_else(altered)?;
        let mut page = vec![0; place.len];
        let got = read_at_most(&self.file, &mut page, place.at).map_err(|e| format!("its index can't be read: {e}"))?;
        if got != page.len() || Digest::of(&page).bytes() != place.sha256 {
            return Err(altered());
        }
        let page = Arc::new(page);
        read.insert(number, Arc::clone(&page));
        Ok(page)
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], at + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, len: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(*at..at.checked_add(len)?)?;
    *at += len;
    Some(taken)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

/// Reads the entry at `at`, and advances `at` past it.
fn next<'a>(page: &'a [u8], at: &mut usize) -> Option<(&'a [u8], Entry)> {
    let length = u32_at(page, *at)? as usize;
    *at += 4;
    let path = take(page, at, length)?;
    let kind = match take(page, at, 1)? {
        b"f" => EntryKind::File,
        b"d" => EntryKind::Directory,
        _ => EntryKind::Other,
    };
    let stamp = Stamp::read(take(page, at, Stamp::LEN)?)?;
    Some((path, Entry { kind, stamp }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn stamp(n: u64) -> Stamp {
        Stamp {
            dev: 0,
            ino: n,
            size: n,
            mtime: (1, 2),
            ctime: (3, 4),
        }
    }

    fn entries(count: u64) -> Vec<(Vec<u8>, Entry)> {
        let mut entries: Vec<_> = (0..count)
            .map(|n| {
                let kind = EntryKind::File;
                (format!("d/{n}").into_bytes(), Entry { kind, stamp: stamp(n) })
            })
            .collect();
        entries.push((
            b"d".to_vec(),
            Entry {
                kind: EntryKind::Directory,
                stamp: stamp(count),
            },
        ));
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        entries
    }

    fn open(bytes: &[u8]) -> Result<TreeIndex, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        TreeIndex::open(&RecordKey::new(&[7; 32]), &Digest::of(b"id"), file)
    }

    fn index(count: u64) -> Vec<u8> {
        let key = RecordKey::new(&[7; 32]);
        encode(&key, &Digest::of(b"id"), &stamp(99), &entries(count))
    }

    #[test]
    fn every_entry_is_found_and_no_other() {
        for count in [0, 1, 5000] {
            let index = open(&index(count)).unwrap();
            assert_eq!(*index.root(), stamp(99));
            for (path, entry) in entries(count) {
                assert_eq!(index.find(&path).unwrap(), Some(entry));
            }
            for other in ["", "a", "d/", "d/x", "zz"] {
                assert_eq!(index.find(other.as_bytes()).unwrap(), None, "{other}");
            }
            let mut all = Vec::new();
            index
                .for_each(|path, entry| {
                    all.push((path.to_vec(), entry));
                    Ok(())
                })
                .unwrap();
            assert_eq!(all, entries(count));
        }
    }

    #[test]
    fn bit_flipped_anywhere_is_detected() {
        let good = index(300);
        let head = PREFIX + u32_at(&good, PREFIX - 4).unwrap() as usize;
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let read = open(&bad).and_then(|index| index.for_each(|_, _| Ok(())));
            assert!(read.is_err(), "byte {at} of {}", good.len());
            assert_eq!(open(&bad).is_err(), at < head, "byte {at}");
        }
        for len in [0, 7, PREFIX, head - 1] {
            open(&good[..len]).unwrap_err();
        }
        let cut = open(&good[..good.len() - 1]).unwrap();
        cut.for_each(|_, _| Ok(())).unwrap_err();
    }

    #[test]
    fn index_of_another_key_or_tree_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&index(3)).unwrap();
        let (key, id) = (RecordKey::new(&[7; 32]), Digest::of(b"id"));
        let open = |key: &RecordKey, id: &Digest| TreeIndex::open(key, id, file.try_clone().unwrap());
        open(&key, &id).unwrap();
        open(&RecordKey::new(&[8; 32]), &id).unwrap_err();
        open(&key, &Digest::of(b"other")).unwrap_err();
    }
}
