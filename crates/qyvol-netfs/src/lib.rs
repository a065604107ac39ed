//! `netfs`: a remote tree over HTTP, WebDAV or S3 that a guest sees as a directory.
//!
//! The guest works on a private local directory of kernel files. The runtime between the
//! guest and the kernel calls [`NetFs::ensure`] before each of the guest's calls, so that
//! the files that it uses are there; reports changes with [`NetFs::removed`],
//! [`NetFs::renamed`] and [`NetFs::made_directory`] after they are made; and calls
//! [`NetFs::flush`] when the guest syncs and when it has ended.
//!
//! ```text
//!   guest --call--> runtime --ensure--> NetFs --requests--> server
//!                      |                  |
//!                      +----- kernel files in a private directory
//! ```
//!
//! What the guest sees:
//! - A file whose metadata was read, or that was listed, has its length and time (1970 if
//!   the server gives none) but no content: the kernel would read zeros. After
//!   [`Intent::Read`] or [`Intent::Write`] the whole content is there, of one version.
//! - What the server said about a path is valid for [`Limits::refresh`]; then it is asked
//!   again. A file that has changed replaces the old one, which a guest that has it open
//!   can go on reading.
//! - A path that the guest opened for writing, created, renamed or removed belongs to the
//!   guest for the rest of the run: the server is not asked about it until
//!   [`NetFs::flush`].
//! - Symbolic links are not followed. Hard links become two files when they are sent.
//!
//! Plain HTTP has no directories. A path that is opened as a directory
//! ([`Intent::Directory`]) is assumed to be one, unless it is known to be a file, and so
//! is every directory above a file that was found. For metadata, `HEAD` decides: a path
//! is a file, or a directory if the server redirects from `a` to `a/`, or does not exist.
//! So `open("a/b.json")` works at once, and so does opening `a` as a directory and then
//! `b.json` in it. A listing shows what has been used so far.
//!
//! Invariants:
//! - connections go only to the origin of the configured URL, at addresses that
//!   [`Host::resolve`] returned, and so do credentials;
//! - nothing is written outside the directories that were given, whatever the guest
//!   leaves in its own; names that are not valid here are left out, with a notice;
//! - whatever the server sends, memory, disk and time stay within [`Limits`];
//! - content from the cache has the digest that it was stored with;
//! - nothing on the server is overwritten or removed that the guest has not seen.
//!
//! Calls for one tree must be made one after the other, and the kernel's call for one
//! [`NetFs::ensure`] must be done before the next: a guest has one thread. With two,
//! one thread's call could replace the file that the other is about to use.
//!
//! Deliberately absent: the interception of the guest's calls, permissions (see
//! [`Host::resolve`]), locks, and the environment, except for `SSL_CERT_FILE` and
//! `SSL_CERT_DIR`.

mod cache;
mod config;
mod credentials;
mod date;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod http;
mod local;
mod meta;
mod path;
mod protocol;
mod remote;
mod tree;
mod url;
mod xml;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use config::{Config, Host, Limits, ResolveError, RetryPolicy};
pub use credentials::{Credentials, Secret};
pub use error::{Change, Error, ErrorKind, FlushError, FlushFailure, FsError};
pub use protocol::Protocol;
use tree::Tree;

/// What the guest is about to do at a path. A rename is [`Intent::Rename`] for the old
/// path and [`Intent::Create`] for the new one; a hard link is [`Intent::Read`] and
/// [`Intent::Create`]. Symbolic links can't be sent, and are best refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Reads its metadata: `stat`, `access`, `readlink`.
    Stat,
    /// Opens it as a directory (`O_DIRECTORY`).
    Directory,
    /// Lists it.
    List,
    /// Opens it to read.
    Read,
    /// Opens it to write, or to read and write, without truncating it, or changes its
    /// length or times. It is not an error if nothing is there: the kernel decides whether
    /// it is created.
    Write,
    /// Creates something there or replaces what is there: creates it (exclusively or not),
    /// opens and truncates it, makes a directory, links or renames to it. It is not an
    /// error if nothing is there.
    Create,
    /// Removes the file or directory.
    Remove,
    /// Renames it to something else. For a directory that the server has, this fails with
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
    /// The persistent cache of this user for this application, if there should be one. It
    /// is created if necessary, and refused if others may write to it. Processes may share
    /// it.
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

    /// Leaves a name of the root to the caller, who mounts something else over it. There is
    /// an empty directory of that name, whatever the server has there: it is in listings,
    /// the server is not asked about it, and nothing in it can be changed.
    ///
    /// # Errors
    ///
    /// [`std::io::Error`] if the directory can't be made.
    pub fn covered(self, name: &str) -> std::io::Result<NetFs> {
        self.tree().cover(name)?;
        Ok(self)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Provides what the guest is about to use: call this before the guest's call reaches
    /// the kernel, and go on to the kernel only if it succeeds.
    /// `path` is relative to the root, with `/` between names, without empty ones, `.` and
    /// `..`; the root is the empty path.
    ///
    /// # Errors
    ///
    /// [`FsError`]: the error of the guest's call.
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

    /// The guest has renamed something, replacing what was at `to` before.
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

    /// Sends everything that the guest changed: new and changed content as a whole,
    /// directories, removals; each only if the server still has what the guest saw. Call it
    /// when the guest syncs, and when it has ended. Changes that could not be sent are tried
    /// again by the next call.
    ///
    /// Content is sent before removals, and if any content could not be sent, nothing is
    /// removed, so that a renamed file is never missing from both places. There is one
    /// exception: if something of another kind takes a path, what was there is removed
    /// first, but only after all other content was sent.
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
