//! Images, clients, and what a failed pull must leave behind: nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use qyvol_remote::{
    Access, Anonymous, Client, Credential, Credentials, Options, RemoteError, Repository, RetryPolicy, Secret,
    StaticCredential,
};
use qyvol_store::{CopyError, Exists, Fetch, LocalStore, MemoryStore, NoopReporter, Push, copy};
use qyvol_types::{Descriptor, ImageManifest, Reference, media_type};

use crate::registry::Registry;
use crate::server::Server;

/// The timeout of every client here: long enough that a machine under load answers in time.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);
/// Attempts after the first.
pub(crate) const RETRIES: u32 = 2;
/// A password that must not appear in any message.
pub(crate) const PASSWORD: &str = "s3cret-word";
/// `ana` with the password.
pub(crate) const BASIC: &str = "Basic YW5hOnMzY3JldC13b3Jk";

pub(crate) fn options() -> Options {
    Options {
        retry: RetryPolicy {
            retries: RETRIES,
            backoff: Duration::from_millis(1),
            max_wait: Duration::from_secs(2),
        },
        timeout: Some(TIMEOUT),
        ..Options::default()
    }
}

pub(crate) fn client() -> Arc<Client> {
    Client::new(options(), Box::new(Anonymous), Box::new(|_| {}))
}

pub(crate) fn client_as(credentials: impl Credentials + 'static) -> Arc<Client> {
    Client::new(options(), Box::new(credentials), Box::new(|_| {}))
}

/// The credentials of `ana` for a server.
pub(crate) fn ana(server: &Server) -> StaticCredential {
    StaticCredential {
        registry: server.host(),
        credential: Credential::Password {
            user: "ana".to_string(),
            password: Secret::new(PASSWORD),
        },
    }
}

pub(crate) fn name(server: &Server, rest: &str) -> Reference {
    format!("{}/{rest}", server.host()).parse().unwrap()
}

pub(crate) fn repository(client: &Arc<Client>, server: &Server) -> Repository {
    Repository::new(client, &name(server, "app:1"), Access::Push).unwrap()
}

/// Bytes that no compression or repetition makes smaller.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// An image of one layer.
pub(crate) struct Image {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: ImageManifest,
}

impl Image {
    pub(crate) fn new(length: usize) -> Image {
        let config = br#"{"architecture":"wasm"}"#.to_vec();
        let layer = noise(length, length as u64 + 7);
        let manifest = ImageManifest::image(
            Descriptor::of(media_type::WASM_CONFIG, &config),
            vec![Descriptor::of(media_type::WASM, &layer)],
        )
        .unwrap();
        Image {
            config,
            layer,
            manifest,
        }
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor()
    }

    pub(crate) fn layer(&self) -> &Descriptor {
        &self.manifest.layers()[0]
    }

    /// A registry with it as `app:1`.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.put_blob("app", &self.config);
        registry.put_blob("app", &self.layer);
        registry.put_manifest("app", "1", media_type::IMAGE_MANIFEST, self.manifest.raw());
        registry
    }

    pub(crate) fn store(&self) -> MemoryStore {
        let store = MemoryStore::new();
        store.add(media_type::WASM_CONFIG, &self.config).unwrap();
        store.add(media_type::WASM, &self.layer).unwrap();
        store.push(&self.descriptor(), &mut self.manifest.raw()).unwrap();
        store
    }

    /// Whether all of it is in the store, right to the last byte.
    pub(crate) fn is_in(&self, store: &(impl Fetch + Exists)) -> bool {
        let whole = |d: &Descriptor, bytes: &[u8]| store.fetch_bytes(d, 1 << 30).is_ok_and(|have| have == bytes);
        whole(&self.descriptor(), self.manifest.raw())
            && whole(self.manifest.config(), &self.config)
            && whole(self.layer(), &self.layer)
    }
}

/// A signature, or what looks like one.
pub(crate) fn referrer(subject: &Descriptor, text: &str) -> (ImageManifest, Vec<u8>) {
    let layer = text.as_bytes().to_vec();
    let manifest = ImageManifest::referrer(
        media_type::SIGSTORE_BUNDLE,
        subject.clone(),
        Descriptor::of(media_type::SIGSTORE_BUNDLE, &layer),
        Default::default(),
    )
    .unwrap();
    (manifest, layer)
}

/// Every tag of a repository.
pub(crate) fn tags(repository: &Repository) -> Result<Vec<String>, RemoteError> {
    let mut tags = Vec::new();
    repository.visit_tags(&mut |tag| tags.push(tag))?;
    Ok(tags)
}

/// The bytes of a layer that a repository returns.
pub(crate) fn read_layer(repository: &Repository, image: &Image) -> Result<Vec<u8>, qyvol_store::StoreError> {
    repository.fetch_bytes(image.layer(), 1 << 30)
}

/// Pulls `app:1` into a store in memory.
pub(crate) fn pull(server: &Server, into: &MemoryStore) -> Result<(), Failure> {
    pull_with(&client(), server, into)
}

pub(crate) fn pull_with(client: &Arc<Client>, server: &Server, into: &MemoryStore) -> Result<(), Failure> {
    let name = name(server, "app:1");
    let repository = Repository::new(client, &name, Access::Pull).map_err(Failure::Remote)?;
    let root = repository
        .resolve(&name)
        .map_err(Failure::Remote)?
        .ok_or(Failure::Absent)?;
    copy(&repository, into, &root, &|_| true, &NoopReporter).map_err(Failure::Copy)
}

/// Pushes an image from memory and tags it.
pub(crate) fn push(client: &Arc<Client>, server: &Server, image: &Image) -> Result<(), Failure> {
    let repository = repository(client, server);
    copy(
        &image.store(),
        &repository,
        &image.descriptor(),
        &|_| true,
        &NoopReporter,
    )
    .map_err(Failure::Copy)?;
    repository.publish_referrers().map_err(Failure::Remote)?;
    repository.tag("1", &image.manifest).map_err(Failure::Remote)
}

/// Why a pull or a push failed.
#[derive(Debug)]
pub(crate) enum Failure {
    Absent,
    Remote(RemoteError),
    Copy(CopyError),
}

impl Failure {
    /// The registry's error.
    pub(crate) fn remote(&self) -> &RemoteError {
        match self {
            Failure::Remote(error) => error,
            Failure::Copy(error) => of(error.store_error()),
            Failure::Absent => panic!("not there"),
        }
    }
}

pub(crate) fn of(error: &qyvol_store::StoreError) -> &RemoteError {
    RemoteError::of(error).unwrap_or_else(|| panic!("not the registry's: {error:?}"))
}

/// A store on disk that must be as empty afterwards as it was before.
pub(crate) struct Empty {
    directory: tempfile::TempDir,
    pub(crate) store: LocalStore,
}

impl Empty {
    pub(crate) fn new() -> Empty {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(&directory.path().join("home")).unwrap();
        Empty { directory, store }
    }

    /// Whether there is neither a blob nor a name.
    pub(crate) fn is_empty(&self) -> bool {
        let blobs = self.directory.path().join("home/store/v1/blobs");
        files(&blobs) == 0 && self.store.references().unwrap().is_empty()
    }
}

fn files(directory: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return 0;
    };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { 1 }
        })
        .sum()
}

/// Runs something that must not hang.
pub(crate) fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = work();
    let took = begin.elapsed();
    assert!(took < limit, "it took {took:?}");
    result
}
