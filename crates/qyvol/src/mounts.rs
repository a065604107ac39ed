//! What a guest sees as its file system: its own as `/`, a `/tmp` where it may
//! write, its assets, and what the operator grants.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use qyvol_runtime::Mount;
use qyvol_sandbox::FsAccess;
use qyvol_store::Tree;
use qyvol_types::{AppManifest, FsKind, Resources};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::assets;
use crate::memfs::{DEFAULT_BYTES, MemFs};
use crate::{Context, DirGrant, Error};

const ROOT: &str = "/";
const TEMPORARY: &str = "/tmp";

/// The mounts of a run, and what they lead to.
pub(crate) struct Mounts {
    pub(crate) list: Vec<Mount>,
    pub(crate) memory: Option<MemFs>,
    /// Open for as long as the guest may look its mounts up.
    pub(crate) directories: Vec<OwnedFd>,
}

impl Mounts {
    /// Makes what `app` is given, as far as `access` allows. `data` makes the directory of its own data,
    /// `tree` is its unpacked assets.
    pub(crate) fn new(
        ctx: &Context<'_>,
        app: &AppManifest,
        access: &FsAccess,
        limits: &Resources,
        data: impl FnOnce() -> Result<PathBuf, Error>,
        tree: Option<Tree>,
        dirs: &[DirGrant],
    ) -> Result<Mounts, Error> {
        let mut mounts = Mounts {
            list: Vec::new(),
            memory: None,
            directories: Vec::new(),
        };
        let writable = access.is_writable();
        match (access, app.fs.kind) {
            (FsAccess::None, _) => {}
            (_, FsKind::Memfs) => {
                let memory = make_memory(ctx, limits)?;
                if writable {
                    memory.make_directory(TEMPORARY)?;
                }
                if tree.is_some() {
                    // Seen in a listing; the mount over it is what is opened.
                    memory.make_directory(&app.assets_root)?;
                }
                mounts.give(memory.root(), access)?;
                mounts.memory = Some(memory);
            }
            _ => {
                mounts.give(data()?, access)?;
                if writable && !dirs.iter().any(|dir| dir.guest == TEMPORARY) {
                    let memory = make_memory(ctx, limits)?;
                    mounts.push(memory.root(), TEMPORARY, true);
                    mounts.memory = Some(memory);
                }
            }
        }
        if let Some(tree) = tree {
            mounts.list.push(assets::mount(tree, &app.assets_root));
        }
        for dir in dirs {
            mounts.push(dir.host.clone(), &dir.guest, dir.writable);
        }
        Ok(mounts)
    }

    /// Gives the guest a file system: all of it, or some of its directories.
    fn give(&mut self, root: PathBuf, access: &FsAccess) -> Result<(), Error> {
        let FsAccess::Paths(paths) = access else {
            self.push(root, ROOT, access.is_writable());
            return Ok(());
        };
        for path in paths.iter() {
            let failed = |e| Error::file("make the directory", root.join(path.path.trim_start_matches('/')))(e);
            let directory = make_beneath(&root, &path.path).map_err(failed)?;
            self.push(
                PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())),
                &path.path,
                path.writable,
            );
            self.directories.push(directory);
        }
        Ok(())
    }

    fn push(&mut self, host: PathBuf, guest: &str, writable: bool) {
        self.list.push(Mount {
            host,
            guest: guest.to_string(),
            writable,
            seal: None,
            backing: None,
        });
    }
}

/// Makes a directory of a file system, with those that lead to it. A guest may have
/// left links there, which are not followed.
fn make_beneath(root: &Path, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut directory = rustix::fs::open(root, flags, Mode::empty())?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match rustix::fs::mkdirat(&directory, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory = rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(directory)
}

/// A file system in memory, bounded as the guest's own memory is unless there is a
/// limit of its own.
fn make_memory(ctx: &Context<'_>, limits: &Resources) -> Result<MemFs, Error> {
    let bytes = limits.storage.or(limits.memory).unwrap_or(DEFAULT_BYTES);
    MemFs::create(ctx.home.memory.as_deref(), bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn link_that_a_guest_left_is_not_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make_beneath(root.path(), "/data/cache").unwrap();
        assert!(root.path().join("data/cache").is_dir());
        fs::create_dir(outside.path().join("cache")).unwrap();
        symlink(outside.path(), root.path().join("link")).unwrap();
        symlink("../..", root.path().join("up")).unwrap();
        for path in ["/link", "/link/cache", "/link/new", "/up/tmp"] {
            make_beneath(root.path(), path).unwrap_err();
        }
        assert!(!outside.path().join("new").exists());
    }
}
