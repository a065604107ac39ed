//! OCI image layouts (image-spec 1.1, `image-layout.md`), as other programs
//! write them: a directory, or an uncompressed tar of one.
//!
//! Unlike a `.qyvbin` a layout has no canonical form, so it is read leniently:
//! entries that are neither a Qyvol image nor a signature of one are skipped.
//! Every blob is verified by [`Fetch::fetch`], and every number and length is
//! bounded before it costs memory. Compressed tars are not read, nor tar entries whose names
//! need extended headers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_store::{Body, Fetch, StoreError};
use qyvol_types::{Descriptor, Digest, ImageConfig, ImageManifest, Reference, json, limits, media_type};
use rustix::fs::OFlags;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::head::blob_path;
use crate::{Head, ImageError, ImageSignature, SignedImage};

/// Bytes of `index.json` or of an index in it.
const INDEX_BYTES: u64 = 4 << 20;
/// Manifests and indexes that are read.
const MANIFESTS: usize = 4096;
/// All of those together, in bytes.
const MANIFESTS_BYTES: u64 = 64 << 20;
/// Entries of a tar that are read.
const ENTRIES: usize = 65_536;
/// The annotation in which containerd and `docker save` put the full name; the annotation of
/// the specification is often only a tag.
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
    manifests: Vec<Entry>,
}

/// A descriptor, of an image of ours or of anything else.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Ours(Descriptor),
    Other(IgnoredAny),
}

/// What the manifests of a layout are, collected one by one.
#[derive(Default)]
struct Found {
    looked_at: HashSet<Digest>,
    bytes: u64,
    images: BTreeMap<Digest, (ImageManifest, Vec<Reference>)>,
    signatures: BTreeMap<Digest, Vec<ImageManifest>>,
}

impl Layout {
    /// Whether a path is that of a directory with a layout, or of a tar.
    pub fn is_layout(path: &Path) -> io::Result<bool> {
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

    /// Reads everything except the layers.
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
        found.all(&files, &index, true)?;
        // Errors about the head are reported for the layout: there is no archive here.
        let head = Head::new(found.images(&files)?).map_err(|error| match error {
            ImageError::Format(why) => bad(why),
            error => error,
        })?;
        Ok(Layout { files, head })
    }

    /// Its images, in the form of an archive's head.
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
    /// Reads what an index names, and one level deeper: a list of referrers under a tag, or an
    /// image for several platforms.
    fn all(&mut self, files: &Files, index: &Index, deeper: bool) -> Result<(), ImageError> {
        for entry in &index.manifests {
            let Entry::Ours(descriptor) = entry else { continue };
            if descriptor.media_type == media_type::IMAGE_INDEX && deeper {
                if !self.looked_at.contains(&descriptor.digest)
                    && let Some(raw) = self.read(files, descriptor, INDEX_BYTES)?
                    && let Ok(nested) = json::decode::<Index>(&raw)
                {
                    self.all(files, &nested, false)?;
                }
            } else if descriptor.media_type == media_type::IMAGE_MANIFEST {
                self.take(files, descriptor)?;
            }
        }
        Ok(())
    }

    /// Content of the layout; none if it is missing, is something else, or is too large: an
    /// index may name content that was left out.
    fn read(&mut self, files: &Files, descriptor: &Descriptor, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        self.looked_at.insert(descriptor.digest);
        self.bytes += descriptor.size.min(limit);
        let number = self.looked_at.len() as u64;
        for (what, got, limit) in [
            ("number of manifests", number, MANIFESTS as u64),
            ("size of all manifests in bytes", self.bytes, MANIFESTS_BYTES),
        ] {
            if got > limit {
                return Err(ImageError::Limit { what, got, limit });
            }
        }
        usable(files.fetch_bytes(descriptor, limit))
    }

    fn take(&mut self, files: &Files, descriptor: &Descriptor) -> Result<(), ImageError> {
        // A manifest may be named many times, each time with another tag.
        if let Some((_, names)) = self.images.get_mut(&descriptor.digest) {
            add_name(names, descriptor);
            return Ok(());
        }
        if self.looked_at.contains(&descriptor.digest) {
            return Ok(());
        }
        let Some(raw) = self.read(files, descriptor, limits::MANIFEST_BYTES)? else {
            return Ok(());
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
        if self.images.len() == limits::ARCHIVE_IMAGES {
            return Err(ImageError::Limit {
                what: "number of images",
                got: self.images.len() as u64 + 1,
                limit: limits::ARCHIVE_IMAGES as u64,
            });
        }
        let mut names = Vec::new();
        add_name(&mut names, descriptor);
        self.images.insert(digest, (manifest, names));
        Ok(())
    }

    /// The images with their configs and signatures. An image whose config is not that of a
    /// Qyvol application is skipped.
    fn images(mut self, files: &Files) -> Result<Vec<SignedImage>, ImageError> {
        let mut images = Vec::new();
        let mut room = limits::SIGNATURES_BYTES;
        for (_, (manifest, mut names)) in std::mem::take(&mut self.images) {
            let Some(config) = usable(files.fetch_bytes(manifest.config(), limits::CONFIG_BYTES))? else {
                return Err(bad(format!("it lacks the config of the image {}", manifest.digest())));
            };
            let Ok(parsed) = ImageConfig::parse(&config) else {
                continue;
            };
            if names.is_empty() {
                let app = &parsed.qyv.app;
                names.push(Reference::local(&app.name, &app.version).map_err(|e| bad(e.to_string()))?);
            }
            let mut image = SignedImage {
                names,
                config,
                manifest,
                signatures: Vec::new(),
                attestations: Vec::new(),
                large_attestations: Vec::new(),
            };
            for referrer in self.signatures_of(files, &image.descriptor(), &mut room)? {
                image.add_referrer(referrer);
            }
            images.push(image);
        }
        match images.is_empty() {
            true => Err(bad("it holds no Qyvol image")),
            false => Ok(images),
        }
    }

    fn signatures_of(
        &mut self,
        files: &Files,
        image: &Descriptor,
        room: &mut u64,
    ) -> Result<Vec<ImageSignature>, ImageError> {
        let mut signatures = Vec::new();
        let all = self.signatures.remove(&image.digest).unwrap_or_default();
        let all = all.into_iter().filter(|manifest| manifest.subject() == Some(image));
        for manifest in all.take(limits::SIGNATURES) {
            let Some(layer) = manifest.layers().first().filter(|layer| layer.size <= *room) else {
                continue;
            };
            if let Some(bundle) = usable(files.fetch_bytes(layer, limits::BUNDLE_BYTES))? {
                *room -= bundle.len() as u64;
                signatures.extend(ImageSignature::from_parts(manifest, bundle));
            }
        }
        Ok(signatures)
    }
}

/// The name that an index gives an image, if it has a registry.
fn add_name(names: &mut Vec<Reference>, descriptor: &Descriptor) {
    let annotations = [CONTAINERD_NAME, media_type::ANNOTATION_REF_NAME];
    let name = annotations.iter().find_map(|key| {
        let name: Reference = descriptor.annotations.get(*key)?.parse().ok()?;
        (name.registry().is_some() && (name.tag().is_some() != name.digest().is_some())).then_some(name)
    });
    if let Some(name) = name.filter(|name| !names.contains(name)) {
        names.push(name);
    }
}

/// What was read, or none if the content is invalid or absent.
fn usable(read: Result<Vec<u8>, StoreError>) -> Result<Option<Vec<u8>>, ImageError> {
    match read {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) if error.is_content_error() => Ok(None),
        Err(error) => Err(error.into()),
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
        _ => ImageError::File {
            action: "read",
            path: PathBuf::from(name),
            source: error,
        },
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

/// The offsets of a tar's files. Only plain headers are read, not the entries in which GNU and
/// PAX put longer names.
fn tar_of(path: &Path) -> Result<Files, ImageError> {
    let unreadable = |source| ImageError::File {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let file = open(path).map_err(unreadable)?;
    let mut places = HashMap::new();
    let mut archive = tar::Archive::new(&file);
    for (number, entry) in archive.entries_with_seek().map_err(unreadable)?.raw(true).enumerate() {
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

#[cfg(test)]
mod tests;
