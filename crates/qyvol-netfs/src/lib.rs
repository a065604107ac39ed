//! `netfs`: a remote tree over HTTP, WebDAV or S3 that a guest sees as a directory.
//!
//! The guest works on a private local directory of kernel files. Whoever stands between
//! it and the kernel calls [`NetFs::ensure`] before each of its calls, so that what the
//! call is about is there; tells of changes with [`NetFs::removed`],
//! [`NetFs::renamed`] and [`NetFs::made_directory`] after them; and calls
//! [`NetFs::flush`] where the guest syncs and when it has ended.
//!
//! What the guest finds:
//! - A file that was only looked at, or listed, has its length and time (1970 where the
//!   server says none) and no content: the kernel would read zeros. Content is there after [`Intent::Read`] or
//!   [`Intent::Write`], all of it, of one version.
//! - What the server said of a path holds for [`Limits::refresh`]; then it is asked
//!   again. A file that changed is put in the place of the old one, which a guest that
//!   has it open goes on reading.
//! - What the guest opened for writing, made, renamed or removed is the guest's for the
//!   rest of the run: the server is asked no more about it, until [`NetFs::flush`].
//! - Symbolic links are not followed. Hard links are two files once they are sent.
//!
//! Directories over plain HTTP, which knows none: a path that is opened as a directory
//! ([`Intent::Directory`]) is one, without asking, unless it is known as a file; so is
//! every directory that a file was found in. A path that is looked at is what `HEAD`
//! says: a file, or a directory if the server leads from `a` to `a/`, or not there. So
//! `open("a/b.json")` works at once, and so does opening `a` as a directory and then
//! `b.json` in it. A listing has what was used so far.
//!
//! Invariants:
//! - connections go to the origin of the configured URL alone, at addresses that
//!   [`Host::resolve`] gave; so do credentials;
//! - nothing is written outside the directories that were given, whatever the guest
//!   leaves in its own; names that are none here are left out, with a notice;
//! - whatever the server sends, memory, disk and time stay bounded by [`Limits`];
//! - content that is served from the cache has the digest that it was stored with;
//! - nothing on the server is overwritten or removed that the guest has not seen.
//!
//! Calls about one tree come one after the other, and each [`NetFs::ensure`] with the
//! kernel's call that it is for before the next: a guest has one thread. With two, what
//! one was about to use might be made another by what the other one asks for.
//!
//! Deliberately absent: the interposer, permissions (see [`Host::resolve`]), locks, and
//! the environment, but for `SSL_CERT_FILE` and `SSL_CERT_DIR`.

mod cache;
mod config;
mod credentials;
mod date;
mod error;
mod http;
mod local;
mod meta;
mod path;
mod remote;
mod tree;
mod url;
mod xml;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use config::{Config, Host, Limits, Protocol, ResolveError, RetryPolicy};
pub use credentials::{Credentials, Secret};
pub use error::{Change, Error, ErrorKind, FlushError, FlushFailure, FsError};
use tree::Tree;

/// What the guest is about to do at a path. A rename is [`Intent::Rename`] of the old
/// path and [`Intent::Create`] of the new one; a hard link [`Intent::Read`] and
/// [`Intent::Create`]. Symbolic links
/// can't be sent, and are best refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Looks at it: `stat`, `access`, `readlink`.
    Stat,
    /// Opens it as a directory (`O_DIRECTORY`).
    Directory,
    /// Lists it.
    List,
    /// Opens it to read.
    Read,
    /// Opens it to write, or to read and write, and what is there stays, or it changes its
    /// length or times. Nothing there is no error: whether it is made is the kernel's
    /// business.
    Write,
    /// Puts something there, whatever is there now: makes it (exclusively or not), opens
    /// and truncates it, makes a directory, links, renames to it. Nothing there is no
    /// error.
    Create,
    /// Removes the file or directory.
    Remove,
    /// Renames it to something else. A directory that the server has can't be, which is
    /// [`ErrorKind::CrossDevice`].
    Rename,
}

impl Intent {
    fn is_change(self) -> bool {
        matches!(self, Intent::Write | Intent::Create | Intent::Remove | Intent::Rename)
    }
}

/// Where a [`NetFs`] puts what it fetches.
#[derive(Debug)]
pub struct Directories {
    /// What the guest sees; empty.
    pub root: OwnedFd,
    /// A directory of the same file system that the guest does not see; empty.
    pub staging: OwnedFd,
    /// The persistent cache of this user for this application, if there is to be one. It
    /// is made if need be, and refused if others may write to it. Processes may share it.
    pub cache: Option<PathBuf>,
}

/// A remote tree, mounted.
#[derive(Debug)]
pub struct NetFs {
    writable: bool,
    tree: Mutex<Tree>,
}

impl NetFs {
    /// Mounts a tree. No connection is opened.
    ///
    /// # Errors
    ///
    /// [`Error`] if the URL, the credentials, a certificate or a directory can't be used.
    pub fn new(
        config: &Config,
        credentials: Credentials,
        host: Arc<dyn Host>,
        directories: Directories,
    ) -> Result<NetFs, Error> {
        for (what, directory) in [
            ("the root", &directories.root),
            ("the staging directory", &directories.staging),
        ] {
            local::check_directory(directory.as_fd()).map_err(|error| Error::Directory {
                what: format!("{what} of the private directory"),
                error,
            })?;
        }
        let client = http::Client::new(config, credentials, host.clone())?;
        let cache = match &directories.cache {
            Some(directory) => {
                let identity = client.base().identity();
                let limit = config.limits.cache_bytes;
                Some(cache::Cache::open(directory, identity, limit, host.clone())?)
            }
            None => None,
        };
        let remote = remote::Remote::new(client, config.protocol.clone(), config.limits.entries);
        let local = local::Local::new(directories.root, directories.staging);
        Ok(NetFs {
            writable: config.writable,
            tree: Mutex::new(Tree::new(local, remote, cache, config.limits, host)),
        })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that what the guest is about to use is there: call it before the
    /// guest's call reaches the kernel, and only go on to the kernel if it succeeds.
    /// `path` is relative to the root, with `/` between names, without empty ones, `.` and
    /// `..`; the root is the empty path.
    ///
    /// # Errors
    ///
    /// [`FsError`]: what the guest's call fails with.
    pub fn ensure(&self, path: &str, intent: Intent) -> Result<(), FsError> {
        path::check(path)?;
        if intent.is_change() && !self.writable {
            let message = format!(
                "can't change {}: the remote tree is mounted read-only",
                qyvol_types::escape(path)
            );
            return Err(FsError::new(ErrorKind::ReadOnly, message));
        }
        self.tree().ensure(path, intent)
    }

    /// The guest has removed a file or directory.
    pub fn removed(&self, path: &str) {
        if path::check(path).is_ok() {
            self.tree().removed(path);
        }
    }

    /// The guest has renamed something, over what was at `to` before.
    pub fn renamed(&self, from: &str, to: &str) {
        if path::check(from).is_ok() && path::check(to).is_ok() {
            self.tree().renamed(from, to);
        }
    }

    /// The guest has made a directory.
    pub fn made_directory(&self, path: &str) {
        if path::check(path).is_ok() {
            self.tree().made_directory(path);
        }
    }

    /// Sends all that the guest changed: new and changed content as a whole, directories,
    /// removals; each only where the server still has what the guest saw. Call it where the
    /// guest syncs, and when it has ended. What could not be sent is tried again at the
    /// next call.
    ///
    /// Content goes before removals, and if any content could not be sent, nothing is
    /// removed: what was renamed is never gone from both places. Only where something of
    /// another kind takes a path, what was there is removed first, and even that after all
    /// other content was sent.
    ///
    /// # Errors
    ///
    /// [`FlushError`]: every path that failed and why, and where its content is kept.
    pub fn flush(&self) -> Result<(), FlushError> {
        match self.writable {
            true => self.tree().flush(),
            false => Ok(()),
        }
    }
}
