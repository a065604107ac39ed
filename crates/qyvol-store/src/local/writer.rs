//! Writes a blob to a staging directory and hashes it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_types::{Descriptor, Digest, Hasher};

use super::CHUNK_SIZE;
use super::partial::Partial;
use super::staged::Staged;
use crate::StoreError;

/// A blob being staged. Dropped before it is finished, it leaves nothing.
///
/// Errors of its [`Write`] carry a [`StoreError`] with the path; see
/// [`StoreError::from_io`].
pub struct BlobWriter {
    staged: Arc<Staged>,
    file: File,
    path: Option<PathBuf>,
    hasher: Option<Hasher>,
    written: u64,
    /// Whether it is a file in `partial/`.
    partial: bool,
}

impl BlobWriter {
    pub(super) fn new(staged: &Arc<Staged>, file: File, path: PathBuf, hasher: Hasher) -> BlobWriter {
        BlobWriter {
            staged: Arc::clone(staged),
            file,
            path: Some(path),
            hasher: Some(hasher),
            written: 0,
            partial: false,
        }
    }

    /// Continues after the existing bytes.
    pub(super) fn after(staged: &Arc<Staged>, partial: Partial) -> BlobWriter {
        let mut writer = BlobWriter::new(staged, partial.file, partial.path, partial.hasher);
        writer.written = partial.bytes;
        writer.partial = true;
        writer
    }

    /// Keeps what is written when this is dropped.
    pub(super) fn keep(mut self) {
        self.path = None;
    }

    /// Opens what was written for reading, once it is `descriptor`.
    pub(super) fn verified(&mut self, descriptor: &Descriptor) -> Result<File, StoreError> {
        if let Some(got) = self.hasher.take().map(Hasher::finish)
            && got != descriptor.digest
        {
            return Err(StoreError::WrongDigest {
                expected: descriptor.digest,
                got: Box::new(got),
            });
        }
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        crate::sys::open_read(path).map_err(|error| StoreError::io("open", path, error))
    }

    /// Keeps what is written if the next ingest can resume from it, and removes it otherwise.
    pub(super) fn keep_partial(self) {
        if self.partial {
            self.keep();
        }
    }

    /// Leaves the hashing to the caller: the digest given to [`finish`](BlobWriter::finish) is
    /// then used unchecked. Readers still check it. Call it before the first byte.
    pub fn without_hashing(mut self) -> BlobWriter {
        self.hasher = None;
        self
    }

    /// Bytes written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Stages what was written. `known` is the expected digest; if this writer hashes, another
    /// digest is refused; if nobody hashed, the file is read again.
    pub fn finish(mut self, media_type: &str, known: Option<&Digest>) -> Result<Descriptor, StoreError> {
        let digest = match (self.hasher.take(), known) {
            (Some(hasher), known) => {
                let got = hasher.finish();
                if let Some(expected) = known.filter(|known| **known != got) {
                    return Err(StoreError::WrongDigest {
                        expected: *expected,
                        got: Box::new(got),
                    });
                }
                got
            }
            (None, Some(known)) => *known,
            (None, None) => {
                let path = self.path.as_deref().unwrap_or(Path::new(""));
                hash_file(&self.file, path)?
            }
        };
        let descriptor = Descriptor::new(media_type, digest, self.written);
        if let Some(path) = &self.path {
            let lock = match self.partial {
                true => Some(Arc::new(self.file.try_clone().map_err(|e| self.failed(e))?)),
                false => None,
            };
            self.staged.add(&descriptor, path.clone(), lock)?;
            self.path = None;
        }
        Ok(descriptor)
    }

    /// Writes all of `body`, which must be as long as the descriptor says.
    pub(super) fn fill(&mut self, descriptor: &Descriptor, body: &mut dyn Read) -> Result<(), StoreError> {
        let mut buffer = vec![0; usize::try_from(descriptor.size.clamp(1, CHUNK_SIZE as u64)).unwrap_or(CHUNK_SIZE)];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(StoreError::reading(&descriptor.digest, error)),
            };
            let Some(chunk) = buffer.get(..n).filter(|chunk| !chunk.is_empty()) else {
                break;
            };
            if n as u64 > descriptor.size - self.written {
                return Err(StoreError::WrongSize {
                    digest: descriptor.digest,
                    expected: descriptor.size,
                    got: self.written.saturating_add(n as u64),
                    more: true,
                });
            }
            self.put(chunk)?;
        }
        if self.written != descriptor.size {
            return Err(StoreError::WrongSize {
                digest: descriptor.digest,
                expected: descriptor.size,
                got: self.written,
                more: false,
            });
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(|error| self.failed(error))?;
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.written += bytes.len() as u64;
    }

    fn failed(&self, error: io::Error) -> StoreError {
        StoreError::io("write", self.path.as_deref().unwrap_or(Path::new("")), error)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = match self.file.write(buf) {
            Ok(n) => n,
            Err(error) => return Err(self.failed(error).into()),
        };
        self.count(buf.get(..n).unwrap_or_default());
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl fmt::Debug for BlobWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobWriter({:?}, {} bytes)", self.path, self.written)
    }
}

/// The SHA-256 of a file from its start.
pub(crate) fn hash_file(file: &File, path: &Path) -> Result<Digest, StoreError> {
    use std::os::unix::fs::FileExt;
    let mut hasher = Hasher::new(qyvol_types::Algorithm::Sha256);
    let mut buffer = vec![0; CHUNK_SIZE];
    let mut offset = 0;
    loop {
        let n = match file.read_at(&mut buffer, offset) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(StoreError::io("read", path, error)),
        };
        let Some(chunk) = buffer.get(..n).filter(|chunk| !chunk.is_empty()) else {
            return Ok(hasher.finish());
        };
        hasher.update(chunk);
        offset += n as u64;
    }
}
