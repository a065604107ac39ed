//! Finds the component in an artifact: the platform, the layer, and what is left out.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use qyvol_image::ImageError;
use qyvol_remote::{Access, Client, FetchedManifest, Repository};
use qyvol_store::{Fetch, StoreError, VerifyReader};
use qyvol_types::foreign::{ForeignImage, ForeignManifest, IndexEntry, LayerKind};
use qyvol_types::{Descriptor, Digest, Reference, escape, json, limits, media_type};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::container::Container;
use super::{ImportRequest, ImportedComponent, Origin, shown as show, unreadable_layer};
use crate::install::ProgressReader;
use crate::remote::{attribute_to_registry, manifest_not_found};
use crate::{Context, Error, ImageName, Target};

/// Bytes reserved at once for content whose size only the descriptor states.
const RESERVE: u64 = 1 << 20;
/// Names of one layer that are shown.
const NAMES: usize = 5;

/// An artifact whose component has been found and not fetched.
pub(super) struct Artifact {
    label: String,
    repository: Repository,
    name: Reference,
    digest: Digest,
    signatures: Vec<(&'static str, usize)>,
    version: Option<String>,
    payload: ComponentLocation,
    left_out: Vec<String>,
}

/// Where the component is.
enum ComponentLocation {
    /// It is a layer.
    Layer(Descriptor),
    /// It is a file of a container image.
    File(Container),
}

/// What shows that a config is one of ours.
#[derive(Deserialize)]
struct QyvMarker {
    qyv: Option<IgnoredAny>,
}

/// The part of a Spin application that is read: which layer is which component.
#[derive(Deserialize)]
struct Spin {
    #[serde(default)]
    components: Vec<SpinComponent>,
}

#[derive(Deserialize)]
struct SpinComponent {
    id: String,
    source: SpinSource,
}

#[derive(Deserialize)]
struct SpinSource {
    #[serde(default)]
    digest: Option<String>,
}

impl Artifact {
    /// Resolves a name once, and chooses platform and layer.
    pub(super) fn find(
        ctx: &Context<'_>,
        client: &Arc<Client>,
        label: &str,
        request: &ImportRequest<'_>,
    ) -> Result<Artifact, Error> {
        let Target::Image(ImageName::Reference(name)) = request.source else {
            return Err(Error::Usage(format!(
                "{}: expected a name in a registry",
                escape(label)
            )));
        };
        let repository = Repository::new(client, name, Access::Pull)?;
        let named = repository
            .resolve_foreign(name)?
            .ok_or_else(|| manifest_not_found(&repository, name))?;
        let mut signed = vec![named.digest];
        let mut others = Vec::new();
        let FetchedManifest { digest, manifest, .. } = match &named.manifest {
            ForeignManifest::Image(_) => named,
            ForeignManifest::Index(entries) => {
                let (entry, left_out) = platform(label, entries)?;
                others = left_out;
                manifest_from_index(label, &repository, &entry.descriptor)?
            }
        };
        let ForeignManifest::Image(image) = manifest else {
            return Err(Error::malformed(label)("an index inside an index is not supported"));
        };
        if !signed.contains(&digest) {
            signed.push(digest);
        }
        let (payload, left_out) = choose(label, &repository, &own_name(name, &signed), &image, request.layer)?;
        Ok(Artifact {
            label: label.to_string(),
            name: name.clone(),
            digest,
            signatures: signatures(ctx, &repository, &signed),
            version: image.annotations.get(media_type::ANNOTATION_VERSION).cloned(),
            payload,
            left_out: others.into_iter().chain(left_out).collect(),
            repository,
        })
    }

    /// The version that the artifact states.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Fetches the component.
    pub(super) fn fetch(mut self, ctx: &Context<'_>) -> Result<ImportedComponent, Error> {
        let (component, layer) = match &self.payload {
            ComponentLocation::Layer(layer) => (fetch(ctx, &self.label, &self.repository, layer)?, layer.digest),
            ComponentLocation::File(container) => {
                let taken = container.fetch(ctx, &self.label, &self.repository)?;
                self.left_out.extend(taken.left_out);
                (taken.component, taken.layer)
            }
        };
        Ok(ImportedComponent {
            component,
            origin: Some(Origin {
                name: self.name,
                digest: self.digest,
                layer,
                signatures: self.signatures,
            }),
            left_out: self.left_out,
        })
    }
}

fn missing(d: &Descriptor) -> StoreError {
    StoreError::NotFound { digest: d.digest }
}

/// The exact name of the image: with its digest if it comes from an index.
fn own_name(name: &Reference, digests: &[Digest]) -> Reference {
    let through_index = match digests {
        [_, digest] => {
            let registry = name
                .registry()
                .map(|registry| format!("{registry}/"))
                .unwrap_or_default();
            format!("{registry}{}@{digest}", name.repository()).parse().ok()
        }
        _ => None,
    };
    through_index.unwrap_or_else(|| name.clone())
}

/// The manifest of an index entry, checked against its descriptor.
fn manifest_from_index(label: &str, repository: &Repository, named: &Descriptor) -> Result<FetchedManifest, Error> {
    let found = repository.foreign_manifest(&named.digest)?;
    let found = found.ok_or_else(|| attribute_to_registry(missing(named).into(), repository))?;
    if found.size == named.size && found.media_type == named.media_type {
        return Ok(found);
    }
    Err(Error::malformed(label)(format!(
        "its index says that {} is {} bytes of {}, and it is {} bytes of {}",
        named.digest,
        named.size,
        show(&named.media_type),
        found.size,
        show(&found.media_type)
    )))
}

/// The entry of an index that is WebAssembly, a component before a module, and
/// the others. If two match, none is chosen.
fn platform<'e>(label: &str, entries: &'e [IndexEntry]) -> Result<(&'e IndexEntry, Vec<String>), Error> {
    let shown_platform = |entry: &IndexEntry| match &entry.platform {
        Some(platform) => format!("{} {}", show(&platform.plain()), entry.descriptor.digest),
        None => format!("no platform stated {}", entry.descriptor.digest),
    };
    if let [only] = entries
        && only.platform.is_none()
    {
        return Ok((only, Vec::new()));
    }
    let rank = |entry: &&IndexEntry| entry.platform.as_ref().and_then(|platform| platform.rank());
    let best = entries.iter().filter(|entry| rank(entry).is_some()).min_by_key(rank);
    let refused = |is_several| Error::Platforms {
        target: label.to_string(),
        is_several,
        platforms: entries.iter().map(shown_platform).collect(),
    };
    let best = best.ok_or_else(|| refused(false))?;
    let is_other = |entry: &&IndexEntry| entry.descriptor.digest != best.descriptor.digest;
    if entries.iter().filter(is_other).any(|other| rank(&other) == rank(&best)) {
        return Err(refused(true));
    }
    let others = entries
        .iter()
        .filter(is_other)
        .map(|other| format!("the platform {}", shown_platform(other)));
    Ok((best, others.collect()))
}

/// What claims to sign any of these. It is reported, and never an error: each request is made
/// once, and none after a failure.
fn signatures(ctx: &Context<'_>, repository: &Repository, digests: &[Digest]) -> Vec<(&'static str, usize)> {
    let mut all: BTreeMap<&'static str, usize> = BTreeMap::new();
    for digest in digests {
        match repository.foreign_signatures(digest) {
            Ok(found) => found
                .into_iter()
                .for_each(|(kind, count)| *all.entry(kind).or_default() += count),
            Err(error) => {
                ctx.report
                    .warned(&format!("the signatures of the source are not known: {error}"));
                break;
            }
        }
    }
    all.into_iter().collect()
}

/// Chooses the layer, and returns what is left out.
fn choose(
    label: &str,
    repository: &Repository,
    name: &Reference,
    image: &ForeignImage,
    asked: Option<&str>,
) -> Result<(ComponentLocation, Vec<String>), Error> {
    let read = |d: &Descriptor| {
        if d.size > limits::CONFIG_BYTES {
            return Err(Error::image(label)(ImageError::Limit {
                what: "size of its config in bytes",
                got: d.size,
                limit: limits::CONFIG_BYTES,
            }));
        }
        let bytes = repository.fetch_bytes(d, limits::CONFIG_BYTES);
        bytes.map_err(|error| attribute_to_registry(error.into(), repository))
    };
    if image.config.media_type == media_type::WASM_CONFIG
        && matches!(json::decode(&read(&image.config)?), Ok(QyvMarker { qyv: Some(_) }))
    {
        return Err(Error::AlreadyImage { name: name.clone() });
    }
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if image.is_spin() {
        let app: Spin = json::decode(&read(&image.config)?)
            .map_err(|why| Error::malformed(label)(format!("its Spin application is {why}")))?;
        for component in app.components {
            if let Some(digest) = component.source.digest {
                ids.entry(digest).or_default().push(component.id);
            }
        }
    }
    let names = |layer: &Descriptor| {
        let own = layer.annotations.get(media_type::ANNOTATION_TITLE);
        let ids = ids.get(&layer.digest.to_string()).into_iter().flatten();
        own.into_iter().chain(ids).cloned().collect::<Vec<String>>()
    };
    let shown = |layer: &Descriptor| {
        let mut text: String = names(layer)
            .iter()
            .take(NAMES)
            .map(|name| format!("{} ", show(name)))
            .collect();
        text.push_str(&format!(
            "{} {}, {} bytes",
            layer.digest,
            show(&layer.media_type),
            layer.size
        ));
        text
    };
    let listed = |why: &str| Error::Layers {
        target: label.to_string(),
        why: why.to_string(),
        layers: image.layers.iter().map(shown).collect(),
        are_files: false,
    };
    // Anything that looks like a digest is one: the publisher chooses titles.
    let digest = asked.and_then(|asked| asked.parse::<Digest>().ok());
    let wasm = |layer: &&Descriptor| match asked {
        Some(asked) => match digest {
            Some(digest) => layer.digest == digest,
            None => names(layer).iter().any(|name| name == asked),
        },
        None => layer.foreign_kind() == LayerKind::Wasm,
    };
    let mut candidates: Vec<&Descriptor> = Vec::new();
    for layer in image.layers.iter().filter(wasm) {
        // The same bytes under two names are one component.
        let same = |known: &&Descriptor| (known.digest, known.size) == (layer.digest, layer.size);
        if !candidates.iter().any(same) {
            candidates.push(layer);
        }
    }
    let layer = match (candidates.as_slice(), image.layers.as_slice()) {
        ([one], _) => *one,
        ([], _) if asked.is_some() => return Err(listed("it has no such layer")),
        ([], []) => return Err(Error::malformed(label)("it has no layer")),
        ([], layers)
            if layers
                .iter()
                .any(|layer| matches!(layer.foreign_kind(), LayerKind::Files(_))) =>
        {
            let (container, left_out) = Container::new(label, &read(&image.config)?, layers)?;
            return Ok((ComponentLocation::File(container), left_out));
        }
        // Its first bytes show what it is.
        ([], [only]) => only,
        ([], _) => return Err(listed("none of its layers is marked as WebAssembly")),
        (_, _) => return Err(listed("it has several components, and an image of Qyvol has one")),
    };
    if layer.size > limits::COMPONENT_BYTES {
        return Err(Error::image(label)(ImageError::Limit {
            what: "size of the component in bytes",
            got: layer.size,
            limit: limits::COMPONENT_BYTES,
        }));
    }
    let others = image.layers.iter().filter(|other| other.digest != layer.digest);
    Ok((ComponentLocation::Layer(layer.clone()), others.map(shown).collect()))
}

/// Fetches a layer that is a component, against its descriptor.
fn fetch(ctx: &Context<'_>, label: &str, repository: &Repository, layer: &Descriptor) -> Result<Vec<u8>, Error> {
    ctx.report.started("fetching", Some(layer.size));
    let mut body = repository.foreign_blob(layer);
    let mut body = VerifyReader::new(ProgressReader { body: &mut body, ctx }, layer);
    let mut bytes = Vec::with_capacity(usize::try_from(layer.size.min(RESERVE)).unwrap_or(0));
    body.read_to_end(&mut bytes)
        .map_err(|error| unreadable_layer(label, repository, ImageError::Read(error)))?;
    ctx.report.finished();
    Ok(bytes)
}
