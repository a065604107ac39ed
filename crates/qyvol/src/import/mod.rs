//! `import`: makes a signed image of ours from another tool's artifact or a bare `.wasm`.
//!
//! The component's bytes are used unchanged; everything else is made here, by the same builder
//! as a build. Invariants:
//! - the generated manifest grants nothing: a user who wants more writes one;
//! - the source's digest is recorded in what is signed; its signatures are reported and never
//!   count for the new image;
//! - every fault of the source is found before anything is written.
//!
//! Deliberately absent: the source's environment and arguments, which are reported as left out,
//! and verification of its signatures.

mod artifact;
mod container;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qyvol_image::{BuildOptions, ImageError};
use qyvol_remote::{Client, Repository};
use qyvol_sandbox::parse_app_manifest;
use qyvol_store::StoreError;
use qyvol_types::{AppManifest, DEFAULT_TAG, Digest, Reference, Timestamp, escape};

use self::artifact::Artifact;
use crate::build::PendingBuild;
use crate::inspect::read_wasm;
use crate::keys::Passphrase;
use crate::output::OutputPath;
use crate::remote::attribute_to_registry;
use crate::sign::Claims;
use crate::signer::SignerChoice;
use crate::validate::{Validated, prepare_component};
use crate::{BuildReport, Context, Destination, Error, ImageName, Target, functions};

/// Parts of the source that are reported by name.
const MAX_LISTED: usize = 100;
/// Characters of a text of the source that are shown.
const MAX_SHOWN: usize = 200;

/// What to import.
pub struct ImportRequest<'a> {
    /// A name in a registry, or a `.wasm` file.
    pub source: &'a Target,
    /// A manifest of one's own, instead of one that grants nothing.
    pub manifest: Option<&'a Path>,
    /// Name and version of the image; from the source if absent.
    pub name: Option<&'a Reference>,
    /// Whether a name that the source has chosen may replace another image in the store, and an
    /// existing file.
    pub replace: bool,
    /// The layer to take, by its digest, title or Spin component id.
    pub layer: Option<&'a str>,
    /// Where the archive goes; `<name>.qyvbin` here if absent.
    pub output: Option<&'a Path>,
    /// Whether the output may replace a file that is no archive.
    pub force: bool,
    /// More files that the command has read.
    pub inputs: &'a [PathBuf],
    /// More names in the store, beside the image's own.
    pub tags: Vec<Reference>,
    /// Who signs.
    pub signer: SignerChoice<'a>,
    /// What the signature states in addition to the digest.
    pub claims: Claims,
    /// Asks for a key's passphrase.
    pub passphrase: Passphrase<'a>,
}

/// Where a component came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The name it was fetched by.
    pub name: Reference,
    /// The digest of the manifest that names it.
    pub digest: Digest,
    /// The digest of the layer that it is in.
    pub layer: Digest,
    /// What claims to sign it there: the kind, and how many. Not checked.
    pub signatures: Vec<(&'static str, usize)>,
}

/// What was imported.
#[derive(Clone, Debug)]
pub struct ImportReport {
    /// The image that was built.
    pub build: BuildReport,
    /// Where the component came from; none for a file of this host.
    pub origin: Option<Origin>,
    /// The parts of the source that the image lacks.
    pub left_out: Vec<String>,
    /// Whether the manifest was made here.
    pub made_manifest: bool,
}

/// A component to be imported.
struct ImportedComponent {
    component: Vec<u8>,
    origin: Option<Origin>,
    left_out: Vec<String>,
}

/// Imports. A connection is opened only for a name in a registry.
pub fn import(ctx: &Context<'_>, client: &Arc<Client>, request: &ImportRequest<'_>) -> Result<ImportReport, Error> {
    let label = match request.source {
        Target::Image(ImageName::Reference(name)) => name.to_string(),
        Target::Wasm(path) => path.to_string_lossy().into_owned(),
        _ => {
            return Err(Error::Usage(
                "expected a name in a registry, or a .wasm file".to_string(),
            ));
        }
    };
    if let (Target::Wasm(_), Some(_)) = (request.source, request.layer) {
        return Err(Error::Usage(
            "--layer is for a name in a registry: a file has no layers".to_string(),
        ));
    }
    let manifest = request.manifest.map(crate::validate).transpose()?;
    let output = match (request.output, &manifest) {
        (Some(path), _) => path.to_path_buf(),
        (None, Some(manifest)) => crate::build::default_output(&manifest.path),
        (None, None) => PathBuf::from(format!("{}.qyvbin", file_name(request))),
    };
    let to = Destination {
        path: &output,
        force: request.force,
        inputs: request.inputs,
    };
    let mut place = OutputPath::new(ctx, &to)?;
    // The publisher of the source chose its name, and must not choose what it replaces.
    let is_derived = request.name.is_none() && manifest.is_none() && !request.replace;
    if is_derived && request.output.is_none() && !request.force {
        place.keep();
        place.check()?;
    }
    let (app, directory, made, found) = match (&manifest, request.source) {
        (Some(manifest), source) => {
            place.inputs().add(manifest.id, &manifest.path);
            let found = match source {
                Target::Wasm(path) => of_file(&mut place, path)?,
                _ => Artifact::find(ctx, client, &label, request)?.fetch(ctx)?,
            };
            let Validated { app, directory, .. } = manifest.clone();
            (app, directory, false, found)
        }
        (None, Target::Wasm(path)) => {
            let name = request.name.ok_or_else(|| no_version(&label, request, None))?;
            let app = deny_all_manifest(name)?;
            (app, PathBuf::from("."), true, of_file(&mut place, path)?)
        }
        (None, _) => {
            let artifact = Artifact::find(ctx, client, &label, request)?;
            let name = own_name(&label, request, artifact.version())?;
            let app = deny_all_manifest(&name)?;
            (app, PathBuf::from("."), true, artifact.fetch(ctx)?)
        }
    };
    // Neither an archive of an earlier build nor the manifest is an asset.
    let skip: HashSet<PathBuf> = place
        .holds_archive()
        .then(|| place.real())
        .into_iter()
        .chain(manifest.iter().filter_map(|manifest| manifest.path.canonicalize().ok()))
        .collect();
    let options = BuildOptions {
        created: ctx.source_date.unwrap_or(Timestamp::EPOCH),
        join: functions::join,
        componentize: None,
        skip,
    };
    let mut application = prepare_component(&label, app, &directory, found.component, &options)?;
    if let Some(origin) = &found.origin {
        let name = origin.name.to_string();
        application.builder = application.builder.made_from(&name, &origin.digest);
    }
    for (path, id) in application.builder.inputs() {
        place.inputs().add_real(id, path);
    }
    let work = PendingBuild {
        label: &label,
        output: &output,
        tags: &request.tags,
        signer: &request.signer,
        claims: &request.claims,
        passphrase: request.passphrase,
        keeps_names: is_derived,
    };
    let mut left_out = found.left_out;
    let more = left_out.len().saturating_sub(MAX_LISTED);
    left_out.truncate(MAX_LISTED);
    left_out.extend((more > 0).then(|| format!("{more} more parts")));
    Ok(ImportReport {
        build: work.write(ctx, &application, place)?,
        origin: found.origin,
        left_out,
        made_manifest: made,
    })
}

/// A text of the source's as it is shown: cut, and escaped.
fn shown(text: &str) -> String {
    let cut: String = text.chars().take(MAX_SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{}{more}", escape(&cut))
}

fn of_file(place: &mut OutputPath, path: &Path) -> Result<ImportedComponent, Error> {
    let component = read_wasm(path)?;
    place.inputs().add_path(path);
    Ok(ImportedComponent {
        component,
        origin: None,
        left_out: Vec::new(),
    })
}

/// The last part of a repository's name.
fn last(repository: &str) -> &str {
    repository.rsplit('/').next().unwrap_or(repository)
}

/// The name of the archive and, unless stated otherwise, of the image.
fn file_name(request: &ImportRequest<'_>) -> String {
    match (request.name, request.source) {
        (Some(name), _) => last(name.repository()).to_string(),
        (None, Target::Image(ImageName::Reference(name))) => last(name.repository()).to_string(),
        (None, Target::Wasm(path)) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        (None, _) => "image".to_string(),
    }
}

fn no_version(label: &str, request: &ImportRequest<'_>, stated: Option<&str>) -> Error {
    let name = file_name(request);
    let example = match Reference::local(&name, "1.0.0") {
        Ok(name) => name.to_string(),
        Err(_) => "NAME:1.0.0".to_string(),
    };
    let why = match stated {
        Some(stated) => format!("its version `{}` can't be a tag", shown(stated)),
        None => "its version is not stated".to_string(),
    };
    Error::Usage(format!("{}: {why}: name the image, as --name {example}", escape(label)))
}

/// The image's own name: the user's choice, or the last part of the source's name with its tag
/// or stated version.
fn own_name(label: &str, request: &ImportRequest<'_>, stated: Option<&str>) -> Result<Reference, Error> {
    if let Some(name) = request.name {
        return Ok(name.clone());
    }
    let tag = match request.source {
        Target::Image(ImageName::Reference(name)) => name.tag().filter(|tag| *tag != DEFAULT_TAG),
        _ => None,
    };
    let named = tag
        .or(stated)
        .map(|version| Reference::local(&file_name(request), version));
    named
        .and_then(Result::ok)
        .ok_or_else(|| no_version(label, request, tag.or(stated)))
}

/// A manifest that grants nothing.
fn deny_all_manifest(name: &Reference) -> Result<AppManifest, Error> {
    let version = name.tag().unwrap_or(DEFAULT_TAG);
    let text = format!(
        "name: \"{}\"\nversion: \"{version}\"\nentrypoint: \"{}.wasm\"\n",
        name.repository(),
        last(name.repository())
    );
    parse_app_manifest(&text).map_err(|problems| Error::Yaml {
        path: PathBuf::from(name.to_string()),
        problems,
    })
}

/// Why a layer could not be read: the registry's failure, or its content's.
fn unreadable_layer(label: &str, repository: &Repository, error: ImageError) -> Error {
    let error = match error {
        ImageError::Read(error) => match StoreError::from_io(error) {
            Ok(store) => ImageError::Store(store),
            Err(error) => ImageError::Read(error),
        },
        error => error,
    };
    attribute_to_registry(Error::image(label)(error), repository)
}
