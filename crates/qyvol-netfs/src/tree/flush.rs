//! Sending what the guest changed: what is here against what the guest saw there.
//!
//! Nothing is logged: each path that may have changed is looked at, so that a file that
//! was written ten times is sent once, and one that was made and removed never is.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use qyvol_types::{Algorithm, Hasher, escape};

use super::{Here, Node, Tree};
use crate::error::{Change, ErrorKind, FlushError, FlushFailure, FsError};
use crate::http::{Download, download};
use crate::local::{Kind, Local, Seen, Stamp};
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

/// What came of sending one.
struct Failed {
    error: FsError,
    kept: Option<std::path::PathBuf>,
}

impl From<FsError> for Failed {
    fn from(error: FsError) -> Failed {
        Failed { error, kept: None }
    }
}

impl Tree {
    /// See [`crate::NetFs::flush`].
    pub(crate) fn flush(&mut self) -> Result<(), FlushError> {
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
                    let error = FsError::local("it can't be looked at", &error);
                    fail(&mut failures, &path, Change::Write, error.into());
                }
            }
        }
        // Where a directory and a file change places, what was there has to go first.
        self.remove(&seen, true, &mut failures);
        for (path, here) in &seen {
            if self.action(path, *here) == Action::MakeDirectory {
                match self.remote.make_directory(path) {
                    Ok(()) => self.is_now(path, Found::Directory),
                    Err(error) => fail(&mut failures, path, Change::MakeDirectory, error.into()),
                }
            }
        }
        let mut is_sent = true;
        for (path, here) in &seen {
            if self.action(path, *here) == Action::Write
                && let Err(failed) = self.send(path)
            {
                is_sent = false;
                fail(&mut failures, path, Change::Write, failed);
            }
        }
        match is_sent {
            true => self.remove(&seen, false, &mut failures),
            false => self.hold_back(&seen, &mut failures),
        }
        match failures.is_empty() {
            true => Ok(()),
            false => Err(FlushError {
                failures: failures.into_values().collect(),
            }),
        }
    }

    /// What a path needs.
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
            (Some(Kind::File), _) if self.is_in_step(node, here) => Action::Nothing,
            (Some(_), _) => Action::Write,
        }
    }

    /// Whether a file has not been written to since it was the server's.
    fn is_in_step(&self, node: &Node, here: Option<Seen>) -> bool {
        let stamp = here.map(|seen| seen.stamp);
        match node.here {
            Here::Hollow(placed) if stamp == Some(placed) => true,
            _ => node.in_step.is_some() && node.in_step == stamp,
        }
    }

    /// Removes what is gone, the deepest first: before anything is sent what stands in the
    /// way of something else, after it all.
    fn remove(&mut self, seen: &BTreeMap<String, Option<Seen>>, only_in_the_way: bool, failures: &mut Failures) {
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
                Some(Some(Found::File(meta))) => self.remote.remove_file(path, meta),
                Some(Some(Found::Directory)) => self.remote.remove_directory(path),
                _ => self.remote.remove_file(path, &Meta::default()),
            };
            match removed {
                Ok(()) => {
                    if let Some(cache) = &self.cache {
                        cache.forget(path);
                    }
                    self.is_now(path, Found::Absent);
                }
                Err(error) => fail(failures, path, Change::Remove, error.into()),
            }
        }
    }

    /// Says of what should be removed that it was not.
    fn hold_back(&self, seen: &BTreeMap<String, Option<Seen>>, failures: &mut Failures) {
        for (path, here) in seen {
            if matches!(self.action(path, *here), Action::RemoveFile | Action::RemoveDirectory) {
                let why = "nothing is removed, because some content could not be sent".to_string();
                fail(failures, path, Change::Remove, FsError::new(ErrorKind::Io, why).into());
            }
        }
    }

    /// The server has this at a path from now on.
    fn is_now(&mut self, path: &str, found: Found) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.remote = Some(found);
            node.base = None;
            node.in_step = None;
        }
    }

    /// Sends a file, if its content is not the server's already.
    fn send(&mut self, path: &str) -> Result<(), Failed> {
        let (mut content, stamp) = self.snapshot(path)?;
        let node = self.nodes.get(path);
        let is_base = |node: &Node| node.remote_file().is_some() && node.base == Some(content.digest);
        if node.is_some_and(is_base) {
            self.in_step(path, stamp);
            return Ok(());
        }
        let seen = node.and_then(Node::remote_file).cloned();
        let sent = self.remote.put(path, &content, seen.as_ref());
        let sent = match sent {
            // An answer that was lost may have been to this very content.
            Err(error) if error.kind() == ErrorKind::Conflict => self.same_content(path, &content).ok_or(error),
            sent => sent,
        };
        match sent {
            Ok(meta) => {
                if let Some(cache) = &mut self.cache {
                    cache.unkeep(path, &content.digest);
                    cache.store(path, &meta, &content.digest, &mut content.file);
                }
                if let Some(node) = self.nodes.get_mut(path) {
                    node.remote = Some(Found::File(meta));
                    node.base = Some(content.digest);
                }
                self.in_step(path, stamp);
                Ok(())
            }
            Err(error) => {
                let kept = self
                    .cache
                    .as_ref()
                    .map(|cache| cache.keep(path, &content.digest, &mut content.file));
                match kept.transpose() {
                    Ok(kept) => Err(Failed { error, kept }),
                    Err(why) => {
                        let message = format!("{error}; what the application wrote can't be kept: {why}");
                        Err(FsError::new(error.kind(), message).into())
                    }
                }
            }
        }
    }

    /// A copy of a file as it is now, which the guest does not write to, and the stamp that
    /// the file has until it is written to again.
    fn snapshot(&self, path: &str) -> Result<(Content, Option<Stamp>), FsError> {
        let failed = |error: io::Error| FsError::local("what the application wrote can't be read", &error);
        let (mut file, stamp) = self.local.read(path).map_err(failed)?;
        if stamp.length > self.limits.file_bytes {
            let message = format!(
                "it has {} bytes, where the limit of a file is {}",
                stamp.length, self.limits.file_bytes
            );
            return Err(FsError::new(ErrorKind::TooLarge, message));
        }
        let mut staged = self.local.stage().map_err(failed)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = file.read(&mut buffer).map_err(failed)?;
            let bytes = buffer.get(..n).unwrap_or_default();
            if n == 0 {
                break;
            }
            staged.file.write_all(bytes).map_err(failed)?;
            hasher.update(bytes);
        }
        let now = Local::stamp(&staged).map_err(failed)?;
        let file = staged.file.try_clone().map_err(failed)?;
        let (length, digest) = (hasher.length(), hasher.finish());
        // A write at this very moment may leave no trace: then it is compared again.
        let stamp = Some(stamp).filter(|stamp| stamp.is_settled_before(&now));
        Ok((Content { file, length, digest }, stamp))
    }

    /// Remembers that a file is as the server has it.
    fn in_step(&mut self, path: &str, stamp: Option<Stamp>) {
        self.release(path);
        if let Some(node) = self.nodes.get_mut(path) {
            node.here = Here::Filled(0);
            node.in_step = stamp;
        }
    }

    /// What the server has at a path, if it is this very content.
    fn same_content(&self, path: &str, content: &Content) -> Option<Meta> {
        let Ok(Found::File(meta)) = self.remote.stat(path) else {
            return None;
        };
        if meta.length != Some(content.length) {
            return None;
        }
        let mut staged = self.local.stage().ok()?;
        let request = self.remote.get(path);
        match download(self.remote.client(), &request, None, &mut staged.file, content.length) {
            Ok(Download::Content { meta, digest }) if digest == content.digest => Some(meta),
            _ => None,
        }
    }
}

type Failures = BTreeMap<String, FlushFailure>;

fn fail(failures: &mut Failures, path: &str, change: Change, failed: Failed) {
    failures.entry(path.to_string()).or_insert_with(|| FlushFailure {
        path: escape(path).to_string(),
        change,
        error: failed.error,
        kept: failed.kept,
    });
}
