//! What a guest sees as its file system: its own as `/`, a `/tmp` where it may
//! write, its assets, and what the operator grants. For a guest that only reads, assets at `/`
//! are all that is there; for any other, a file system in memory is mounted over them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_runtime::{Backing, Intent, Mount, Overlay, Quota};
use qyvol_sandbox::{FsAccess, FsPath, FsPaths};
use qyvol_store::Tree;
use qyvol_types::{AppManifest, FsKind, Resources};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::assets;
use crate::data::DEFAULT_QUOTA;
use crate::memfs::{self, DEFAULT_BYTES, MemFs};
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
    /// Makes the mounts of an application. `data` makes the directory of its own data, `remote`
    /// mounts its tree of another machine in memory.
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
        let (at_root, beside) = match app.assets_root == ROOT {
            true => (tree, None),
            false => (None, tree),
        };
        match (access, app.fs.kind, at_root) {
            (FsAccess::None, _, None) => {}
            (FsAccess::Paths(paths), _, Some(tree)) if !access.writes() => {
                mounts.give_assets(ctx, tree, paths, limits)?;
            }
            (_, _, Some(tree)) if !access.writes() => mounts.list.push(assets::mount(tree, ROOT)),
            (_, FsKind::Memfs, Some(tree)) => mounts.give_overlay(tree, access, limits)?,
            (_, FsKind::Memfs, None) => {
                let memory = make_memory(ctx, limits)?;
                if writable {
                    memory.make_directory(TEMPORARY)?;
                }
                if beside.is_some() {
                    // For listings of the root: the assets are mounted over it.
                    memory.make_directory(&app.assets_root)?;
                }
                mounts.give(memory.root(), access, memory.quota())?;
                mounts.memory.push(memory);
            }
            (_, FsKind::Diskfs, _) => {
                let data = data()?;
                if beside.is_some() {
                    // For listings of the root too. What a guest has left there may be in
                    // the way; the assets are mounted all the same.
                    let _ = make_beneath(&data, &app.assets_root, &|_| Ok(()));
                }
                let quota = access.writes().then(|| quota(&data, limits)).transpose()?;
                mounts.give(data, access, quota)?;
                mounts.give_temporary(ctx, &beside_disk(limits), writable, dirs)?;
            }
            (_, FsKind::Netfs, _) => {
                let bytes = limits.storage.unwrap_or(netfs::DEFAULT_BYTES);
                let memory = MemFs::create(ctx.home.memory.as_deref(), bytes)?;
                let (mounted, root) = remote(&memory)?;
                mounts.push(root, ROOT, writable, memory.quota());
                if let Some(mount) = mounts.list.last_mut() {
                    mount.backing = Some(Arc::new(mounted.clone()));
                }
                mounts.remote = Some(mounted);
                mounts.memory.push(memory);
                mounts.give_temporary(ctx, limits, writable, dirs)?;
            }
        }
        if let Some(tree) = beside {
            mounts.list.push(assets::mount(tree, &app.assets_root));
        }
        for dir in dirs {
            mounts.push(dir.host.clone(), &dir.guest, dir.writable, None);
        }
        Ok(mounts)
    }

    /// Gives a guest that may write a `/tmp`, unless the operator mounts one.
    fn give_temporary(
        &mut self,
        ctx: &Context<'_>,
        limits: &Resources,
        writable: bool,
        dirs: &[DirGrant],
    ) -> Result<(), Error> {
        if writable && !dirs.iter().any(|dir| dir.guest == TEMPORARY) {
            let memory = make_memory(ctx, limits)?;
            self.push(memory.root(), TEMPORARY, true, memory.quota());
            self.memory.push(memory);
        }
        Ok(())
    }

    /// Mounts a file system for the guest: all of it, or some of its directories. Those
    /// that it may only read have the quota too, because a file that it opened there may
    /// be removed through another.
    fn give(&mut self, root: PathBuf, access: &FsAccess, quota: Option<Arc<Quota>>) -> Result<(), Error> {
        let FsAccess::Paths(paths) = access else {
            self.push(root, ROOT, access.is_writable(), quota);
            return Ok(());
        };
        paths
            .iter()
            .try_for_each(|path| self.give_directory(&root, path, quota.clone()))
    }

    fn give_directory(&mut self, root: &Path, path: &FsPath, quota: Option<Arc<Quota>>) -> Result<(), Error> {
        let failed = |e| Error::file("make the directory", root.join(relative(&path.path)))(e);
        let directory = make_beneath(root, &path.path, &|_| Ok(())).map_err(failed)?;
        self.push(by_descriptor(&directory), &path.path, path.writable, quota);
        self.directories.push(directory);
        Ok(())
    }

    /// Gives the guest some directories of its assets, to read. What they lack is empty.
    fn give_assets(&mut self, ctx: &Context<'_>, tree: Tree, paths: &FsPaths, limits: &Resources) -> Result<(), Error> {
        let top = tree.path().to_path_buf();
        let seal = assets::seal(tree);
        let (there, missing): (Vec<_>, Vec<_>) = paths.iter().partition(|path| top.join(relative(&path.path)).is_dir());
        for path in there {
            self.list.push(Mount {
                host: top.join(relative(&path.path)),
                guest: path.path.clone(),
                writable: false,
                path: relative(&path.path).to_string(),
                seal: Some(Arc::clone(&seal)),
                backing: None,
                quota: None,
            });
        }
        if !missing.is_empty() {
            let memory = make_memory(ctx, limits)?;
            let root = memory.root();
            self.memory.push(memory);
            missing
                .into_iter()
                .try_for_each(|path| self.give_directory(&root, path, None))?;
        }
        Ok(())
    }

    /// Gives the guest a file system in memory over its assets: all of it, or some of its
    /// directories.
    fn give_overlay(&mut self, tree: Tree, access: &FsAccess, limits: &Resources) -> Result<(), Error> {
        let below = tree.open()?;
        let overlay = Overlay::new(below.as_fd(), memfs::limits(memory_bytes(limits))).map_err(Error::Overlay)?;
        let seal = assets::seal(tree);
        let root = overlay.path();
        let overlay = Arc::new(overlay);
        let make = |path: &str| {
            let failed = |e| Error::file("make, over the assets, the directory", path)(e);
            make_beneath(&root, path, &|path| overlay.ensure(path, Intent::Create)).map_err(failed)
        };
        let mut give = |host: PathBuf, guest: &str, writable: bool| {
            self.list.push(Mount {
                host,
                guest: guest.to_string(),
                writable,
                path: relative(guest).to_string(),
                seal: Some(Arc::clone(&seal)),
                // A guest that only reads changes nothing there.
                backing: writable.then(|| Arc::clone(&overlay) as Arc<dyn Backing>),
                quota: None,
            });
        };
        let FsAccess::Paths(paths) = access else {
            make(TEMPORARY)?;
            give(root.clone(), ROOT, true);
            return Ok(());
        };
        for path in paths.iter() {
            let directory = make(&path.path)?;
            give(by_descriptor(&directory), &path.path, path.writable);
            self.directories.push(directory);
        }
        Ok(())
    }

    fn push(&mut self, host: PathBuf, guest: &str, writable: bool, quota: Option<Arc<Quota>>) {
        self.list.push(Mount {
            host,
            guest: guest.to_string(),
            writable,
            path: String::new(),
            seal: None,
            backing: None,
            quota,
        });
    }
}

/// A path of the guest as one beneath its root.
fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// A path to an open directory.
fn by_descriptor(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// Makes a directory of a file system, with those that lead to it. A guest may have
/// left links there, which are not followed. If the kernel doesn't permit one, `make_writable` is
/// called with its path, and it is retried.
fn make_beneath(root: &Path, path: &str, make_writable: &dyn Fn(&str) -> io::Result<()>) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let mut directory = rustix::fs::open(root, flags, Mode::empty())?;
    let mut so_far = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if !so_far.is_empty() {
            so_far.push('/');
        }
        so_far.push_str(name);
        let mut made = rustix::fs::mkdirat(&directory, name, Mode::RWXU);
        if made == Err(Errno::ACCESS) {
            make_writable(&so_far)?;
            made = rustix::fs::mkdirat(&directory, name, Mode::RWXU);
        }
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        directory = rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(directory)
}

/// The quota of an application's own data.
fn quota(data: &Path, limits: &Resources) -> Result<Arc<Quota>, Error> {
    let bytes = limits.storage.unwrap_or(DEFAULT_QUOTA);
    let quota = Quota::new(data, bytes, memfs::files_for(bytes));
    quota.map(Arc::new).map_err(Error::file("open", data))
}

/// A file system in memory, bounded as the guest's own memory is unless there is a
/// limit of its own.
fn make_memory(ctx: &Context<'_>, limits: &Resources) -> Result<MemFs, Error> {
    MemFs::create(ctx.home.memory.as_deref(), memory_bytes(limits))
}

fn memory_bytes(limits: &Resources) -> u64 {
    limits.storage.or(limits.memory).unwrap_or(DEFAULT_BYTES)
}

/// The limits of a `/tmp` in memory, for an application with data on disk, which may have
/// a higher one.
fn beside_disk(limits: &Resources) -> Resources {
    let memory = limits.memory.unwrap_or(DEFAULT_BYTES);
    Resources {
        storage: Some(limits.storage.map_or(memory, |storage| storage.min(memory))),
        ..*limits
    }
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
        make_beneath(root.path(), "/data/cache", &|_| Ok(())).unwrap();
        assert!(root.path().join("data/cache").is_dir());
        fs::create_dir(outside.path().join("cache")).unwrap();
        symlink(outside.path(), root.path().join("link")).unwrap();
        symlink("../..", root.path().join("up")).unwrap();
        for path in ["/link", "/link/cache", "/link/new", "/up/tmp"] {
            make_beneath(root.path(), path, &|_| Ok(())).unwrap_err();
        }
        assert!(!outside.path().join("new").exists());
    }
}
