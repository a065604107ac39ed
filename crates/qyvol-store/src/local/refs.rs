//! Names and referrers: small files that hold a descriptor.
//!
//! A name's file is named by the SHA-256 of the name and also contains the name, so that it
//! can't be mistaken for another name's file and a listing needs nothing else.

use std::fs;
use std::io;
use std::path::Path;

use qyvol_types::{Descriptor, Digest, Reference, json, media_type};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{LocalStore, layout, read_bounded};
use crate::{Referrers, StoreError, sys};

/// Bytes of a file that holds a descriptor.
pub(crate) const ENTRY_BYTES: u64 = 64 << 10;

/// What a name's file holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) name: Reference,
    pub(crate) descriptor: Descriptor,
}

/// The name that an image is stored under: with its tag, without its digest.
pub(crate) fn tag_key(name: &Reference) -> Reference {
    let tagged = name.tag().and_then(|tag| name.with_tag(tag).ok());
    tagged.unwrap_or_else(|| name.clone())
}

impl LocalStore {
    /// What a name refers to. A name with a digest refers to the manifest of that digest, if
    /// the store has it, whatever its tag.
    pub fn resolve(&self, name: &Reference) -> Result<Option<Descriptor>, StoreError> {
        if let Some(digest) = name.digest() {
            let size = self.blob_size(digest)?;
            return Ok(size.map(|size| Descriptor::new(media_type::IMAGE_MANIFEST, *digest, size)));
        }
        let name = tag_key(name);
        let path = self.layout().reference(&name.to_string());
        let Some(bytes) = read_bounded(&path, ENTRY_BYTES)? else {
            return Ok(None);
        };
        let damaged = |what: String| StoreError::Damaged {
            path: path.clone(),
            what,
        };
        let entry: Entry = json::decode(&bytes).map_err(|e| damaged(e.to_string()))?;
        if entry.name != name {
            return Err(damaged(format!("it holds the name {}, expected {name}", entry.name)));
        }
        Ok(Some(entry.descriptor))
    }

    /// Every name with its image, sorted by name. A damaged file is left out and reported as a
    /// notice (see [`take_notices`](LocalStore::take_notices)).
    pub fn references(&self) -> Result<Vec<(Reference, Descriptor)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.entries()? {
            match entry {
                Ok(entry) => found.push((entry.name, entry.descriptor)),
                Err(StoreError::Damaged { path, what }) => {
                    self.notice(&path, format!("name left out: {what}"));
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Every file of a name, read.
    pub(crate) fn entries(&self) -> Result<Vec<Result<Entry, StoreError>>, StoreError> {
        read_all(&self.layout().directory("refs"), |entry: &Entry, path| {
            let fits = self.layout().reference(&entry.name.to_string()) == path;
            (!fits).then(|| format!("it holds the name {}, which belongs in another file", entry.name))
        })
    }

    /// Removes a name; false if there was none. The blobs stay until a prune.
    pub fn remove_reference(&self, name: &Reference) -> Result<bool, StoreError> {
        let path = self.layout().reference(&tag_key(name).to_string());
        match fs::remove_file(&path) {
            Ok(()) => {
                sys::sync_dir(&self.layout().directory("refs"))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", &path, error)),
        }
    }

    /// Removes a referrer from its subject; false if there was none. Its blobs stay until a
    /// prune.
    pub fn remove_referrer(&self, subject: &Digest, referrer: &Digest) -> Result<bool, StoreError> {
        let directory = self.layout().referrers(subject);
        let path = directory.join(layout::file_name(referrer));
        match fs::remove_file(&path) {
            Ok(()) => {
                sys::sync_dir(&directory)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("remove", &path, error)),
        }
    }

    /// The files of a subject's referrers, read.
    pub(crate) fn links(&self, subject: &Digest) -> Result<Vec<Result<Descriptor, StoreError>>, StoreError> {
        read_all(&self.layout().referrers(subject), |link: &Descriptor, path| {
            let fits = path.file_name() == Some(layout::file_name(&link.digest).as_ref());
            (!fits).then(|| format!("it holds the digest {}", link.digest))
        })
    }
}

/// Reads every small file of a directory. One that is damaged, or that `misfit`
/// rejects, becomes an error in the list, for the caller to skip or report.
fn read_all<T: DeserializeOwned>(
    directory: &Path,
    misfit: impl Fn(&T, &Path) -> Option<String>,
) -> Result<Vec<Result<T, StoreError>>, StoreError> {
    let mut found = Vec::new();
    for file in sys::names(directory)? {
        let path = directory.join(&file);
        let damaged = |what: String| StoreError::Damaged {
            path: path.clone(),
            what,
        };
        found.push(match read_bounded(&path, ENTRY_BYTES) {
            // Removed after it was listed.
            Ok(None) => continue,
            Err(error @ StoreError::Damaged { .. }) => Err(error),
            Err(error) => Err(damaged(error.to_string())),
            Ok(Some(bytes)) => match json::decode::<T>(&bytes) {
                Err(error) => Err(damaged(error.to_string())),
                Ok(value) => match misfit(&value, &path) {
                    Some(what) => Err(damaged(what)),
                    None => Ok(value),
                },
            },
        });
    }
    Ok(found)
}

impl Referrers for LocalStore {
    fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, StoreError> {
        let mut found = Vec::new();
        for link in self.links(subject)? {
            match link {
                Ok(link) => found.push(link),
                Err(StoreError::Damaged { path, what }) => {
                    self.notice(&path, format!("referrer left out: {what}"));
                }
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|link| link.digest);
        Ok(found)
    }
}
