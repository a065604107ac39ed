//! Writing an archive: head, content, end, seek table.

use std::io::{Read, Write};

use qyvol_store::{Fetch, Reporter};
use qyvol_types::media_type;

use crate::frames::{CHUNK_SIZE, Compressor, stored_frame};
use crate::head::{Head, blob_path};
use crate::tar_stream::{END_OF_ARCHIVE, header, padding};
use crate::{ImageError, parallel, seek_table};

/// Writes the archive of `head` to `out`, reading the content from `content`.
/// The bytes depend on nothing else.
pub fn write_archive(
    head: &Head,
    content: &(impl Fetch + Sync),
    out: &mut impl Write,
    report: &dyn Reporter,
) -> Result<(), ImageError> {
    let mut frames = Frames { out, sizes: Vec::new() };
    let decoded = head.encode()?;
    frames.put(&Compressor::new()?.frame(&decoded)?, decoded.len())?;
    for blob in head.content() {
        let mut entry = Vec::with_capacity(CHUNK_SIZE);
        entry.extend_from_slice(&header(&blob_path(&blob.digest), blob.size));
        let mut body = content.fetch(&blob)?;
        let mut tail = padding(blob.size);
        let next: parallel::Next<'_, Vec<u8>, ImageError> = Box::new(move || {
            let mut chunk = std::mem::take(&mut entry);
            let room = (CHUNK_SIZE - chunk.len()) as u64;
            body.by_ref().take(room).read_to_end(&mut chunk)?;
            let pad = tail.min(CHUNK_SIZE - chunk.len());
            if chunk.len() < CHUNK_SIZE {
                chunk.resize(chunk.len() + pad, 0);
                tail -= pad;
            }
            Ok((!chunk.is_empty()).then_some(chunk))
        });
        let mut sink = |(frame, decoded): (Vec<u8>, usize)| {
            frames.put(&frame, decoded)?;
            report.advanced(decoded as u64);
            Ok(())
        };
        if blob.media_type == media_type::ASSETS {
            // Compressed already: copying needs no second thread.
            let mut next = next;
            while let Some(chunk) = next()? {
                sink((stored_frame(&chunk), chunk.len()))?;
            }
        } else {
            let worker = || {
                let mut compressor = Compressor::new();
                move |chunk: Vec<u8>| match &mut compressor {
                    Ok(compressor) => Ok((compressor.frame(&chunk)?, chunk.len())),
                    Err(error) => Err(ImageError::format(error.to_string())),
                }
            };
            parallel::map_ordered(next, worker, sink)?;
        }
    }
    frames.put(&Compressor::new()?.frame(&END_OF_ARCHIVE)?, END_OF_ARCHIVE.len())?;
    let table = seek_table::encode(&frames.sizes);
    frames.out.write_all(&table).map_err(ImageError::Write)?;
    frames.out.flush().map_err(ImageError::Write)
}

struct Frames<'a, W> {
    out: &'a mut W,
    sizes: Vec<(u32, u32)>,
}

impl<W: Write> Frames<'_, W> {
    fn put(&mut self, frame: &[u8], decoded: usize) -> Result<(), ImageError> {
        self.out.write_all(frame).map_err(ImageError::Write)?;
        // Both are far below 4 GiB: a frame holds a chunk or the head.
        self.sizes.push((frame.len() as u32, decoded as u32));
        Ok(())
    }
}
