//! Interrupted transfers.

use std::cell::RefCell;
use std::fs;
use std::io::{self, Read};

use qyvol_store::{Exists, Fetch, NoopReporter, PruneKind, Push, StoreError};
use qyvol_types::Descriptor;

use crate::support::{Home, overwrite};

const SIZE: usize = 3 << 20;

fn content() -> Vec<u8> {
    (0..SIZE as u32).map(|i| (i ^ i >> 9) as u8).collect()
}

fn descriptor() -> Descriptor {
    Descriptor::of("x", &content())
}

/// A remote source that fails at a byte, and records the offsets it was opened
/// at.
struct Far {
    content: Vec<u8>,
    breaks_at: usize,
    asked: RefCell<Vec<u64>>,
}

impl Far {
    fn new(breaks_at: usize) -> Far {
        Far {
            content: content(),
            breaks_at,
            asked: RefCell::default(),
        }
    }

    fn open(&self, at: u64) -> Result<Box<dyn Read + Send + '_>, StoreError> {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
        self.asked.borrow_mut().push(at);
        let rest = &self.content[at as usize..self.breaks_at];
        match self.breaks_at < self.content.len() {
            true => Ok(Box::new(rest.chain(Breaks))),
            false => Ok(Box::new(rest)),
        }
    }

    /// Fetches the content in one ingest.
    fn fetch_into(&self, home: &Home) -> Result<(), StoreError> {
        let ingest = home.other().begin()?.resumable();
        ingest.push_from(&descriptor(), &|at| self.open(at))?;
        ingest.commit()
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.take()
    }
}

fn partial(home: &Home) -> std::path::PathBuf {
    home.v1().join("partial").join(descriptor().digest.hex())
}

fn is_stored_alone(home: &Home) {
    let d = descriptor();
    assert_eq!(home.store.fetch_bytes(&d, d.size).unwrap(), content());
    assert_eq!(home.files().len(), 1, "{:?}", home.files());
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
}

#[test]
fn interrupted_fetch_resumes_where_it_stopped() {
    let home = Home::new();
    for breaks_at in [1_000_000, 2_500_000, 2_500_000] {
        let error = Far::new(breaks_at).fetch_into(&home).unwrap_err();
        assert!(matches!(error, StoreError::Read { .. }), "{error}");
        assert_eq!(fs::metadata(partial(&home)).unwrap().len(), breaks_at as u64);
        assert!(!home.store.exists(&descriptor()).unwrap());
    }
    let far = Far::new(SIZE);
    far.fetch_into(&home).unwrap();
    assert_eq!(far.asked(), [2_500_000]);
    is_stored_alone(&home);
}

#[test]
fn complete_partial_is_not_fetched_again() {
    let home = Home::new();
    let far = Far::new(SIZE);
    let ingest = home.store.begin().unwrap().resumable();
    ingest.push_from(&descriptor(), &|at| far.open(at)).unwrap();
    drop(ingest);
    assert_eq!(home.files().len(), 1);
    let far = Far::new(SIZE);
    far.fetch_into(&home).unwrap();
    assert!(far.asked().is_empty());
    is_stored_alone(&home);
}

#[test]
fn damaged_partial_is_discarded_and_fetched_anew() {
    for spoil in [
        |bytes: &mut Vec<u8>| bytes[0] ^= 1,
        |bytes: &mut Vec<u8>| bytes.resize(SIZE, 0),
        |bytes: &mut Vec<u8>| bytes.resize(SIZE + 1, 0),
    ] {
        let home = Home::new();
        Far::new(2 << 20).fetch_into(&home).unwrap_err();
        let mut bytes = fs::read(partial(&home)).unwrap();
        spoil(&mut bytes);
        overwrite(&partial(&home), &bytes);
        let far = Far::new(SIZE);
        far.fetch_into(&home).unwrap();
        assert_eq!(far.asked().last(), Some(&0));
        is_stored_alone(&home);
    }
}

#[test]
fn content_with_a_wrong_digest_is_not_kept() {
    let home = Home::new();
    let mut far = Far::new(SIZE);
    far.content[SIZE - 1] ^= 1;
    for _ in 0..2 {
        let error = far.fetch_into(&home).unwrap_err();
        assert!(matches!(error, StoreError::WrongDigest { .. }), "{error}");
        assert_eq!(home.files(), Vec::<String>::new());
        assert_eq!(far.asked(), [0]);
    }
}

#[test]
fn non_resumable_or_small_ingest_keeps_nothing() {
    let home = Home::new();
    let far = Far::new(SIZE / 2);
    let near = home.store.begin().unwrap();
    near.push_from(&descriptor(), &|at| far.open(at)).unwrap_err();
    drop(near);
    let ingest = home.store.begin().unwrap().resumable();
    let small = Descriptor::of("x", &[0; 1000]);
    ingest
        .push_from(&small, &|_| Err(StoreError::NotFound { digest: small.digest }))
        .unwrap_err();
    drop(ingest);
    assert_eq!(home.files(), Vec::<String>::new());
}

#[test]
fn ingests_of_one_content_at_once_write_one_file() {
    let home = Home::new();
    let far = Far::new(SIZE);
    let second = Far::new(SIZE);
    let first = home.store.begin().unwrap().resumable();
    let other = home.other().begin().unwrap().resumable();
    first
        .push_from(&descriptor(), &|at| {
            // The first has opened the file and has not begun.
            other.push_from(&descriptor(), &|at| second.open(at))?;
            far.open(at)
        })
        .unwrap();
    assert_eq!((far.asked(), second.asked()), (vec![0], vec![0]));
    other.commit().unwrap();
    first.commit().unwrap();
    is_stored_alone(&home);
}

#[test]
fn prune_removes_partials() {
    let home = Home::new();
    Far::new(SIZE / 2).fetch_into(&home).unwrap_err();
    assert_eq!(home.store.check(&NoopReporter, false).unwrap(), []);
    let plan = home.store.prune_plan().unwrap();
    assert_eq!(
        plan.items.iter().map(|item| item.kind).collect::<Vec<_>>(),
        [PruneKind::Partial]
    );
    assert!(plan.bytes >= SIZE as u64 / 2);
    home.store.prune(&plan).unwrap();
    assert_eq!(home.files(), Vec::<String>::new());
}

// [STORE-026]
#[test]
fn spooled_content_resumes_and_never_becomes_a_blob() {
    let home = Home::new();
    let spool = |far: &Far| {
        let ingest = home.other().begin().unwrap().resumable();
        let spooled = ingest.spool(&descriptor(), &|at| far.open(at))?;
        ingest.commit()?;
        Ok::<_, StoreError>(spooled)
    };
    assert!(spool(&Far::new(SIZE / 2)).is_err());
    let far = Far::new(SIZE);
    drop(spool(&far).unwrap());
    assert_eq!(far.asked(), [SIZE as u64 / 2]);
    // It is there for the next one, until it is removed.
    let far = Far::new(SIZE);
    let mut spooled = spool(&far).unwrap();
    assert!(far.asked().is_empty());
    let mut bytes = Vec::new();
    spooled.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content());
    spooled.remove();
    assert!(!partial(&home).exists());
    assert!(!home.store.exists(&descriptor()).unwrap());
    // Damaged, it is fetched anew.
    assert!(spool(&Far::new(SIZE / 2)).is_err());
    overwrite(&partial(&home), b"damaged");
    let far = Far::new(SIZE);
    let mut spooled = spool(&far).unwrap();
    assert_eq!(far.asked(), [7, 0]);
    bytes.clear();
    spooled.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content());
}
