//! The reader that verifies size and digest while bytes pass.
//!
//! The check is made when the last byte arrives, before it is handed out: a consumer that reads
//! exactly the descriptor's size and never reads to the end of the stream is protected too.

use std::fmt;
use std::io::{self, Read};

use qyvol_types::{Descriptor, Digest, Hasher};

use crate::StoreError;

/// Reads exactly the content of a descriptor, or fails.
pub struct VerifyReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    seen: u64,
    state: State,
}

enum State {
    Reading(Hasher),
    Verified,
    Failed(Fault),
}

#[derive(Clone, Copy)]
enum Fault {
    Short,
    Long,
    Digest(Digest),
    // The inner reader failed after the hash was taken.
    Broken,
}

impl<R: Read> VerifyReader<R> {
    /// Checks the bytes of `inner` against `descriptor`.
    pub fn new(inner: R, descriptor: &Descriptor) -> VerifyReader<R> {
        VerifyReader {
            inner,
            digest: descriptor.digest,
            size: descriptor.size,
            seen: 0,
            state: State::Reading(Hasher::new(descriptor.digest.algorithm())),
        }
    }

    /// Whether all bytes were read and verified.
    pub fn is_verified(&self) -> bool {
        matches!(self.state, State::Verified)
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        self.state = State::Failed(fault);
        let size = |got, more| StoreError::WrongSize {
            digest: self.digest,
            expected: self.size,
            got,
            more,
        };
        match fault {
            Fault::Short => size(self.seen, false).into(),
            Fault::Long => size(self.seen.saturating_add(1), true).into(),
            Fault::Digest(got) => StoreError::WrongDigest {
                expected: self.digest,
                got: Box::new(got),
            }
            .into(),
            Fault::Broken => io::Error::other("the source failed before the content was checked"),
        }
    }

    /// All bytes were read: nothing may follow, and the digest must match.
    fn conclude(&mut self) -> io::Result<()> {
        let State::Reading(hasher) = std::mem::replace(&mut self.state, State::Failed(Fault::Broken)) else {
            return Ok(());
        };
        let mut extra = [0];
        loop {
            match self.inner.read(&mut extra) {
                Ok(0) => break,
                Ok(_) => return Err(self.fail(Fault::Long)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let got = hasher.finish();
        if got != self.digest {
            return Err(self.fail(Fault::Digest(got)));
        }
        self.state = State::Verified;
        Ok(())
    }
}

impl<R: Read> Read for VerifyReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.state {
            State::Verified => return Ok(0),
            State::Failed(fault) => return Err(self.fail(fault)),
            State::Reading(_) => {}
        }
        if buf.is_empty() {
            return Ok(0);
        }
        let left = self.size - self.seen;
        if left == 0 {
            self.conclude()?;
            return Ok(0);
        }
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let window = buf.get_mut(..room).unwrap_or_default();
        let n = self.inner.read(window)?;
        let Some(got) = window.get(..n).filter(|got| !got.is_empty()) else {
            return Err(self.fail(Fault::Short));
        };
        if let State::Reading(hasher) = &mut self.state {
            hasher.update(got);
        }
        self.seen += n as u64;
        if self.seen == self.size {
            self.conclude()?;
        }
        Ok(n)
    }
}

impl<R> fmt::Debug for VerifyReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyReader({}, {}/{})", self.digest, self.seen, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8], descriptor: &Descriptor) -> Result<Vec<u8>, StoreError> {
        let mut out = Vec::new();
        match VerifyReader::new(content, descriptor).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(error) => Err(StoreError::from_io(error).expect("a store error")),
        }
    }

    #[test]
    fn short_long_and_altered_content_is_refused() {
        let d = Descriptor::of("x", b"hello");
        assert_eq!(read(b"hello", &d).unwrap(), b"hello");
        assert!(matches!(read(b"hell", &d), Err(StoreError::WrongSize { got: 4, .. })));
        assert!(matches!(
            read(b"hello!", &d),
            Err(StoreError::WrongSize { got: 6, more: true, .. })
        ));
        assert!(matches!(read(b"hellO", &d), Err(StoreError::WrongDigest { .. })));
        let empty = Descriptor::of("x", b"");
        assert_eq!(read(b"", &empty).unwrap(), b"");
        assert!(matches!(read(b"x", &empty), Err(StoreError::WrongSize { .. })));
    }

    #[test]
    fn consumer_that_stops_at_the_size_never_gets_the_last_altered_byte() {
        let d = Descriptor::of("x", b"hello");
        for bad in [&b"hellO"[..], b"hello!"] {
            let mut reader = VerifyReader::new(bad, &d);
            let mut buf = [0; 5];
            assert!(reader.read_exact(&mut buf).is_err());
            assert!(reader.read(&mut buf).is_err(), "the failure stays");
        }
        let mut empty = VerifyReader::new(&b""[..], &Descriptor::new("x", Digest::of(b"y"), 0));
        assert!(empty.read(&mut [0; 1]).is_err());
    }
}
