//! Directories that are filled as a guest uses them: a file system of another machine
//! behind kernel files.
//!
//! Before each of the guest's calls that takes a path in such a mount, its [`Backing`]
//! is asked to have there what the call is about; the kernel then does the call. Only
//! symbolic links are not made: the backing would not know where they lead.

use std::fmt;
use std::io;

/// What a guest is about to do at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Intent {
    /// Looks at it: size, times, where a link leads.
    Stat,
    /// Opens it as a directory.
    Directory,
    /// Lists it.
    List,
    /// Opens it to read, or links to it.
    Read,
    /// Opens it to write, with what is in it, or changes its times.
    Write,
    /// Puts something there, whatever is there now.
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
    /// It renamed one thing, over what was at the second path.
    Renamed(&'a str, &'a str),
    /// It made a directory.
    MadeDirectory(&'a str),
}

/// Fills a mounted directory as it is used. Paths are relative to it, without `.`, `..`
/// or empty components; empty, one is that directory. Calls block.
pub trait Backing: Send + Sync + fmt::Debug {
    /// Has there what the guest is about to use.
    ///
    /// # Errors
    ///
    /// What the guest's call fails with: an error of the system.
    fn ensure(&self, path: &str, intent: Intent) -> io::Result<()>;

    /// The guest has changed something.
    fn changed(&self, change: Change<'_>);

    /// Sends what the guest has changed: it syncs.
    ///
    /// # Errors
    ///
    /// As of [`Backing::ensure`].
    fn flush(&self) -> io::Result<()>;
}
