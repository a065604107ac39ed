//! The storage below its clients: power lost at any step, and requests raced.
#![allow(clippy::disallowed_methods, reason = "a test")]
#![allow(clippy::unwrap_used, clippy::panic)]

mod power;
mod races;
mod recorder;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use qyvol_types::{Algorithm, Digest};

use super::disk::Disk;
use super::{BlobSource, DeleteOutcome, Entry, PutError, Store, StoredRepository, disk};
use crate::Config;
use crate::manifest::Manifest;
use crate::names::Name;

const DAY: u64 = 24 * 3600;
const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A store over a directory, with a clock that a test moves.
struct TestStore {
    store: Store,
    ahead: Arc<AtomicU64>,
}

impl TestStore {
    fn open(data: &Path, disk: Arc<dyn Disk>, ahead: u64) -> TestStore {
        let ahead = Arc::new(AtomicU64::new(ahead));
        let clock = ahead.clone();
        let config = Config::new("127.0.0.1:0".parse().unwrap(), data, move || {
            SystemTime::now() + Duration::from_secs(clock.load(Ordering::Relaxed))
        });
        let store = Store::open_on(&config, disk).unwrap();
        TestStore { store, ahead }
    }

    fn advance(&self) {
        self.ahead.fetch_add(DAY + 60, Ordering::Relaxed);
    }

    fn blob(&self, repository: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let source = BlobSource::Bytes(bytes);
        self.store.put_blob(&name(repository), &digest, &source).unwrap();
        digest
    }

    /// Pushes by an upload of two parts.
    fn upload(&self, repository: &str, bytes: &[u8]) -> Digest {
        let (store, repository) = (&self.store, name(repository));
        let id = format!("{:032x}", bytes.len());
        let upload = store
            .uploads
            .start(&repository, id, Algorithm::Sha256, store.now(), None);
        let upload = upload.unwrap();
        let (first, second) = bytes.split_at(bytes.len() / 2);
        for part in [first, second] {
            store.uploads.append(&upload, &[Bytes::copy_from_slice(part)]).unwrap();
        }
        let digest = Digest::of(bytes);
        assert!(store.finish_upload(&repository, &upload, &digest).unwrap());
        digest
    }

    fn put(&self, repository: &str, text: &str, tags: &[&str]) -> Result<Digest, PutError> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let manifest = Manifest::read(&bytes, Some(IMAGE)).unwrap();
        let digest = Digest::of(&bytes);
        let entry = Entry {
            media_type: IMAGE.into(),
            size: bytes.len() as u64,
            artifact_type: None,
            subject: None,
        };
        let tags = tags.iter().map(|tag| tag.to_string()).collect();
        let name = name(repository);
        self.store
            .put_manifest(&name, digest, &bytes, entry, tags, &manifest.needed)?;
        Ok(digest)
    }

    fn push(&self, repository: &str, text: &str, tags: &[&str]) -> Digest {
        self.put(repository, text, tags).ok().unwrap()
    }

    fn repository(&self, repository: &str) -> Arc<StoredRepository> {
        self.store.repository(&name(repository)).unwrap()
    }

    fn delete_blob(&self, repository: &str, digest: &Digest) -> DeleteOutcome {
        self.store.delete_blob(&self.repository(repository), digest).unwrap()
    }

    fn mount(&self, to: &str, from: &str, digest: &Digest) -> bool {
        let from = self.repository(from);
        self.store.mount(&name(to), &from, digest).unwrap()
    }

    /// Every listed manifest has its own file and all that it needs, and each
    /// file is what its name says.
    fn assert_whole(&self) {
        for repository in self.store.repositories() {
            let listed: Vec<_> = repository.state().manifests.keys().copied().collect();
            for digest in listed {
                let needs = repository.references_of(&digest).unwrap().unwrap();
                for blob in needs {
                    let bytes = std::fs::read(repository.blob_path(&blob));
                    let bytes = bytes.unwrap_or_else(|e| panic!("{} lost {blob}: {e}", repository.name));
                    assert!(blob.matches(&bytes), "{blob}");
                }
            }
        }
    }

    /// Tags of all repositories, and manifests as tags of their own.
    fn names(&self) -> BTreeMap<String, Digest> {
        let mut names = BTreeMap::new();
        for repository in self.store.repositories() {
            let state = repository.state();
            let tags = state.tags.iter();
            names.extend(tags.map(|(tag, digest)| (format!("{}:{tag}", repository.name), *digest)));
            let manifests = state.manifests.keys();
            names.extend(manifests.map(|digest| (format!("{}@{digest}", repository.name), *digest)));
        }
        names
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn has(repository: &StoredRepository, digest: &Digest) -> bool {
    disk::stat(&repository.blob_path(digest)).unwrap().is_some()
}

fn image(config: &Digest, layer: &Digest, number: u64) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":1}},"layers":[{{"mediaType":"a/b","digest":"{layer}","size":1}}],"annotations":{{"n":"{number}"}}}}"#
    )
}
