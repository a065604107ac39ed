//! A README among an image's assets, as plain text.

use std::io;

use qyvol_hub::Repository;
use qyvol_image::find_asset;
use qyvol_types::Digest;

use crate::shown::Inert;

/// The names that count, at the top of the assets.
const NAMES: [&str; 3] = ["README.md", "README.txt", "README"];
/// Bytes of the assets that are unpacked to find it. They are sorted by name, so that capital
/// letters come early.
const SEARCHED: u64 = 8 << 20;
/// Bytes of it that are read, and bytes of HTML that are shown.
const READ: u64 = 32 << 10;
const SHOWN: usize = 10_000;

/// What became of looking for it.
#[derive(Clone, Debug)]
pub(crate) enum Readme {
    None,
    Found {
        path: String,
        text: Inert,
        /// Whether there is more than is shown.
        is_cut: bool,
    },
}

impl Readme {
    /// Bytes in memory.
    pub(crate) fn len(&self) -> usize {
        match self {
            Readme::None => 0,
            Readme::Found { text, .. } => text.len(),
        }
    }
}

/// Looks for a README in a layer of assets. A layer that can't be read has none: clients
/// refuse to unpack it.
pub(crate) fn readme(repository: &Repository, layer: &Digest) -> io::Result<Readme> {
    let Some(file) = repository.open(layer)? else {
        return Ok(Readme::None);
    };
    let found = find_asset(io::BufReader::new(file), |path| NAMES.contains(&path), SEARCHED, READ);
    let Ok(Some(found)) = found else {
        return Ok(Readme::None);
    };
    let text = Inert::lines(&String::from_utf8_lossy(&found.start), SHOWN);
    Ok(Readme::Found {
        path: found.path,
        is_cut: text.is_cut || found.size > READ,
        text,
    })
}
