//! `verify`: judges an image by the policy, then reads all of it.

use qyvol_image::SignedImage;
use qyvol_store::{Fetch, LocalStore, StoreError};
use qyvol_trust::{Ceiling, Report, RollbackState, Rule, Subject, TrustPolicy, Verified};
use qyvol_types::{Descriptor, Digest, ImageConfig, ImageManifest, LockedDependency};
use serde::Serialize;

use crate::image_source::{RequestedAs, own_name, read_bundle};
use crate::policy::policy_or_key;
use crate::{Context, DataName, Error, ImageSource, Target};

/// Which attestations are read to judge an image, and the source of those that are not read
/// with it.
#[derive(Clone, Copy)]
pub(crate) enum Attestations<'a> {
    /// Those that its rule asks for.
    Needed(&'a dyn Fetch),
    /// All, to list them.
    All(&'a dyn Fetch),
}

/// An image that trust has accepted, down to its config.
#[derive(Debug)]
pub(crate) struct TrustedImage {
    pub(crate) manifest: Verified<ImageManifest>,
    pub(crate) config: Verified<ImageConfig>,
    pub(crate) report: Option<Report>,
    /// What its rule allows a run of it.
    pub(crate) ceiling: Ceiling,
    /// The owner of its data on this host.
    pub(crate) data: DataName,
    /// Its manifest's digest.
    pub(crate) digest: Digest,
    /// The name under which it is recorded, if its rule denies rollback.
    pub(crate) remembered_as: Option<String>,
    /// What is still to be recorded of it.
    pub(crate) seen: Option<RollbackState>,
}

/// What `verify` found for one image.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// The image's name as asked for.
    pub name: String,
    /// The image's own name.
    pub image: String,
    /// The image manifest's digest.
    pub digest: String,
    /// What was linked into its component, as the accepted signature binds it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<LockedDependency>,
    /// Every signature with its verdict.
    #[serde(flatten)]
    pub trust: Report,
}

impl VerifyReport {
    /// The report on an image that was accepted and read.
    pub(crate) fn new(label: &str, trusted: TrustedImage) -> Result<VerifyReport, Error> {
        let app = &trusted.config.qyv.app;
        Ok(VerifyReport {
            name: label.to_string(),
            image: format!("{}:{}", app.name, app.version),
            digest: trusted.digest.to_string(),
            dependencies: trusted
                .config
                .lock
                .iter()
                .flat_map(|lock| lock.dependencies.clone())
                .collect(),
            trust: trusted.report.ok_or_else(|| Error::malformed(label)("no verdict"))?,
        })
    }
}

/// Verifies every image of the target: signatures first, then that all of its
/// content has the digests that were signed. Writes nothing.
///
/// With the `host` and the `file` of [`build`](crate::build()):
///
/// ```
/// # let scratch = tempfile::tempdir()?;
/// # let temporaries = qyvol::TempFiles::default();
/// # let now = qyvol::types::Timestamp::from_unix(1_800_000_000)?;
/// # let host = qyvol::Context::new(qyvol::Home::in_directory(scratch.path()), now, &temporaries);
/// # let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
/// # let file = scratch.path().join("hello.qyvbin");
/// # let request = qyvol::BuildRequest { output: Some(&file), ..qyvol::BuildRequest::new(&example) };
/// # qyvol::build(&host, &request)?;
/// use qyvol::{Context, ErrorClass, Home, Target};
///
/// // By the policy of this host, which trusts its own key for files.
/// let target = Target::Archive(file);
/// let reports = qyvol::verify(&host, &target, None)?;
/// assert_eq!(reports[0].image, "hello-qyvol:1.0.0");
///
/// // Another host has not been told to trust that key.
/// # let directory = scratch.path().join("other");
/// let other = Context::new(Home::in_directory(&directory), now, &temporaries);
/// let refused = qyvol::verify(&other, &target, None).unwrap_err();
/// assert!(matches!(refused.class(), ErrorClass::Refused(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify(ctx: &Context<'_>, target: &Target, key: Option<&str>) -> Result<Vec<VerifyReport>, Error> {
    verify_by(ctx, &policy_or_key(ctx, key)?, target)
}

/// The same by a policy that was read before.
pub(crate) fn verify_by(ctx: &Context<'_>, policy: &TrustPolicy, target: &Target) -> Result<Vec<VerifyReport>, Error> {
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let mut reports = Vec::new();
    for image in source.images() {
        let trusted = verify_all(ctx, policy, &source, image)?;
        reports.push(VerifyReport::new(&label, trusted)?);
    }
    match &source {
        ImageSource::Archive { archive } => {
            let total = archive.head().content().iter().map(|b| b.size).sum();
            ctx.report.started("verifying", Some(total));
            archive.check_content(ctx.report).map_err(Error::image(&label))?;
            ctx.report.finished();
        }
        ImageSource::Stored { store, image, .. } => {
            ctx.report
                .started("verifying", Some(image.manifest.layers().iter().map(|l| l.size).sum()));
            for layer in image.manifest.layers() {
                let mut body = store.fetch(layer).map_err(Error::stored(&label))?;
                read_all(&mut body, ctx).map_err(|error| match StoreError::from_io(error) {
                    Ok(source) => Error::stored(&label)(source),
                    Err(io) => Error::file("read", store.root())(io),
                })?;
            }
            ctx.report.finished();
        }
    }
    Ok(reports)
}

/// Reads a self-checking reader to its end.
pub(crate) fn read_all(body: &mut impl std::io::Read, ctx: &Context<'_>) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(()),
            n => ctx.report.advanced(n as u64),
        }
    }
}

/// Judges one image, then binds manifest and config to the verdict. The only way from an image
/// of a source to one that can be run.
pub(crate) fn verify_source(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    source: &ImageSource,
    image: &SignedImage,
) -> Result<TrustedImage, Error> {
    judge_source(ctx, policy, source, image, Attestations::Needed(source.blobs()))
}

/// The same, with every attestation in the report.
fn verify_all(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    source: &ImageSource,
    image: &SignedImage,
) -> Result<TrustedImage, Error> {
    judge_source(ctx, policy, source, image, Attestations::All(source.blobs()))
}

fn judge_source(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    source: &ImageSource,
    image: &SignedImage,
    attestations: Attestations<'_>,
) -> Result<TrustedImage, Error> {
    let label = source.label();
    let trusted = verify_image(ctx, policy, &label, source.asked(), image, attestations)?;
    if matches!(source, ImageSource::Archive { .. }) {
        check_local_names(&label, image, &trusted.config)?;
    }
    Ok(trusted)
}

/// The same for an image by itself. Reads what is recorded of earlier images, and writes
/// nothing.
pub(crate) fn verify_image(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    label: &str,
    asked: RequestedAs<'_>,
    image: &SignedImage,
    attestations: Attestations<'_>,
) -> Result<TrustedImage, Error> {
    let descriptor = image.descriptor();
    let envelopes: Vec<Vec<u8>> = image.signatures.iter().map(|s| s.bundle.clone()).collect();
    let name = match asked {
        RequestedAs::Name(name) => Some(name),
        RequestedAs::Archive | RequestedAs::Digest => None,
    };
    // By its config, which the digest binds; an archive's index only claims.
    let own = own_name(label, &image.config)?;
    let subject = Subject {
        descriptor: &descriptor,
        name: own.repository(),
        version: own.tag().unwrap_or_default(),
        asked: name.filter(|name| name.registry().is_some()),
        pinned: matches!(asked, RequestedAs::Digest) || name.is_some_and(|name| name.digest().is_some()),
    };
    let rule = policy.rule(&subject);
    let before = match rule {
        Some(rule) => remembered(ctx, label, rule, &subject)?,
        None => None,
    };
    let attested = match attestations {
        Attestations::All(from) => bundles(ctx, label, image, from)?,
        Attestations::Needed(from) if rule.is_some_and(|rule| !rule.attest.is_empty()) => {
            bundles(ctx, label, image, from)?
        }
        Attestations::Needed(_) => Vec::new(),
    };
    let accepted = qyvol_trust::verify_attested(policy, &subject, &envelopes, &attested, ctx.now, before.as_ref());
    let accepted = accepted.map_err(Error::trust(label))?;
    let data = DataName {
        owner: accepted.owner,
        application: subject.application(),
    };
    let (manifest, config) = bind(label, accepted.image, image)?;
    Ok(TrustedImage {
        manifest,
        config,
        report: Some(accepted.report),
        ceiling: accepted.ceiling,
        data,
        digest: descriptor.digest,
        remembered_as: accepted.seen.as_ref().map(|seen| seen.name.clone()),
        seen: accepted.seen.filter(|seen| before.as_ref() != Some(seen)),
    })
}

/// The bundles of an image's attestations. One that can't be read is left out.
fn bundles(ctx: &Context<'_>, label: &str, image: &SignedImage, from: &dyn Fetch) -> Result<Vec<Vec<u8>>, Error> {
    let mut bundles: Vec<Vec<u8>> = image.attestations.iter().map(|a| a.bundle.clone()).collect();
    let subject = image.descriptor();
    for manifest in &image.large_attestations {
        match read_bundle(from, manifest.clone(), &subject) {
            Ok(found) => bundles.extend(found.map(|attestation| attestation.bundle)),
            Err(error) if error.is_content_error() || matches!(error, StoreError::NotFound { .. }) => {
                let digest = manifest.digest();
                ctx.report
                    .warned(&format!("{label}: attestation {digest} left out: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bundles)
}

/// What is recorded of the image that was accepted before, if that matters.
fn remembered(
    ctx: &Context<'_>,
    label: &str,
    rule: &Rule,
    subject: &Subject<'_>,
) -> Result<Option<RollbackState>, Error> {
    let Some(name) = subject.state_name().filter(|_| rule.deny_rollback) else {
        return Ok(None);
    };
    let bytes = ctx.store()?.host_state(&name).map_err(Error::state(label))?;
    bytes.map(|bytes| read_seen(label, &name, &bytes)).transpose()
}

fn read_seen(label: &str, name: &str, bytes: &[u8]) -> Result<RollbackState, Error> {
    match RollbackState::parse(bytes) {
        Ok(seen) if seen.name == name => Ok(seen),
        Ok(seen) => Err(Error::state(label)(format!("it is that of {}", seen.name))),
        Err(error) => Err(Error::state(label)(error)),
    }
}

impl TrustedImage {
    /// Records this image in the rollback state, if its rule denies rollback.
    /// Call it after all else has succeeded and before the image is used. Fails
    /// if that can't be written, or if another process has accepted a newer
    /// image meanwhile.
    pub(crate) fn remember(&mut self, store: &LocalStore, label: &str) -> Result<(), Error> {
        let Some(seen) = self.seen.take() else { return Ok(()) };
        let name = seen.name.clone();
        let update = |old: Option<&[u8]>| {
            let merged = match old.map(|bytes| read_seen(label, &name, bytes)).transpose()? {
                Some(old) if old.digest != seen.digest && old.sequence >= seen.sequence => {
                    return Err(Error::state(label)("a newer image was accepted meanwhile"));
                }
                Some(old) => seen.newer(&old),
                None => seen,
            };
            merged.to_json().map_err(Error::state(label))
        };
        store.update_host_state(&name, update).map_err(|error| match error {
            Error::Store(error) => Error::state(label)(error),
            error => error,
        })
    }
}

/// How the policy judges an image, in full.
#[derive(Debug)]
pub struct Explanation {
    /// The image manifest's digest.
    pub digest: String,
    /// What was found.
    pub report: Report,
    /// Why it is refused, if it is.
    pub refused: Option<Error>,
}

/// Judges every image of a target without reading its content.
pub fn explain(ctx: &Context<'_>, target: &Target) -> Result<Vec<Explanation>, Error> {
    let policy = policy_or_key(ctx, None)?;
    let source = ImageSource::open(ctx, target)?;
    let explained = source.images().iter().map(|image| {
        let (report, refused) = match verify_all(ctx, &policy, &source, image) {
            Ok(TrustedImage {
                report: Some(report), ..
            }) => (report, None),
            Ok(_) => return Err(Error::malformed(&source.label())("no verdict")),
            Err(Error::Trust { target, source }) => (source.report().clone(), Some(Error::Trust { target, source })),
            Err(error) => return Err(error),
        };
        Ok(Explanation {
            digest: image.manifest.digest().to_string(),
            report,
            refused,
        })
    });
    explained.collect()
}

/// A name without a registry in an archive's index is the one that the config
/// has. What a registry's name claims is for `load` to judge.
pub(crate) fn check_local_names(label: &str, image: &SignedImage, config: &ImageConfig) -> Result<(), Error> {
    let own = format!("{}:{}", config.qyv.app.name, config.qyv.app.version);
    let mut local = image.names.iter().filter(|name| name.registry().is_none());
    match local.find(|name| name.to_string() != own) {
        None => Ok(()),
        Some(other) => Err(Error::malformed(label)(format!(
            "its index names the image {other}, its config {own}"
        ))),
    }
}

/// Binds the bytes of manifest and config to a verified descriptor.
pub(crate) fn bind(
    label: &str,
    verified: Verified<Descriptor>,
    image: &SignedImage,
) -> Result<(Verified<ImageManifest>, Verified<ImageConfig>), Error> {
    let manifest = verified
        .bind(image.manifest.raw().to_vec())
        .map_err(Error::malformed(label))?;
    let config = manifest
        .config()
        .bind_config(&image.config)
        .map_err(Error::malformed(label))?;
    let layers: Vec<_> = manifest.layers().iter().map(|l| l.digest).collect();
    if config.layer_digests != layers || config.qyv.assets.is_some() != (layers.len() == 2) {
        return Err(Error::malformed(label)(
            "its config and its manifest disagree on the layers",
        ));
    }
    Ok((manifest, config))
}
