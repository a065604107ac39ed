//! The pool: each content once, as `blobs/<algorithm>/<first two digits>/<hex>`.
//!
//! Repositories have hard links to these files, so the pool serves only to find content that
//! exists already. An acknowledged blob depends on the link in its repository, which is synced;
//! the pool's own entry is not synced, and a power loss may remove it: the same content is then
//! stored a second time, and nothing is missing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_types::{Algorithm, Digest};

use super::blobs::BlobSource;
use super::disk::Disk;

/// `errno` for a file that has as many links as its file system allows.
const EMLINK: i32 = 31;

pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    root: PathBuf,
}

impl Pool {
    pub(super) fn open(disk: Arc<dyn Disk>, root: PathBuf) -> io::Result<Pool> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            disk.make_directory(&root.join(algorithm.name()))?;
        }
        disk.sync(&root)?;
        Ok(Pool { disk, root })
    }

    pub(super) fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let mut path = self.root.join(digest.algorithm().name());
        path.push(&hex[..2]);
        path.push(&hex);
        path
    }

    /// Adds a complete, synced and verified file, replacing a file that doesn't have its
    /// content.
    pub(super) fn link_in(
        &self,
        digest: &Digest,
        source: &BlobSource<'_>,
        from: &Path,
        scratch: &Path,
    ) -> io::Result<()> {
        let to = self.path(digest);
        if let Some(directory) = to.parent() {
            self.disk.make_directory(directory)?;
        }
        if !self.disk.link(from, &to)? && !source.is_in(&to)? {
            self.replace(from, &to, scratch)?;
        }
        Ok(())
    }

    /// Links the pool's file to `to`, replacing what is there.
    pub(super) fn link_out(&self, digest: &Digest, to: &Path, scratch: &Path) -> io::Result<()> {
        let from = self.path(digest);
        match self.disk.link(&from, to) {
            Ok(true) => Ok(()),
            Ok(false) => self.replace(&from, to, scratch),
            Err(error) if error.raw_os_error() == Some(EMLINK) => {
                // The file has as many links as it can: a fresh copy replaces it in the pool,
                // and the old one stays where it is linked.
                let copied = self.disk.copy(&from, scratch).and_then(|()| {
                    self.disk.sync(scratch)?;
                    self.disk.rename(scratch, &from)
                });
                if copied.is_err() {
                    let _leftover = self.disk.remove(scratch);
                }
                copied?;
                self.disk.link(&from, to)?;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn replace(&self, from: &Path, to: &Path, scratch: &Path) -> io::Result<()> {
        self.disk.link(from, scratch)?;
        let renamed = self.disk.rename(scratch, to);
        // If both names were links of one file already, a rename leaves both.
        self.disk.remove(scratch)?;
        renamed
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
