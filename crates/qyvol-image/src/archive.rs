//! A `.qyvbin` file as a store to read from.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use qyvol_store::{Body, Fetch, Referrers, Reporter, StoreError};
use qyvol_types::{Descriptor, Digest};

use crate::frames::{CHUNK_SIZE, Decompressor, bound};
use crate::head::{self, Head, blob_path};
use crate::seek_table;
use crate::tar_stream::{BLOCK, END_OF_ARCHIVE, entry_len, header, padding};
use crate::{FileId, ImageError, SignedImage};

/// Blobs up to this size are decoded on the reader's own thread.
const READ_AHEAD: u64 = 4 << 20;

/// An open archive. Opening reads the head and the seek table, whatever the
/// size of the content, and finds every truncation and extension; content is checked against
/// its digests as it is read.
#[derive(Debug)]
pub struct Archive {
    inner: Arc<Inner>,
    head: Head,
    small: HashMap<Digest, Vec<u8>>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    /// The frames after the head.
    frames: Vec<Frame>,
    /// Content blobs: first frame and number of frames.
    blobs: HashMap<Digest, (usize, usize)>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    offset: u64,
    compressed: u32,
    decoded: u32,
}

impl Archive {
    /// Opens an archive.
    pub fn open(path: &Path) -> Result<Archive, ImageError> {
        let failed = |action| {
            move |source| ImageError::File {
                action,
                path: path.to_path_buf(),
                source,
            }
        };
        let not_a_file = || ImageError::format("it is not a regular file");
        // Checked before it is opened, too: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(failed("open"))?.is_file() {
            return Err(not_a_file());
        }
        let file = File::open(path).map_err(failed("open"))?;
        let meta = file.metadata().map_err(failed("open"))?;
        if !meta.is_file() {
            return Err(not_a_file());
        }
        Archive::from_file(file, meta.len(), path)
    }

    fn from_file(file: File, len: u64, path: &Path) -> Result<Archive, ImageError> {
        let (head, head_decoded, head_len) = head::read(&mut io::BufReader::with_capacity(16 << 10, &file))?;
        let mut decoded = Vec::new();
        let mut blobs = HashMap::new();
        for blob in head.content() {
            let first = decoded.len();
            let mut left = entry_len(&blob_path(&blob.digest), blob.size);
            while left > 0 {
                let size = left.min(CHUNK_SIZE as u64);
                decoded.push(size as u32);
                left -= size;
                // A size larger than the file must not cost memory.
                if decoded.len() as u64 > len {
                    return Err(ImageError::format("it is shorter than its content"));
                }
            }
            blobs.insert(blob.digest, (first, decoded.len() - first));
        }
        decoded.push(END_OF_ARCHIVE.len() as u32);
        let frames = Archive::frames(&file, len, head_len, head_decoded, &decoded)?;
        let small = head.blobs().into_iter().map(|(d, bytes)| (d, bytes.to_vec())).collect();
        let inner = Inner {
            file,
            path: path.to_path_buf(),
            frames,
            blobs,
        };
        Ok(Archive {
            inner: Arc::new(inner),
            head,
            small,
        })
    }

    /// Reads the seek table and checks it against the head and the file's length.
    fn frames(
        file: &File,
        len: u64,
        head_len: u64,
        head_decoded: usize,
        decoded: &[u32],
    ) -> Result<Vec<Frame>, ImageError> {
        let mut all = vec![head_decoded as u32];
        all.extend_from_slice(decoded);
        let table_len = seek_table::table_len(all.len());
        let start = len
            .checked_sub(table_len)
            .ok_or_else(|| ImageError::format("it is cut short"))?;
        let mut table = vec![0; table_len as usize];
        file.read_exact_at(&mut table, start)?;
        let compressed = seek_table::decode(&table, &all)?;
        let mut offset = 0;
        let mut frames = Vec::with_capacity(all.len());
        for (compressed, decoded) in compressed.into_iter().zip(all) {
            if u64::from(compressed) > bound(u64::from(decoded)) {
                return Err(ImageError::format("its seek table has a frame larger than its content"));
            }
            frames.push(Frame {
                offset,
                compressed,
                decoded,
            });
            offset += u64::from(compressed);
        }
        if offset != start || frames.first().map(|f| u64::from(f.compressed)) != Some(head_len) {
            return Err(ImageError::format(
                "its length is not the one that its seek table adds up to",
            ));
        }
        frames.remove(0);
        Ok(frames)
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The images it holds.
    pub fn images(&self) -> &[SignedImage] {
        self.head.images()
    }

    /// The file's path, as it was given.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Reads everything to the end and checks it against its digests.
    pub fn check_content(&self, report: &dyn Reporter) -> Result<(), ImageError> {
        for blob in self.head.content() {
            let mut body = self.fetch(&blob)?;
            let mut buffer = vec![0; 256 << 10];
            loop {
                match body.read(&mut buffer)? {
                    0 => break,
                    n => report.advanced(n as u64),
                }
            }
        }
        self.check_end()
    }

    /// Checks the tar's end, which no blob's digest covers.
    pub fn check_end(&self) -> Result<(), ImageError> {
        let last = self.inner.frames.len().saturating_sub(1);
        if self.inner.decode(&mut Decompressor::new()?, last)? != END_OF_ARCHIVE {
            return Err(ImageError::format("its end is not two zero blocks"));
        }
        Ok(())
    }

    /// Which file was opened.
    pub fn file_id(&self) -> io::Result<FileId> {
        Ok(FileId::of(&self.inner.file.metadata()?))
    }

    /// Copies the content's frames unchanged to `out`, after a new head. So a signature can be
    /// added without compressing the content again.
    pub fn rewrite(&self, head: &Head, out: &mut impl io::Write) -> Result<(), ImageError> {
        if head.content() != self.head.content() {
            return Err(ImageError::format("the new head belongs to other content"));
        }
        let decoded = head.encode()?;
        let frame = crate::frames::Compressor::new()?.frame(&decoded)?;
        out.write_all(&frame).map_err(ImageError::Write)?;
        let mut sizes = vec![(frame.len() as u32, decoded.len() as u32)];
        for at in &self.inner.frames {
            out.write_all(&self.inner.raw(*at)?).map_err(ImageError::Write)?;
            sizes.push((at.compressed, at.decoded));
        }
        out.write_all(&seek_table::encode(&sizes)).map_err(ImageError::Write)?;
        out.flush().map_err(ImageError::Write)
    }
}

impl Inner {
    fn raw(&self, frame: Frame) -> Result<Vec<u8>, ImageError> {
        let mut bytes = vec![0; frame.compressed as usize];
        self.file.read_exact_at(&mut bytes, frame.offset)?;
        Ok(bytes)
    }

    fn decode(&self, decompressor: &mut Decompressor, index: usize) -> Result<Vec<u8>, ImageError> {
        let frame = *self
            .frames
            .get(index)
            .ok_or_else(|| ImageError::format("it lacks a frame"))?;
        decompressor.decode(
            &self.raw(frame)?,
            Some(u64::from(frame.decoded)),
            u64::from(frame.decoded),
        )
    }
}

impl Fetch for Archive {
    fn fetch_unverified(&self, d: &Descriptor) -> Result<Body, StoreError> {
        if let Some(bytes) = self.small.get(&d.digest) {
            return Ok(Box::new(io::Cursor::new(bytes.clone())));
        }
        let Some(&(first, count)) = self.inner.blobs.get(&d.digest) else {
            return Err(StoreError::NotFound { digest: d.digest });
        };
        let due = header(&blob_path(&d.digest), d.size);
        let chunks: Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send> = if d.size <= READ_AHEAD {
            Box::new(Chunks::new(self.inner.clone(), first, count)?)
        } else {
            read_ahead(Chunks::new(self.inner.clone(), first, count)?)
        };
        Ok(Box::new(EntryReader {
            chunks,
            chunk: Vec::new(),
            at: 0,
            header: due,
            left: d.size,
            padding: padding(d.size),
        }))
    }
}

impl Referrers for Archive {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let image = self.images().iter().find(|i| i.manifest.digest() == *subject);
        let referrers = image.map(SignedImage::referrers).unwrap_or_default();
        Ok(referrers.iter().map(|s| s.manifest.descriptor()).collect())
    }
}

/// Decodes a blob's frames one after the other.
struct Chunks {
    archive: Arc<Inner>,
    decompressor: Decompressor,
    next: usize,
    end: usize,
}

impl Chunks {
    fn new(archive: Arc<Inner>, first: usize, count: usize) -> Result<Chunks, StoreError> {
        let decompressor = Decompressor::new().map_err(|e| StoreError::Other {
            action: "decode the archive".to_string(),
            source: Box::new(e),
        })?;
        Ok(Chunks {
            archive,
            decompressor,
            next: first,
            end: first + count,
        })
    }
}

impl Iterator for Chunks {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.next >= self.end {
            return None;
        }
        let chunk = self.archive.decode(&mut self.decompressor, self.next);
        self.next += 1;
        Some(chunk.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string())))
    }
}

/// Runs the decoding on a thread of its own, two chunks ahead, so that it
/// overlaps with the reader's hashing.
fn read_ahead(chunks: Chunks) -> Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send> {
    let (send, receive) = mpsc::sync_channel(2);
    thread::spawn(move || {
        for chunk in chunks {
            // The reader may have gone.
            if send.send(chunk).is_err() {
                return;
            }
        }
    });
    Box::new(receive.into_iter())
}

/// Returns an entry's content, and checks its header and padding.
struct EntryReader {
    chunks: Box<dyn Iterator<Item = io::Result<Vec<u8>>> + Send>,
    chunk: Vec<u8>,
    at: usize,
    /// The rest of the header that is expected; empty once it was read.
    header: Vec<u8>,
    left: u64,
    padding: usize,
}

impl EntryReader {
    fn fill(&mut self) -> io::Result<bool> {
        while self.at == self.chunk.len() {
            match self.chunks.next() {
                Some(chunk) => {
                    self.chunk = chunk?;
                    self.at = 0;
                }
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn check_padding(&mut self) -> io::Result<()> {
        let mut due = std::mem::take(&mut self.padding);
        while due > 0 {
            if !self.fill()? || self.chunk[self.at] != 0 {
                return Err(EntryReader::bad("the padding of a blob is not zero"));
            }
            self.at += 1;
            due -= 1;
        }
        Ok(())
    }

    fn bad(why: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("not a valid .qyvbin: {why}"))
    }
}

impl Read for EntryReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.header.is_empty() {
            // Headers are at most a few blocks and never split: see `write`.
            let short = !self.fill()? || self.chunk.len() < self.header.len();
            if short || !self.chunk.starts_with(&self.header) {
                return Err(EntryReader::bad("the tar header of a blob is not the canonical one"));
            }
            self.at = self.header.len();
            self.header = Vec::new();
        }
        if self.left == 0 {
            self.check_padding()?;
            return Ok(0);
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        if !self.fill()? {
            return Err(EntryReader::bad("a blob is cut short"));
        }
        let ready = &self.chunk[self.at..];
        let n = ready
            .len()
            .min(buffer.len())
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buffer[..n].copy_from_slice(&ready[..n]);
        self.at += n;
        self.left -= n as u64;
        if self.left == 0 {
            // So a reader that stops at the promised size has checked it too.
            self.check_padding()?;
        }
        Ok(n)
    }
}

const _: () = assert!(CHUNK_SIZE.is_multiple_of(BLOCK) && CHUNK_SIZE > 4 * BLOCK);
