//! Content that is received to be read once: it never becomes a blob of the store.
//!
//! If it is large it is a file in `partial/` until it is removed, so that a pull that is killed
//! or fails after it arrived doesn't fetch it again.

use std::fs::File;
use std::io::{self, Read};

use qyvol_types::Descriptor;

use super::writer::BlobWriter;
use crate::StoreError;

/// Verified content, read from its start. Dropped, it is kept for the next pull if it is large
/// enough for that; [`remove`](Spooled::remove) it once it is not needed any more.
#[derive(Debug)]
pub struct Spooled {
    file: File,
    writer: Option<BlobWriter>,
}

impl Spooled {
    /// What `writer` has written, if that is `descriptor`.
    pub(super) fn new(mut writer: BlobWriter, descriptor: &Descriptor) -> Result<Spooled, StoreError> {
        let file = writer.verified(descriptor)?;
        Ok(Spooled {
            file,
            writer: Some(writer),
        })
    }

    /// Removes its file.
    pub fn remove(mut self) {
        // A writer that is dropped removes what it wrote.
        drop(self.writer.take());
    }
}

impl Read for Spooled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.keep_partial();
        }
    }
}
