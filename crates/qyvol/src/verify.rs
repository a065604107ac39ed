//! `verify`: judges an image by the policy, then reads all of it.

use std::path::Path;

use qyvol_image::HeadImage;
use qyvol_store::{Fetch, StoreError};
use qyvol_trust::{PublicKey, Report, Scope, Subject, TrustPolicy, Verified, VerifyError};
use qyvol_types::{Descriptor, ImageConfig, ImageManifest};
use serde::Serialize;

use crate::validate::read_text;
use crate::{Context, Error, Source, Target, load_policy};

/// An image that trust has accepted, down to its config.
#[derive(Debug)]
pub(crate) struct TrustedImage {
    pub(crate) manifest: Verified<ImageManifest>,
    pub(crate) config: Verified<ImageConfig>,
    pub(crate) report: Option<Report>,
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
    /// Every signature with its verdict.
    #[serde(flatten)]
    pub trust: Report,
}

/// Verifies every image of the target: signatures first, then that all of its
/// content has the digests that were signed. Writes nothing.
pub fn verify(ctx: &Context<'_>, target: &Target, key: Option<&Path>) -> Result<Vec<VerifyReport>, Error> {
    let policy = policy_or_key(ctx, key)?;
    let source = Source::open(ctx, target)?;
    let label = source.label();
    let mut reports = Vec::new();
    for image in source.images() {
        let trusted = judge(ctx, &policy, &source, image)?;
        let app = &trusted.config.qyv.app;
        reports.push(VerifyReport {
            name: label.clone(),
            image: format!("{}:{}", app.name, app.version),
            digest: image.manifest.digest().to_string(),
            trust: trusted.report.ok_or_else(|| Error::malformed(&label)("no verdict"))?,
        });
    }
    match &source {
        Source::Archive { archive } => {
            let total = archive.head().content().iter().map(|b| b.size).sum();
            ctx.report.started("verifying", Some(total));
            archive.check_content(ctx.report).map_err(Error::image(&label))?;
            ctx.report.finished();
        }
        Source::Stored { store, image, .. } => {
            ctx.report
                .started("verifying", Some(image.manifest.layers().iter().map(|l| l.size).sum()));
            for layer in image.manifest.layers() {
                read_all(&mut store.fetch(layer)?, ctx).map_err(|error| match StoreError::from_io(error) {
                    Ok(store) => Error::Store(store),
                    Err(io) => Error::file("read", store.root())(io),
                })?;
            }
            ctx.report.finished();
        }
    }
    Ok(reports)
}

fn read_all(body: &mut impl std::io::Read, ctx: &Context<'_>) -> std::io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match body.read(&mut buffer)? {
            0 => return Ok(()),
            n => ctx.report.advanced(n as u64),
        }
    }
}

/// The policy to judge by: the home's, or one that trusts a single key.
pub fn policy_or_key(ctx: &Context<'_>, key: Option<&Path>) -> Result<TrustPolicy, Error> {
    match key {
        Some(path) => {
            let key = PublicKey::from_pem(&read_text(path)?).map_err(Error::key(&path.to_string_lossy()))?;
            Ok(TrustPolicy::single_key(key))
        }
        None => load_policy(ctx),
    }
}

/// Judges one image, then binds manifest and config to the verdict. The one
/// way from an image of a source to something that can be run.
pub(crate) fn judge(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    source: &Source,
    image: &HeadImage,
) -> Result<TrustedImage, Error> {
    let label = source.label();
    let trusted = judge_image(ctx, policy, &label, source.scope(), image)?;
    if matches!(source, Source::Archive { .. }) {
        check_own_name(&label, image, &trusted.config)?;
    }
    Ok(trusted)
}

/// The same for an image by itself: `scope` is what it was asked for as.
pub(crate) fn judge_image(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    label: &str,
    scope: Scope<'_>,
    image: &HeadImage,
) -> Result<TrustedImage, Error> {
    let descriptor = image.descriptor();
    let envelopes: Vec<Vec<u8>> = image.signatures.iter().map(|s| s.bundle.clone()).collect();
    // A file has no name but its own, which is held against its signatures
    // below, once its config is verified.
    let asked = match scope {
        Scope::Name(name) => Some((name.repository(), name.tag())),
        Scope::File => None,
    };
    let subject = Subject {
        scope,
        descriptor: &descriptor,
        asked,
    };
    let (verified, report) = qyvol_trust::verify(policy, &subject, &envelopes, ctx.now).map_err(Error::trust(label))?;
    let mut trusted = bind(label, verified, image)?;
    let app = &trusted.config.qyv.app;
    let other = report
        .accepted()
        .find(|s| s.name != app.name || s.version != app.version);
    let other = other.map(|s| format!("{} {}", qyvol_types::escape(&s.name), qyvol_types::escape(&s.version)));
    if let Some(other) = other {
        let detail = format!("it is {} {}, and signed for {other}", app.name, app.version);
        return Err(Error::trust(label)(VerifyError::identity(detail, report)));
    }
    trusted.report = Some(report);
    Ok(trusted)
}

/// An archive's index repeats the name that the config has.
pub(crate) fn check_own_name(label: &str, image: &HeadImage, config: &ImageConfig) -> Result<(), Error> {
    let own = format!("{}:{}", config.qyv.app.name, config.qyv.app.version);
    if own == image.name.to_string() {
        return Ok(());
    }
    Err(Error::malformed(label)(format!(
        "its index names the image {}, its config {own}",
        image.name
    )))
}

/// Binds the bytes of manifest and config to a verified descriptor.
pub(crate) fn bind(label: &str, verified: Verified<Descriptor>, image: &HeadImage) -> Result<TrustedImage, Error> {
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
    Ok(TrustedImage {
        manifest,
        config,
        report: None,
    })
}
