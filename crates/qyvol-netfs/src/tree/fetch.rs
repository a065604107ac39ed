//! Fetches a file's content: from the cache if the copy is still current, else from the
//! server.

use std::io;

use qyvol_types::{Digest, escape};

use super::{Here, Node, There, Tree};
use crate::cache::Record;
use crate::date;
use crate::error::{ErrorKind, FsError};
use crate::http::{Download, download};
use crate::local::Staged;
use crate::meta::{Found, Meta};

impl Tree {
    /// Provides what is at a path, with its content.
    pub(super) fn content(&mut self, path: &str) -> Result<There, FsError> {
        // If a request for content says everything that one for metadata would, it is the
        // only one.
        if self.remote.takes_directories_for_granted() && self.known(path)?.is_none() {
            let is_filled = |node: &Node| matches!(node.here, Here::Filled(_));
            if !self.nodes.get(path).is_some_and(is_filled) {
                return self.fetch(path);
            }
        }
        let there = self.look(path)?;
        let Some(node) = self.nodes.get_mut(path) else {
            return Ok(there);
        };
        let Here::Hollow(placed) = node.here else {
            return Ok(there);
        };
        if there != There::File {
            return Ok(there);
        }
        if node.is_guests {
            let seen = self.local.stat(path).map_err(|error| failed(path, &error))?;
            if seen.is_none_or(|seen| !self.local.is_hollow(path, placed, seen.stamp)) {
                return Ok(there);
            }
            // The kernel did not do what the guest was about to do: it is still the server's.
            node.is_guests = false;
        }
        self.fetch(path)
    }

    /// Fetches a file and puts it in its place.
    pub(super) fn fetch(&mut self, path: &str) -> Result<There, FsError> {
        let known = self.nodes.get(path).and_then(Node::remote_file).cloned();
        let record = self.cache.as_ref().and_then(|cache| cache.lookup(path));
        // The server has just said that the cached copy is current.
        if let (Some(record), Some(known)) = (&record, &known)
            && known.length == record.meta.length
            && known.strong_etag().is_some()
            && known.strong_etag() == record.meta.strong_etag()
            && self.fetch_cached(path, record)?
        {
            return Ok(There::File);
        }
        let room = self.limits.bytes.saturating_sub(self.held);
        let limit = room.min(self.limits.file_bytes);
        let mut condition = record.as_ref().and_then(|record| condition(&record.meta));
        let request = self.remote.get(path);
        loop {
            let mut staged = self.local.stage().map_err(|error| failed(path, &error))?;
            let fetched = download(
                self.remote.client(),
                &request,
                condition.as_ref(),
                &mut staged.file,
                limit,
            );
            if fetched.is_ok() {
                self.is_offline = false;
            }
            let error = match fetched {
                Ok(Download::Content { meta, digest }) => {
                    self.check_length(path, known.as_ref(), &meta)?;
                    if let Some(cache) = &mut self.cache {
                        cache.store(path, &meta, &digest, &mut staged.file);
                    }
                    self.put(path, staged, &meta, digest)?;
                    return Ok(There::File);
                }
                Ok(Download::NotModified) => {
                    if let Some(record) = &record
                        && self.fetch_cached(path, record)?
                    {
                        return Ok(There::File);
                    }
                    // The copy was damaged.
                    condition = None;
                    continue;
                }
                Ok(Download::Absent) => {
                    if let Some(cache) = &self.cache {
                        cache.forget(path);
                    }
                    return self.note(path, &Found::Absent);
                }
                Ok(Download::Directory) => return self.note(path, &Found::Directory),
                Err(error) => error,
            };
            if error.is_outage() {
                if let Some(record) = &record
                    && self.fetch_cached(path, record)?
                {
                    self.report_offline(&error);
                    return Ok(There::File);
                }
                // It may have been a directory.
                if self.nodes.get(path).is_none_or(|node| node.here == Here::Nothing)
                    && let Some(found @ Found::Directory) = self.stand_in(path, error.clone())?
                {
                    return self.note(path, &found);
                }
            }
            if error.kind() == ErrorKind::TooLarge && room < self.limits.file_bytes {
                let message = format!("{error}; fetched files already take {} bytes", self.held);
                return Err(FsError::new(ErrorKind::NoSpace, message));
            }
            return Err(error);
        }
    }

    /// Puts a cached copy in its place; false if there is no undamaged one.
    fn fetch_cached(&mut self, path: &str, record: &Record) -> Result<bool, FsError> {
        let Some(cache) = &mut self.cache else { return Ok(false) };
        let length = record.meta.length.unwrap_or_default();
        if length > self.limits.file_bytes || length > self.limits.bytes.saturating_sub(self.held) {
            let message = format!(
                "can't take {} from the cache: {length} bytes exceed the limits",
                escape(path)
            );
            return Err(FsError::new(ErrorKind::NoSpace, message));
        }
        let mut staged = self.local.stage().map_err(|error| failed(path, &error))?;
        let is_fetched = cache.fetch(&record.digest, Some(length), &mut staged.file);
        if !is_fetched.map_err(|error| failed(path, &error))? {
            return Ok(false);
        }
        self.put(path, staged, &record.meta, record.digest)?;
        Ok(true)
    }

    /// Puts a file with its whole content in its place.
    fn put(&mut self, path: &str, staged: Staged, meta: &Meta, digest: Digest) -> Result<(), FsError> {
        let is_guests = self.nodes.get(path).is_some_and(|node| node.is_guests);
        if self.nodes.get(path).is_some_and(|node| node.here == Here::Directory) && !self.discard(path)? {
            let message = format!(
                "can't fetch {}: it is a directory here, but a file on the server",
                escape(path)
            );
            return Err(FsError::new(ErrorKind::Conflict, message));
        }
        self.make_ancestors(path)?;
        let placed = self.local.place(staged, path, meta.modified);
        placed.map_err(|error| failed(path, &error))?;
        self.release(path);
        let length = meta.length.unwrap_or_default();
        let node = Node {
            is_guests,
            base: Some(digest),
            ..Node::new(Some(Found::File(meta.clone())), Here::Filled(length))
        };
        self.insert(path, node)?;
        self.held = self.held.saturating_add(length);
        Ok(())
    }

    /// Compares the received length with the announced one. If nothing shows that the file
    /// has changed since, the server is asked once more.
    fn check_length(&self, path: &str, known: Option<&Meta>, got: &Meta) -> Result<(), FsError> {
        let is_wrong = |said: &Meta| said.length.is_some() && said.length != got.length && !got.is_other(said);
        let Some(known) = known.filter(|known| is_wrong(known)) else {
            return Ok(());
        };
        match self.remote.stat(path)? {
            Found::File(now) if is_wrong(&now) => {}
            _ => return Ok(()),
        }
        let number = |meta: &Meta| meta.length.unwrap_or_default();
        let message = format!(
            "can't fetch {}: the server says that it has {} bytes, but sends {}",
            escape(path),
            number(known),
            number(got)
        );
        Err(FsError::new(ErrorKind::Io, message))
    }
}

fn failed(path: &str, error: &io::Error) -> FsError {
    FsError::local(&format!("can't fetch {}", escape(path)), error)
}

/// The condition of a request that succeeds only if a copy is outdated (RFC 9110, 13.1.2
/// and 13.1.3).
fn condition(meta: &Meta) -> Option<(&'static str, String)> {
    match (&meta.etag, meta.modified) {
        (Some(etag), _) => Some(("if-none-match", etag.clone())),
        (None, Some(modified)) => Some(("if-modified-since", date::format_http(modified))),
        (None, None) => None,
    }
}
