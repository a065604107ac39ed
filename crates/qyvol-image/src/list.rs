//! What is in a layer of assets, without unpacking it.

use std::io::{self, Read};

use qyvol_types::{Algorithm, AssetPath, AssetsConfig, Digest, Hasher};

use crate::ImageError;
use crate::tar_stream::{BLOCK, padding, read_header};
use crate::unpack::{ChunkReader, Frames};

/// A file in a layer of assets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedAsset {
    /// Its path under the assets root.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its content.
    pub digest: Digest,
}

/// Lists the files of `layer`, which is read to its end, so that the reader it comes from can
/// check its digest.
pub fn list_assets(mut layer: impl Read, expected: &AssetsConfig) -> Result<Vec<ListedAsset>, ImageError> {
    let mut frames = Frames::new(&mut layer);
    let mut reader = ChunkReader::new(std::iter::from_fn(|| frames.next().transpose()));
    let listed = list(&mut reader, expected);
    // The tar parser reports only that reading failed; this is the cause.
    match reader.error() {
        Some(error) => Err(error),
        None => listed,
    }
}

/// A file found by [`find_asset`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundAsset {
    /// Its path under the assets root.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its first bytes, as many as were asked for.
    pub start: Vec<u8>,
}

/// The first file of `layer` whose path is wanted, with at most `most` bytes of it; none if
/// there is none in the first `searched` bytes of the tar. No more than these is decoded, to
/// whole frames, so the layer's digest can't be checked: it comes from where that was done.
pub fn find_asset(
    mut layer: impl Read,
    is_wanted: impl Fn(&str) -> bool,
    searched: u64,
    most: u64,
) -> Result<Option<FoundAsset>, ImageError> {
    let mut frames = Frames::new(&mut layer);
    let mut reader = ChunkReader::new(std::iter::from_fn(|| frames.next().transpose()));
    let found = find(&mut reader, is_wanted, searched, most);
    match reader.error() {
        Some(error) => Err(error),
        None => found,
    }
}

fn find(
    reader: &mut impl Read,
    is_wanted: impl Fn(&str) -> bool,
    searched: u64,
    most: u64,
) -> Result<Option<FoundAsset>, ImageError> {
    let mut at = 0_u64;
    while at < searched {
        let Some((path, size)) = read_header(reader)? else {
            return Ok(None);
        };
        if is_wanted(&path) {
            let mut start = Vec::new();
            reader.by_ref().take(size.min(most)).read_to_end(&mut start)?;
            return Ok(Some(FoundAsset { path, size, start }));
        }
        let content = size.saturating_add(padding(size) as u64);
        at = at.saturating_add(content).saturating_add(BLOCK as u64);
        if at >= searched {
            return Ok(None);
        }
        if io::copy(&mut reader.by_ref().take(content), &mut io::sink())? != content {
            return Err(ImageError::format("its assets are cut short"));
        }
    }
    Ok(None)
}

fn list(reader: &mut impl Read, expected: &AssetsConfig) -> Result<Vec<ListedAsset>, ImageError> {
    let mut files = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Some((path, size)) = read_header(reader)? {
        AssetPath::parse(&path).map_err(|why| ImageError::asset_path(&path, &why))?;
        if files.len() as u64 >= expected.files {
            return Err(ImageError::format("its assets are more than its config says"));
        }
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut content = reader.by_ref().take(size);
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let padding = padding(size) as u64;
        if hasher.length() != size || io::copy(&mut reader.by_ref().take(padding), &mut io::sink())? != padding {
            return Err(ImageError::format("its assets are cut short"));
        }
        let digest = hasher.finish();
        files.push(ListedAsset { path, size, digest });
    }
    if reader.read(&mut [0])? != 0 {
        return Err(ImageError::format("something follows the end of its assets' tar"));
    }
    Ok(files)
}
