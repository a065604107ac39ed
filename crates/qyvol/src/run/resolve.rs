//! From a target to an image that may run: resolved, then judged.

use std::path::Path;
use std::sync::Arc;

use qyvol_image::{BuildOptions, SignedImage};
use qyvol_remote::Client;
use qyvol_runtime::Generation;
use qyvol_sandbox::Capabilities;
use qyvol_store::{LocalStore, RunLock};
use qyvol_trust::{Ceiling, TrustPolicy, Verified};
use qyvol_types::{ImageManifest, escape};

use super::{Pull, RunRequest};
use crate::data::DEVELOPMENT;
use crate::functions;
use crate::image_source::read_image;
use crate::policy::policy_in_force;
use crate::policy_record::policy_of_run;
use crate::supported::check_supported;
use crate::validate::read_linked;
use crate::verify::{TrustedImage, bind, verify_source};
use crate::{
    Context, DataName, Error, ImageName, ImageSource, Linking, LockUse, PullRequest, Target, policy_path, validate,
};

/// The image behind a target, not judged.
pub(crate) struct Resolved {
    source: ImageSource,
}

/// An image that trust has accepted. The store keeps what it needs until this
/// is dropped.
pub(crate) struct VerifiedTarget {
    pub(crate) source: Arc<ImageSource>,
    pub(crate) trusted: TrustedImage,
    /// What its manifest asks for.
    pub(crate) capabilities: Capabilities,
    pub(crate) store: LocalStore,
    pub(crate) lock: RunLock,
}

impl Resolved {
    /// Opens a target, and fetches it first if that is asked for. An image that trust
    /// refuses is not fetched.
    fn new(ctx: &Context<'_>, target: &Target, pull: &Pull<'_>, policy: &TrustPolicy) -> Result<Resolved, Error> {
        let name = match target {
            Target::Image(ImageName::Digest(digest)) if digest.whole().is_none() => {
                return Err(Error::Usage(format!(
                    "{digest} is a shortened digest: a run takes all 64 digits (`qyv inspect {digest}` prints them)"
                )));
            }
            Target::Image(name) => name.in_registry(),
            _ => None,
        };
        let Some(name) = name else {
            return Ok(Resolved {
                source: ImageSource::open(ctx, target)?,
            });
        };
        let fetch = |client: &dyn Fn() -> Result<Arc<Client>, Error>| {
            let request = PullRequest {
                name,
                output: None,
                policy: Some(policy),
                dry_run: false,
            };
            crate::pull(ctx, &client()?, &request)
        };
        let source = match pull {
            Pull::Always(client) => {
                fetch(client)?;
                ImageSource::open(ctx, target)?
            }
            Pull::Missing(client) => match ImageSource::open(ctx, target) {
                Err(Error::NoImage { .. }) => {
                    fetch(client)?;
                    ImageSource::open(ctx, target)?
                }
                opened => opened?,
            },
            Pull::Never => ImageSource::open(ctx, target)?,
        };
        Ok(Resolved { source })
    }

    fn verify_source(self, ctx: &Context<'_>, policy: &TrustPolicy) -> Result<VerifiedTarget, Error> {
        let Resolved { source } = self;
        let trusted = verify_source(ctx, policy, &source, source.single()?)?;
        let capabilities = check_supported(&source.label(), &trusted.config.qyv.app)?;
        let store = ctx.store()?;
        // From here on no prune removes the image.
        let lock = store.running(&trusted.manifest.digest())?;
        Ok(VerifiedTarget {
            source: Arc::new(source),
            trusted,
            capabilities,
            store,
            lock,
        })
    }
}

impl VerifiedTarget {
    /// Resolves and judges what is to run, and checks that this host can.
    pub(crate) fn new(ctx: &Context<'_>, request: &RunRequest<'_>) -> Result<VerifiedTarget, Error> {
        match request.target {
            Target::Manifest(path) => build_unsigned(ctx, path, request),
            Target::Wasm(path) => Err(Error::Usage(format!(
                "{} has no manifest: write a .qyv beside it and run that",
                escape(&path.to_string_lossy())
            ))),
            target => {
                let (policy, new) = policy_of_run(ctx, request.key)?;
                let judged = Resolved::new(ctx, target, &request.pull, &policy)?.verify_source(ctx, &policy)?;
                if let Some(new) = new {
                    new.keep(&judged.store, &judged.lock);
                }
                Ok(judged)
            }
        }
    }

    /// What the user named, for messages.
    pub(crate) fn label(&self) -> String {
        self.source.label()
    }

    /// The image as it was read.
    pub(crate) fn image(&self) -> Result<&SignedImage, Error> {
        self.source.single()
    }

    /// What its component exports; nothing for a core module.
    pub(crate) fn exports(&self) -> &[String] {
        let component = self.trusted.config.component.as_ref();
        component.map_or(&[], |component| component.exports.as_slice())
    }

    /// How the calls of its component are made.
    pub(crate) fn generation(&self) -> Generation {
        let imports = self.trusted.config.component.as_ref();
        let imports = imports.map_or(&[][..], |component| component.imports.as_slice());
        Generation::of_names(imports, self.exports())
    }

    /// Its manifest.
    pub(crate) fn manifest(&self) -> &Verified<ImageManifest> {
        &self.trusted.manifest
    }
}

/// Builds a manifest under development into the store, untagged, and trusts it
/// because the user named the source itself.
fn build_unsigned(ctx: &Context<'_>, path: &Path, request: &RunRequest<'_>) -> Result<VerifiedTarget, Error> {
    let reason = "it is a manifest under development";
    if request.key.is_some() || ctx.policy.is_some() {
        return Err(Error::Usage(format!(
            "{} is a manifest under development, which is not signed: --key and --policy can't apply to it",
            escape(&path.to_string_lossy())
        )));
    }
    if !policy_in_force(ctx)?.allows_development() {
        return Err(Error::NotPermitted {
            target: path.to_string_lossy().into_owned(),
            why: format!(
                "it is a manifest under development, and the trust policy {} denies those",
                escape(&policy_path(ctx).to_string_lossy())
            ),
        });
    }
    request.events.unsigned(reason);
    let manifest = validate(path)?;
    let label = path.to_string_lossy().into_owned();
    let capabilities = check_supported(&label, &manifest.app)?;
    let options = BuildOptions::untimed(functions::join);
    let linking = Linking {
        pull: request.pull,
        lock: LockUse::Unwritten,
    };
    let (builder, mut linkage) = read_linked(ctx, &label, &manifest, options, &capabilities, &linking)?;
    linkage.remember(ctx)?;
    functions::check(&label, &builder)?;
    let store = ctx.store()?;
    let mut stage = store.begin()?;
    let built = builder.write(&mut stage, ctx.report).map_err(Error::image(&label))?;
    crate::install::stage_metadata(&mut stage, &built.image)?;
    // It has no name: only the lock keeps a prune from removing it.
    let lock = store.running(&built.descriptor.digest)?;
    stage.commit()?;
    let image = read_image(ctx, &store, &label, &built.descriptor)?;
    let digest = built.descriptor.digest;
    let (manifest, config) = bind(&label, Verified::dangerously_trust(built.descriptor, reason), &image)?;
    let data = DataName {
        owner: DEVELOPMENT.to_string(),
        application: config.qyv.app.name.clone(),
    };
    let trusted = TrustedImage {
        manifest,
        config,
        report: None,
        ceiling: Ceiling::default(),
        data,
        digest,
        remembered_as: None,
        seen: None,
    };
    let name = ImageName::Reference(built.name);
    let source = ImageSource::Stored {
        store: store.clone(),
        name,
        image: Box::new(image),
    };
    Ok(VerifiedTarget {
        source: Arc::new(source),
        trusted,
        capabilities,
        store,
        lock,
    })
}
