//! `build`: from a `.qyv` to a signed `.qyvbin` and a tag in the store.

use std::path::{Path, PathBuf};

use qyvol_image::{AssetPlan, BuildOptions, BuiltImage, Head, write_archive};
use qyvol_sandbox::Denied;
use qyvol_store::Ingest;
use qyvol_types::{Reference, Timestamp};

use crate::install::stage_metadata;
use crate::keys::{Passphrase, no_passphrase};
use crate::output::{Output, OutputPath};
use crate::sign::{Claims, sign_image};
use crate::signer::{FirstKey, SignerChoice, signer};
use crate::validate::{Application, prepare};
use crate::{Context, Destination, Error, Linking, LockUse, Pull, dependencies, functions};

/// What to build.
pub struct BuildRequest<'a> {
    /// A `.qyv` or the directory of one.
    pub path: &'a Path,
    /// Where the archive goes; `<manifest's name>.qyvbin` here if absent.
    pub output: Option<&'a Path>,
    /// Whether the output may replace a file that is no archive.
    pub force: bool,
    /// More names in the store, beside the image's own.
    pub tags: Vec<Reference>,
    /// Who signs.
    pub signer: SignerChoice<'a>,
    /// What the signature states in addition to the digest.
    pub claims: Claims,
    /// Asks for a key's passphrase.
    pub passphrase: Passphrase<'a>,
    /// Whether a core module is made a component.
    pub componentize: bool,
    /// How dependencies are found.
    pub linking: Linking<'a>,
}

impl<'a> BuildRequest<'a> {
    /// The defaults of `qyv build PATH`: signed by the default key, which has no passphrase.
    pub fn new(path: &'a Path) -> BuildRequest<'a> {
        BuildRequest {
            path,
            output: None,
            force: false,
            tags: Vec::new(),
            signer: SignerChoice::Default,
            claims: Claims::default(),
            passphrase: &no_passphrase,
            componentize: false,
            linking: Linking {
                pull: Pull::Never,
                lock: LockUse::Extended,
            },
        }
    }
}

/// What was built.
#[derive(Clone, Debug)]
pub struct BuildReport {
    /// The archive.
    pub output: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The image, with its config.
    pub built: BuiltImage,
    /// Names it has in the store.
    pub tags: Vec<Reference>,
    /// Fingerprint of the key that signed, if one did.
    pub signed_by: Option<String>,
    /// The key that was made for this.
    pub first_key: Option<FirstKey>,
    /// What was packed, and what was not.
    pub assets: AssetPlan,
    /// Imports that the permissions make useless.
    pub denied_imports: Vec<Denied>,
    /// The lock, if it was written.
    pub lock: Option<PathBuf>,
}

/// Builds. Every fault of the input is found before anything is written; the archive and the
/// store's entry appear complete or not at all.
///
/// ```
/// use qyvol::types::Timestamp;
/// use qyvol::{BuildRequest, Context, Home, TempFiles};
///
/// # let scratch = tempfile::tempdir()?;
/// # let directory = scratch.path();
/// # let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
/// // A host is a directory. The context says which, and what time it is.
/// let temporaries = TempFiles::default();
/// let now = Timestamp::from_unix(1_800_000_000)?;
/// let host = Context::new(Home::in_directory(directory), now, &temporaries);
///
/// // Packed, and signed by the host's own key, which the first build makes.
/// let file = directory.join("hello.qyvbin");
/// let request = BuildRequest { output: Some(&file), ..BuildRequest::new(&example) };
/// let report = qyvol::build(&host, &request)?;
/// assert_eq!(report.built.name.to_string(), "hello-qyvol:1.0.0");
/// println!("{} signed by {:?}", report.built.descriptor.digest, report.signed_by);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn build(ctx: &Context<'_>, request: &BuildRequest<'_>) -> Result<BuildReport, Error> {
    let manifest = crate::validate(request.path)?;
    let label = manifest.path.to_string_lossy().into_owned();
    let output = match request.output {
        Some(path) => path.to_path_buf(),
        None => default_output(&manifest.path),
    };
    let to = Destination {
        path: &output,
        force: request.force,
        inputs: &[],
    };
    let mut place = OutputPath::new(ctx, &to)?;
    place.inputs().add(manifest.id, &manifest.path);
    for path in dependencies::files(&manifest.directory, &manifest.app) {
        place.inputs().add_path(&path);
    }
    // An archive of an earlier build is replaced, not packed.
    let skip = place.holds_archive().then(|| place.real());
    let options = BuildOptions {
        created: ctx.source_date.unwrap_or(Timestamp::EPOCH),
        join: functions::join,
        componentize: request.componentize.then_some(qyvol_compose::check_embedded),
        skip: skip.into_iter().collect(),
    };
    let mut application = prepare(ctx, manifest, options, &request.linking)?;
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
        keeps_names: false,
    };
    application.linkage.remember(ctx)?;
    work.write(ctx, &application, place)
}

/// The default output: the manifest's name, in the current directory.
pub(crate) fn default_output(manifest: &Path) -> PathBuf {
    let mut name = manifest.file_stem().unwrap_or_default().to_os_string();
    name.push(".qyvbin");
    PathBuf::from(name)
}

/// The rest of a build, once all of its inputs have been read.
pub(crate) struct PendingBuild<'a> {
    /// What the user named, for messages.
    pub(crate) label: &'a str,
    /// The archive, as the user named it.
    pub(crate) output: &'a Path,
    /// More names in the store, beside the image's own.
    pub(crate) tags: &'a [Reference],
    /// Who signs.
    pub(crate) signer: &'a SignerChoice<'a>,
    /// What the signature says.
    pub(crate) claims: &'a Claims,
    /// Asks for a key's passphrase.
    pub(crate) passphrase: Passphrase<'a>,
    /// Whether the image's own name is kept if it names another image.
    pub(crate) keeps_names: bool,
}

impl PendingBuild<'_> {
    /// Writes, signs, stores and tags an image.
    pub(crate) fn write(
        &self,
        ctx: &Context<'_>,
        application: &Application,
        mut place: OutputPath,
    ) -> Result<BuildReport, Error> {
        let builder = &application.builder;
        let (label, output) = (self.label, self.output);
        if let Some(path) = self.signer.file() {
            place.inputs().add_path(path);
        }
        place.check()?;
        // If the store can't be written, no first key is made.
        let store = ctx.store()?;
        let mut stage: Ingest = store.begin()?;
        // The output and the key come before the long work.
        let signer = signer(ctx, self.signer, self.passphrase)?;
        if let Some((path, id)) = &signer.file {
            place.inputs().add(*id, path);
        }
        let mut file = Output::create(ctx, place)?;
        let lock = application
            .linkage
            .lock
            .as_ref()
            .map(|lock| lock.stage(ctx))
            .transpose()?;

        ctx.report.started("building", Some(builder.total()));
        let mut built = builder.write(&mut stage, ctx.report).map_err(Error::image(label))?;
        ctx.report.finished();
        if let Some(key) = &signer.key {
            let created = ctx.source_date.unwrap_or(Timestamp::EPOCH);
            let signature = sign_image(label, &**key, &built.image, &built.config, self.claims, created)?;
            built.image.signatures.push(signature);
        }
        stage_metadata(&mut stage, &built.image)?;
        let head = Head::new(vec![built.image.clone()]).map_err(Error::image(label))?;
        ctx.report
            .started("writing", Some(head.content().iter().map(|b| b.size).sum()));
        write_archive(&head, &stage, &mut file, ctx.report).map_err(Error::image(&output.to_string_lossy()))?;
        ctx.report.finished();
        let mut tags = vec![built.name.clone()];
        tags.extend(self.tags.iter().filter(|t| **t != built.name).cloned());
        for name in &tags {
            stage.tag(name, &built.descriptor);
        }
        if self.keeps_names && !self.tags.contains(&built.name) {
            stage.tag_new(&built.name, &built.descriptor);
        }
        stage.commit()?;
        let size = file.finish()?;
        if let Some(lock) = lock {
            lock.finish()?;
        }
        Ok(BuildReport {
            output: output.to_path_buf(),
            size,
            built,
            tags,
            signed_by: signer.key.map(|key| key.public().fingerprint()),
            first_key: signer.first_key,
            assets: builder.assets().clone(),
            denied_imports: application.denied_imports(),
            lock: application.linkage.lock.as_ref().map(|lock| lock.path().to_path_buf()),
        })
    }
}
