//! `inspect`: what an image is, from its head only. Nothing is judged: names of signers come
//! from the policy, verdicts from `verify`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use qyvol_image::{ImageError, ListedAsset, Payload, SignedImage, list_assets};
use qyvol_store::Fetch;
use qyvol_trust::Envelope;
use qyvol_types::{AppManifest, AssetsConfig, ImageConfig, ImageManifest, LockedDependency, Os, limits, media_type};
use serde::Serialize;

use crate::{Context, Error, ImageSource, Target};

/// An image, as `inspect` shows it. The version of this form is `schema`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Inspection {
    /// Version of this form: 1.
    pub schema: u32,
    /// The image manifest's digest.
    pub digest: String,
    /// Its own `name:version`.
    pub name: String,
    /// The names that its archive records, not judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Bytes of manifest, config and layers.
    pub size: u64,
    /// Bytes of the archive, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_size: Option<u64>,
    /// When it was made.
    pub created: String,
    /// `wasip2` for a component, `wasip1` for a core module.
    pub os: Os,
    /// The application's manifest.
    pub app: AppManifest,
    /// Its permissions, in sentences.
    pub permissions_in_words: Vec<String>,
    /// Digest of the component.
    pub component_digest: String,
    /// Bytes of the component.
    pub component_size: u64,
    /// What it imports; of a core module its config does not say.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it was imported from, by its builder's claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceView>,
    /// What was linked into its component, by its builder's claim.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<LockedDependency>,
    /// Its assets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<AssetsConfig>,
    /// Its signatures, not judged.
    pub signatures: Vec<SignatureView>,
    /// Its attestations, not judged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<AttestationView>,
}

/// What an image was imported from.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// The name that it was fetched by.
    pub name: String,
    /// The digest of the manifest there.
    pub digest: String,
}

/// A signature, by its own claims.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureView {
    /// Digest of the signature's manifest.
    pub digest: String,
    /// The fingerprint that it hints at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is wrong with its form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An attestation, by its own claims.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttestationView {
    /// Digest of the attestation's manifest.
    pub digest: String,
    /// The type of its predicate.
    #[serde(rename = "type")]
    pub predicate_type: String,
    /// Bytes of its bundle.
    pub size: u64,
    /// The fingerprint that it hints at; none if it is too large to be read for this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A bare component or module, as `inspect` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WasmView {
    /// Version of this form: 1.
    pub schema: u32,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// `wasip2` for a component, `wasip1` for a core module.
    pub os: Os,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// Inspects every image of the target.
pub fn inspect(ctx: &Context<'_>, target: &Target) -> Result<Vec<Inspection>, Error> {
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let archive_size = match &source {
        ImageSource::Archive { archive } => archive.path().metadata().ok().map(|m| m.len()),
        ImageSource::Stored { .. } => None,
    };
    source
        .images()
        .iter()
        .map(|image| view(&label, image, archive_size))
        .collect()
}

pub(crate) fn view(label: &str, image: &SignedImage, archive_size: Option<u64>) -> Result<Inspection, Error> {
    let config = ImageConfig::parse(&image.config).map_err(Error::malformed(label))?;
    let layers = image.manifest.layers();
    let Some(component) = layers.first() else {
        return Err(Error::malformed(label)("its manifest has no layer"));
    };
    let (imports, exports) = config.component.map(|c| (c.imports, c.exports)).unwrap_or_default();
    let app = config.qyv.app;
    Ok(Inspection {
        schema: 1,
        digest: image.manifest.digest().to_string(),
        name: format!("{}:{}", app.name, app.version),
        names: match archive_size {
            Some(_) => image.names.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        },
        size: image.manifest.raw().len() as u64
            + image.config.len() as u64
            + layers.iter().map(|l| l.size).sum::<u64>(),
        archive_size,
        created: config.created.to_string(),
        os: config.os,
        permissions_in_words: qyvol_sandbox::in_words(&app, config.qyv.assets.is_some()),
        component_digest: component.digest.to_string(),
        component_size: component.size,
        imports,
        exports,
        source: source(&image.manifest),
        dependencies: config.lock.map(|lock| lock.dependencies).unwrap_or_default(),
        assets: config.qyv.assets,
        signatures: image.signatures.iter().map(signature).collect(),
        attestations: attestations(image),
        app,
    })
}

fn source(manifest: &ImageManifest) -> Option<SourceView> {
    let noted = |key| manifest.annotations().get(key).cloned();
    Some(SourceView {
        name: noted(media_type::ANNOTATION_BASE_NAME)?,
        digest: noted(media_type::ANNOTATION_BASE_DIGEST)?,
    })
}

fn signature(signature: &qyvol_image::ImageSignature) -> SignatureView {
    let (key, problem) = match Envelope::parse(&signature.bundle) {
        Ok(envelope) => (envelope.hinted_fingerprint(), None),
        Err(error) => (None, Some(error.to_string())),
    };
    SignatureView {
        digest: signature.manifest.digest().to_string(),
        key,
        problem,
    }
}

fn attestations(image: &SignedImage) -> Vec<AttestationView> {
    let small = image.attestations.iter().map(|a| (&a.manifest, Some(&a.bundle)));
    let large = image.large_attestations.iter().map(|manifest| (manifest, None));
    let view = |(manifest, bundle): (&ImageManifest, Option<&Vec<u8>>)| {
        let kind = manifest.annotations().get(media_type::ANNOTATION_BUNDLE_PREDICATE);
        AttestationView {
            digest: manifest.digest().to_string(),
            predicate_type: kind.cloned().unwrap_or_default(),
            size: manifest.layers().iter().map(|layer| layer.size).sum(),
            key: bundle
                .and_then(|bundle| Envelope::parse(bundle).ok())
                .and_then(|envelope| envelope.hinted_fingerprint()),
        }
    };
    small.chain(large).map(view).collect()
}

/// Inspects a bare `.wasm`.
pub fn inspect_wasm(path: &Path) -> Result<WasmView, Error> {
    let bytes = read_wasm(path)?;
    let payload = Payload::read(&bytes).map_err(Error::image(&path.to_string_lossy()))?;
    Ok(WasmView {
        schema: 1,
        digest: qyvol_types::Digest::of(&bytes).to_string(),
        size: bytes.len() as u64,
        os: payload.os,
        imports: payload.imports,
        exports: payload.exports,
    })
}

/// The assets of a target's one image. They are read, against their digest.
pub fn assets(ctx: &Context<'_>, target: &Target) -> Result<Vec<ListedAsset>, Error> {
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let image = source.single()?;
    let config = ImageConfig::parse(&image.config).map_err(Error::malformed(&label))?;
    let (Some(layer), Some(promise)) = (image.manifest.layers().get(1), &config.qyv.assets) else {
        return Ok(Vec::new());
    };
    let body = match &source {
        ImageSource::Archive { archive } => archive.fetch(layer)?,
        ImageSource::Stored { store, .. } => store.fetch(layer).map_err(Error::stored(&label))?,
    };
    list_assets(body, promise).map_err(Error::image(&label))
}

/// The WIT of a target's component.
pub fn wit(ctx: &Context<'_>, target: &Target) -> Result<String, Error> {
    let (label, bytes) = component(ctx, target)?;
    qyvol_compose::wit(&bytes).map_err(|why| Error::image(&label)(ImageError::Wasm(why)))
}

/// The functions that a target's component exports, as its WIT has them: the interface, if
/// there is one, and the name.
pub fn functions(ctx: &Context<'_>, target: &Target) -> Result<Vec<(Option<String>, String)>, Error> {
    let (label, bytes) = component(ctx, target)?;
    let functions = qyvol_image::functions(&bytes).map_err(Error::image(&label))?;
    Ok(functions.into_iter().map(|one| (one.interface, one.name)).collect())
}

/// A target's component, which must be one. Of an image it is read against its digest.
fn component(ctx: &Context<'_>, target: &Target) -> Result<(String, Vec<u8>), Error> {
    let AnyComponent { label, bytes, .. } = any_component(ctx, target)?;
    if Payload::read(&bytes).map_err(Error::image(&label))?.os == Os::Wasip1 {
        return Err(Error::malformed(&label)("it is a core module, which has no WIT"));
    }
    Ok((label, bytes))
}

/// The component or core module of a target.
pub(crate) struct AnyComponent {
    /// What the user named, for messages.
    pub(crate) label: String,
    /// The application's name, or the file's.
    pub(crate) name: String,
    /// The application's version; a file has none.
    pub(crate) version: String,
    pub(crate) bytes: Vec<u8>,
}

/// Reads it, of an image against its digest.
pub(crate) fn any_component(ctx: &Context<'_>, target: &Target) -> Result<AnyComponent, Error> {
    if let Target::Wasm(path) = target {
        let name = path.file_name().unwrap_or(path.as_os_str());
        return Ok(AnyComponent {
            label: path.to_string_lossy().into_owned(),
            name: name.to_string_lossy().into_owned(),
            version: String::new(),
            bytes: read_wasm(path)?,
        });
    }
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let image = source.single()?;
    let config = ImageConfig::parse(&image.config).map_err(Error::malformed(&label))?;
    let layer = image.manifest.layers().first();
    let layer = layer.ok_or_else(|| Error::malformed(&label)("it has no layer"))?;
    let bytes = source.blobs().fetch_bytes(layer, limits::COMPONENT_BYTES)?;
    Ok(AnyComponent {
        label,
        name: config.qyv.app.name,
        version: config.qyv.app.version,
        bytes,
    })
}

pub(crate) fn read_wasm(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::file("open", path))?;
    file.take(limits::COMPONENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    if bytes.len() as u64 > limits::COMPONENT_BYTES {
        let source = qyvol_image::ImageError::Limit {
            what: "size of the file in bytes",
            got: bytes.len() as u64,
            limit: limits::COMPONENT_BYTES,
        };
        return Err(Error::image(&path.to_string_lossy())(source));
    }
    Ok(bytes)
}
