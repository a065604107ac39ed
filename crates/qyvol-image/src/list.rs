//! What is in a layer of assets, without unpacking it.

use std::io::{self, Read};

use qyvol_types::{Algorithm, AssetPath, AssetsConfig, Digest, Hasher};

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
    /// The digest of its content.
    pub digest: Digest,
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
