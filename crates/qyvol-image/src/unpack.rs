//! Unpacking a layer of assets into an empty, private directory.
//!
//! The layer is read once: its digest is checked by the reader it comes from, the digest of its
//! tar here. Only regular files exist in the format, so there is no link to follow; each file
//! must be new or the unpacking fails. Directories are held open and entered one by one, never
//! through a link: replacing one meanwhile leads no file out of them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use qyvol_store::Reporter;
use qyvol_types::{Algorithm, AssetPath, AssetsConfig, Hasher, PathSet};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use crate::ImageError;
use crate::frames::{CHUNK_SIZE, Decompressor, read_frame};
use crate::tar_stream::{padding, read_header};

/// A directory, and no link to one.
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

/// What was unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Unpacks `layer` into `directory`. On an error the directory is left
/// incomplete, and its owner removes it.
pub fn unpack_assets(
    mut layer: impl Read + Send,
    expected: &AssetsConfig,
    directory: &Path,
    report: &dyn Reporter,
) -> Result<Unpacked, ImageError> {
    let (send, receive) = mpsc::sync_channel(2);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut frames = Frames::new(&mut layer);
            while let Some(chunk) = frames.next().transpose() {
                let failed = chunk.is_err();
                if send.send(chunk).is_err() || failed {
                    return;
                }
            }
        });
        unpack(ChunkReader::new(receive.into_iter()), expected, directory, report)
    })
}

/// The chunks of a layer.
pub(crate) struct Frames<'a, R> {
    layer: &'a mut R,
    decompressor: Option<Decompressor>,
    /// Whether a frame that is not full has been read: nothing may follow.
    last: bool,
}

impl<'a, R: Read> Frames<'a, R> {
    pub(crate) fn new(layer: &'a mut R) -> Frames<'a, R> {
        Frames {
            layer,
            decompressor: None,
            last: false,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(frame) = read_frame(self.layer, CHUNK_SIZE as u64)? else {
            return Ok(None);
        };
        if self.last {
            return Err(ImageError::format("zstd frame of assets follows one that is not full"));
        }
        let decompressor = match self.decompressor.take() {
            Some(decompressor) => decompressor,
            None => Decompressor::new()?,
        };
        let chunk = self
            .decompressor
            .insert(decompressor)
            .decode(&frame, None, CHUNK_SIZE as u64)?;
        self.last = chunk.len() < CHUNK_SIZE;
        Ok(Some(chunk))
    }
}

/// The tar as one stream, hashed as it passes.
pub(crate) struct ChunkReader<I> {
    chunks: I,
    chunk: Vec<u8>,
    at: usize,
    hasher: Hasher,
    error: Option<ImageError>,
}

impl<I> ChunkReader<I> {
    pub(crate) fn new(chunks: I) -> ChunkReader<I> {
        ChunkReader {
            chunks,
            chunk: Vec::new(),
            at: 0,
            hasher: Hasher::new(Algorithm::Sha256),
            error: None,
        }
    }

    /// Why reading failed, if the layer is invalid.
    pub(crate) fn error(&mut self) -> Option<ImageError> {
        self.error.take()
    }
}

impl<I: Iterator<Item = Result<Vec<u8>, ImageError>>> Read for ChunkReader<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.next() {
                Some(Ok(chunk)) => {
                    self.hasher.update(&chunk);
                    self.chunk = chunk;
                    self.at = 0;
                }
                Some(Err(error)) => {
                    self.error = Some(error);
                    return Err(io::Error::other("the layer can't be read"));
                }
                None => return Ok(0),
            }
        }
        let n = buffer.len().min(self.chunk.len() - self.at);
        buffer[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn unpack<I: Iterator<Item = Result<Vec<u8>, ImageError>>>(
    mut reader: ChunkReader<I>,
    expected: &AssetsConfig,
    directory: &Path,
    report: &dyn Reporter,
) -> Result<Unpacked, ImageError> {
    let result = entries(&mut reader, expected, directory, report);
    // The tar parser reports only that reading failed; this is the cause.
    if let Some(error) = reader.error() {
        return Err(error);
    }
    let unpacked = result?;
    let got = reader.hasher.finish();
    if got != expected.diff_id {
        return Err(ImageError::Digest {
            what: "tar of the assets",
            expected: expected.diff_id,
            got,
        });
    }
    Ok(unpacked)
}

fn entries<I: Iterator<Item = Result<Vec<u8>, ImageError>>>(
    reader: &mut ChunkReader<I>,
    expected: &AssetsConfig,
    directory: &Path,
    report: &dyn Reporter,
) -> Result<Unpacked, ImageError> {
    let mut names = PathSet::new();
    let mut last: Option<AssetPath> = None;
    let mut parent = Directories::open(directory).map_err(|source| ImageError::File {
        action: "open",
        path: directory.to_path_buf(),
        source,
    })?;
    let mut done = Unpacked { files: 0, bytes: 0 };
    while let Some((path, size)) = read_header(reader)? {
        let path = AssetPath::parse(&path).map_err(|why| bad_asset(&path, format_args!("its name {why}")))?;
        if last.as_ref().is_some_and(|last| *last >= path) {
            return Err(bad_asset(path.as_str(), "it stands out of order among the assets"));
        }
        names
            .insert(&path)
            .map_err(|why| bad_asset(path.as_str(), format_args!("its name {why}")))?;
        done.files += 1;
        done.bytes = done.bytes.saturating_add(size);
        if done.files > expected.files || done.bytes > expected.bytes {
            return Err(ImageError::format("its assets are more than its config says"));
        }
        let target = directory.join(path.as_str());
        let failed = |source| ImageError::File {
            action: "unpack",
            path: target.clone(),
            source,
        };
        let mut file = parent.create(path.as_str()).map_err(failed)?;
        copy(reader, &mut file, size).map_err(failed)?;
        let mut pad = [0; 512];
        let pad = &mut pad[..padding(size)];
        reader.read_exact(pad)?;
        if pad.iter().any(|b| *b != 0) {
            return Err(bad_asset(path.as_str(), "its padding in the tar is not zero"));
        }
        report.advanced(size);
        last = Some(path);
    }
    if reader.read(&mut [0])? != 0 {
        return Err(ImageError::format("something follows the end of its assets' tar"));
    }
    if done.files != expected.files || done.bytes != expected.bytes {
        return Err(ImageError::format("its assets are fewer than its config says"));
    }
    Ok(done)
}

/// The root, and the directories on the path of the last created file.
struct Directories {
    root: OwnedFd,
    open: Vec<(String, OwnedFd)>,
}

impl Directories {
    fn open(directory: &Path) -> io::Result<Directories> {
        Ok(Directories {
            root: openat(CWD, directory, DIRECTORY, Mode::empty())?,
            open: Vec::new(),
        })
    }

    /// Creates a file, and its missing directories.
    fn create(&mut self, path: &str) -> io::Result<File> {
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parents: Vec<&str> = parents.split('/').filter(|part| !part.is_empty()).collect();
        let known = self.open.iter().zip(&parents);
        let known = known.take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(known);
        for part in parents.into_iter().skip(known) {
            let within = self.last();
            match mkdirat(within, part, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(why) => return Err(why.into()),
            }
            let entered = openat(within, part, DIRECTORY, Mode::empty())?;
            self.open.push((part.to_string(), entered));
        }
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(self.last(), name, new, Mode::from_raw_mode(0o666))?;
        Ok(File::from(file))
    }

    fn last(&self) -> &OwnedFd {
        self.open.last().map_or(&self.root, |(_, directory)| directory)
    }
}

fn bad_asset(path: &str, why: impl std::fmt::Display) -> ImageError {
    ImageError::format(format!("its asset `{}`: {why}", qyvol_types::escape(path)))
}

/// Copies exactly `size` bytes.
fn copy(from: &mut impl Read, to: &mut File, size: u64) -> io::Result<()> {
    let mut left = size;
    let mut buffer = [0; 64 << 10];
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = from.read(&mut buffer[..room])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(&buffer[..n])?;
        left -= n as u64;
    }
    Ok(())
}
