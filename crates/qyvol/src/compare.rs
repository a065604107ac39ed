//! `build --compare`: whether the sources here reproduce a given image. Nothing is written,
//! signed or tagged: a rebuilder then signs the image itself, in a role of their own.

use std::path::Path;

use qyvol_image::{BuildOptions, BuiltImage, ListedAsset, SignedImage, list_assets};
use qyvol_store::Fetch;
use qyvol_types::{ImageConfig, escape};
use serde_json::Value;

use crate::build::default_output;
use crate::output::OutputPath;
use crate::validate::prepare;
use crate::{Context, Destination, Error, ImageSource, Linking, Target};

/// What to compare.
pub struct CompareRequest<'a> {
    /// A `.qyv` or the directory of one.
    pub path: &'a Path,
    /// The image that it should make.
    pub image: &'a Target,
    /// Whether a core module is made a component.
    pub componentize: bool,
    /// How dependencies are found.
    pub linking: Linking<'a>,
}

/// How a build compares with an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The manifests are the same, byte for byte, and so is everything that they name.
    Identical,
    /// The application's manifest, component and files are the same. These differ.
    SameContent(Vec<&'static str>),
    /// The content differs; here first.
    Different(String),
}

/// The result.
#[derive(Clone, Debug)]
pub struct CompareReport {
    /// The digest of the image's manifest.
    pub digest: String,
    /// The digest of what was built.
    pub built: String,
    /// How they compare.
    pub comparison: Comparison,
}

/// Builds without writing anything but to a staging directory, and compares. The time that the
/// image records is taken over, unless another is given.
pub fn compare(ctx: &Context<'_>, request: &CompareRequest<'_>) -> Result<CompareReport, Error> {
    let source = ImageSource::open(ctx, request.image)?;
    let theirs = source.single()?;
    let config = ImageConfig::parse(&theirs.config).map_err(Error::malformed(&source.label()))?;
    let manifest = crate::validate(request.path)?;
    let label = manifest.path.to_string_lossy().into_owned();
    // As a build does: archives of before are not packed.
    let output = default_output(&manifest.path);
    let output = Destination {
        path: &output,
        force: false,
        inputs: &[],
    };
    let output = OutputPath::new(ctx, &output).ok().filter(OutputPath::holds_archive);
    let archive = match &source {
        ImageSource::Archive { archive } => archive.path().canonicalize().ok(),
        ImageSource::Stored { .. } => None,
    };
    let options = BuildOptions {
        created: ctx.source_date.unwrap_or(config.created),
        join: crate::functions::join,
        componentize: request.componentize.then_some(qyvol_compose::check_embedded),
        skip: output.map(|output| output.real()).into_iter().chain(archive).collect(),
    };
    let application = prepare(ctx, manifest, options, &request.linking)?;
    let mut stage = ctx.store()?.begin()?;
    ctx.report.started("building", Some(application.builder.total()));
    let built = application.builder.write(&mut stage, ctx.report);
    let built = built.map_err(Error::image(&label))?;
    ctx.report.finished();
    let comparison = match theirs.manifest.digest() == built.descriptor.digest {
        true => Comparison::Identical,
        false => compared(&source, theirs, &config, &stage, &built)?,
    };
    Ok(CompareReport {
        digest: theirs.manifest.digest().to_string(),
        built: built.descriptor.digest.to_string(),
        comparison,
    })
}

fn compared(
    source: &ImageSource,
    theirs: &SignedImage,
    config: &ImageConfig,
    stage: &dyn Fetch,
    built: &BuiltImage,
) -> Result<Comparison, Error> {
    let ours = &built.config;
    let values = [&config.qyv.app, &ours.qyv.app].map(|app| serde_json::to_value(app).unwrap_or_default());
    if let Some(place) = difference(&values[0], &values[1], "") {
        let shown = |value: &Value| escape(&value.pointer(&place).unwrap_or(&Value::Null).to_string()).to_string();
        return Ok(Comparison::Different(format!(
            "the manifest at {}: {} in the image, {} here",
            escape(&place),
            shown(&values[0]),
            shown(&values[1])
        )));
    }
    let layer = |image: &SignedImage, index: usize| image.manifest.layers().get(index).cloned();
    let components = [layer(theirs, 0), layer(&built.image, 0)].map(|layer| layer.map(|layer| layer.digest));
    if let [Some(theirs), Some(ours)] = components
        && theirs != ours
    {
        return Ok(Comparison::Different(format!(
            "the component: {theirs} in the image, {ours} here"
        )));
    }
    let contents = |config: &ImageConfig| config.qyv.assets.as_ref().map(|assets| assets.diff_id);
    if contents(config) != contents(ours) {
        let files = |image: &SignedImage, config: &ImageConfig, from: &dyn Fetch| {
            let (Some(layer), Some(promise)) = (layer(image, 1), &config.qyv.assets) else {
                return Ok(Vec::new());
            };
            list_assets(from.fetch(&layer)?, promise).map_err(Error::image(&source.label()))
        };
        let theirs = files(theirs, config, source.blobs())?;
        let ours = files(&built.image, ours, stage)?;
        return Ok(Comparison::Different(first_file(&theirs, &ours)));
    }
    let mut differs = Vec::new();
    if layer(theirs, 1).map(|layer| layer.digest) != layer(&built.image, 1).map(|layer| layer.digest) {
        differs.push("the compression of the assets");
    }
    if config.created != ours.created {
        differs.push("the time of the build");
    }
    if config.lock != ours.lock {
        differs.push("the record of dependencies");
    }
    if theirs.manifest.annotations() != built.image.manifest.annotations() {
        differs.push("the annotations of the image");
    }
    if differs.is_empty() {
        differs.push("the form of the image's manifest or config");
    }
    Ok(Comparison::SameContent(differs))
}

/// The first place, as a JSON pointer, at which two documents differ.
fn difference(a: &Value, b: &Value, place: &str) -> Option<String> {
    if a == b {
        return None;
    }
    let below = |key: &str, a: &Value, b: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        difference(a, b, &format!("{place}/{key}"))
    };
    let none = &Value::Null;
    let found = match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            let pair = |key: &String| (a.get(key).unwrap_or(none).clone(), b.get(key).unwrap_or(none).clone());
            keys.into_iter().find_map(|key| {
                let (a, b) = pair(key);
                below(key, &a, &b)
            })
        }
        (Value::Array(a), Value::Array(b)) => (0..a.len().max(b.len())).find_map(|index| {
            below(
                &index.to_string(),
                a.get(index).unwrap_or(none),
                b.get(index).unwrap_or(none),
            )
        }),
        _ => None,
    };
    Some(found.unwrap_or_else(|| place.to_string()))
}

/// The first file, by its path, that only one has, or that they have with other content. Both
/// lists are sorted.
fn first_file(theirs: &[ListedAsset], ours: &[ListedAsset]) -> String {
    let pair = theirs.iter().zip(ours).find(|(a, b)| a != b);
    let (a, b) = match pair {
        Some((a, b)) => (Some(a), Some(b)),
        None => (theirs.get(ours.len()), ours.get(theirs.len())),
    };
    match (a, b) {
        (Some(a), Some(b)) if a.path == b.path => format!(
            "the asset {}: {} bytes, {} in the image, {} bytes, {} here",
            escape(&a.path),
            a.size,
            a.digest,
            b.size,
            b.digest
        ),
        (Some(a), Some(b)) if a.path < b.path => format!("the asset {} is only in the image", escape(&a.path)),
        (Some(_) | None, Some(b)) => format!("the asset {} is only here", escape(&b.path)),
        (Some(a), None) => format!("the asset {} is only in the image", escape(&a.path)),
        (None, None) => "the assets".to_string(),
    }
}
