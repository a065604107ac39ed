//! Dependencies of an application: found, judged, and linked into its component.
//!
//! The one way from `dependencies` of a manifest to the component that is built: the lock
//! states which image each is, or a name is resolved and added to the lock; the host's policy
//! judges each image; what it asks for is checked against the application; then all are linked.
//!
//! Invariants:
//! - an image that trust refuses, or that asks for more than the application has, is not
//!   linked;
//! - a lock pins digests: no name that it has is resolved again;
//! - the lock is written after the image, and not at all if the build is refused.

mod check;
mod find;
mod lock_file;
mod update;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use qyvol_compose::Dependency;
use qyvol_image::ImageBuilder;
use qyvol_sandbox::Capabilities;
use qyvol_trust::{TrustPolicy, Verdict};
use qyvol_types::{AppManifest, DependencyImage, DependencyRule, ImageConfig, Lock, LockedDependency, WitName, limits};

use self::find::Found;
pub(crate) use self::lock_file::{PendingLock, lock_path};
pub use self::update::{LockChange, UpdateReport, UpdateRequest, update};
use crate::verify::TrustedImage;
use crate::{Context, Error, Pull, policy_or_key};

/// How dependencies are found, and how the lock is used.
#[derive(Clone, Copy)]
pub struct Linking<'a> {
    /// When a registry is asked for an image.
    pub pull: Pull<'a>,
    /// What may happen to the lock.
    pub lock: LockUse<'a>,
}

/// What may happen to the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockUse<'a> {
    /// It must have all dependencies, and does not change.
    Locked,
    /// What it lacks is resolved and added.
    Extended,
    /// What it lacks is resolved, and it does not change: the image is not kept.
    Unwritten,
    /// Dependencies with these keys are resolved again; all of them if there are none.
    Updated(&'a [WitName]),
}

impl LockUse<'_> {
    /// Whether a dependency is resolved though the lock has it.
    fn resolves_anew(self, key: &WitName) -> bool {
        matches!(self, LockUse::Updated(keys) if keys.is_empty() || keys.contains(key))
    }
}

impl Linking<'_> {
    /// Only images on this host, without writing a lock.
    pub(crate) const OFFLINE: Linking<'static> = Linking {
        pull: Pull::Never,
        lock: LockUse::Unwritten,
    };
}

/// An application whose dependencies are to be linked.
pub(crate) struct Linked<'a> {
    /// What the user named.
    pub(crate) label: &'a str,
    /// The manifest's directory.
    pub(crate) directory: &'a Path,
    /// The application's manifest.
    pub(crate) app: &'a AppManifest,
    /// What it may do.
    pub(crate) capabilities: &'a Capabilities,
}

/// A dependency that was found and accepted.
struct Resolved {
    trusted: TrustedImage,
    /// One for all keys that lead to the image.
    component: Rc<Vec<u8>>,
    locked: LockedDependency,
}

/// What was accepted so far.
struct Accepted {
    images: Vec<Resolved>,
    /// Bytes that components may still have.
    room: u64,
}

/// The remaining work once dependencies are linked.
#[derive(Debug, Default)]
pub(crate) struct Linkage {
    /// What is to be written of its lock, if anything is.
    pub(crate) lock: Option<PendingLock>,
    accepted: Vec<TrustedImage>,
}

impl Linkage {
    /// Records the dependencies as accepted, where their rules deny rollback. Call it after all that
    /// can be refused has been checked.
    pub(crate) fn remember(&mut self, ctx: &Context<'_>) -> Result<(), Error> {
        for image in &mut self.accepted {
            let app = &image.config.qyv.app;
            let label = format!("{}:{}", app.name, app.version);
            image.remember(&ctx.store()?, &label)?;
        }
        Ok(())
    }
}

/// Links the dependencies of an application into the component that `builder` has. Without dependencies
/// the builder stays as it is.
pub(crate) fn link(
    ctx: &Context<'_>,
    of: &Linked<'_>,
    builder: ImageBuilder,
    linking: &Linking<'_>,
) -> Result<(ImageBuilder, Linkage), Error> {
    let file = lock_path(of.directory);
    if of.app.dependencies.is_empty() {
        return Ok((builder, Linkage::default()));
    }
    let before = lock_file::read(&file)?;
    let pinned = lock_file::compare(&file, before.as_ref(), &of.app.dependencies, linking.lock)?;
    let policy = policy_or_key(ctx, None)?;
    let mut accepted = Accepted {
        images: Vec::new(),
        room: limits::COMPONENT_BYTES.saturating_sub(builder.component().len() as u64),
    };
    for (rule, pin) in of.app.dependencies.iter().zip(pinned) {
        let one = resolve(ctx, of, &policy, rule, pin, linking, &mut accepted)?;
        accepted.images.push(one);
    }
    let resolved = accepted.images;
    let component = compose(of, builder.component(), &resolved)?;
    let lock = Lock::new(resolved.iter().map(|one| one.locked.clone()).collect());
    let pending = PendingLock::new(file, &lock, before.as_ref(), linking.lock)?;
    let builder = builder.linked(component, lock).map_err(Error::image(of.label))?;
    let linkage = Linkage {
        lock: pending,
        accepted: resolved.into_iter().map(|one| one.trusted).collect(),
    };
    Ok((builder, linkage))
}

/// The files of dependencies that a build reads, and the lock.
pub(crate) fn files(directory: &Path, app: &AppManifest) -> Vec<PathBuf> {
    if app.dependencies.is_empty() {
        return Vec::new();
    }
    let images = app.dependencies.iter().filter_map(|rule| match &rule.image {
        DependencyImage::File(path) => Some(directory.join(path.as_str())),
        DependencyImage::Repository(_) => None,
    });
    images.chain([lock_path(directory)]).collect()
}

/// Finds one dependency, and judges it. An image that an earlier key leads to is not read again.
fn resolve(
    ctx: &Context<'_>,
    of: &Linked<'_>,
    policy: &TrustPolicy,
    rule: &DependencyRule,
    pin: Option<&LockedDependency>,
    linking: &Linking<'_>,
    accepted: &mut Accepted,
) -> Result<Resolved, Error> {
    let found = Found::new(ctx, of.directory, policy, rule, pin, linking)?;
    let trusted = found.judge(ctx, policy)?;
    check::accepts(of, rule, &trusted)?;
    let mut earlier = accepted.images.iter();
    let component = match earlier.find(|one| one.trusted.digest == trusted.digest) {
        Some(one) => one.component.clone(),
        None => Rc::new(read(rule, &found, &trusted, &mut accepted.room)?),
    };
    let locked = record(rule, &trusted, pin)?;
    Ok(Resolved {
        trusted,
        component,
        locked,
    })
}

/// Reads the component of an image, if there is room for it.
fn read(rule: &DependencyRule, found: &Found, trusted: &TrustedImage, room: &mut u64) -> Result<Vec<u8>, Error> {
    let layers = trusted.manifest.layers();
    let layer = layers
        .first()
        .ok_or_else(|| refused(rule, "its manifest has no layer"))?;
    let Some(left) = room.checked_sub(layer.size) else {
        let most = limits::COMPONENT_BYTES;
        let why = format!("with it, the application's component would have more than {most} bytes");
        return Err(refused(rule, why));
    };
    *room = left;
    found.component(layer)
}

/// The lock's entry for a dependency. A pin's signers are kept: the image that is built must
/// not depend on how many more keys this host trusts.
fn record(
    rule: &DependencyRule,
    trusted: &TrustedImage,
    pin: Option<&LockedDependency>,
) -> Result<LockedDependency, Error> {
    let config: &ImageConfig = &trusted.config;
    let own = qyvol_types::Reference::local(&config.qyv.app.name, &config.qyv.app.version);
    let mut signers: Vec<String> = trusted
        .report
        .iter()
        .flat_map(|report| &report.signatures)
        .filter(|signature| signature.verdict == Verdict::Good)
        .filter_map(|signature| signature.fingerprint.clone())
        .collect();
    signers.sort();
    signers.dedup();
    let mut now = LockedDependency {
        key: rule.key.clone(),
        image: rule.image.clone(),
        version: rule.version.clone(),
        name: own.map_err(|e| refused(rule, e))?,
        manifest: trusted.digest,
        component: *trusted
            .config
            .layer_digests
            .first()
            .ok_or_else(|| refused(rule, "it has no layer"))?,
        signers,
        dependencies: config.lock.clone().map(|lock| lock.dependencies).unwrap_or_default(),
    };
    if let Some(pin) = pin {
        lock_file::check_pin(rule, pin, &now)?;
        now.signers.clone_from(&pin.signers);
    }
    Ok(now)
}

/// Links what was found. Keys that lead to one image share one instance of it.
fn compose(of: &Linked<'_>, application: &[u8], resolved: &[Resolved]) -> Result<Vec<u8>, Error> {
    let mut images: Vec<(String, Vec<&WitName>, &Resolved)> = Vec::new();
    for one in resolved {
        match images
            .iter_mut()
            .find(|(_, _, first)| first.trusted.digest == one.trusted.digest)
        {
            Some((_, keys, _)) => keys.push(&one.locked.key),
            None => images.push((one.locked.name.to_string(), vec![&one.locked.key], one)),
        }
    }
    let dependencies: Vec<Dependency<'_>> = images
        .iter()
        .map(|(label, keys, one)| Dependency {
            label,
            keys,
            component: &one.component,
        })
        .collect();
    let name = format!("{}:{}", of.app.name, of.app.version);
    qyvol_compose::plug(&name, application, &dependencies).map_err(|source| Error::Compose {
        target: of.label.to_string(),
        source,
    })
}

fn refused(rule: &DependencyRule, why: impl ToString) -> Error {
    Error::Dependency {
        key: rule.key.to_string(),
        image: format!("{} {}", rule.image, rule.version),
        why: why.to_string(),
    }
}
