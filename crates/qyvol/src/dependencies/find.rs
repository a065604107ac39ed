//! Finds the image of a dependency: in a file, in the store, or in a registry.

use std::path::Path;
use std::sync::Arc;

use qyvol_image::Payload;
use qyvol_remote::Client;
use qyvol_store::Fetch;
use qyvol_trust::TrustPolicy;
use qyvol_types::{DependencyImage, DependencyRule, Descriptor, Digest, LockedDependency, Reference, limits};

use super::{Linking, refused};
use crate::image_source::RequestedAs;
use crate::verify::{Attestations, TrustedImage, verify_image, verify_source};
use crate::{Context, Error, ImageName, ImageSource, Pull, PullRequest};

/// The image of a dependency, not judged.
pub(super) struct Found {
    pub(super) source: ImageSource,
    /// The repository and tag that were asked for, whatever digest a lock pins; none of a file.
    asked: Option<Reference>,
}

impl Found {
    /// Opens the image that the lock pins, or else the one that the name refers to. An image
    /// that trust refuses is not fetched.
    pub(super) fn new(
        ctx: &Context<'_>,
        directory: &Path,
        policy: &TrustPolicy,
        rule: &DependencyRule,
        pin: Option<&LockedDependency>,
        linking: &Linking<'_>,
    ) -> Result<Found, Error> {
        let (source, asked) = match &rule.image {
            DependencyImage::File(path) => (file(directory, rule, path.as_str())?, None),
            DependencyImage::Repository(name) => {
                let name = name.with_tag(&rule.version).map_err(|e| refused(rule, e))?;
                let found = stored(ctx, policy, rule, &name, pin, linking);
                let lacks = |error| match error {
                    Error::NoImage { name, .. } => Error::NoDependency {
                        key: rule.key.to_string(),
                        name,
                    },
                    other => other,
                };
                (found.map_err(lacks)?, Some(name))
            }
        };
        if let Some(pin) = pin {
            let digest = source.single()?.manifest.digest();
            if digest != pin.manifest {
                return Err(Error::Lock {
                    key: rule.key.to_string(),
                    why: format!("it is {}, and the lock has {}", digest, pin.manifest),
                });
            }
        }
        Ok(Found { source, asked })
    }

    /// Judges it. An image of a repository is judged under its name and tag, as if there were
    /// no lock: that may be an old one, and the digest in it must not keep the policy from
    /// refusing a rollback.
    pub(super) fn judge(&self, ctx: &Context<'_>, policy: &TrustPolicy) -> Result<TrustedImage, Error> {
        let image = self.source.single()?;
        match &self.asked {
            None => verify_source(ctx, policy, &self.source, image),
            Some(name) => {
                let attestations = Attestations::Needed(self.source.blobs());
                verify_image(
                    ctx,
                    policy,
                    &self.source.label(),
                    RequestedAs::Name(name),
                    image,
                    attestations,
                )
            }
        }
    }

    /// The component, against its digest. It is valid.
    pub(super) fn component(&self, layer: &Descriptor) -> Result<Vec<u8>, Error> {
        let label = self.source.label();
        let bytes = match &self.source {
            ImageSource::Archive { archive } => archive.fetch_bytes(layer, limits::COMPONENT_BYTES)?,
            ImageSource::Stored { store, .. } => store.fetch_bytes(layer, limits::COMPONENT_BYTES)?,
        };
        Payload::read(&bytes).map_err(Error::image(&label))?;
        Ok(bytes)
    }
}

/// A file inside the manifest's directory, links included.
fn file(directory: &Path, rule: &DependencyRule, path: &str) -> Result<ImageSource, Error> {
    let path = directory.join(path);
    let real = path.canonicalize().map_err(Error::file("open", &path))?;
    let root = directory.canonicalize().map_err(Error::file("open", directory))?;
    if !real.starts_with(root) {
        return Err(refused(rule, "it is a link that leaves the manifest's directory"));
    }
    ImageSource::archive(&real)
}

/// An image of the store, fetched first if necessary and allowed.
fn stored(
    ctx: &Context<'_>,
    policy: &TrustPolicy,
    rule: &DependencyRule,
    name: &Reference,
    pin: Option<&LockedDependency>,
    linking: &Linking<'_>,
) -> Result<ImageSource, Error> {
    let pinned = |digest: &Digest| -> Result<(Reference, Reference), Error> {
        let failed = |e| refused(rule, e);
        // Fetched by digest alone, so that the tag of the store stays where it is.
        let fetched = format!("{}@{digest}", name.repository_name()).parse().map_err(failed)?;
        Ok((format!("{name}@{digest}").parse().map_err(failed)?, fetched))
    };
    let (asked, fetched) = match pin {
        Some(pin) => pinned(&pin.manifest)?,
        None => (name.clone(), name.clone()),
    };
    let target = ImageName::Reference(asked);
    let fetch = |client: &dyn Fn() -> Result<Arc<Client>, Error>| {
        let request = PullRequest {
            name: &fetched,
            output: None,
            policy: Some(policy),
            dry_run: false,
        };
        crate::pull(ctx, &client()?, &request).map(drop)
    };
    let in_registry = name.registry().is_some();
    match linking.pull {
        // What is pinned does not change.
        Pull::Always(client) if in_registry && pin.is_none() => fetch(client)?,
        Pull::Always(client) | Pull::Missing(client) if in_registry => match ImageSource::stored(ctx, &target) {
            Err(Error::NoImage { .. }) => fetch(client)?,
            opened => return opened,
        },
        _ => {}
    }
    ImageSource::stored(ctx, &target)
}
