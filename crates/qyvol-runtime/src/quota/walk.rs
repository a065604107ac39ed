//! Counts what is below a directory, by a walk.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// What a file's length is rounded up to, and what a directory takes: the blocks of
/// common file systems.
const BLOCK: u64 = 4096;
/// How often a walk is restarted if somebody moves directories meanwhile.
const TRIES: usize = 8;

/// What is below a directory. A file with several names is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Lengths of all files and links.
    pub bytes: u64,
    /// What a quota counts: lengths in whole blocks of 4 KiB, holes too, those of
    /// directories among them, which have a block at least. Some file systems never shrink a
    /// directory that was once large.
    pub space: u64,
    /// Names of files, links and directories.
    pub entries: u64,
}

impl Usage {
    /// Counts what is below a directory. No link is followed.
    ///
    /// # Errors
    ///
    /// An error of the system, and [`io::ErrorKind::StaleNetworkFileHandle`] where
    /// others keep moving its directories.
    pub fn of(directory: &Path) -> io::Result<Usage> {
        let root = rustix::fs::open(directory, flags(), Mode::empty())?;
        Usage::below(&root, Usage::default(), |_| false)
    }

    /// Adds what is below an open directory, until that is enough.
    pub(super) fn below(root: &OwnedFd, from: Usage, enough: impl Fn(&Usage) -> bool) -> io::Result<Usage> {
        let mut last = Errno::STALE;
        for _ in 0..TRIES {
            match walk(root, from, &enough) {
                Ok(usage) => return Ok(usage),
                Err(Errno::STALE) => last = Errno::STALE,
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    fn add(&mut self, stat: &Stat) {
        self.bytes = self.bytes.saturating_add(length(stat));
        self.space = self.space.saturating_add(space_of(stat));
    }
}

/// Bytes in whole blocks.
pub(super) fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// What a new directory takes.
pub(super) const DIRECTORY: u64 = BLOCK;

fn length(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// What a file, a link or a directory takes.
pub(super) fn space_of(stat: &Stat) -> u64 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => blocks(length(stat)).max(DIRECTORY),
        FileType::RegularFile | FileType::Symlink => blocks(length(stat)),
        _ => 0,
    }
}

/// Which file it is, whatever its name.
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC
}

/// A directory on the way down, and its directories that are still to be walked.
struct Level {
    identity: (u64, u64),
    left: Vec<CString>,
}

/// The guest decides the depth of the tree, so neither stack, paths nor open files grow with
/// it. The way back up is `..`, which must lead to where the walk came from.
fn walk(root: &OwnedFd, mut usage: Usage, enough: &impl Fn(&Usage) -> bool) -> Result<Usage, Errno> {
    let mut linked = HashSet::new();
    let mut here = rustix::fs::openat(root, ".", flags(), Mode::empty())?;
    let mut levels = vec![list(&here, &mut usage, &mut linked)?];
    // The root's level.
    usage.space = usage.space.saturating_sub(DIRECTORY);
    while let Some(level) = levels.last_mut() {
        if enough(&usage) {
            return Ok(usage);
        }
        if let Some(name) = level.left.pop() {
            match rustix::fs::openat(&here, name, flags(), Mode::empty()) {
                Ok(inner) => {
                    levels.push(list(&inner, &mut usage, &mut linked)?);
                    here = inner;
                }
                // Removed or replaced meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                // A directory of another user.
                Err(Errno::ACCESS) => usage.space = usage.space.saturating_add(DIRECTORY),
                Err(error) => return Err(error),
            }
            continue;
        }
        levels.pop();
        if let Some(parent) = levels.last() {
            let up = rustix::fs::openat(&here, "..", flags(), Mode::empty())?;
            if identity(&rustix::fs::fstat(&up)?) != parent.identity {
                return Err(Errno::STALE);
            }
            here = up;
        }
    }
    Ok(usage)
}

/// Adds the entries of a directory. `linked` are files with several names.
fn list(directory: &OwnedFd, usage: &mut Usage, linked: &mut HashSet<(u64, u64)>) -> Result<Level, Errno> {
    let mut left = Vec::new();
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        usage.entries = usage.entries.saturating_add(1);
        if entry.file_type() == FileType::Directory {
            left.push(name.to_owned());
            continue;
        }
        match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => left.push(name.to_owned()),
            Ok(stat) if stat.st_nlink > 1 && !linked.insert(identity(&stat)) => {}
            Ok(stat) => usage.add(&stat),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    let stat = rustix::fs::fstat(directory)?;
    usage.space = usage.space.saturating_add(space_of(&stat));
    Ok(Level {
        identity: identity(&stat),
        left,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_is_counted_once_in_whole_blocks() {
        let top = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("big"), vec![0; 100_000]).unwrap();
        let at = |name: &str| top.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/a"), "four").unwrap();
        fs::hard_link(at("d/a"), at("b")).unwrap();
        fs::File::create(at("hole")).unwrap().set_len(BLOCK * 10 + 1).unwrap();
        symlink(outside.path(), at("link")).unwrap();
        let usage = Usage::of(top.path()).unwrap();
        let link = outside.path().as_os_str().len() as u64;
        assert_eq!(usage.entries, 5);
        assert_eq!(usage.bytes, 4 + BLOCK * 10 + 1 + link);
        assert_eq!(usage.space, BLOCK * (1 + 1 + 11 + 1));
    }

    #[test]
    fn directory_counts_as_large_as_it_once_was() {
        let top = tempfile::tempdir().unwrap();
        let directory = top.path().join("d");
        fs::create_dir(&directory).unwrap();
        let name = |n: usize| directory.join(format!("{n:0>250}"));
        (0..500).for_each(|n| fs::write(name(n), "").unwrap());
        (0..500).for_each(|n| fs::remove_file(name(n)).unwrap());
        let size = fs::metadata(&directory).unwrap().len();
        assert_eq!(Usage::of(top.path()).unwrap().space, blocks(size).max(BLOCK));
    }

    #[test]
    fn tree_of_any_depth_is_counted_completely() {
        let top = tempfile::tempdir().unwrap();
        let mut at = rustix::fs::open(top.path(), flags(), Mode::empty()).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", flags(), Mode::empty()).unwrap();
        }
        let file = OFlags::CREATE | OFlags::WRONLY;
        let file = rustix::fs::openat(&at, "f", file, Mode::RWXU).unwrap();
        rustix::io::write(&file, b"deep").unwrap();
        drop((at, file));
        let usage = Usage::of(top.path()).unwrap();
        assert_eq!((usage.entries, usage.bytes), (5001, 4));
        // Its depth exceeds the longest path.
        let removed = std::process::Command::new("rm").arg("-rf").arg(top.path()).status();
        assert!(removed.unwrap().success());
    }
}
