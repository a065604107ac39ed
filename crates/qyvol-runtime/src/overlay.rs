//! A file system in memory over a directory that stays unchanged.
//!
//! The kernel's overlayfs: writes, renames and removals affect only a tmpfs, and both are
//! mounted nowhere, like a [`crate::Tmpfs`]: the kernel frees them with the last descriptor.
//! An entry of the lower directory is seen at its own path or nowhere: directories of the lower
//! layer can't be renamed, and neither redirects nor metadata-only copies are made or followed.
//!
//! Permissions of lower files are kept, and an unpacked tree is read-only. The guest has no
//! call to change them, so write permission for its user is added before it writes.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, MoveMountFlags};
use rustix::path::DecInt;
use rustix::process::{getegid, geteuid};

use crate::TmpfsLimits;
use crate::backing::{Backing, Change, Intent};
use crate::namespace::{self, Failed, IdMaps, Step};
use crate::tmpfs::{self, Options};

/// The steps of the child.
const MEMORY: Step = 0;
const WHITEOUTS: Step = 1;
const ATTRIBUTES: Step = 2;
const LAYERS: Step = 3;

/// Files that the overlay makes for itself: two directories of its own, one that the
/// kernel makes in them, what it marks removed files with, one that is being copied.
const OWN_FILES: u64 = 5;

/// A writable view of a directory, only for its user. When it is dropped, what was written is
/// gone, unless something in it is still open.
#[derive(Debug)]
pub struct Overlay {
    root: OwnedFd,
}

/// Why no overlay can be made: what the host lacks.
#[derive(Debug)]
#[non_exhaustive]
pub enum OverlayError {
    /// The lower directory belongs to another user or group, whose files can't be changed in a
    /// user namespace.
    Owner,
    /// This user gets no user namespace.
    Namespace(io::Error),
    /// Nothing can be mounted in a user namespace.
    Memory(io::Error),
    /// Files can't be marked as removed.
    Whiteouts(io::Error),
    /// Files in memory have no attributes of users.
    Attributes(io::Error),
    /// The kernel can't lay one over the other.
    Layers(io::Error),
    /// Something else failed.
    Other(io::Error),
}

impl fmt::Display for OverlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OverlayError::Owner => f.write_str("the unpacked assets belong to another user or group"),
            OverlayError::Namespace(e) => write!(f, "this host gives this user no user namespace: {e}"),
            OverlayError::Memory(e) => write!(f, "this host lets nothing be mounted in a user namespace: {e}"),
            OverlayError::Whiteouts(e) => {
                write!(f, "this host's kernel lets no user namespace mark files removed: {e}")
            }
            OverlayError::Attributes(e) => write!(
                f,
                "files in memory have no user attributes in this host's kernel (Linux 6.6 has them): {e}"
            ),
            OverlayError::Layers(e) => write!(f, "this host's kernel has no overlayfs for a user namespace: {e}"),
            OverlayError::Other(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for OverlayError {}

impl From<Failed> for OverlayError {
    fn from(Failed { step, error }: Failed) -> OverlayError {
        match step {
            namespace::ENTER => OverlayError::Namespace(error),
            MEMORY => OverlayError::Memory(error),
            WHITEOUTS => OverlayError::Whiteouts(error),
            ATTRIBUTES => OverlayError::Attributes(error),
            LAYERS => OverlayError::Layers(error),
            _ => OverlayError::Other(error),
        }
    }
}

impl From<io::Error> for OverlayError {
    fn from(error: io::Error) -> OverlayError {
        OverlayError::Other(error)
    }
}

impl Overlay {
    /// Lays an empty file system in memory over a directory.
    pub fn new(lower: BorrowedFd<'_>, limits: TmpfsLimits) -> Result<Overlay, OverlayError> {
        let stat = rustix::fs::fstat(lower).map_err(io::Error::from)?;
        // Copying what can't be mapped fails when the guest writes: too late.
        if (stat.st_uid, stat.st_gid) != (geteuid().as_raw(), getegid().as_raw()) {
            return Err(OverlayError::Owner);
        }
        let options = Options::new(TmpfsLimits {
            files: limits.files.saturating_add(OWN_FILES),
            ..limits
        })?;
        let root = namespace::mounted_by_child(&IdMaps::new(), Some(lower), || mount(&options))?;
        Ok(Overlay { root })
    }

    /// A path to its root, good for as long as this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.root.as_raw_fd()))
    }

    /// Lets this user write the entry at a path: its mode may forbid that. False if there is no
    /// entry, or the guest's call is to fail.
    fn make_writable(&self, path: &str, what: impl FnOnce(FileType) -> bool) -> io::Result<bool> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let entry = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(entry) => entry,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::NAMETOOLONG) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&entry)?;
        let mode = Mode::from_raw_mode(stat.st_mode);
        if !mode.contains(Mode::WUSR) && what(FileType::from_raw_mode(stat.st_mode)) {
            rustix::fs::fchmod(&entry, mode | Mode::WUSR)?;
        }
        Ok(true)
    }

    fn make_parent_writable(&self, path: &str) -> io::Result<()> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.make_writable(parent, |_| true).map(drop)
    }
}

impl Backing for Overlay {
    fn ensure(&self, path: &str, intent: Intent) -> io::Result<()> {
        match intent {
            Intent::Stat | Intent::Directory | Intent::List | Intent::Read => Ok(()),
            Intent::Write | Intent::Truncate => match self.make_writable(path, |_| true)? {
                true => Ok(()),
                false => self.make_parent_writable(path),
            },
            Intent::Create | Intent::Remove => self.make_parent_writable(path),
            Intent::Rename => {
                // Its `..` changes.
                self.make_writable(path, |kind| kind == FileType::Directory)?;
                self.make_parent_writable(path)
            }
        }
    }

    fn changed(&self, _: Change<'_>) {}

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes the overlay over the working directory. Allocates nothing.
fn mount(options: &Options) -> Result<OwnedFd, (Step, Errno)> {
    let memory = tmpfs::mount(options)
        .and_then(attach)
        .map_err(|error| (MEMORY, error))?;
    let made = make_layers(&memory).map_err(|error| (MEMORY, error))?;
    probe_whiteouts(&made).map_err(|error| (WHITEOUTS, error))?;
    probe_attributes(&made).map_err(|error| (ATTRIBUTES, error))?;
    lay(&made).map_err(|error| (LAYERS, error))
}

/// Mounts it somewhere in this namespace: kernels take no layer that is mounted
/// nowhere. It is reached by its descriptor.
fn attach(memory: OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::mount::move_mount(&memory, c"", CWD, c"/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(memory)
}

/// Directories of an overlay.
struct Layers {
    lower: OwnedFd,
    upper: OwnedFd,
    work: OwnedFd,
}

fn make_layers(memory: &OwnedFd) -> Result<Layers, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = |name| {
        rustix::fs::mkdirat(memory, name, Mode::RWXU)?;
        rustix::fs::openat(memory, name, flags, Mode::empty())
    };
    Ok(Layers {
        lower: rustix::fs::openat(CWD, c".", flags | OFlags::PATH, Mode::empty())?,
        upper: directory(c"upper")?,
        work: directory(c"work")?,
    })
}

/// What was removed is marked by a device 0:0. Without it nothing below can be removed.
fn probe_whiteouts(layers: &Layers) -> Result<(), Errno> {
    let device = rustix::fs::makedev(0, 0);
    rustix::fs::mknodat(&layers.work, c"probe", FileType::CharacterDevice, Mode::empty(), device)?;
    rustix::fs::unlinkat(&layers.work, c"probe", rustix::fs::AtFlags::empty())
}

/// A directory in the place of a removed one is marked by an attribute. Without it the
/// old content would be seen in it.
fn probe_attributes(layers: &Layers) -> Result<(), Errno> {
    rustix::fs::fsetxattr(&layers.upper, c"user.probe", b"y", XattrFlags::CREATE)?;
    rustix::fs::fremovexattr(&layers.upper, c"user.probe")
}

fn lay(layers: &Layers) -> Result<OwnedFd, Errno> {
    // A path by number has nothing to escape.
    rustix::process::chdir(c"/proc/self/fd")?;
    let context = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, directory) in [
        (c"lowerdir", &layers.lower),
        (c"upperdir", &layers.upper),
        (c"workdir", &layers.work),
    ] {
        rustix::mount::fsconfig_set_string(&context, name, DecInt::from_fd(directory).as_c_str())?;
    }
    // No default of a kernel decides anything.
    for (name, value) in [
        (c"redirect_dir", c"nofollow"),
        (c"metacopy", c"off"),
        (c"index", c"off"),
        (c"nfs_export", c"off"),
        (c"xino", c"off"),
    ] {
        rustix::mount::fsconfig_set_string(&context, name, value)?;
    }
    rustix::mount::fsconfig_set_flag(&context, c"userxattr")?;
    let root = tmpfs::detached(&context)?;
    // Where overlayfs misses something it goes on read-only.
    match rustix::fs::fstatvfs(&root)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        true => Err(Errno::ROFS),
        false => Ok(root),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;

    const LIMITS: TmpfsLimits = TmpfsLimits {
        bytes: 1 << 20,
        files: 8,
    };

    /// A directory with a name that mount options would have to escape, and one in it.
    fn assets() -> tempfile::TempDir {
        let top = tempfile::Builder::new().prefix("a,b:c\\d=e ").tempdir().unwrap();
        fs::create_dir(top.path().join("dir")).unwrap();
        fs::write(top.path().join("dir/file"), "below").unwrap();
        fs::write(top.path().join("other"), "below").unwrap();
        top
    }

    /// None if the host does not allow it.
    fn over(lower: &Path) -> Option<Overlay> {
        if crate::needs::lacks(&["namespaces"]) {
            return None;
        }
        let lower = File::open(lower).unwrap();
        Some(Overlay::new(lower.as_fd(), LIMITS).unwrap())
    }

    // [RUN-060]
    #[test]
    fn writes_are_seen_in_one_overlay_only() {
        let assets = assets();
        let (Some(one), Some(other)) = (over(assets.path()), over(assets.path())) else {
            return;
        };
        fs::write(one.path().join("dir/file"), "above").unwrap();
        fs::remove_file(one.path().join("other")).unwrap();
        fs::write(one.path().join("new"), "above").unwrap();
        assert_eq!(fs::read_to_string(one.path().join("dir/file")).unwrap(), "above");
        for root in [other.path(), assets.path().to_path_buf()] {
            assert_eq!(fs::read_to_string(root.join("dir/file")).unwrap(), "below");
            assert_eq!(fs::read_to_string(root.join("other")).unwrap(), "below");
            assert!(!root.join("new").exists());
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.lines().any(|line| line.contains("redirect_dir=nofollow")),
            "{mounts}"
        );
    }

    // [RUN-060]
    #[test]
    fn size_and_number_of_files_above_are_bounded_by_the_kernel() {
        let assets = assets();
        fs::write(assets.path().join("big"), vec![1; 2 << 20]).unwrap();
        let Some(overlay) = over(assets.path()) else { return };
        let root = overlay.path();
        let full = fs::write(root.join("new"), vec![1; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        fs::remove_file(root.join("new")).unwrap();
        let full = File::options().append(true).open(root.join("big")).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let made = (0..100).take_while(|n| fs::create_dir(root.join(n.to_string())).is_ok());
        let made = u64::try_from(made.count()).unwrap();
        assert!((LIMITS.files..=LIMITS.files + 2).contains(&made), "{made}");
    }

    // [RUN-061]
    #[test]
    fn lower_entry_is_seen_at_its_own_path_or_nowhere() {
        let assets = assets();
        let Some(overlay) = over(assets.path()) else { return };
        let root = overlay.path();
        let crossing = fs::rename(root.join("dir"), root.join("moved")).unwrap_err();
        assert_eq!(crossing.raw_os_error(), Some(libc::EXDEV));
        // A new directory in place of a removed one has none of its entries.
        fs::remove_file(root.join("dir/file")).unwrap();
        fs::remove_dir(root.join("dir")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
        fs::rename(root.join("new"), root.join("dir")).unwrap();
        assert_eq!(fs::read_dir(root.join("dir")).unwrap().count(), 0);
        fs::rename(root.join("dir"), root.join("again")).unwrap();
        assert!(!root.join("dir").exists());
        assert_eq!(fs::read_dir(root.join("again")).unwrap().count(), 0);
    }

    #[test]
    fn write_permission_is_added_before_a_call_that_writes() {
        use std::os::unix::fs::PermissionsExt;
        let assets = assets();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let bar = |path: &str, mode| {
            fs::set_permissions(assets.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        bar("dir/file", 0o444);
        bar("other", 0o444);
        bar("dir", 0o555);
        let Some(overlay) = over(assets.path()) else { return };
        let root = overlay.path();
        for intent in [Intent::Stat, Intent::Directory, Intent::List, Intent::Read] {
            overlay.ensure("dir/file", intent).unwrap();
            assert_eq!(mode(&root.join("dir/file")), 0o444);
        }
        overlay.ensure("dir/new", Intent::Write).unwrap();
        assert_eq!((mode(&root.join("dir")), mode(&root.join("dir/file"))), (0o755, 0o444));
        overlay.ensure("dir/file", Intent::Truncate).unwrap();
        assert_eq!(
            (mode(&root.join("dir/file")), mode(&root.join("other"))),
            (0o644, 0o444)
        );
        // Paths that don't exist, and paths outside.
        for path in ["none/file", "other/file", "../other", "dir/../../other"] {
            let _ = overlay.ensure(path, Intent::Create);
            let _ = overlay.ensure(path, Intent::Write);
        }
        assert_eq!(mode(&assets.path().join("dir")), 0o555);
        assert_eq!(mode(&assets.path().join("other")), 0o444);
        bar("dir", 0o755);
    }

    // [RUN-060]
    #[test]
    fn directory_of_another_user_is_not_laid_over() {
        let assets = assets();
        // Only root can change the owner; other users use a directory of the system.
        let own = rustix::fs::chown(assets.path(), Some(rustix::fs::Uid::from_raw(4242)), None).is_ok();
        let lower = File::open(if own { assets.path() } else { Path::new("/") }).unwrap();
        let error = Overlay::new(lower.as_fd(), LIMITS).unwrap_err();
        assert!(matches!(error, OverlayError::Owner), "{error}");
    }
}
