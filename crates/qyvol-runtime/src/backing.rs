//! Directories that are prepared as a guest uses them: the files of another machine as
//! kernel files, or files in memory over others.
//!
//! Before each of the guest's calls that takes a path in such a mount, its [`Backing`]
//! is asked to provide what the call needs; then the kernel makes the call. Symbolic
//! links can't be created: neither the backing nor a seal would know where they lead.

use std::fmt;
use std::io;

/// What a guest is about to do at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// Reads its metadata: size, times, the target of a link.
    Stat,
    /// Opens it as a directory.
    Directory,
    /// Lists it.
    List,
    /// Opens it to read, or links to it.
    Read,
    /// Opens it to write without truncating it, or changes its times.
    Write,
    /// Opens it to write, and truncates it.
    Truncate,
    /// Creates something there, or replaces what is there.
    Create,
    /// Removes it.
    Remove,
    /// Renames it to something else.
    Rename,
}

/// What a guest has done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change<'a> {
    /// It removed a file or directory.
    Removed(&'a str),
    /// It renamed the first path to the second, replacing what was there.
    Renamed(&'a str, &'a str),
    /// It made a directory.
    MadeDirectory(&'a str),
}

/// Prepares a mounted directory as it is used. Paths are relative to it, without `.`, `..`
/// or empty components; the empty path is the directory itself. Calls block.
pub trait Backing: Send + Sync + fmt::Debug {
    /// Provides what the guest is about to use.
    ///
    /// # Errors
    ///
    /// The error of the guest's call, an error of the operating system.
    fn ensure(&self, path: &str, intent: Intent) -> io::Result<()>;

    /// The guest has changed something.
    fn changed(&self, change: Change<'_>);

    /// Sends what the guest has changed. Called when the guest syncs.
    ///
    /// # Errors
    ///
    /// As for [`Backing::ensure`].
    fn flush(&self) -> io::Result<()>;
}
