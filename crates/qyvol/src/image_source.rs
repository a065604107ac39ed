//! The image behind a target: in an archive or in the store.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use qyvol_image::{Archive, ImageSignature, SignedImage};
use qyvol_store::{Fetch, LocalStore, Referrers, StoreError};
use qyvol_types::{ConfigError, Descriptor, ImageConfig, ImageManifest, Reference, escape, limits, media_type};

use crate::{Context, Error, ImageName, Target};

/// How an image was requested.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RequestedAs<'a> {
    /// A file.
    Archive,
    /// Content of the store, by its digest alone.
    Digest,
    /// A name, with a registry or without.
    Name(&'a Reference),
}

/// An image and where its blobs are.
pub enum ImageSource {
    /// In a file, which may hold several.
    Archive {
        /// The file.
        archive: Archive,
    },
    /// In the store.
    Stored {
        /// The store.
        store: LocalStore,
        /// The name under which it was found.
        name: ImageName,
        /// The image, read from the store.
        image: Box<SignedImage>,
    },
}

impl ImageSource {
    /// Opens an archive.
    pub fn archive(path: &Path) -> Result<ImageSource, Error> {
        // Opening a pipe would wait for its writer.
        let meta = path.metadata().map_err(Error::file("open", path))?;
        if meta.is_dir() {
            return Err(Error::Usage(format!(
                "{0} is a directory: `{0}/` names the application under development in it",
                escape(&path.to_string_lossy())
            )));
        }
        let other = |found| Error::NotArchive {
            path: path.to_path_buf(),
            found,
        };
        if !meta.is_file() {
            return Err(other("not a regular file"));
        }
        match Archive::open(path) {
            Ok(archive) => Ok(ImageSource::Archive { archive }),
            // Only now: what is an archive is not read twice.
            Err(error) => Err(match other_kind(path)? {
                Some(found) => other(found),
                None => Error::image(&path.to_string_lossy())(error),
            }),
        }
    }

    /// Finds a stored image and reads its manifest, config and signatures.
    pub fn stored(ctx: &Context<'_>, name: &ImageName) -> Result<ImageSource, Error> {
        let store = ctx.store()?;
        let descriptor = resolve(&store, name)?;
        let label = name.to_string();
        let image = read_image(ctx, &store, &label, &descriptor).map_err(|error| match error {
            Error::Store(source) => Error::Stored { target: label, source },
            other => other,
        })?;
        let image = Box::new(image);
        Ok(ImageSource::Stored {
            store,
            name: name.clone(),
            image,
        })
    }

    /// Opens the target, an archive or a stored image.
    pub fn open(ctx: &Context<'_>, target: &Target) -> Result<ImageSource, Error> {
        match target {
            Target::Archive(path) => ImageSource::archive(path),
            Target::Image(name) => ImageSource::stored(ctx, name),
            Target::Manifest(path) | Target::Wasm(path) => Err(Error::Usage(format!(
                "{} is not an image: a .qyvbin or the name of a stored image is expected",
                escape(&path.to_string_lossy())
            ))),
        }
    }

    /// The images it holds.
    pub fn images(&self) -> &[SignedImage] {
        match self {
            ImageSource::Archive { archive } => archive.images(),
            ImageSource::Stored { image, .. } => std::slice::from_ref(image),
        }
    }

    /// The one image, for verbs that take one.
    pub fn single(&self) -> Result<&SignedImage, Error> {
        match self.images() {
            [image] => Ok(image),
            many => Err(Error::Usage(format!(
                "the archive holds {} images ({}): load it and name one",
                many.len(),
                many.iter()
                    .filter_map(|i| i.names.first())
                    .map(Reference::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// Where its blobs are.
    pub(crate) fn blobs(&self) -> &(dyn Fetch + Sync) {
        match self {
            ImageSource::Archive { archive } => archive,
            ImageSource::Stored { store, .. } => store,
        }
    }

    /// How it was requested.
    pub(crate) fn asked(&self) -> RequestedAs<'_> {
        match self {
            ImageSource::Stored {
                name: ImageName::Reference(name),
                ..
            } => RequestedAs::Name(name),
            ImageSource::Stored { .. } => RequestedAs::Digest,
            ImageSource::Archive { .. } => RequestedAs::Archive,
        }
    }

    /// What the user named, for messages.
    pub fn label(&self) -> String {
        match self {
            ImageSource::Archive { archive } => archive.path().to_string_lossy().into_owned(),
            ImageSource::Stored { name, .. } => name.to_string(),
        }
    }
}

/// The kind of a file that is no archive; none if it may be one.
fn other_kind(path: &Path) -> Result<Option<&'static str>, Error> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::file("open", path))?;
    file.take(512)
        .read_to_end(&mut start)
        .map_err(Error::file("read", path))?;
    Ok(match start.as_slice() {
        [] => Some("an empty file"),
        [0x1f, 0x8b, ..] => Some("gzip found"),
        [b'\0', b'a', b's', b'm', ..] => Some("WebAssembly found"),
        [b'P', b'K', 3 | 5, ..] => Some("zip found"),
        bytes if bytes.get(257..262) == Some(b"ustar".as_slice()) => Some("an uncompressed tar found"),
        bytes if bytes.is_ascii() && bytes.len() > 3 => Some("text found"),
        _ => None,
    })
}

/// Resolves a name once.
pub(crate) fn resolve(store: &LocalStore, name: &ImageName) -> Result<Descriptor, Error> {
    let reference = match name {
        ImageName::Reference(reference) => reference,
        ImageName::Digest(prefix) => {
            let mut found = store.references()?;
            found.retain(|(_, descriptor)| prefix.matches(&descriptor.digest));
            found.sort_by_key(|(_, descriptor)| descriptor.digest);
            found.dedup_by_key(|(_, descriptor)| descriptor.digest);
            return match <[_; 1]>::try_from(found) {
                Ok([(_, descriptor)]) => Ok(descriptor),
                Err(found) if found.is_empty() => Err(Error::NoImage {
                    name: Box::new(name.clone()),
                    others: Vec::new(),
                }),
                Err(found) => Err(Error::Ambiguous {
                    prefix: prefix.clone(),
                    digests: found.iter().map(|(_, descriptor)| descriptor.digest).collect(),
                }),
            };
        }
    };
    if let Some(descriptor) = store.resolve(reference)? {
        return Ok(descriptor);
    }
    let others = store.references()?.into_iter().map(|(name, _)| name);
    let others = others.filter(|other| other.repository_name() == reference.repository_name());
    Err(Error::NoImage {
        name: Box::new(name.clone()),
        others: others.collect(),
    })
}

/// Reads an image's small blobs from a store, each checked against its digest. A referrer that
/// is no signature, or unreadable, is left out: junk referrers must not prevent a verdict on
/// the others.
pub(crate) fn read_image<S: Fetch + Referrers>(
    ctx: &Context<'_>,
    store: &S,
    label: &str,
    descriptor: &Descriptor,
) -> Result<SignedImage, Error> {
    let raw = store.fetch_bytes(descriptor, limits::MANIFEST_BYTES)?;
    let manifest = ImageManifest::parse(raw).map_err(Error::malformed(label))?;
    let config = store.fetch_bytes(manifest.config(), limits::CONFIG_BYTES)?;
    let mut image = SignedImage {
        names: vec![own_name(label, &config)?],
        manifest,
        config,
        signatures: Vec::new(),
        attestations: Vec::new(),
        large_attestations: Vec::new(),
    };
    let subject = image.descriptor();
    let mut bundles = HashSet::new();
    let mut room = limits::SIGNATURES_BYTES;
    let mut attestations = AttestationRoom::default();
    let mut looked_at = 0;
    for referrer in store.referrers(&descriptor.digest)? {
        // Skip other referrers, such as an SBOM. A list may state no type: then
        // the manifest does.
        let claimed = referrer.artifact_type.as_deref();
        if claimed.is_some_and(|kind| kind != media_type::SIGSTORE_BUNDLE) {
            continue;
        }
        looked_at += 1;
        // Attestations, whose number is bounded, take no room from signatures.
        let attested = image.attestations.len() + image.large_attestations.len();
        if looked_at > limits::SIGNATURES + attested {
            ctx.report.warned(&format!(
                "{label}: more than {} referrers, the rest are ignored",
                limits::SIGNATURES
            ));
            break;
        }
        match read_referrer(store, &referrer, &subject, room, &mut attestations) {
            // One bundle is one signature, however many manifests name it.
            Ok(Found::Signature(signature)) => {
                if bundles.insert(signature.manifest.layers().first().map(|layer| layer.digest)) {
                    room -= signature.bundle.len() as u64;
                    image.signatures.push(signature);
                }
            }
            Ok(Found::Attestation(attestation)) => image.attestations.push(attestation),
            Ok(Found::LargeAttestation(manifest)) => image.large_attestations.push(manifest),
            Ok(Found::Neither) if claimed.is_some() => ctx.report.warned(&format!(
                "{label}: referrer {} left out: it is no signature or attestation of this image, or more than is read of \
                 them together",
                referrer.digest
            )),
            Ok(Found::Neither) => {}
            Err(error) if error.is_content_error() || matches!(error, StoreError::NotFound { .. }) => ctx
                .report
                .warned(&format!("{label}: referrer {} left out: {error}", referrer.digest)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(image)
}

/// The application's own `name:version`, as its config has it.
pub(crate) fn own_name(label: &str, config: &[u8]) -> Result<Reference, Error> {
    let config = ImageConfig::parse(config).map_err(|why| match why {
        ConfigError::Foreign => Error::Foreign {
            target: label.to_string(),
            why: why.to_string(),
        },
        why => Error::malformed(label)(why),
    })?;
    let app = config.qyv.app;
    Reference::local(&app.name, &app.version).map_err(Error::malformed(label))
}

/// What a referrer is.
enum Found {
    Signature(ImageSignature),
    Attestation(ImageSignature),
    /// One whose bundle is not read before it is needed.
    LargeAttestation(ImageManifest),
    /// Something else, or beyond the limit on what is read.
    Neither,
}

/// The remaining budget for attestations. They have a budget of their own: neither they nor
/// signatures can crowd out the other.
struct AttestationRoom {
    number: usize,
    small: u64,
    large: u64,
}

impl Default for AttestationRoom {
    fn default() -> AttestationRoom {
        AttestationRoom {
            number: limits::ATTESTATIONS,
            small: limits::SIGNATURES_BYTES,
            large: limits::LARGE_ATTESTATIONS_BYTES,
        }
    }
}

impl AttestationRoom {
    /// Takes a bundle's size from the budget; false if it is exhausted.
    fn take(&mut self, size: u64) -> bool {
        let room = match size <= limits::BUNDLE_BYTES {
            true => &mut self.small,
            false => &mut self.large,
        };
        let left = room.checked_sub(size).filter(|_| size <= limits::ATTESTATION_BYTES);
        match (left, self.number.checked_sub(1)) {
            (Some(bytes), Some(number)) => {
                (*room, self.number) = (bytes, number);
                true
            }
            _ => false,
        }
    }
}

fn read_referrer<S: Fetch>(
    store: &S,
    referrer: &Descriptor,
    subject: &Descriptor,
    room: u64,
    attestations: &mut AttestationRoom,
) -> Result<Found, StoreError> {
    let manifest = referrer_manifest(store, referrer)?;
    let fits = ImageSignature::has_form(&manifest) && manifest.subject() == Some(subject);
    let Some(layer) = manifest.layers().first().filter(|_| fits) else {
        return Ok(Found::Neither);
    };
    let is_attestation = ImageSignature::is_attestation(&manifest);
    let has_room = match is_attestation {
        true => attestations.take(layer.size),
        false => layer.size <= room,
    };
    if !has_room {
        return Ok(Found::Neither);
    }
    if is_attestation && layer.size > limits::BUNDLE_BYTES {
        return Ok(Found::LargeAttestation(manifest));
    }
    let bundle = store.fetch_bytes(layer, limits::BUNDLE_BYTES)?;
    let Ok(signature) = ImageSignature::from_parts(manifest, bundle) else {
        return Ok(Found::Neither);
    };
    Ok(match is_attestation {
        true => Found::Attestation(signature),
        false => Found::Signature(signature),
    })
}

/// The manifest of a referrer, against its digest.
pub(crate) fn referrer_manifest<S: Fetch>(store: &S, referrer: &Descriptor) -> Result<ImageManifest, StoreError> {
    let raw = store.fetch_bytes(referrer, limits::MANIFEST_BYTES)?;
    ImageManifest::parse(raw).map_err(|source| StoreError::Manifest {
        digest: referrer.digest,
        source,
    })
}

/// Reads the bundle of a signature or attestation of an image by its manifest; none if the
/// manifest is neither.
pub(crate) fn read_bundle<S: Fetch + ?Sized>(
    store: &S,
    manifest: ImageManifest,
    subject: &Descriptor,
) -> Result<Option<ImageSignature>, StoreError> {
    let fits = ImageSignature::has_form(&manifest) && manifest.subject() == Some(subject);
    let Some(layer) = manifest.layers().first().filter(|_| fits) else {
        return Ok(None);
    };
    let limit = match ImageSignature::is_attestation(&manifest) {
        true => limits::ATTESTATION_BYTES,
        false => limits::BUNDLE_BYTES,
    };
    let bundle = store.fetch_bytes(layer, limit)?;
    Ok(ImageSignature::from_parts(manifest, bundle).ok())
}
