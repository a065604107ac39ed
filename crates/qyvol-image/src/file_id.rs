//! Which file something is, whatever its name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// A file by its device and inode: hard links and symbolic links to a file are
/// the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that the metadata is of.
    pub fn of(meta: &Metadata) -> FileId {
        FileId {
            device: meta.dev(),
            inode: meta.ino(),
        }
    }
}
