//! What a guest sees as its file system: its own as `/`, a `/tmp` where it may
//! write, its assets, and what the operator grants.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_runtime::Mount;
use qyvol_sandbox::FsAccess;
use qyvol_store::Tree;
use qyvol_types::{AppManifest, FsKind, Resources};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::assets;
use crate::memfs::{DEFAULT_BYTES, MemFs};
use crate::netfs::{self, Mounted};
use crate::{Context, DirGrant, Error};

const ROOT: &str = "/";
const TEMPORARY: &str = "/tmp";

/// The mounts of a run, and the file systems and directories behind them.
pub(crate) struct Mounts {
    pub(crate) list: Vec<Mount>,
    pub(crate) memory: Vec<MemFs>,
    /// Open for as long as the guest may look its mounts up.
    pub(crate) directories: Vec<OwnedFd>,
    /// The tree of another machine.
    pub(crate) remote: Option<Mounted>,
}

/// What mounts are made of.
pub(crate) struct Wanted<'a> {
    pub(crate) app: &'a AppManifest,
    /// What the guest may do with its file system.
    pub(crate) access: &'a FsAccess,
    pub(crate) limits: &'a Resources,
    /// The application's unpacked assets.
    pub(crate) tree: Option<Tree>,
    /// What the operator grants.
    pub(crate) dirs: &'a [DirGrant],
}

impl Mounts {
    /// Makes what an application is given. `data` makes the directory of its own data,
    /// `remote` mounts its tree of another machine in memory.
    pub(crate) fn new(
        ctx: &Context<'_>,
        wanted: Wanted<'_>,
        data: impl FnOnce() -> Result<PathBuf, Error>,
        remote: impl FnOnce(&MemFs) -> Result<(Mounted, PathBuf), Error>,
    ) -> Result<Mounts, Error> {
        let Wanted {
            app,
            access,
            limits,
            tree,
            dirs,
        } = wanted;
        let mut mounts = Mounts {
            list: Vec::new(),
            memory: Vec::new(),
            directories: Vec::new(),
            remote: None,
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
                    // For listings of the root; opening it opens the mount over it.
                    memory.make_directory(&app.assets_root)?;
                }
                mounts.give(memory.root(), access)?;
                mounts.memory.push(memory);
            }
            (_, FsKind::Diskfs) => {
                mounts.give(data()?, access)?;
                mounts.give_temporary(ctx, limits, writable, dirs)?;
            }
            (_, FsKind::Netfs) => {
                let bytes = limits.storage.unwrap_or(netfs::DEFAULT_BYTES);
                let memory = MemFs::create(ctx.home.memory.as_deref(), bytes)?;
                let (mounted, root) = remote(&memory)?;
                mounts.push(root, ROOT, writable);
                if let Some(mount) = mounts.list.last_mut() {
                    mount.backing = Some(Arc::new(mounted.clone()));
                }
                mounts.remote = Some(mounted);
                mounts.memory.push(memory);
                mounts.give_temporary(ctx, limits, writable, dirs)?;
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

    /// Gives a guest that may write a `/tmp`, unless the operator does.
    fn give_temporary(
        &mut self,
        ctx: &Context<'_>,
        limits: &Resources,
        writable: bool,
        dirs: &[DirGrant],
    ) -> Result<(), Error> {
        if writable && !dirs.iter().any(|dir| dir.guest == TEMPORARY) {
            let memory = make_memory(ctx, limits)?;
            self.push(memory.root(), TEMPORARY, true);
            self.memory.push(memory);
        }
        Ok(())
    }

    /// Mounts a file system for the guest: all of it, or some of its directories.
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
