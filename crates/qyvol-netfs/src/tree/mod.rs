//! What is known about each path, here and on the server, and what a guest's call needs.

mod changes;
mod fetch;
mod flush;
mod list;
mod look;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use qyvol_types::{Digest, escape};

use crate::cache::Cache;
use crate::config::{Host, Limits};
use crate::error::{ErrorKind, FsError};
use crate::local::{Kind, Local, Stamp};
use crate::meta::{Found, Meta};
use crate::remote::Remote;
use crate::{Intent, path};

/// What is here at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Here {
    Nothing,
    /// A file with a length and no content, as it was placed.
    Hollow(Stamp),
    /// A file with its content, of this many bytes.
    Filled(u64),
    Directory,
}

/// A path.
#[derive(Clone, Debug)]
struct Node {
    /// What the server had when the guest last saw it; none if it was never asked.
    remote: Option<Found>,
    here: Here,
    /// Whether the guest may have changed it: then only the private directory shows what is
    /// here.
    is_guests: bool,
    /// The digest of the server's content.
    base: Option<Digest>,
    /// When the server was asked about it.
    checked: Option<Instant>,
    /// When all of its entries were listed.
    listed: Option<Instant>,
}

impl Node {
    fn new(remote: Option<Found>, here: Here) -> Node {
        Node {
            remote,
            here,
            is_guests: false,
            base: None,
            checked: Some(Instant::now()),
            listed: None,
        }
    }

    /// What the server has, if it is a file.
    fn remote_file(&self) -> Option<&Meta> {
        match &self.remote {
            Some(Found::File(meta)) => Some(meta),
            _ => None,
        }
    }

    fn is_remote_directory(&self) -> bool {
        self.remote == Some(Found::Directory)
    }
}

/// What a guest would see at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Absent,
    File,
    Directory,
}

/// The tree of one mount.
#[derive(Debug)]
pub(crate) struct Tree {
    local: Arc<Local>,
    remote: Remote,
    cache: Option<Cache>,
    limits: Limits,
    host: HostHandle,
    nodes: BTreeMap<String, Node>,
    /// Bytes of fetched content that are here.
    held: u64,
    /// Where content that could not be sent is kept, by path.
    kept: BTreeMap<String, PathBuf>,
    /// Whether the user was told that cached copies are used.
    is_offline: bool,
    /// A name of the root that something else is mounted over.
    covered: Option<String>,
}

struct HostHandle(Arc<dyn Host>);

impl std::fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

impl Tree {
    pub(crate) fn new(local: Local, remote: Remote, cache: Option<Cache>, limits: Limits, host: Arc<dyn Host>) -> Tree {
        let root = Node::new(Some(Found::Directory), Here::Directory);
        Tree {
            local: Arc::new(local),
            remote,
            cache,
            limits,
            host: HostHandle(host),
            nodes: BTreeMap::from([(String::new(), root)]),
            held: 0,
            kept: BTreeMap::new(),
            is_offline: false,
            covered: None,
        }
    }

    /// See [`crate::NetFs::covered`].
    pub(crate) fn cover(&mut self, name: &str) -> io::Result<()> {
        self.local.make_directory(name)?;
        self.covered = Some(name.to_string());
        Ok(())
    }

    /// Whether a path is what something else is mounted over, or below it.
    fn is_covered(&self, path: &str) -> bool {
        let name = path.split('/').next().unwrap_or_default();
        self.covered.as_deref() == Some(name)
    }

    /// See [`crate::NetFs::ensure`].
    pub(crate) fn ensure(&mut self, path: &str, intent: Intent) -> Result<(), FsError> {
        if self.is_covered(path) {
            return match intent {
                Intent::Stat | Intent::Directory | Intent::List | Intent::Read => Ok(()),
                _ => Err(FsError::new(
                    ErrorKind::ReadOnly,
                    format!("{} is not part of the remote tree", escape(path)),
                )),
            };
        }
        match intent {
            Intent::Stat => match self.look(path)? {
                There::Absent => Err(absent(path)),
                _ => Ok(()),
            },
            Intent::Directory => self.directory(path),
            Intent::List => {
                self.directory(path)?;
                self.list(path)
            }
            Intent::Read => match self.content(path)? {
                There::Absent => Err(absent(path)),
                _ => Ok(()),
            },
            Intent::Write => {
                if self.content(path)? == There::Absent {
                    self.directory(path::parent(path).unwrap_or_default())?;
                }
                self.check_room(path)?;
                self.mark(path)
            }
            Intent::Create => {
                if self.look(path)? == There::Absent {
                    self.directory(path::parent(path).unwrap_or_default())?;
                }
                self.mark(path)
            }
            Intent::Remove => match self.look(path)? {
                There::Absent => Err(absent(path)),
                // The kernel refuses to remove a directory that has entries.
                There::Directory => self.list(path),
                There::File => Ok(()),
            },
            Intent::Rename => match self.content(path)? {
                There::Absent => Err(absent(path)),
                There::File => self.mark(path),
                There::Directory => self.check_rename(path),
            },
        }
    }

    /// Refuses to open a file for writing that is over the size limit already.
    fn check_room(&self, path: &str) -> Result<(), FsError> {
        let seen = self.local.stat(path);
        let seen = seen.map_err(|error| FsError::local(&format!("can't look up {}", escape(path)), &error))?;
        let limit = self.limits.file_bytes;
        match seen {
            Some(seen) if seen.kind == Kind::File && seen.stamp.length > limit => {
                let message = format!(
                    "can't write {}: it has {} bytes, but the limit of a file is {limit}",
                    escape(path),
                    seen.stamp.length
                );
                Err(FsError::new(ErrorKind::TooLarge, message))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to rename a directory with remote content: all of it would have to be
    /// fetched.
    fn check_rename(&self, path: &str) -> Result<(), FsError> {
        let own = self.nodes.get(path).into_iter();
        let below = self.below(path).map(|(_, node)| node);
        let is_remote = |node: &Node| !matches!(node.remote, None | Some(Found::Absent));
        if own.chain(below).any(is_remote) {
            let message = format!(
                "can't rename {}: the directory is on the server; make a new one, copy its content and remove the old one",
                escape(path)
            );
            return Err(FsError::new(ErrorKind::CrossDevice, message));
        }
        Ok(())
    }

    /// All nodes below a directory.
    fn below<'a>(&'a self, directory: &str) -> impl DoubleEndedIterator<Item = (&'a String, &'a Node)> + use<'a> {
        // '0' comes right after '/'.
        let (from, to) = match directory.is_empty() {
            true => ("\u{1}".to_string(), "\u{10ffff}".to_string()),
            false => (format!("{directory}/"), format!("{directory}0")),
        };
        self.nodes.range(from..to)
    }

    /// From now on, a path belongs to the guest.
    fn mark(&mut self, path: &str) -> Result<(), FsError> {
        if let Some(node) = self.nodes.get_mut(path) {
            node.is_guests = true;
            return Ok(());
        }
        let node = Node {
            is_guests: true,
            ..Node::new(None, Here::Nothing)
        };
        self.insert(path, node)
    }

    /// Adds what is known about a path, if there is room for it.
    fn insert(&mut self, path: &str, node: Node) -> Result<(), FsError> {
        if self.nodes.len() >= self.limits.files && !self.nodes.contains_key(path) {
            // Paths that don't exist are the least useful to remember.
            let is_of_use = |node: &Node| node.is_guests || node.here != Here::Nothing;
            self.nodes.retain(|_, node| is_of_use(node));
            if self.nodes.len() >= self.limits.files {
                let message = format!(
                    "can't add {}: the mount has {} files, which is its limit",
                    escape(path),
                    self.limits.files
                );
                return Err(FsError::new(ErrorKind::NoSpace, message));
            }
        }
        self.nodes.insert(path.to_string(), node);
        Ok(())
    }

    /// Whether what the server said at that time is still valid.
    fn is_fresh(&self, asked: Option<Instant>) -> bool {
        asked.is_some_and(|asked| asked.elapsed() < self.limits.refresh)
    }

    /// Counts fetched content as no longer here.
    fn release(&mut self, path: &str) {
        if let Some(Node {
            here: Here::Filled(length),
            ..
        }) = self.nodes.get(path)
        {
            self.held = self.held.saturating_sub(*length);
        }
    }
}

fn absent(path: &str) -> FsError {
    FsError::new(
        ErrorKind::NotFound,
        format!("there is no {} in the remote tree", escape(path)),
    )
}

fn not_a_directory(path: &str) -> FsError {
    FsError::new(
        ErrorKind::NotADirectory,
        format!("{} is a file, not a directory", escape(path)),
    )
}

fn link(path: &str) -> FsError {
    let message = format!(
        "{} is a symbolic link, and links are not followed in a remote tree",
        escape(path)
    );
    FsError::new(ErrorKind::Link, message)
}
