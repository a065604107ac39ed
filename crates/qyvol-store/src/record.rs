//! Records that are authenticated with the store's own key.
//!
//! A record states that a process with this key wrote a file, the file's hash and its inode's
//! metadata at that time, so that a later process can map the file without hashing it again.
//! The key is 32 random bytes that only the store's owner can read; a user who can read it can
//! write the store anyway.
//!
//! A record of compiled code is 128 bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `qyvcode1` |
//! | 8..40 | HMAC-SHA256 over the domain, the engine, the component's digest and bytes 40..128 |
//! | 40..72 | SHA-256 of the code |
//! | 72..128 | device, inode, size, mtime s, mtime ns, ctime s, ctime ns, each 64 bits little-endian |

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use qyvol_types::Digest;
use ring::hmac;

/// Length of a record of compiled code.
pub(crate) const CODE_RECORD: usize = 128;
const CODE_MAGIC: &[u8; 8] = b"qyvcode1";
const CODE_DOMAIN: &[u8] = b"qyvol-store code 1\0";
const TREE_DOMAIN: &[u8] = b"qyvol-store tree 2\0";
const POLICY_DOMAIN: &[u8] = b"qyvol-store policy 1\0";

/// The store's key.
#[derive(Clone, Debug)]
pub(crate) struct RecordKey(hmac::Key);

impl RecordKey {
    /// Bytes of a key.
    pub(crate) const LEN: usize = 32;

    pub(crate) fn new(bytes: &[u8; RecordKey::LEN]) -> RecordKey {
        RecordKey(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    fn code_context(&self, engine: &str, component: &Digest) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(CODE_DOMAIN);
        context.update(&(engine.len() as u64).to_le_bytes());
        context.update(engine.as_bytes());
        context.update(component.to_string().as_bytes());
        context.update(b"\0");
        context
    }

    fn tree_context(&self, id: &Digest, body: &[u8]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(TREE_DOMAIN);
        context.update(id.to_string().as_bytes());
        context.update(b"\0");
        context.update(body);
        context
    }

    /// The tag of the head of a tree's index.
    pub(crate) fn tree_mac(&self, id: &Digest, body: &[u8]) -> hmac::Tag {
        self.tree_context(id, body).sign()
    }

    /// Whether this key made the index.
    pub(crate) fn verify_tree_mac(&self, id: &Digest, body: &[u8], tag: &[u8]) -> bool {
        matches(&self.tree_mac(id, body), tag)
    }

    /// The tag of a policy's parsed form.
    pub(crate) fn policy_mac(&self, form: &str, text: &Digest, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(POLICY_DOMAIN);
        context.update(&(form.len() as u64).to_le_bytes());
        context.update(form.as_bytes());
        context.update(text.to_string().as_bytes());
        context.update(b"\0");
        context.update(body);
        context.sign()
    }

    /// Whether this key made a policy's parsed form.
    pub(crate) fn verify_policy_mac(&self, form: &str, text: &Digest, body: &[u8], tag: &[u8]) -> bool {
        matches(&self.policy_mac(form, text, body), tag)
    }

    /// The record of some code.
    pub(crate) fn code_record(&self, engine: &str, component: &Digest, sha256: &[u8], stamp: &Stamp) -> Vec<u8> {
        let mut body = Vec::with_capacity(CODE_RECORD - 40);
        body.extend_from_slice(sha256);
        stamp.write(&mut body);
        let mut context = self.code_context(engine, component);
        context.update(&body);
        let mut record = CODE_MAGIC.to_vec();
        record.extend_from_slice(context.sign().as_ref());
        record.extend_from_slice(&body);
        record
    }

    /// The SHA-256 and stamp of a record, if this key made it for this code.
    pub(crate) fn verify_code_record(
        &self,
        engine: &str,
        component: &Digest,
        record: &[u8],
    ) -> Option<([u8; 32], Stamp)> {
        let record: &[u8; CODE_RECORD] = record.try_into().ok()?;
        let rest = record.strip_prefix(CODE_MAGIC)?;
        let (tag, body) = rest.split_at_checked(32)?;
        let mut context = self.code_context(engine, component);
        context.update(body);
        if !matches(&context.sign(), tag) {
            return None;
        }
        let (sha256, stamp) = body.split_first_chunk::<32>()?;
        Some((*sha256, Stamp::read(stamp)?))
    }
}

// Both sides are made with the key, so the comparison is of two equally long
// values; constant time costs nothing.
fn matches(made: &hmac::Tag, found: &[u8]) -> bool {
    let made = made.as_ref();
    made.len() == found.len() && made.iter().zip(found).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}

/// The metadata of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, i64),
    pub(crate) ctime: (i64, i64),
}

impl Stamp {
    /// Bytes of a stamp.
    pub(crate) const LEN: usize = 56;

    pub(crate) fn of(meta: &Metadata) -> Stamp {
        Stamp {
            dev: meta.dev(),
            ino: meta.ino(),
            // A directory's size depends on the file system.
            size: if meta.is_dir() { 0 } else { meta.len() },
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for value in [self.dev, self.ino, self.size] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        for value in [self.mtime.0, self.mtime.1, self.ctime.0, self.ctime.1] {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Stamp> {
        let bytes: &[u8; Stamp::LEN] = bytes.try_into().ok()?;
        let mut values = bytes.as_chunks::<8>().0.iter();
        let mut next = || values.next().map(|v| u64::from_le_bytes(*v));
        let (dev, ino, size) = (next()?, next()?, next()?);
        let mut next = || next().map(u64::cast_signed);
        Some(Stamp {
            dev,
            ino,
            size,
            mtime: (next()?, next()?),
            ctime: (next()?, next()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_of_other_engine_component_or_key_is_refused() {
        let key = RecordKey::new(&[7; 32]);
        let component = Digest::of(b"component");
        let stamp = Stamp {
            dev: 1,
            ino: 2,
            size: 3,
            mtime: (-4, 5),
            ctime: (6, 7),
        };
        let record = key.code_record("engine", &component, &[9; 32], &stamp);
        assert_eq!(record.len(), CODE_RECORD);
        assert_eq!(
            key.verify_code_record("engine", &component, &record),
            Some(([9; 32], stamp))
        );
        assert_eq!(key.verify_code_record("engine2", &component, &record), None);
        assert_eq!(key.verify_code_record("engine", &Digest::of(b"x"), &record), None);
        assert_eq!(
            RecordKey::new(&[8; 32]).verify_code_record("engine", &component, &record),
            None
        );
        for i in 0..record.len() {
            let mut bad = record.clone();
            bad[i] ^= 1;
            assert_eq!(key.verify_code_record("engine", &component, &bad), None, "byte {i}");
        }
        assert_eq!(key.verify_code_record("engine", &component, &record[..127]), None);
    }
}
