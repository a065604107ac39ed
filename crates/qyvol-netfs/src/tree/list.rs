//! Lists a directory: afterwards every entry is here, files without content.

use std::collections::BTreeSet;
use std::time::Instant;

use qyvol_types::escape;

use super::{There, Tree};
use crate::error::{ErrorKind, FsError};
use crate::local::Kind;
use crate::meta::{Found, Listing};
use crate::path;

impl Tree {
    /// Makes sure that all entries of a directory are here.
    pub(super) fn list(&mut self, path: &str) -> Result<(), FsError> {
        let Some(node) = self.nodes.get(path) else {
            return Ok(());
        };
        if self.is_fresh(node.listed) || (node.is_guests && !node.is_remote_directory()) {
            return Ok(());
        }
        match self.remote.list(path) {
            // The protocol has no listings: only what is here is known.
            Ok(None) => Ok(()),
            Ok(Some(listing)) => {
                self.is_offline = false;
                self.take_listing(path, &listing)
            }
            Err(error) if error.is_outage() => self.list_offline(path, error),
            Err(error) => {
                if error.kind() == ErrorKind::NotFound && !path.is_empty() {
                    self.note(path, &Found::Absent)?;
                }
                Err(error)
            }
        }
    }

    fn take_listing(&mut self, directory: &str, listing: &Listing) -> Result<(), FsError> {
        let mut skipped = listing.skipped;
        let mut names = BTreeSet::new();
        for entry in &listing.entries {
            let child = path::join(directory, &entry.name);
            if self.is_covered(&child) {
                continue;
            }
            if path::check(&child).is_err() {
                skipped += 1;
                continue;
            }
            if !names.insert(entry.name.as_str()) || self.nodes.get(&child).is_some_and(|node| node.is_guests) {
                continue;
            }
            match self.note(&child, &entry.found) {
                Ok(_) => {}
                // A file that can't be here, for example because it is too long, must not hide others.
                Err(error) if error.kind() == ErrorKind::TooLarge => skipped += 1,
                Err(error) => return Err(error),
            }
        }
        let gone: Vec<String> = self
            .below(directory)
            .filter(|(path, node)| path::parent(path) == Some(directory) && !node.is_guests)
            .filter(|(path, _)| !names.contains(path::name(path)))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            self.discard(&path)?;
        }
        if let Some(node) = self.nodes.get_mut(directory) {
            node.listed = Some(Instant::now());
        }
        if skipped > 0 {
            let named = if directory.is_empty() { "the root" } else { directory };
            self.host.0.notice(&format!(
                "{skipped} entries of {} in the remote tree are left out: files here can't have such names or \
                 lengths, or the entries are elsewhere",
                escape(named)
            ));
        }
        Ok(())
    }

    /// Lists what was fetched before, and what is here.
    fn list_offline(&mut self, directory: &str, error: FsError) -> Result<(), FsError> {
        let records = self
            .cache
            .as_mut()
            .map(|cache| cache.below(directory))
            .unwrap_or_default();
        let has_any = !records.is_empty() || self.below(directory).next().is_some();
        for record in records {
            if self.is_covered(&record.path) || self.is_in_what_was_removed(&record.path) {
                continue;
            }
            // An entry that can't be here, because something else is by now, must not hide
            // the others.
            let known = self.known(&record.path).unwrap_or(Some(There::File));
            if known.is_none_or(|there| there == There::Absent) && !self.is_guests(&record.path) {
                self.note(&record.path, &Found::File(record.meta))?;
            }
        }
        match has_any {
            true => {
                self.report_offline(&error);
                Ok(())
            }
            false => Err(error),
        }
    }

    /// Whether the guest has removed a directory that a path was in.
    fn is_in_what_was_removed(&self, path: &str) -> bool {
        let is_here = |path: &str| matches!(self.local.stat(path), Ok(Some(seen)) if seen.kind == Kind::Directory);
        path::ancestors(path).any(|path| self.is_guests(path) && !is_here(path))
    }

    fn is_guests(&self, path: &str) -> bool {
        self.nodes.get(path).is_some_and(|node| node.is_guests)
    }
}
