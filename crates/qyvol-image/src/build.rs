//! From an application's manifest to the blobs of an image.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use qyvol_store::{Ingest, Push, Reporter};
use qyvol_types::{
    AppManifest, ComponentConfig, Descriptor, Digest, ImageConfig, ImageManifest, Lock, Os, QyvConfig, Reference,
    Timestamp, limits, media_type,
};

use crate::assets::{AssetPlan, pack, plan_assets};
use crate::functions::{self, JoinSources};
use crate::wasm::{CheckTypes, Payload, componentize};
use crate::wasm_file::read_wasm;
use crate::{FileId, ImageError, SignedImage};

/// How to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The time that the config records.
    pub created: Timestamp,
    /// Puts functions of several sources into one component.
    pub join: JoinSources,
    /// Makes a component of a core module, after this check has accepted its types.
    pub componentize: Option<CheckTypes>,
    /// Real paths that a directory or glob never packs: the manifest, the output.
    pub skip: HashSet<PathBuf>,
}

impl BuildOptions {
    /// Options of a build whose time doesn't matter: a check, or a development run.
    pub fn untimed(join: JoinSources) -> BuildOptions {
        BuildOptions {
            created: Timestamp::EPOCH,
            join,
            componentize: None,
            skip: HashSet::new(),
        }
    }
}

/// Reads what an application is made of, then writes it as an image.
///
/// [`ImageBuilder::read`] finds every fault of the input; only then does
/// [`ImageBuilder::write`] touch a store.
#[derive(Debug)]
pub struct ImageBuilder {
    app: AppManifest,
    created: Timestamp,
    /// The files that the component was read or made from; none if it came from elsewhere.
    sources: Vec<(PathBuf, FileId)>,
    annotations: BTreeMap<String, String>,
    component: Vec<u8>,
    payload: Payload,
    assets: AssetPlan,
    lock: Option<Lock>,
}

/// An image whose blobs have been staged.
#[derive(Clone, Debug)]
pub struct BuiltImage {
    /// The image, not signed yet, under its own name.
    pub image: SignedImage,
    /// Its own `name:version`.
    pub name: Reference,
    /// The image's descriptor.
    pub descriptor: Descriptor,
    /// Its config.
    pub config: ImageConfig,
}

impl ImageBuilder {
    /// Reads the component and plans the assets of `app`, whose paths are
    /// relative to `directory`.
    pub fn read(app: AppManifest, directory: &Path, options: &BuildOptions) -> Result<ImageBuilder, ImageError> {
        if let Some(made) = functions::make(&app.functions, directory, options.join)? {
            return ImageBuilder::assemble(app, directory, made.component, made.files, options);
        }
        let (component, entrypoint) = read_wasm(directory, &app.entrypoint, "read the entrypoint")?;
        ImageBuilder::assemble(app, directory, component, vec![entrypoint], options)
    }

    /// The same with a component that did not come from a file: `app` only
    /// names it.
    pub fn with_component(
        app: AppManifest,
        directory: &Path,
        component: Vec<u8>,
        options: &BuildOptions,
    ) -> Result<ImageBuilder, ImageError> {
        ImageBuilder::assemble(app, directory, component, Vec::new(), options)
    }

    fn assemble(
        mut app: AppManifest,
        directory: &Path,
        mut component: Vec<u8>,
        sources: Vec<(PathBuf, FileId)>,
        options: &BuildOptions,
    ) -> Result<ImageBuilder, ImageError> {
        let named = |error| match sources.is_empty() || app.is_made() {
            false => in_file(error, &app.entrypoint),
            true => error,
        };
        if let Some(check) = options.componentize {
            component = componentize(&component, check).map_err(named)?;
        }
        let payload = Payload::read(&component).map_err(named)?;
        let mut skip = options.skip.clone();
        skip.extend(sources.iter().map(|(path, _)| path.clone()));
        let assets = plan_assets(directory, &app.assets, &skip)?;
        // The signed config names the file, not its directory at build time.
        if let Some(name) = app.entrypoint.rsplit('/').next() {
            app.entrypoint = name.to_string();
        }
        app.assets = Vec::new();
        app.dependencies = Vec::new();
        for function in app.functions.values_mut() {
            function.code = None;
        }
        Ok(ImageBuilder {
            app,
            created: options.created,
            sources,
            annotations: BTreeMap::new(),
            component,
            payload,
            assets,
            lock: None,
        })
    }

    /// The same application with the component that results from linking its dependencies, and
    /// their lock.
    pub fn linked(mut self, component: Vec<u8>, lock: Lock) -> Result<ImageBuilder, ImageError> {
        lock.check().map_err(ImageError::format)?;
        self.payload = Payload::read(&component)?;
        self.component = component;
        self.lock = Some(lock);
        Ok(self)
    }

    /// Records what the image was made from, in the annotations of its manifest
    /// that OCI has for it.
    pub fn made_from(mut self, name: &str, digest: &Digest) -> ImageBuilder {
        let base = [
            (media_type::ANNOTATION_BASE_NAME, name.to_string()),
            (media_type::ANNOTATION_BASE_DIGEST, digest.to_string()),
        ];
        self.annotations = base.map(|(key, value)| (key.to_string(), value)).into();
        self
    }

    /// The files that the image is made of, by their real paths: the
    /// WebAssembly and the assets.
    pub fn inputs(&self) -> impl Iterator<Item = (&Path, FileId)> {
        let assets = self.assets.files.iter().map(|file| (file.source.as_path(), file.id));
        let sources = self.sources.iter().map(|(path, id)| (path.as_path(), *id));
        sources.chain(assets)
    }

    /// The kind, imports and exports of the component or module.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// The component's or module's bytes.
    pub fn component(&self) -> &[u8] {
        &self.component
    }

    /// The files that will be packed.
    pub fn assets(&self) -> &AssetPlan {
        &self.assets
    }

    /// What was linked into the component, if anything was.
    pub fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// The application's manifest as the image will have it.
    pub fn app(&self) -> &AppManifest {
        &self.app
    }

    /// Bytes to read, for a progress bar.
    pub fn total(&self) -> u64 {
        self.assets.bytes + self.component.len() as u64
    }

    /// Writes the blobs of the image into `stage`.
    pub fn write(&self, stage: &mut Ingest, report: &dyn Reporter) -> Result<BuiltImage, ImageError> {
        let component = Descriptor::of(media_type::WASM, &self.component)
            .with_annotation(media_type::ANNOTATION_TITLE, &self.app.entrypoint);
        stage.push(&component, &mut self.component.as_slice())?;
        report.advanced(component.size);
        let mut layers = vec![component];
        let mut assets = None;
        if !self.assets.files.is_empty() {
            // Packing hashes what it writes.
            let mut writer = stage.writer()?.without_hashing();
            let packed = pack(&self.assets, &mut writer, report)?;
            let layer = writer.finish(media_type::ASSETS, Some(&packed.digest))?;
            if layer.size > limits::ENTRY_BYTES {
                return Err(ImageError::Limit {
                    what: "asset layer in bytes",
                    got: layer.size,
                    limit: limits::ENTRY_BYTES,
                });
            }
            layers.push(layer);
            assets = Some(packed.config);
        }
        let config = ImageConfig {
            created: self.created,
            architecture: "wasm".to_string(),
            os: self.payload.os,
            layer_digests: layers.iter().map(|l| l.digest).collect(),
            component: (self.payload.os == Os::Wasip2).then(|| ComponentConfig {
                imports: self.payload.imports.clone(),
                exports: self.payload.exports.clone(),
                target: None,
            }),
            qyv: QyvConfig {
                version: 1,
                app: self.app.clone(),
                assets,
            },
            lock: self.lock.clone(),
        };
        let config_bytes = config.encode().map_err(|e| ImageError::format(e.to_string()))?;
        let config_descriptor = Descriptor::of(media_type::WASM_CONFIG, &config_bytes);
        stage.push(&config_descriptor, &mut config_bytes.as_slice())?;
        let manifest = ImageManifest::annotated_image(config_descriptor, layers, self.annotations.clone())?;
        let descriptor = manifest.descriptor();
        stage.push(&descriptor, &mut manifest.raw())?;
        let name =
            Reference::local(&self.app.name, &self.app.version).map_err(|e| ImageError::format(e.to_string()))?;
        Ok(BuiltImage {
            image: SignedImage {
                names: vec![name.clone()],
                manifest,
                config: config_bytes,
                signatures: Vec::new(),
                attestations: Vec::new(),
                large_attestations: Vec::new(),
            },
            name,
            descriptor,
            config,
        })
    }
}

fn in_file(error: ImageError, entrypoint: &str) -> ImageError {
    match error {
        ImageError::Wasm(why) => ImageError::Wasm(format!("entrypoint `{}`: {why}", qyvol_types::escape(entrypoint))),
        other => other,
    }
}
