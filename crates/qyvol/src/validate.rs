//! `validate`: reads a `.qyv` and reports everything that is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use qyvol_image::{BuildOptions, FileId, ImageBuilder};
use qyvol_runtime::serves;
use qyvol_sandbox::{Capabilities, Denied, parse_app_manifest};
use qyvol_types::{AppManifest, AppType, escape};

use crate::dependencies::{Linkage, Linked, Linking, link, lock_path};
use crate::reuse::check_reuse;
use crate::runnable::check_runnable;
use crate::supported::check_supported;
use crate::text_file::read_text_of;
use crate::{Context, Error, functions};

/// A manifest and where it came from.
#[derive(Clone, Debug)]
pub struct Validated {
    /// The file.
    pub path: PathBuf,
    /// Which file that is.
    pub id: FileId,
    /// The directory that its paths are relative to.
    pub directory: PathBuf,
    /// Its parsed content.
    pub app: AppManifest,
}

/// An application whose input has no fault that keeps it from being built.
#[derive(Debug)]
pub struct Application {
    /// The builder of its image.
    pub builder: ImageBuilder,
    /// Its dependencies.
    pub(crate) linkage: Linkage,
    capabilities: Capabilities,
}

/// How an application is used, as far as it can be told without running it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is run, from its start to its end.
    Run,
    /// It answers requests over HTTP.
    Serve,
    /// Functions of its own are called.
    Call,
}

impl Application {
    /// How it is used: its component decides, and else the manifest's `type`.
    pub fn used_by(&self) -> Use {
        let app = self.builder.app();
        match app.app_type {
            _ if serves(&self.builder.payload().exports) => Use::Serve,
            AppType::Cli | AppType::Gui => Use::Run,
            AppType::Service | AppType::Function if !app.functions.is_empty() => Use::Serve,
            AppType::Service | AppType::Function => Use::Call,
        }
    }

    fn new(builder: ImageBuilder, capabilities: Capabilities, component: &str) -> Result<Self, Error> {
        check_runnable(component, builder.component())?;
        functions::check(component, &builder)?;
        check_reuse(component, builder.app(), &builder.payload().exports)?;
        Ok(Application {
            builder,
            linkage: Linkage::default(),
            capabilities,
        })
    }

    /// Imports that the permissions make useless.
    pub fn denied_imports(&self) -> Vec<Denied> {
        let has_assets = !self.builder.assets().files.is_empty();
        self.capabilities
            .denied_imports(&self.builder.payload().imports, has_assets)
    }
}

/// Reads the manifest at `path`, or the one `.qyv` in that directory.
pub fn validate(path: &Path) -> Result<Validated, Error> {
    let path = if path.is_dir() {
        find_manifest(path)?
    } else {
        path.to_path_buf()
    };
    if path.extension().is_some_and(|ending| ending == "wasm") {
        let path = escape(&path.to_string_lossy()).to_string();
        return Err(Error::Usage(format!(
            "{path} is WebAssembly, and a manifest is expected: write a .qyv whose entrypoint it is"
        )));
    }
    let (text, id) = read_text_of(&path)?;
    let app = parse_app_manifest(&text).map_err(|problems| Error::Yaml {
        path: path.clone(),
        problems,
    })?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    Ok(Validated {
        path,
        id,
        directory,
        app,
    })
}

/// Reads all that an application is made of and finds every fault, before
/// anything is written.
pub(crate) fn prepare(
    ctx: &Context<'_>,
    manifest: Validated,
    options: BuildOptions,
    linking: &Linking<'_>,
) -> Result<Application, Error> {
    let label = manifest.path.to_string_lossy().into_owned();
    let capabilities = check_supported(&label, &manifest.app)?;
    let entrypoint = manifest.directory.join(&manifest.app.entrypoint);
    let component = match manifest.app.is_made() {
        true => label.clone(),
        false => entrypoint.to_string_lossy().into_owned(),
    };
    let (builder, linkage) = read_linked(ctx, &label, &manifest, options, &capabilities, linking)?;
    let application = Application::new(builder, capabilities, &component)?;
    Ok(Application { linkage, ..application })
}

/// Reads what an application is made of, and links its dependencies.
pub(crate) fn read_linked(
    ctx: &Context<'_>,
    label: &str,
    manifest: &Validated,
    mut options: BuildOptions,
    capabilities: &Capabilities,
    linking: &Linking<'_>,
) -> Result<(ImageBuilder, Linkage), Error> {
    let Validated {
        path, directory, app, ..
    } = manifest;
    options.skip.extend(path.canonicalize());
    if !app.dependencies.is_empty() {
        options.skip.extend(lock_path(directory).canonicalize());
    }
    let builder = ImageBuilder::read(app.clone(), directory, &options).map_err(Error::image(label))?;
    let linked = Linked {
        label,
        directory,
        app,
        capabilities,
    };
    link(ctx, &linked, builder, linking)
}

/// The same with a component that does not come from the file that the manifest names.
#[cfg(feature = "import")]
pub(crate) fn prepare_component(
    label: &str,
    app: AppManifest,
    directory: &Path,
    component: Vec<u8>,
    options: &BuildOptions,
) -> Result<Application, Error> {
    if !app.dependencies.is_empty() {
        return Err(Error::Usage(format!(
            "{}: `dependencies` are linked by a build, not by an import",
            escape(label)
        )));
    }
    let capabilities = check_supported(label, &app)?;
    let builder = ImageBuilder::with_component(app, directory, component, options).map_err(Error::image(label))?;
    Application::new(builder, capabilities, label)
}

/// Checks an application as a build would, without opening a connection or writing anything.
pub fn check_application(ctx: &Context<'_>, manifest: Validated) -> Result<Application, Error> {
    let options = BuildOptions::untimed(functions::join);
    prepare(ctx, manifest, options, &Linking::OFFLINE)
}

/// The one `.qyv` of a directory.
pub(crate) fn find_manifest(directory: &Path) -> Result<PathBuf, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::file("list", directory))? {
        let path = entry.map_err(Error::file("list", directory))?.path();
        if path.extension().is_some_and(|e| e == "qyv") && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::Usage(format!(
            "there is no .qyv manifest in {}",
            directory.display()
        ))),
        many => Err(Error::Usage(format!(
            "there are {} .qyv manifests in {}: name one of {}",
            many.len(),
            directory.display(),
            many.iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        ))),
    }
}
