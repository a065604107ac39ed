//! Images to store, and inspection of a store's directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use qyvol_store::{LocalStore, Push};
use qyvol_types::{Descriptor, Digest, ImageManifest, Reference, media_type};
use tempfile::TempDir;

pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) store: LocalStore,
}

impl Home {
    pub(crate) fn new() -> Home {
        let dir = TempDir::new().unwrap();
        let store = LocalStore::open(&dir.path().join("home")).unwrap();
        Home { dir, store }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The store as another process sees it.
    pub(crate) fn other(&self) -> LocalStore {
        LocalStore::open(&self.root()).unwrap()
    }

    pub(crate) fn v1(&self) -> PathBuf {
        self.root().join("store/v1")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.v1().join(format!("blobs/sha256/{}/{hex}", &hex[..2]))
    }

    /// Every file of the store below `v1`, except its locks and key.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![self.v1()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let entry = entry.unwrap();
                let path = entry.path();
                if entry.file_type().unwrap().is_dir() {
                    left.push(path);
                } else {
                    found.push(path.strip_prefix(self.v1()).unwrap().display().to_string());
                }
            }
        }
        found.retain(|path| !path.starts_with("locks/") && path != "state/key");
        found.sort();
        found
    }

    /// Names and tags an image made from `seed`.
    pub(crate) fn load(&self, name: &str, seed: &str) -> Image {
        let mut ingest = self.store.begin().unwrap();
        let image = image(&ingest, seed);
        ingest.tag(&reference(name), &image.manifest);
        ingest.commit().unwrap();
        image
    }
}

pub(crate) struct Image {
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layer: Descriptor,
}

pub(crate) fn reference(name: &str) -> Reference {
    name.parse().unwrap()
}

pub(crate) fn put(sink: &impl Push, media_type: &str, bytes: &[u8]) -> Descriptor {
    let descriptor = Descriptor::of(media_type, bytes);
    sink.push(&descriptor, &mut &*bytes).unwrap();
    descriptor
}

pub(crate) fn image(sink: &impl Push, seed: &str) -> Image {
    let config = put(
        sink,
        media_type::WASM_CONFIG,
        format!("{{\"seed\":\"{seed}\"}}").as_bytes(),
    );
    let layer = put(sink, media_type::WASM, format!("component {seed}").as_bytes());
    let manifest = ImageManifest::image(config.clone(), vec![layer.clone()]).unwrap();
    let manifest = put(sink, media_type::IMAGE_MANIFEST, manifest.raw());
    Image {
        manifest,
        config,
        layer,
    }
}

/// A signature manifest that refers to `subject`.
pub(crate) fn sign(sink: &impl Push, subject: &Descriptor, by: &str) -> Descriptor {
    put(sink, media_type::EMPTY, b"{}");
    let bundle = put(sink, media_type::SIGSTORE_BUNDLE, format!("signed by {by}").as_bytes());
    let manifest =
        ImageManifest::referrer(media_type::SIGSTORE_BUNDLE, subject.clone(), bundle, Default::default()).unwrap();
    put(sink, media_type::IMAGE_MANIFEST, manifest.raw());
    manifest.descriptor()
}

/// Overwrites a file in place, whatever its mode.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    let mode = fs::metadata(path).unwrap().permissions().mode();
    chmod(path, 0o600);
    fs::write(path, bytes).unwrap();
    chmod(path, mode);
}

/// Changes one byte of a file in place, whatever its mode.
pub(crate) fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    overwrite(path, &bytes);
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
