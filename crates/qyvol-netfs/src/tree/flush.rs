//! Sends what the guest changed, by comparing what is here with what the guest saw on the
//! server.
//!
//! There is no log of changes: each path that may have changed is examined, so that a
//! file that was written ten times is sent once, and one that was created and removed is
//! never sent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};

use qyvol_types::{Algorithm, Digest, Hasher, escape};

use super::{Here, Node, Tree};
use crate::error::{Change, ErrorKind, FlushError, FlushFailure, FsError};
use crate::http::{Download, download};
use crate::local::{Kind, Seen};
use crate::meta::{Found, Meta};
use crate::path;
use crate::remote::Content;

/// What is to be done at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Write,
    MakeDirectory,
    RemoveFile,
    RemoveDirectory,
}

impl Tree {
    /// See [`crate::NetFs::flush`].
    pub(crate) fn flush(&mut self) -> Result<(), FlushError> {
        // This may be the last flush, so what failed before is tried once more.
        self.remote.client().forget_outage();
        let paths: Vec<String> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.is_guests)
            .map(|(path, _)| path.clone())
            .collect();
        let mut failures = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for path in paths {
            match self.local.stat(&path) {
                Ok(here) => {
                    seen.insert(path, here);
                }
                Err(error) => {
                    let error = FsError::local("it can't be examined", &error);
                    fail(&mut failures, &path, Change::Write, error);
                }
            }
        }
        // A path that could not be examined may be the target of a rename.
        let mut is_sent = failures.is_empty();
        let blocked: Vec<&String> = seen.keys().filter(|path| self.is_blocked(path, &seen)).collect();
        let free = seen.keys().filter(|path| blocked.binary_search(path).is_err());
        is_sent &= self.send_all(free, &seen, &mut failures);
        if is_sent {
            // If a directory and a file change places, what was there is removed first.
            self.remove(&seen, true, &mut failures);
            is_sent = self.send_all(blocked.into_iter(), &seen, &mut failures);
        }
        is_sent &= !self.fail_blocked(&seen, &mut failures);
        match is_sent {
            true => self.remove(&seen, false, &mut failures),
            false => self.hold_back(&seen, &mut failures),
        }
        self.keep_failed(&seen, &mut failures);
        self.forget(&seen);
        match failures.is_empty() {
            true => Ok(()),
            false => Err(FlushError {
                failures: failures.into_values().collect(),
            }),
        }
    }

    /// Sends directories and content, except where the server has something of another kind
    /// in the way; false if some content could not be sent.
    fn send_all<'a>(
        &mut self,
        paths: impl Iterator<Item = &'a String>,
        seen: &SeenPaths,
        failures: &mut Failures,
    ) -> bool {
        let mut is_sent = true;
        for path in paths {
            if failures.contains_key(path) || self.is_blocked(path, seen) {
                continue;
            }
            match self.action(path, seen.get(path).copied().flatten()) {
                Action::MakeDirectory => match self.remote.make_directory(path) {
                    Ok(()) => self.is_now(path, Found::Directory),
                    Err(error) => fail(failures, path, Change::MakeDirectory, error),
                },
                Action::Write => {
                    if let Err(error) = self.send(path) {
                        is_sent = false;
                        fail(failures, path, Change::Write, error);
                    }
                }
                _ => {}
            }
        }
        is_sent
    }

    /// Whether the server has something of another kind at the path, or at a directory above
    /// it.
    fn is_blocked(&self, path: &str, seen: &SeenPaths) -> bool {
        path::ancestors(path).chain([path]).any(|path| {
            let here = seen.get(path).copied().flatten();
            here.is_some() && matches!(self.action(path, here), Action::RemoveFile | Action::RemoveDirectory)
        })
    }

    /// Records content that was not sent because something is in its way. Returns whether
    /// there is any.
    fn fail_blocked(&self, seen: &SeenPaths, failures: &mut Failures) -> bool {
        let mut is_any = false;
        for (path, here) in seen {
            let change = match here.map(|seen| seen.kind) {
                Some(Kind::Directory) => Change::MakeDirectory,
                Some(_) => Change::Write,
                None => continue,
            };
            if self.is_blocked(path, seen) {
                is_any = true;
                let why = "something of another kind is in its way on the server, and is not removed".to_string();
                fail(failures, path, change, FsError::new(ErrorKind::Io, why));
            }
        }
        is_any
    }

    /// What has to be done at a path.
    fn action(&self, path: &str, here: Option<Seen>) -> Action {
        let Some(node) = self.nodes.get(path) else {
            return Action::Nothing;
        };
        match (here.map(|seen| seen.kind), &node.remote) {
            (None, Some(Found::File(_) | Found::Unknown)) => Action::RemoveFile,
            (None, Some(Found::Directory)) => Action::RemoveDirectory,
            (None, _) => Action::Nothing,
            (Some(Kind::Directory), Some(Found::File(_) | Found::Unknown)) => Action::RemoveFile,
            (Some(Kind::File), Some(Found::Directory)) => Action::RemoveDirectory,
            (Some(Kind::Directory), Some(Found::Directory)) => Action::Nothing,
            (Some(Kind::Directory), _) => Action::MakeDirectory,
            (Some(Kind::File), _) if self.is_hollow(path, node, here) => Action::Nothing,
            (Some(_), _) => Action::Write,
        }
    }

    /// Whether a file is still a placeholder without content.
    fn is_hollow(&self, path: &str, node: &Node, here: Option<Seen>) -> bool {
        match (node.here, here) {
            (Here::Hollow(placed), Some(seen)) => self.local.is_hollow(path, placed, seen.stamp),
            _ => false,
        }
    }

    /// Removes what is gone, the deepest first: either only what is in the way of something
    /// else, or everything.
    fn remove(&mut self, seen: &SeenPaths, only_in_the_way: bool, failures: &mut Failures) {
        for (path, here) in seen.iter().rev() {
            let action = self.action(path, *here);
            if !matches!(action, Action::RemoveFile | Action::RemoveDirectory) {
                continue;
            }
            let is_file = |path: &str| matches!(seen.get(path), Some(Some(Seen { kind: Kind::File, .. })));
            if only_in_the_way && here.is_none() && !path::ancestors(path).any(is_file) {
                continue;
            }
            let removed = match self.nodes.get(path).map(|node| &node.remote) {
                Some(Some(Found::File(_))) => match self.last_seen(path) {
                    Ok(Some(meta)) => self.remote.remove_file(path, &meta),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
                Some(Some(Found::Directory)) => self.remote.remove_directory(path),
                _ => self.remote.remove_file(path, &Meta::default()),
            };
            match removed {
                // If directories are assumed to exist, only this shows that it is gone.
                Ok(()) if here.is_none() && action == Action::RemoveDirectory && self.is_granted() => {}
                Ok(()) => {
                    if let Some(cache) = &self.cache {
                        cache.forget(path);
                    }
                    self.is_now(path, Found::Absent);
                }
                Err(error) => fail(failures, path, Change::Remove, error),
            }
        }
    }

    fn is_granted(&self) -> bool {
        self.remote.takes_directories_for_granted()
    }

    /// Records what should have been removed but was not.
    fn hold_back(&self, seen: &SeenPaths, failures: &mut Failures) {
        for (path, here) in seen {
            if matches!(self.action(path, *here), Action::RemoveFile | Action::RemoveDirectory) {
                let why = "nothing is removed, because some content could not be sent".to_string();
                fail(failures, path, Change::Remove, FsError::new(ErrorKind::Io, why));
            }
        }
    }

    /// Keeps the content of every file whose path failed.
    fn keep_failed(&mut self, seen: &SeenPaths, failures: &mut Failures) {
        let Some(cache) = &self.cache else { return };
        for (path, failure) in failures {
            let Some(Some(here @ Seen { kind: Kind::File, .. })) = seen.get(path) else {
                continue;
            };
            if self
                .nodes
                .get(path)
                .is_some_and(|node| self.is_hollow(path, node, Some(*here)))
            {
                continue;
            }
            // A file over the size limit is kept all the same.
            let limit = self.limits.bytes;
            let kept = self
                .local
                .read(path)
                .and_then(|(mut file, stamp)| match stamp.length > limit {
                    true => Err(io::Error::other(format!(
                        "it has {} bytes, over the limit of {limit}",
                        stamp.length
                    ))),
                    false => cache.keep(path, &mut file, limit),
                });
            match kept {
                Ok(place) => {
                    // Of what this run could not send, the newest version is kept.
                    let before = self.kept.insert(path.clone(), place.clone());
                    if let Some(before) = before.filter(|before| *before != place) {
                        let _ = fs::remove_file(before);
                    }
                    failure.kept = Some(place);
                }
                Err(why) => {
                    let message = format!("{}; what the application wrote can't be kept: {why}", failure.error);
                    failure.error = FsError::new(failure.error.kind(), message);
                }
            }
        }
    }

    /// Forgets paths that exist neither here nor on the server, such as temporary names.
    fn forget(&mut self, seen: &SeenPaths) {
        for (path, _) in seen.iter().filter(|(_, here)| here.is_none()) {
            let is_nowhere = |node: &Node| matches!(node.remote, None | Some(Found::Absent));
            if self.nodes.get(path).is_some_and(is_nowhere) {
                self.release(path);
                self.nodes.remove(path);
            }
        }
    }

    /// Records what the server has at a path from now on.
    fn is_now(&mut self, path: &str, found: Found) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.remote = Some(found);
            node.base = None;
        }
    }

    /// Sends a file, unless the server has the same content already.
    fn send(&mut self, path: &str) -> Result<(), FsError> {
        if self.is_the_servers(path)? {
            return Ok(());
        }
        let Some(mut content) = self.snapshot(path)? else {
            return Ok(());
        };
        let seen = self.last_seen(path);
        let sent = match seen.and_then(|seen| self.remote.put(path, &content, seen.as_ref())) {
            // The response to sending this same content may have been lost.
            Err(error) if error.kind() == ErrorKind::Conflict => self.same_content(path, &content).ok_or(error),
            sent => sent,
        };
        let meta = sent?;
        if let Some(kept) = self.kept.remove(path) {
            let _ = fs::remove_file(kept);
        }
        if let Some(cache) = &mut self.cache {
            cache.unkeep(path, &content.digest);
            cache.store(path, &meta, &content.digest, &mut content.file);
        }
        self.release(path);
        if let Some(node) = self.nodes.get_mut(path) {
            node.remote = Some(Found::File(meta));
            node.base = Some(content.digest);
            node.here = Here::Filled(0);
        }
        Ok(())
    }

    /// What the guest saw of the server's file; none if it saw none. If nothing
    /// distinguishes its versions, the content is compared.
    fn last_seen(&self, path: &str) -> Result<Option<Meta>, FsError> {
        let node = self.nodes.get(path);
        let Some(seen) = node.and_then(Node::remote_file) else {
            return Ok(None);
        };
        let Some(base) = node.and_then(|node| node.base).filter(|_| !seen.has_validator()) else {
            return Ok(Some(seen.clone()));
        };
        let mut staged = self.local.stage().map_err(|error| unreadable(&error))?;
        let request = self.remote.get(path);
        let limit = self.limits.file_bytes;
        let conflict = || {
            let message = format!("{} was changed in the meantime, and is not overwritten", escape(path));
            FsError::new(ErrorKind::Conflict, message)
        };
        match download(self.remote.client(), &request, None, &mut staged.file, limit) {
            Ok(Download::Content { meta, digest }) if digest == base => Ok(Some(meta)),
            // The caller decides what that means.
            Ok(Download::Absent) => Ok(Some(seen.clone())),
            Ok(_) => Err(conflict()),
            Err(error) if error.kind() == ErrorKind::TooLarge => Err(conflict()),
            Err(error) => Err(error),
        }
    }

    /// Whether a file has the content that the server has. Its times are no proof: the
    /// clock for files is coarse, and a guest can set times as it likes.
    fn is_the_servers(&self, path: &str) -> Result<bool, FsError> {
        let node = self.nodes.get(path);
        let (Some(meta), Some(base)) = (node.and_then(Node::remote_file), node.and_then(|node| node.base)) else {
            return Ok(false);
        };
        let (file, stamp) = match self.local.read(path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(unreadable(&error)),
        };
        if meta.length.is_some_and(|length| length != stamp.length) || stamp.length > self.limits.file_bytes {
            return Ok(false);
        }
        let copied = copy(file, &mut io::sink(), stamp.length.saturating_add(1));
        Ok(copied.map_err(|error| unreadable(&error))?.1 == base)
    }

    /// A copy of a file as it is now; none if it is gone.
    fn snapshot(&self, path: &str) -> Result<Option<Content>, FsError> {
        let (file, stamp) = match self.local.read(path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
        };
        let limit = self.limits.file_bytes;
        let too_large = |length: u64| {
            let message = format!("it has {length} bytes, but the limit of a file is {limit}");
            FsError::new(ErrorKind::TooLarge, message)
        };
        if stamp.length > limit {
            return Err(too_large(stamp.length));
        }
        let mut staged = self.local.stage().map_err(|error| unreadable(&error))?;
        let copied = copy(file, &mut staged.file, limit.saturating_add(1));
        let (length, digest) = copied.map_err(|error| unreadable(&error))?;
        if length > limit {
            return Err(too_large(length));
        }
        let file = staged.file.try_clone().map_err(|error| unreadable(&error))?;
        Ok(Some(Content { file, length, digest }))
    }

    /// What the server has at a path, if it is exactly this content.
    fn same_content(&self, path: &str, content: &Content) -> Option<Meta> {
        match self.remote.stat(path) {
            Ok(Found::File(meta)) if meta.length == Some(content.length) => {}
            Ok(Found::Unknown) => {}
            _ => return None,
        }
        let mut staged = self.local.stage().ok()?;
        let request = self.remote.get(path);
        match download(self.remote.client(), &request, None, &mut staged.file, content.length) {
            Ok(Download::Content { meta, digest }) if digest == content.digest => Some(meta),
            _ => None,
        }
    }
}

/// What is here at each path that may have changed.
type SeenPaths = BTreeMap<String, Option<Seen>>;
type Failures = BTreeMap<String, FlushFailure>;

/// Copies at most this many bytes. Returns how many there were, and their digest.
fn copy(file: impl Read, into: &mut impl Write, limit: u64) -> io::Result<(u64, Digest)> {
    let mut file = file.take(limit);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = file.read(&mut buffer)?;
        let bytes = buffer.get(..n).unwrap_or_default();
        if n == 0 {
            return Ok((hasher.length(), hasher.finish()));
        }
        into.write_all(bytes)?;
        hasher.update(bytes);
    }
}

fn unreadable(error: &io::Error) -> FsError {
    FsError::local("what the application wrote can't be read", error)
}

fn fail(failures: &mut Failures, path: &str, change: Change, error: FsError) {
    failures.entry(path.to_string()).or_insert_with(|| FlushFailure {
        path: escape(path).to_string(),
        change,
        error,
        kept: None,
    });
}
