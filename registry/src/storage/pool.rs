//! The pool: each content once, as `blobs/<algorithm>/<first two digits>/<hex>`.
//!
//! Repositories hold hard links to these files, so the pool serves only to
//! find content that is here already. An acknowledged blob rests on the link
//! in its repository, which is synced; the pool's own entry is not, and a loss
//! of power may cost it: the same content is then stored a second time, and
//! nothing is missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use qyvol_types::{Algorithm, Digest};

use super::files;

/// `errno` for a file that has as many links as its file system allows.
const EMLINK: i32 = 31;

pub(super) struct Pool {
    root: PathBuf,
}

impl Pool {
    pub(super) fn open(root: PathBuf) -> io::Result<Pool> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            fs::create_dir_all(root.join(algorithm.name()))?;
        }
        files::sync_folder(&root)?;
        Ok(Pool { root })
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.root.join(digest.algorithm().name());
        path.push(&hex[..2]);
        path.push(&hex);
        path
    }

    /// Links the pool's copy of `digest` to `to`. False if the pool has none.
    pub(super) fn link_out(&self, digest: &Digest, to: &Path, scratch: &Path) -> io::Result<bool> {
        let from = self.path(digest);
        match files::link(&from, to) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.raw_os_error() == Some(EMLINK) => {
                // The file has all the links it can: a fresh copy takes its
                // place in the pool, and the old one lives on where it is.
                fs::copy(&from, scratch)?;
                fs::File::open(scratch)?.sync_all()?;
                fs::rename(scratch, &from)?;
                files::link(&from, to)?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a complete, synced and verified file into the pool.
    pub(super) fn link_in(&self, digest: &Digest, from: &Path) -> io::Result<()> {
        let to = self.path(digest);
        match files::link(from, &to) {
            // The first with these two digits.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = to.parent() {
                    fs::create_dir_all(folder)?;
                }
                files::link(from, &to)?;
            }
            done => _ = done?,
        }
        Ok(())
    }

    /// Calls `each` with every file.
    pub(super) fn walk(&self, mut each: impl FnMut(PathBuf) -> io::Result<()>) -> io::Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for shard in fs::read_dir(self.root.join(algorithm.name()))? {
                for file in fs::read_dir(shard?.path())? {
                    each(file?.path())?;
                }
            }
        }
        Ok(())
    }
}
