//! What is in a layer of assets, without unpacking it.

use std::io::{self, Read};

use qyvol_types::{AssetPath, AssetsConfig};

use crate::ImageError;
use crate::tar_stream::{padding, read_header};
use crate::unpack::{ChunkReader, Frames};

/// A file in a layer of assets.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ListedAsset {
    /// Its path under the assets root.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Lists the files of `layer`, which is read to its end, so that whoever hands
/// it out can check its digest.
pub fn list_assets(mut layer: impl Read, expected: &AssetsConfig) -> Result<Vec<ListedAsset>, ImageError> {
    let mut frames = Frames::new(&mut layer);
    let mut reader = ChunkReader::new(std::iter::from_fn(|| frames.next().transpose()));
    let listed = list(&mut reader, expected);
    // The tar parser only sees that reading failed; here is why.
    match reader.error() {
        Some(error) => Err(error),
        None => listed,
    }
}

fn list(reader: &mut impl Read, expected: &AssetsConfig) -> Result<Vec<ListedAsset>, ImageError> {
    let mut files = Vec::new();
    while let Some((path, size)) = read_header(reader)? {
        AssetPath::parse(&path).map_err(|why| ImageError::asset_path(&path, &why))?;
        if files.len() as u64 >= expected.files {
            return Err(ImageError::format("its assets are more than its config says"));
        }
        let due = size + padding(size) as u64;
        if io::copy(&mut reader.by_ref().take(due), &mut io::sink())? != due {
            return Err(ImageError::format("its assets are cut short"));
        }
        files.push(ListedAsset { path, size });
    }
    if reader.read(&mut [0])? != 0 {
        return Err(ImageError::format("something follows the end of its assets' tar"));
    }
    Ok(files)
}
