//! OCI image layouts (image-spec 1.1, `image-layout.md`), as other programs
//! write them: a directory, or an uncompressed tar of one.
//!
//! Unlike a `.qyvbin` a layout has no canonical form, so it is read leniently:
//! what is no Qyvol image is passed over. Every blob is held against its digest
//! by [`Fetch::fetch`], and every number and length is bounded. Compressed tars
//! and layouts with `urls` are not read.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_store::{Body, Fetch, StoreError};
use qyvol_types::{Descriptor, Digest, ImageConfig, ImageManifest, Reference, json, limits, media_type};
use rustix::fs::OFlags;
use serde::Deserialize;

use crate::head::blob_path;
use crate::{Head, HeadImage, HeadSignature, ImageError};

/// Bytes of `index.json` or of an index in it.
const INDEX_BYTES: u64 = 4 << 20;
/// Manifests that are looked at.
const MANIFESTS: usize = 4096;
/// Entries of a tar that are looked at.
const ENTRIES: usize = 65_536;
/// Where containerd and `docker save` put the whole name; the annotation of the
/// specification is often a tag alone.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The Qyvol images of a layout.
#[derive(Debug)]
pub struct Layout {
    files: Files,
    head: Head,
}

/// Where the files are.
#[derive(Debug)]
enum Files {
    Directory(PathBuf),
    Tar {
        file: Arc<File>,
        /// Where each file's content begins, and its length.
        places: HashMap<String, (u64, u64)>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

/// What the manifests of a layout are, gathered one by one.
#[derive(Default)]
struct Found {
    looked_at: usize,
    images: BTreeMap<Digest, (ImageManifest, Vec<Reference>)>,
    signatures: BTreeMap<Digest, Vec<ImageManifest>>,
}

impl Layout {
    /// Whether a path is that of a directory with a layout, or of a tar.
    pub fn is_at(path: &Path) -> io::Result<bool> {
        if path.is_dir() {
            return Ok(true);
        }
        let file = open(path)?;
        let mut start = [0; 262];
        match file.read_exact_at(&mut start, 0) {
            Ok(()) => Ok(start.ends_with(b"ustar")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads everything but the layers.
    pub fn open(path: &Path) -> Result<Layout, ImageError> {
        let files = match path.is_dir() {
            true => Files::Directory(path.to_path_buf()),
            false => tar_of(path)?,
        };
        let marker: Marker = read_json(&files, "oci-layout")?;
        if !marker.image_layout_version.starts_with("1.") {
            return Err(bad("its version is not 1.x"));
        }
        let index: Index = read_json(&files, "index.json")?;
        let mut found = Found::default();
        for descriptor in &index.manifests {
            if descriptor.media_type == media_type::IMAGE_INDEX {
                // A list of referrers under a tag, or an image of many platforms.
                let raw = files.fetch_bytes(descriptor, INDEX_BYTES)?;
                let nested: Index = json::decode(&raw).map_err(|e| bad(format!("an index in it is {e}")))?;
                for inner in &nested.manifests {
                    found.take(&files, inner)?;
                }
            } else {
                found.take(&files, descriptor)?;
            }
        }
        let head = Head::new(found.images(&files)?)?;
        Ok(Layout { files, head })
    }

    /// Its images, as the head of an archive would hold them.
    pub fn head(&self) -> &Head {
        &self.head
    }
}

impl Fetch for Layout {
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        self.files.fetch_unverified(descriptor)
    }
}

impl Found {
    fn take(&mut self, files: &Files, descriptor: &Descriptor) -> Result<(), ImageError> {
        self.looked_at += 1;
        if self.looked_at > MANIFESTS {
            return Err(ImageError::Limit {
                what: "number of manifests",
                got: self.looked_at as u64,
                limit: MANIFESTS as u64,
            });
        }
        if descriptor.media_type != media_type::IMAGE_MANIFEST || descriptor.size > limits::MANIFEST_BYTES {
            return Ok(());
        }
        let raw = match files.fetch_bytes(descriptor, limits::MANIFEST_BYTES) {
            // An index may name what was left out of the layout, as platforms.
            Err(StoreError::NotFound { .. }) => return Ok(()),
            raw => raw?,
        };
        let Ok(manifest) = ImageManifest::parse(raw) else {
            return Ok(());
        };
        let digest = manifest.digest();
        if let Some(subject) = manifest.subject() {
            if manifest.artifact_type() == Some(media_type::SIGSTORE_BUNDLE) {
                self.signatures.entry(subject.digest).or_default().push(manifest);
            }
            return Ok(());
        }
        if manifest.config().media_type != media_type::WASM_CONFIG {
            return Ok(());
        }
        let (_, names) = self.images.entry(digest).or_insert_with(|| (manifest, Vec::new()));
        let annotations = [CONTAINERD_NAME, media_type::ANNOTATION_REF_NAME];
        let name = annotations.iter().find_map(|key| {
            let text = descriptor.annotations.get(*key)?;
            let name: Reference = text.parse().ok()?;
            (name.registry().is_some() && (name.tag().is_some() != name.digest().is_some())).then_some(name)
        });
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.push(name);
        }
        Ok(())
    }

    /// The images with their configs and signatures. One whose config is not a
    /// Qyvol application's is passed over.
    fn images(mut self, files: &Files) -> Result<Vec<HeadImage>, ImageError> {
        let mut images = Vec::new();
        for (digest, (manifest, mut names)) in std::mem::take(&mut self.images) {
            let config = files.fetch_bytes(manifest.config(), limits::CONFIG_BYTES)?;
            let Ok(parsed) = ImageConfig::parse(&config) else {
                continue;
            };
            if names.is_empty() {
                let app = &parsed.qyv.app;
                names.push(Reference::local(&app.name, &app.version).map_err(|e| bad(e.to_string()))?);
            }
            images.push(HeadImage {
                names,
                config,
                signatures: self.signatures_of(files, &digest)?,
                manifest,
            });
        }
        match images.is_empty() {
            true => Err(bad("it holds no Qyvol image")),
            false => Ok(images),
        }
    }

    fn signatures_of(&mut self, files: &Files, image: &Digest) -> Result<Vec<HeadSignature>, ImageError> {
        let mut signatures = Vec::new();
        let mut room = limits::SIGNATURES_BYTES;
        let all = self.signatures.remove(image).unwrap_or_default();
        for manifest in all.into_iter().take(limits::SIGNATURES) {
            let Some(layer) = manifest.layers().first().filter(|layer| layer.size <= room) else {
                continue;
            };
            let bundle = files.fetch_bytes(layer, limits::BUNDLE_BYTES)?;
            room -= bundle.len() as u64;
            signatures.extend(HeadSignature::from_parts(manifest, bundle));
        }
        Ok(signatures)
    }
}

impl Files {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Files::Directory(directory) => Ok(Box::new(open(&directory.join(name))?)),
            Files::Tar { file, places } => {
                let (at, left) = *places.get(name).ok_or(io::ErrorKind::NotFound)?;
                let file = Arc::clone(file);
                Ok(Box::new(Section { file, at, left }))
            }
        }
    }
}

impl Fetch for Files {
    fn fetch_unverified(&self, descriptor: &Descriptor) -> Result<Body, StoreError> {
        let digest = descriptor.digest;
        self.open(&blob_path(&digest)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { digest },
            _ => StoreError::reading(&digest, error),
        })
    }
}

/// A part of a file.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else {
            return Ok(0);
        };
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Opens a regular file, without waiting for a pipe's writer.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits() as i32)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn bad(why: impl Into<String>) -> ImageError {
    ImageError::Layout(why.into())
}

fn read_json<T: serde::de::DeserializeOwned>(files: &Files, name: &str) -> Result<T, ImageError> {
    let mut bytes = Vec::new();
    let read = files
        .open(name)
        .and_then(|file| file.take(INDEX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => bad(format!("it has no {name}")),
        _ => bad(format!("its {name} can't be read: {error}")),
    })?;
    if bytes.len() as u64 > INDEX_BYTES {
        return Err(ImageError::Limit {
            what: "an index's size",
            got: bytes.len() as u64,
            limit: INDEX_BYTES,
        });
    }
    json::decode(&bytes).map_err(|e| bad(format!("its {name} is {e}")))
}

/// Where the files of a tar are. Only headers are read.
fn tar_of(path: &Path) -> Result<Files, ImageError> {
    let unreadable = |source| ImageError::File {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let file = open(path).map_err(unreadable)?;
    let mut places = HashMap::new();
    let mut archive = tar::Archive::new(&file);
    for (number, entry) in archive.entries_with_seek().map_err(unreadable)?.enumerate() {
        if number >= ENTRIES {
            return Err(ImageError::Limit {
                what: "number of entries",
                got: number as u64 + 1,
                limit: ENTRIES as u64,
            });
        }
        let entry = entry.map_err(|e| bad(format!("its tar is damaged: {e}")))?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = entry.path_bytes();
        let Ok(name) = std::str::from_utf8(&name) else { continue };
        let name = name.trim_start_matches("./").to_string();
        places.entry(name).or_insert((entry.raw_file_position(), entry.size()));
    }
    Ok(Files::Tar {
        file: Arc::new(file),
        places,
    })
}
