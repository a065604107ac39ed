//! What a maker of pages for people gets from the hub, and what it gives back.
//!
//! The hub has no pages of its own. A package beside it makes them, and gets for each request a
//! [`Catalog`] that holds what the caller may read and nothing else: a repository that the
//! caller may not read is not there.
//!
//! Reading through a catalog writes nothing. In particular it does not count as use of a blob,
//! so a page keeps no content from being collected.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use qyvol_types::Digest;

use crate::names::Name;
use crate::query::Query;
use crate::storage::{Store, StoredRepository};

/// Makes pages for people. It is asked for every GET and HEAD outside the API.
pub trait Pages: Send + Sync {
    /// Answers a request. Called off the event loop, a few at a time; it may read files.
    fn page(&self, request: &PageRequest<'_>, catalog: &Catalog) -> Page;
}

/// A request for a page.
pub struct PageRequest<'a> {
    /// The path, not percent-decoded.
    pub path: &'a str,
    /// The value of `Accept-Language`.
    pub languages: Option<&'a str>,
    /// Host and port as the client named them: letters, digits and `.:-[]` only.
    pub host: &'a str,
    /// Whether clients use plain HTTP.
    pub plain_http: bool,
    /// The time.
    pub now: SystemTime,
    pub(crate) query: &'a Query,
}

impl PageRequest<'_> {
    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name)
    }
}

/// An answer.
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// Headers. The hub adds `ETag` and `Content-Length`.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What one caller may read.
pub struct Catalog {
    store: Arc<Store>,
    may_read: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Catalog {
    pub(crate) fn new(store: Arc<Store>, may_read: impl Fn(&str) -> bool + Send + Sync + 'static) -> Catalog {
        Catalog {
            store,
            may_read: Box::new(may_read),
        }
    }

    fn shows(&self, repository: &StoredRepository) -> bool {
        (self.may_read)(repository.name.as_str()) && !repository.state().manifests.is_empty()
    }

    /// The names after `last`, in order, at most `most`.
    pub fn names_after(&self, last: &str, most: usize) -> Vec<String> {
        let names = self.store.repositories_after(last, most, |one| self.shows(one));
        names.iter().map(|name| name.as_str().to_string()).collect()
    }

    /// A repository. None if it is not there, is empty, or may not be read: which of these is
    /// not said.
    pub fn repository(&self, name: &str) -> Option<Repository> {
        let found = self.store.repository(&Name::parse(name)?)?;
        self.shows(&found).then_some(Repository(found))
    }
}

/// A manifest, as its repository lists it.
#[derive(Clone, Debug)]
pub struct ListedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
    /// The type of the artifact, if it states one.
    pub artifact_type: Option<String>,
}

/// A repository that the caller may read.
pub struct Repository(Arc<StoredRepository>);

impl Repository {
    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// The number of its tags.
    pub fn tags(&self) -> usize {
        self.0.state().tags.len()
    }

    /// Tags in descending order, from the last one before `before`, at most `most`.
    pub fn tags_before(&self, before: Option<&str>, most: usize) -> Vec<(String, Digest)> {
        let state = self.0.state();
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let tags = state.tags.range::<str, _>((Bound::Unbounded, end)).rev();
        tags.take(most).map(|(tag, digest)| (tag.clone(), *digest)).collect()
    }

    /// What a tag points to.
    pub fn tag(&self, tag: &str) -> Option<Digest> {
        self.0.state().tags.get(tag).copied()
    }

    /// A manifest of this repository.
    pub fn manifest(&self, digest: &Digest) -> Option<ListedManifest> {
        let state = self.0.state();
        let entry = state.manifests.get(digest)?;
        Some(ListedManifest {
            digest: *digest,
            media_type: entry.media_type.to_string(),
            size: entry.size,
            artifact_type: entry.artifact_type.as_deref().map(str::to_string),
        })
    }

    /// The number of manifests that refer to this one, and the first `most` of them by digest.
    pub fn referrers(&self, digest: &Digest, most: usize) -> (usize, Vec<ListedManifest>) {
        let (number, first) = {
            let state = self.0.state();
            match state.referrers.get(digest) {
                Some(all) => (all.len(), all.iter().take(most).copied().collect::<Vec<_>>()),
                None => (0, Vec::new()),
            }
        };
        (number, first.iter().filter_map(|one| self.manifest(one)).collect())
    }

    /// A manifest's or blob's bytes. None if the repository does not have it, or if it has more
    /// than `most` bytes.
    pub fn read(&self, digest: &Digest, most: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(digest)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 <= most).then_some(bytes))
    }

    /// A manifest or blob, to be read from its start. Its bytes were hashed before it got its
    /// name, and are not hashed again.
    pub fn open(&self, digest: &Digest) -> io::Result<Option<File>> {
        match File::open(self.0.blob_path(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
