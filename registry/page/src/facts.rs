//! What an image says of itself, from the bytes that the hub hashed: its manifest, its config,
//! and a README among its assets.
//!
//! The config's lists of imports and exports are the builder's claim. Nothing here reads the
//! component.

use std::io;

use qyvol_hub::{ListedManifest, Repository};
use qyvol_sandbox::{Capabilities, in_words_of};
use qyvol_types::{AppManifest, AppType, Digest, ImageConfig, ImageManifest, Os, Resources, limits, media_type};

use crate::interfaces::{Interfaces, interfaces};
use crate::language::Language;
use crate::readme::{Readme, readme};
use crate::shown::{Fitting, Inert, Moment, duration, fitting, moment, size};

/// Bytes of HTML for a short text, such as a file name.
const SHORT: usize = 160;
/// The same for each sentence about permissions, and for all.
const SENTENCE: usize = 1200;
const SENTENCES: usize = 6000;
/// The same for each function or process, and for all.
const FUNCTION: usize = 160;
const FUNCTIONS: usize = 2400;

/// An image, as far as it can be read.
pub(crate) enum ImageFacts {
    /// An application of Qyvol's.
    App(Box<App>),
    /// Something else: a container image, an index, a referrer.
    Other(Other),
}

/// An artifact that is no application.
pub(crate) struct Other {
    pub(crate) media_type: Inert,
    pub(crate) artifact_type: Option<Inert>,
    pub(crate) size: String,
}

/// An application.
pub(crate) struct App {
    /// For judging its signatures.
    pub(crate) manifest: ImageManifest,
    pub(crate) own_name: String,
    pub(crate) own_version: String,
    pub(crate) app_type: AppType,
    pub(crate) platform: &'static str,
    pub(crate) language: Option<Inert>,
    pub(crate) size: String,
    pub(crate) created: Option<Moment>,
    pub(crate) entrypoint: Inert,
    pub(crate) component: Digest,
    pub(crate) component_size: String,
    /// Sentences in each language, in the order of [`Language::ALL`].
    permissions: [Fitting; Language::ALL.len()],
    /// Whether this version knows every permission that it asks for.
    pub(crate) understood: bool,
    pub(crate) limits: Vec<(Limit, String)>,
    pub(crate) imports: Interfaces,
    pub(crate) exports: Interfaces,
    pub(crate) functions: Fitting,
    pub(crate) processes: Fitting,
    pub(crate) assets: Option<Assets>,
    pub(crate) dependencies: usize,
    pub(crate) source: Option<Inert>,
    pub(crate) readme: Readme,
}

/// A limit of the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Memory,
    Time,
    Cpu,
    Fuel,
    Storage,
    Output,
    Files,
    Sockets,
}

pub(crate) struct Assets {
    pub(crate) files: u64,
    pub(crate) size: String,
    pub(crate) root: Inert,
}

impl App {
    /// What it may do, in sentences.
    pub(crate) fn permissions(&self, language: Language) -> &Fitting {
        let [english, spanish] = &self.permissions;
        match language {
            Language::English => english,
            Language::Spanish => spanish,
        }
    }
}

impl ImageFacts {
    /// About how many bytes of memory this takes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            ImageFacts::Other(_) => 1024,
            ImageFacts::App(app) => {
                let lists = app.permissions.iter().chain([&app.functions, &app.processes]);
                let lists: usize = lists.map(Fitting::len).sum();
                let interfaces = app.imports.len() + app.exports.len();
                2048 + 2 * app.manifest.raw().len() + lists + interfaces + app.readme.len()
            }
        }
    }
}

/// Reads an image. None if its bytes are no longer there.
pub(crate) fn read(repository: &Repository, listed: &ListedManifest) -> io::Result<Option<ImageFacts>> {
    let other = |size: u64| {
        ImageFacts::Other(Other {
            media_type: Inert::line(&listed.media_type, SHORT),
            artifact_type: listed.artifact_type.as_deref().map(|kind| Inert::line(kind, SHORT)),
            size: crate::shown::size(size),
        })
    };
    if listed.media_type != media_type::IMAGE_MANIFEST || listed.size > limits::MANIFEST_BYTES {
        return Ok(Some(other(listed.size)));
    }
    let Some(raw) = repository.read(&listed.digest, limits::MANIFEST_BYTES)? else {
        return Ok(None);
    };
    let Ok(manifest) = ImageManifest::parse(raw) else {
        return Ok(Some(other(listed.size)));
    };
    let layers = manifest.layers();
    let total = layers
        .iter()
        .fold(manifest.config().size, |sum, layer| sum.saturating_add(layer.size));
    let other = || other(total.saturating_add(listed.size));
    let shape = (2..=limits::LAYERS + 1).contains(&(layers.len() + 1));
    let wasm = layers.first().filter(|layer| layer.media_type == media_type::WASM);
    let (Some(component), true) = (wasm, shape && manifest.config().media_type == media_type::WASM_CONFIG) else {
        return Ok(Some(other()));
    };
    let Some(config) = repository.read(&manifest.config().digest, limits::CONFIG_BYTES)? else {
        return Ok(Some(other()));
    };
    let Ok(config) = ImageConfig::parse(&config) else {
        return Ok(Some(other()));
    };
    let asset_layer = layers.get(1).filter(|layer| layer.media_type == media_type::ASSETS);
    let readme = match (asset_layer, &config.qyv.assets) {
        (Some(layer), Some(_)) => readme(repository, &layer.digest)?,
        _ => Readme::None,
    };
    let source = manifest.annotations().get(media_type::ANNOTATION_BASE_NAME);
    let source = source.map(|name| Inert::line(name, SHORT));
    let (component, component_size) = (component.digest, size(component.size));
    let total = size(total.saturating_add(listed.size));
    let app = app(config, readme, component, component_size, total, source, manifest);
    Ok(Some(ImageFacts::App(Box::new(app))))
}

fn app(
    config: ImageConfig,
    readme: Readme,
    component: Digest,
    component_size: String,
    size: String,
    source: Option<Inert>,
    manifest: ImageManifest,
) -> App {
    let assets = config.qyv.assets.as_ref();
    let app = &config.qyv.app;
    let permissions = Language::ALL.map(|language| {
        let sentences = in_words_of(app, assets.is_some(), language.of_sandbox());
        fitting(sentences.iter().map(String::as_str), SENTENCE, SENTENCES)
    });
    let (imports, exports) = config.component.map(|c| (c.imports, c.exports)).unwrap_or_default();
    let names = |list: Vec<&str>| fitting(list.into_iter(), FUNCTION, FUNCTIONS);
    App {
        own_name: app.name.clone(),
        own_version: app.version.clone(),
        app_type: app.app_type,
        platform: platform(config.os, &exports),
        language: app.language.as_deref().map(|language| Inert::line(language, SHORT)),
        size,
        created: moment(config.created),
        entrypoint: Inert::line(&app.entrypoint, SHORT),
        component,
        component_size,
        understood: Capabilities::read(&app.permissions).is_ok_and(|asked| asked.unsupported().is_none()),
        permissions,
        limits: limits_of(app),
        imports: interfaces(&imports, &denied(app, &imports, assets.is_some())),
        exports: interfaces(&exports, &[]),
        functions: names(app.functions.keys().map(String::as_str).collect()),
        processes: names(app.processes.keys().map(String::as_str).collect()),
        assets: assets.map(|assets| Assets {
            files: assets.files,
            size: crate::shown::size(assets.bytes),
            root: Inert::line(&app.assets_root, SHORT),
        }),
        dependencies: config.lock.map_or(0, |lock| lock.dependencies.len()),
        source,
        readme,
        manifest,
    }
}

/// The imports whose every use the permissions deny.
fn denied(app: &AppManifest, imports: &[String], has_assets: bool) -> Vec<String> {
    let Ok(capabilities) = Capabilities::read(&app.permissions) else {
        return Vec::new();
    };
    let denied = capabilities.denied_imports(imports, has_assets);
    denied.into_iter().flat_map(|denied| denied.imports).collect()
}

fn platform(os: Os, exports: &[String]) -> &'static str {
    match os {
        Os::Wasip2 if exports.iter().any(|export| export.starts_with("wasi:cli/run@0.3.")) => "WASI 0.3",
        Os::Wasip2 => "WASI 0.2",
        Os::Wasip1 => "WASI preview 1",
    }
}

fn limits_of(app: &AppManifest) -> Vec<(Limit, String)> {
    let Resources {
        memory,
        timeout,
        cpu,
        fuel,
        storage,
        output,
        files,
        sockets,
    } = app.resources;
    let number = |number: u64| number.to_string();
    let all = [
        (Limit::Memory, memory.map(size)),
        (Limit::Time, timeout.map(duration)),
        (Limit::Cpu, cpu.map(duration)),
        (Limit::Fuel, fuel.map(number)),
        (Limit::Storage, storage.map(size)),
        (Limit::Output, output.map(size)),
        (Limit::Files, files.map(number)),
        (Limit::Sockets, sockets.map(number)),
    ];
    let set = all.into_iter().filter_map(|(limit, value)| Some((limit, value?)));
    set.collect()
}
