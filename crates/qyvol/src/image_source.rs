//! What a user names, and the image behind it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use qyvol_image::{Archive, HeadImage, HeadSignature, is_archive};
use qyvol_store::{Fetch, LocalStore, Referrers, StoreError};
use qyvol_trust::Scope;
use qyvol_types::{Descriptor, ImageManifest, Reference, escape, limits, media_type};

use crate::{Context, Error};

/// What a user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A `.qyvbin` file.
    Archive(PathBuf),
    /// A `.qyv` manifest.
    Manifest(PathBuf),
    /// A bare component or module.
    Wasm(PathBuf),
    /// A stored image.
    Reference(Reference),
}

impl Target {
    /// Reads a target: a file if it looks like a path or there is one of that
    /// name, else a reference. Which kind of file it is, its first bytes say.
    pub fn parse(text: &str) -> Result<Target, Error> {
        let path = Path::new(text);
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let looks_like_path =
            text.starts_with(['.', '/', '~']) || matches!(extension, "qyvbin" | "qyv" | "wasm" | "yaml" | "yml");
        if path.is_dir() && (looks_like_path || text.ends_with('/')) {
            return Ok(Target::Manifest(crate::validate::find_manifest(path)?));
        }
        if looks_like_path || path.is_file() {
            // Opening a pipe would wait for its writer.
            if !path.metadata().map_err(Error::file("open", path))?.is_file() {
                return Err(Error::malformed(text)("it is not a regular file"));
            }
            let mut start = [0; 4];
            let mut file = File::open(path).map_err(Error::file("open", path))?;
            let n = file.read(&mut start).map_err(Error::file("read", path))?;
            let start = start.get(..n).unwrap_or_default();
            return Ok(match start {
                b"\0asm" => Target::Wasm(path.to_path_buf()),
                _ if is_archive(start) || extension == "qyvbin" => Target::Archive(path.to_path_buf()),
                _ => Target::Manifest(path.to_path_buf()),
            });
        }
        match text.parse::<Reference>() {
            Ok(reference) => Ok(Target::Reference(reference)),
            Err(source) => Err(Error::Target {
                target: text.to_string(),
                source,
            }),
        }
    }
}

/// An image and where its blobs are.
pub enum Source {
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
        name: Reference,
        /// The image, read from the store.
        image: Box<HeadImage>,
    },
}

impl Source {
    /// Opens an archive.
    pub fn archive(path: &Path) -> Result<Source, Error> {
        let target = path.to_string_lossy();
        let archive = Archive::open(path).map_err(Error::image(&target))?;
        Ok(Source::Archive { archive })
    }

    /// Finds a stored image and reads its manifest, config and signatures.
    pub fn stored(ctx: &Context<'_>, name: &Reference) -> Result<Source, Error> {
        let store = ctx.store()?;
        let descriptor = resolve(&store, name)?;
        let image = Box::new(read_image(ctx, &store, name, &descriptor)?);
        Ok(Source::Stored {
            store,
            name: name.clone(),
            image,
        })
    }

    /// Opens whatever of the two the target names.
    pub fn open(ctx: &Context<'_>, target: &Target) -> Result<Source, Error> {
        match target {
            Target::Archive(path) => Source::archive(path),
            Target::Reference(name) => Source::stored(ctx, name),
            Target::Manifest(path) | Target::Wasm(path) => Err(Error::Usage(format!(
                "{} is not an image: a .qyvbin or the name of a stored image is expected",
                escape(&path.to_string_lossy())
            ))),
        }
    }

    /// The images it holds.
    pub fn images(&self) -> &[HeadImage] {
        match self {
            Source::Archive { archive } => archive.images(),
            Source::Stored { image, .. } => std::slice::from_ref(image),
        }
    }

    /// The one image, for verbs that take one.
    pub fn single(&self) -> Result<&HeadImage, Error> {
        match self.images() {
            [image] => Ok(image),
            many => Err(Error::Usage(format!(
                "the archive holds {} images ({}): load it and name one",
                many.len(),
                many.iter().map(|i| i.name.to_string()).collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// What the policy's rules are matched against.
    pub fn scope(&self) -> Scope<'_> {
        match self {
            Source::Stored { name, .. } if name.registry().is_some() => Scope::Name(name),
            _ => Scope::File,
        }
    }

    /// What the user named, for messages.
    pub fn label(&self) -> String {
        match self {
            Source::Archive { archive } => archive.path().to_string_lossy().into_owned(),
            Source::Stored { name, .. } => name.to_string(),
        }
    }
}

/// Resolves a name once.
pub(crate) fn resolve(store: &LocalStore, name: &Reference) -> Result<Descriptor, Error> {
    let asked = name.clone().or_latest();
    if let Some(descriptor) = store.resolve(&asked)? {
        return Ok(descriptor);
    }
    let others = store.references()?.into_iter().map(|(name, _)| name);
    let others = others.filter(|n| n.repository() == name.repository() && n.registry() == name.registry());
    Err(Error::NoImage {
        name: Box::new(asked),
        others: others.collect(),
    })
}

/// Manifests of referrers that are read in search of signatures.
const REFERRERS: usize = 256;

/// Reads an image's small blobs from a store, each against its digest. A
/// referrer that is no signature, or can't be read, is left out: junk beside an
/// image must not keep it from being judged by what else there is.
pub(crate) fn read_image<S: Fetch + Referrers>(
    ctx: &Context<'_>,
    store: &S,
    name: &Reference,
    descriptor: &Descriptor,
) -> Result<HeadImage, Error> {
    let label = name.to_string();
    let raw = store.fetch_bytes(descriptor, limits::MANIFEST_BYTES)?;
    let manifest = ImageManifest::parse(raw).map_err(Error::malformed(&label))?;
    let config = store.fetch_bytes(manifest.config(), limits::CONFIG_BYTES)?;
    let mut signatures = Vec::new();
    let subject = manifest.descriptor();
    let mut room = limits::SIGNATURES_BYTES;
    let mut looked_at = 0;
    for referrer in store.referrers(&descriptor.digest)? {
        // Foreign referrers (an SBOM, say) are none of ours. A registry's list
        // may not say what they are: then the manifest does.
        let claimed = referrer.artifact_type.as_deref();
        if claimed.is_some_and(|kind| kind != media_type::SIGSTORE_BUNDLE) || signatures.len() >= limits::SIGNATURES {
            continue;
        }
        looked_at += 1;
        if looked_at > REFERRERS {
            ctx.report.warned(&format!(
                "{label}: more than {REFERRERS} referrers, the rest is not looked at"
            ));
            break;
        }
        match read_signature(store, &referrer, &subject, room) {
            Ok(Some(signature)) => {
                room -= signature.bundle.len() as u64;
                signatures.push(signature);
            }
            Ok(None) => {}
            Err(error) if error.is_content() || matches!(error, StoreError::NotFound { .. }) => ctx
                .report
                .warned(&format!("{label}: referrer {} left out: {error}", referrer.digest)),
            Err(error) => return Err(error.into()),
        }
    }
    // An image's own name is in its config; whoever verifies it reads it there.
    Ok(HeadImage {
        name: name.clone(),
        manifest,
        config,
        signatures,
    })
}

/// Reads one signature; none where the referrer is something else, or over what
/// is read of signatures together.
fn read_signature<S: Fetch>(
    store: &S,
    referrer: &Descriptor,
    subject: &Descriptor,
    room: u64,
) -> Result<Option<HeadSignature>, StoreError> {
    let raw = store.fetch_bytes(referrer, limits::MANIFEST_BYTES)?;
    let manifest = ImageManifest::parse(raw).map_err(|source| StoreError::Manifest {
        digest: referrer.digest,
        source,
    })?;
    let ours = manifest.artifact_type() == Some(media_type::SIGSTORE_BUNDLE) && manifest.subject() == Some(subject);
    let Some(layer) = manifest.layers().first().filter(|layer| ours && layer.size <= room) else {
        return Ok(None);
    };
    let bundle = store.fetch_bytes(layer, limits::BUNDLE_BYTES)?;
    Ok(HeadSignature::from_parts(manifest, bundle).ok())
}
