//! Metadata of a path: from what is known, else from the server.

use std::io;
use std::time::Instant;

use qyvol_types::escape;

use super::{Here, Node, There, Tree, link, not_a_directory};
use crate::error::FsError;
use crate::local::Kind;
use crate::meta::{Found, Meta};
use crate::path;

impl Tree {
    /// What is at a path. Afterwards it is here too, a file possibly without content.
    pub(super) fn look(&mut self, path: &str) -> Result<There, FsError> {
        if let Some(there) = self.known(path)? {
            return Ok(there);
        }
        match self.ask(path)? {
            // Known from before, because the server can't be asked.
            None => Ok(self.known_before(path)),
            Some(Found::Unknown) => self.fetch(path),
            Some(found) => self.note(path, &found),
        }
    }

    /// Makes sure that a path is a directory here.
    pub(super) fn directory(&mut self, path: &str) -> Result<(), FsError> {
        let there = match self.remote.takes_directories_for_granted() {
            false => self.look(path)?,
            true => match self.known(path)? {
                Some(there @ (There::File | There::Directory)) => there,
                Some(There::Absent) if self.is_guests_way(path) => There::Absent,
                _ => self.note(path, &Found::Directory)?,
            },
        };
        match there {
            There::Directory => Ok(()),
            There::File => Err(not_a_directory(path)),
            There::Absent => Err(super::absent(path)),
        }
    }

    /// Whether the guest has changed the path or a directory above it.
    fn is_guests_way(&self, path: &str) -> bool {
        let is_guests = |path: &str| self.nodes.get(path).is_some_and(|node| node.is_guests);
        path::ancestors(path).any(is_guests) || is_guests(path)
    }

    /// What is at a path, if that is known without the server.
    pub(super) fn known(&mut self, path: &str) -> Result<Option<There>, FsError> {
        let granted = self.remote.takes_directories_for_granted();
        for ancestor in path::ancestors(path) {
            let Some(node) = self.nodes.get(ancestor) else { continue };
            if node.is_guests {
                match self.here(ancestor)? {
                    None => return Ok(Some(There::Absent)),
                    Some(Kind::File) => return Err(not_a_directory(ancestor)),
                    Some(Kind::Other) => return Err(link(ancestor)),
                    Some(Kind::Directory) if node.is_remote_directory() || granted => {}
                    // Everything there comes from the guest.
                    Some(Kind::Directory) => {
                        return self.of_guest(path).map(|there| Some(there.unwrap_or(There::Absent)));
                    }
                }
            } else if self.is_fresh(node.checked) {
                match node.here {
                    Here::Hollow(_) | Here::Filled(_) => return Err(not_a_directory(ancestor)),
                    Here::Nothing if !granted => return Ok(Some(There::Absent)),
                    Here::Nothing | Here::Directory => {}
                }
            }
        }
        let Some(node) = self.nodes.get(path) else {
            let parent = path::parent(path).and_then(|parent| self.nodes.get(parent));
            let is_listed = parent.is_some_and(|parent| self.is_fresh(parent.listed));
            return Ok(is_listed.then_some(There::Absent));
        };
        if node.is_guests {
            // Even if it has created nothing yet: its call may not have reached the kernel.
            return Ok(Some(self.of_guest(path)?.unwrap_or(There::Absent)));
        }
        let always = node.here == Here::Directory && (granted || path.is_empty());
        if !always && !self.is_fresh(node.checked) {
            return Ok(None);
        }
        Ok(Some(there(node.here)))
    }

    /// What is in the private directory.
    fn here(&self, path: &str) -> Result<Option<Kind>, FsError> {
        let seen = self.local.stat(path);
        let seen = seen.map_err(|error| FsError::local(&format!("can't look up {}", escape(path)), &error))?;
        Ok(seen.map(|seen| seen.kind))
    }

    /// The same, for a path that belongs to the guest.
    fn of_guest(&self, path: &str) -> Result<Option<There>, FsError> {
        match self.here(path)? {
            None => Ok(None),
            Some(Kind::File) => Ok(Some(There::File)),
            Some(Kind::Directory) => Ok(Some(There::Directory)),
            Some(Kind::Other) => Err(link(path)),
        }
    }

    /// Asks the server. If it can't be reached, files of an earlier run are used instead;
    /// none if what is here already can be used.
    fn ask(&mut self, path: &str) -> Result<Option<Found>, FsError> {
        match self.remote.stat(path) {
            Ok(found) => {
                self.is_offline = false;
                Ok(Some(found))
            }
            Err(error) if error.is_outage() => self.stand_in(path, error),
            Err(error) => Err(error),
        }
    }

    /// What is used instead of a server that can't be reached; its error if there is
    /// nothing.
    pub(super) fn stand_in(&mut self, path: &str, error: FsError) -> Result<Option<Found>, FsError> {
        if self.nodes.get(path).is_some_and(|node| node.here != Here::Nothing) {
            self.report_offline(&error);
            return Ok(None);
        }
        let Some(cache) = &mut self.cache else {
            return Err(error);
        };
        let found = match cache.lookup(path) {
            Some(record) => Found::File(record.meta),
            None if !cache.below(path).is_empty() => Found::Directory,
            None => return Err(error),
        };
        self.report_offline(&error);
        Ok(Some(found))
    }

    /// Tells the user once that old copies are used.
    pub(super) fn report_offline(&mut self, error: &FsError) {
        if !self.is_offline {
            self.is_offline = true;
            self.host
                .0
                .notice(&format!("{error}; files that were fetched before are used"));
        }
    }

    /// What is here, however old it is.
    pub(super) fn known_before(&self, path: &str) -> There {
        self.nodes.get(path).map_or(There::Absent, |node| there(node.here))
    }

    /// Records what the server says about a path, and makes the private directory match.
    pub(super) fn note(&mut self, path: &str, found: &Found) -> Result<There, FsError> {
        match found {
            Found::Absent => {
                if !self.discard(path)? {
                    return Ok(There::Directory);
                }
                self.insert(path, Node::new(Some(Found::Absent), Here::Nothing))?;
                Ok(There::Absent)
            }
            Found::Directory => self.note_directory(path),
            Found::File(meta) => self.note_file(path, meta),
            Found::Unknown => self.note_file(path, &Meta::default()),
        }
    }

    fn note_directory(&mut self, path: &str) -> Result<There, FsError> {
        if let Some(node) = self.nodes.get_mut(path)
            && node.here == Here::Directory
        {
            node.remote = Some(Found::Directory);
            node.checked = Some(Instant::now());
            return Ok(There::Directory);
        }
        self.discard(path)?;
        self.make_ancestors(path)?;
        self.make_directory(path)?;
        Ok(There::Directory)
    }

    fn note_file(&mut self, path: &str, meta: &Meta) -> Result<There, FsError> {
        if let Some(node) = self.nodes.get_mut(path)
            && matches!(node.here, Here::Hollow(_) | Here::Filled(_))
            && node.remote_file().is_some_and(|known| known.is_same(meta))
        {
            node.checked = Some(Instant::now());
            return Ok(There::File);
        }
        if self.nodes.get(path).is_some_and(|node| node.here == Here::Directory) && !self.discard(path)? {
            return Ok(There::Directory);
        }
        self.make_ancestors(path)?;
        let length = meta.length.unwrap_or_default();
        let placed = self.local.place_hollow(path, length, meta.modified);
        let what = format!("can't make {} of {length} bytes", escape(path));
        let stamp = placed.map_err(|error| FsError::local(&what, &error))?;
        self.release(path);
        self.insert(path, Node::new(Some(Found::File(meta.clone())), Here::Hollow(stamp)))?;
        Ok(There::File)
    }

    /// Creates the directories above a path: the server has them, if it has the path.
    pub(super) fn make_ancestors(&mut self, path: &str) -> Result<(), FsError> {
        for ancestor in path::ancestors(path) {
            let node = self.nodes.get(ancestor);
            if node.is_none_or(|node| node.here != Here::Directory) {
                self.make_directory(ancestor)?;
            }
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &str) -> Result<(), FsError> {
        self.local
            .make_directory(path)
            .map_err(|error| FsError::local(&format!("can't make directory {}", escape(path)), &error))?;
        self.insert(path, Node::new(Some(Found::Directory), Here::Directory))
    }

    /// Removes from here what the server no longer has, except what belongs to the guest. A
    /// directory with something of the guest in it then belongs to the guest; false if
    /// `path` itself does.
    pub(super) fn discard(&mut self, path: &str) -> Result<bool, FsError> {
        let below: Vec<String> = self.below(path).rev().map(|(path, _)| path.clone()).collect();
        for path in below.iter().map(String::as_str).chain([path]) {
            let Some(node) = self.nodes.get(path) else { continue };
            if node.is_guests {
                continue;
            }
            let removed = match node.here {
                Here::Nothing => Ok(()),
                Here::Directory => self.local.remove_directory(path),
                Here::Hollow(_) | Here::Filled(_) => self.local.remove_file(path),
            };
            match removed {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                    let node = Node {
                        is_guests: true,
                        ..Node::new(Some(Found::Absent), Here::Directory)
                    };
                    self.nodes.insert(path.to_string(), node);
                }
                Err(error) => {
                    let what = format!("{} is gone from the server, and can't be removed here", escape(path));
                    return Err(FsError::local(&what, &error));
                }
                Ok(()) => {
                    self.release(path);
                    self.nodes.remove(path);
                }
            }
        }
        Ok(!self.nodes.contains_key(path))
    }
}

fn there(here: Here) -> There {
    match here {
        Here::Nothing => There::Absent,
        Here::Hollow(_) | Here::Filled(_) => There::File,
        Here::Directory => There::Directory,
    }
}
