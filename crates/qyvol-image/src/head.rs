//! The head of an archive: everything except the content.
//!
//! Reading splits the tar, checks the hash of each blob against its name, follows `index.json`,
//! then writes the head again and compares. The comparison makes reading strict; the steps
//! before it only collect what to write.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;

use qyvol_types::{Descriptor, Digest, ImageManifest, Reference, limits, media_type};
use serde::{Deserialize, Serialize};

use crate::signature::EMPTY;
use crate::tar_stream::{header, padding, read_header};
use crate::{ImageError, ImageSignature};

const LAYOUT_PATH: &str = "oci-layout";
const INDEX_PATH: &str = "index.json";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// The images of an archive, with their signatures.
#[derive(Clone, Debug)]
pub struct Head {
    images: Vec<SignedImage>,
}

/// One image.
#[derive(Clone, Debug)]
pub struct SignedImage {
    /// Its names, as the index has them: sorted and unique. A name without a registry must be
    /// the image's own `name:version` from its config, which verification checks. A name with a
    /// registry is only a claim of the file's author.
    pub names: Vec<Reference>,
    /// Its manifest.
    pub manifest: ImageManifest,
    /// Its config's bytes.
    pub config: Vec<u8>,
    /// Its signatures, sorted by their manifests' digests.
    pub signatures: Vec<ImageSignature>,
    /// Its attestations, likewise.
    pub attestations: Vec<ImageSignature>,
    /// Manifests of attestations whose bundles are larger than [`limits::BUNDLE_BYTES`]. A head
    /// has none.
    pub large_attestations: Vec<ImageManifest>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Index {
    schema_version: u64,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl SignedImage {
    /// Its signatures and attestations, sorted by their manifests' digests.
    pub fn referrers(&self) -> Vec<&ImageSignature> {
        let mut all: Vec<_> = self.signatures.iter().chain(&self.attestations).collect();
        all.sort_by_key(|s| s.manifest.digest());
        all
    }

    /// Adds a signature or an attestation.
    pub fn add_referrer(&mut self, referrer: ImageSignature) {
        let all = match ImageSignature::is_attestation(&referrer.manifest) {
            true => &mut self.attestations,
            false => &mut self.signatures,
        };
        all.push(referrer);
        all.sort_by_key(|s| s.manifest.digest());
        all.dedup_by_key(|s| s.manifest.digest());
    }

    /// The descriptor of the manifest, as the image's signatures name it.
    pub fn descriptor(&self) -> Descriptor {
        self.manifest.descriptor()
    }

    /// Sorts the names and checks that each is unique and canonical: a tag, or
    /// the image's own digest.
    fn check_names(&mut self) -> Result<(), ImageError> {
        let digest = self.manifest.digest();
        if self.names.is_empty() {
            return Err(ImageError::format(format!("the image {digest} has no name")));
        }
        self.names.sort_by_cached_key(Reference::to_string);
        if let Some(pair) = self.names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ImageError::format(format!("it has the name {} twice", pair[0])));
        }
        let fits = |name: &Reference| match (name.tag(), name.digest()) {
            (tag, None) => tag.is_some(),
            (None, Some(named)) => *named == digest && name.registry().is_some(),
            (Some(_), Some(_)) => false,
        };
        match self.names.iter().find(|name| !fits(name)) {
            Some(name) => Err(ImageError::format(format!(
                "it names the image {digest} {name}: expected a tag, or in a registry that digest"
            ))),
            None => Ok(()),
        }
    }

    /// Checks that the manifest has the shape of a Qyvol image.
    fn check(&self) -> Result<(), ImageError> {
        let config = self.manifest.config();
        if config.size != self.config.len() as u64 || !config.digest.matches(&self.config) {
            return Err(ImageError::format("its config is not the one that its manifest names"));
        }
        check_shape(&self.manifest)
    }
}

/// Checks that images agree on each layer, and that no layer is a blob of the head.
fn check_layers(images: &[SignedImage]) -> Result<(), ImageError> {
    let mut seen: HashMap<Digest, &Descriptor> = HashMap::new();
    for layer in images.iter().flat_map(|i| i.manifest.layers()) {
        let first = seen.entry(layer.digest).or_insert(layer);
        if first.size != layer.size || first.media_type != layer.media_type {
            return Err(ImageError::format(format!(
                "its images disagree on the blob {}",
                layer.digest
            )));
        }
    }
    for image in images {
        let referrers = image.referrers();
        let bundles = referrers.iter().flat_map(|s| s.manifest.layers());
        let small = bundles.chain([image.manifest.config()]).map(|d| d.digest);
        let manifests = referrers
            .iter()
            .map(|s| s.manifest.digest())
            .chain([image.manifest.digest()]);
        if small
            .chain(manifests)
            .chain([Digest::of(EMPTY)])
            .any(|digest| seen.contains_key(&digest))
        {
            return Err(ImageError::format("a layer is also a manifest, config or signature"));
        }
    }
    Ok(())
}

/// Checks a manifest of an image: a config, a component, at most one assets layer.
pub(crate) fn check_shape(manifest: &ImageManifest) -> Result<(), ImageError> {
    let bad = |why: String| Err(ImageError::format(format!("its image {why}")));
    if manifest.artifact_type().is_some() || manifest.subject().is_some() {
        return bad("has an artifact type or subject, as signatures do".to_string());
    }
    // Optional in OCI, but our builders always write it: one image, one digest.
    if !manifest.has_media_type() {
        return bad("does not state its mediaType".to_string());
    }
    let config = manifest.config();
    if config.media_type != media_type::WASM_CONFIG {
        return bad(format!(
            "has a config of type {}",
            qyvol_types::escape(&config.media_type)
        ));
    }
    let types: Vec<&str> = manifest.layers().iter().map(|l| l.media_type.as_str()).collect();
    if !matches!(
        types.as_slice(),
        [media_type::WASM] | [media_type::WASM, media_type::ASSETS]
    ) {
        return bad("has other layers than one component and at most one of assets".to_string());
    }
    for (what, limit, layer) in [
        ("component", limits::COMPONENT_BYTES, manifest.layers().first()),
        ("asset layer", limits::ENTRY_BYTES, manifest.layers().get(1)),
        ("image config", limits::CONFIG_BYTES, Some(config)),
    ] {
        let got = layer.map_or(0, |l| l.size);
        if got > limit {
            return Err(ImageError::Limit { what, got, limit });
        }
    }
    if manifest
        .layers()
        .iter()
        .any(|l| l.digest.algorithm() != qyvol_types::Algorithm::Sha256)
    {
        return bad("has a layer whose digest is not SHA-256".to_string());
    }
    Ok(())
}

/// Whether a file's first bytes look like an archive's: a zstd frame.
pub fn is_archive(start: &[u8]) -> bool {
    start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

/// Whether a file is a `.qyvbin` by its content: its first frame is a head.
pub fn is_qyvbin(from: &mut impl Read) -> bool {
    starts_as_head(from).unwrap_or(false)
}

fn starts_as_head(from: &mut impl Read) -> Result<bool, ImageError> {
    let Some(frame) = crate::frames::read_frame(from, limits::HEAD_BYTES)? else {
        return Ok(false);
    };
    let decoded = crate::frames::Decompressor::new()?.decode(&frame, None, limits::HEAD_BYTES)?;
    Ok(decoded.starts_with(&header(LAYOUT_PATH, LAYOUT.len() as u64)))
}

impl Head {
    /// A head over some images: sorted by their first names, each with its names
    /// sorted, and its signatures sorted by digest. Refuses two images of one
    /// name, an image that is listed twice, and signatures of other images.
    pub fn new(mut images: Vec<SignedImage>) -> Result<Head, ImageError> {
        if images.is_empty() {
            return Err(ImageError::format("it holds no image"));
        }
        let names: usize = images.iter().map(|image| image.names.len()).sum();
        for (what, got) in [("number of images", images.len()), ("number of names", names)] {
            if got > limits::ARCHIVE_IMAGES {
                return Err(ImageError::Limit {
                    what,
                    got: got as u64,
                    limit: limits::ARCHIVE_IMAGES as u64,
                });
            }
        }
        images.iter_mut().try_for_each(SignedImage::check_names)?;
        images.sort_by_cached_key(|image| image.names.first().map(Reference::to_string));
        let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for image in &images {
            if let Some(name) = image.names.iter().find(|name| !names.insert(*name)) {
                return Err(ImageError::format(format!("it holds two images of the name {name}")));
            }
            let digest = image.manifest.digest();
            if !digests.insert(digest) {
                return Err(ImageError::format(format!("it holds the image {digest} twice")));
            }
        }
        check_layers(&images)?;
        for image in &mut images {
            image.check()?;
            let subject = image.descriptor();
            if let Some(large) = image.attestations.iter().find(|a| !a.fits_archive()) {
                return Err(ImageError::Limit {
                    what: "size of an attestation in bytes",
                    got: large.bundle.len() as u64,
                    limit: limits::BUNDLE_BYTES,
                });
            }
            for signature in image.signatures.iter().chain(&image.attestations) {
                signature.check()?;
                let named = signature.manifest.subject();
                if named.is_none_or(|s| *s != subject) {
                    return Err(ImageError::format("a signature belongs to another image"));
                }
            }
            for all in [&mut image.signatures, &mut image.attestations] {
                all.sort_by_key(|s| s.manifest.digest());
                all.dedup_by_key(|s| s.manifest.digest());
            }
            image.large_attestations.clear();
        }
        Ok(Head { images })
    }

    /// The images, sorted by their first names.
    pub fn images(&self) -> &[SignedImage] {
        &self.images
    }

    /// The content blobs that follow the head, in order, each once.
    pub fn content(&self) -> Vec<Descriptor> {
        let mut seen = BTreeSet::new();
        let layers = self.images.iter().flat_map(|i| i.manifest.layers());
        layers.filter(|l| seen.insert(l.digest)).cloned().collect()
    }

    /// The small blobs that the head itself carries.
    pub(crate) fn blobs(&self) -> Vec<(Digest, &[u8])> {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        let mut add = |digest: Digest, bytes| {
            if seen.insert(digest) {
                out.push((digest, bytes));
            }
        };
        for image in &self.images {
            add(image.manifest.digest(), image.manifest.raw());
            add(image.manifest.config().digest, &image.config);
            for signature in image.referrers() {
                add(signature.manifest.digest(), signature.manifest.raw());
                add(Digest::of(EMPTY), EMPTY);
                add(Digest::of(&signature.bundle), &signature.bundle);
            }
        }
        out
    }

    /// The head's part of the tar stream.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ImageError> {
        let mut manifests = Vec::new();
        for image in &self.images {
            let descriptor = image.descriptor();
            manifests.extend(image.names.iter().map(|name| {
                let name = name.to_string();
                descriptor
                    .clone()
                    .with_annotation(media_type::ANNOTATION_REF_NAME, &name)
            }));
            manifests.extend(image.referrers().iter().map(|s| s.manifest.descriptor()));
        }
        let index = Index {
            schema_version: 2,
            media_type: media_type::IMAGE_INDEX.to_string(),
            manifests,
        };
        let index = qyvol_types::json::encode(&index).map_err(|e| ImageError::format(e.to_string()))?;
        let mut out = Vec::new();
        entry(&mut out, LAYOUT_PATH, LAYOUT);
        entry(&mut out, INDEX_PATH, &index);
        for (digest, bytes) in self.blobs() {
            entry(&mut out, &blob_path(&digest), bytes);
        }
        if out.len() as u64 > limits::HEAD_BYTES {
            return Err(ImageError::Limit {
                what: "head of the archive in bytes",
                got: out.len() as u64,
                limit: limits::HEAD_BYTES,
            });
        }
        Ok(out)
    }

    /// Reads a head from its decoded bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Head, ImageError> {
        let (index, blobs) = split(bytes)?;
        let index: Index =
            qyvol_types::json::decode(index).map_err(|e| ImageError::format(format!("its index.json is {e}")))?;
        if index.schema_version != 2 || index.media_type != media_type::IMAGE_INDEX {
            return Err(ImageError::format("its index.json is not an OCI image index"));
        }
        let mut images: Vec<SignedImage> = Vec::new();
        let (mut copied, mut last_copied) = (0, 0);
        for descriptor in &index.manifests {
            let name = descriptor.annotations.get(media_type::ANNOTATION_REF_NAME);
            let name: Option<Reference> = name
                .map(|name| name.parse())
                .transpose()
                .map_err(|why| ImageError::format(format!("its image has a name that is {why}")))?;
            // One more name of the image before it.
            if let Some(last) = images.last_mut()
                && let Some(name) = &name
                && last.signatures.is_empty()
                && last.attestations.is_empty()
                && last.manifest.digest() == descriptor.digest
            {
                last.names.push(name.clone());
                continue;
            }
            // Small blobs may be shared by many; their copies are bounded.
            copied += last_copied;
            if copied as u64 > 4 * limits::HEAD_BYTES || images.len() > limits::ARCHIVE_IMAGES {
                return Err(ImageError::format(
                    "its index.json names the same small blobs too often",
                ));
            }
            let manifest = ImageManifest::parse(find(&blobs, &descriptor.digest, "manifest")?.to_vec())?;
            match (&descriptor.artifact_type, name) {
                (None, Some(name)) => {
                    let config = find(&blobs, &manifest.config().digest, "config")?.to_vec();
                    last_copied = config.len();
                    images.push(SignedImage {
                        names: vec![name],
                        manifest,
                        config,
                        signatures: Vec::new(),
                        attestations: Vec::new(),
                        large_attestations: Vec::new(),
                    });
                }
                (Some(_), None) => {
                    let layer = manifest
                        .layers()
                        .first()
                        .ok_or_else(|| ImageError::format("a signature has no bundle"))?;
                    let bundle = find(&blobs, &layer.digest, "bundle")?.to_vec();
                    last_copied = bundle.len();
                    let image = images
                        .last_mut()
                        .ok_or_else(|| ImageError::format("a signature stands before its image"))?;
                    let all = match ImageSignature::is_attestation(&manifest) {
                        true => &mut image.attestations,
                        false => &mut image.signatures,
                    };
                    all.push(ImageSignature { manifest, bundle });
                }
                _ => {
                    return Err(ImageError::format(
                        "an entry of its index.json is neither an image with a name nor a signature",
                    ));
                }
            }
        }
        let head = Head::new(images)?;
        let canonical = head.encode()?;
        if canonical != bytes {
            let at = canonical
                .iter()
                .zip(bytes)
                .position(|(a, b)| a != b)
                .unwrap_or(canonical.len().min(bytes.len()));
            return Err(ImageError::format(format!(
                "its head differs from the canonical one at byte {at}"
            )));
        }
        Ok(head)
    }
}

/// The path of a blob in the layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn entry(out: &mut Vec<u8>, path: &str, bytes: &[u8]) {
    out.extend_from_slice(&header(path, bytes.len() as u64));
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len() as u64), 0);
}

type Blobs<'a> = HashMap<Digest, &'a [u8]>;

/// Splits the head's tar into `index.json` and the blobs by digest.
fn split(bytes: &[u8]) -> Result<(&[u8], Blobs<'_>), ImageError> {
    let mut rest = bytes;
    take_entry(&mut rest, Some(LAYOUT_PATH))?;
    let (_, index) = take_entry(&mut rest, Some(INDEX_PATH))?;
    let mut blobs = HashMap::new();
    while !rest.is_empty() {
        let (name, content) = take_entry(&mut rest, None)?;
        let digest = Digest::of(content);
        if blob_path(&digest) != name {
            let name = qyvol_types::escape(&name).to_string();
            return Err(ImageError::format(format!(
                "the content of `{name}` in its head has digest {digest}"
            )));
        }
        blobs.insert(digest, content);
    }
    Ok((index, blobs))
}

fn take_entry<'a>(rest: &mut &'a [u8], due: Option<&str>) -> Result<(String, &'a [u8]), ImageError> {
    let Some((name, size)) = read_header(rest)? else {
        return Err(ImageError::format("its head ends the tar"));
    };
    if let Some(due) = due.filter(|due| *due != name) {
        let name = qyvol_types::escape(&name).to_string();
        return Err(ImageError::format(format!(
            "its head has `{name}` where `{due}` is due"
        )));
    }
    let whole = usize::try_from(size).ok().and_then(|n| n.checked_add(padding(size)));
    let (entry, after) = whole
        .and_then(|n| rest.split_at_checked(n))
        .ok_or_else(|| ImageError::format("its head is cut short"))?;
    *rest = after;
    Ok((name, &entry[..size as usize]))
}

fn find<'a>(blobs: &Blobs<'a>, digest: &Digest, what: &str) -> Result<&'a [u8], ImageError> {
    blobs
        .get(digest)
        .copied()
        .ok_or_else(|| ImageError::format(format!("its head lacks the {what} {digest}")))
}

/// Reads and decodes the first frame. Also returns its length decoded and in
/// the file.
pub(crate) fn read(from: &mut impl Read) -> Result<(Head, usize, u64), ImageError> {
    let frame =
        crate::frames::read_frame(from, limits::HEAD_BYTES)?.ok_or_else(|| ImageError::format("it is empty"))?;
    let decoded = crate::frames::Decompressor::new()?.decode(&frame, None, limits::HEAD_BYTES)?;
    let head = Head::decode(&decoded)?;
    Ok((head, decoded.len(), frame.len() as u64))
}
