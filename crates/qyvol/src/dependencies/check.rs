//! Whether an accepted image may be a dependency of an application.

use qyvol_sandbox::{Capabilities, FsAccess, Given};
use qyvol_types::{DependencyImage, DependencyRule, FsKind, Os};

use super::{Linked, refused};
use crate::Error;
use crate::verify::TrustedImage;

/// Refuses an image that is no component, that would lose something by being linked, that is the application
/// itself, or that asks for more than the application has.
pub(super) fn accepts(of: &Linked<'_>, rule: &DependencyRule, image: &TrustedImage) -> Result<(), Error> {
    let config = &image.config;
    let app = &config.qyv.app;
    if config.os != Os::Wasip2 {
        return Err(refused(rule, "it is a core module: only components can be linked"));
    }
    if config.qyv.assets.is_some() {
        return Err(refused(
            rule,
            "it has assets, which its component would not find once it is linked",
        ));
    }
    // In a registry the policy says which version a tag may lead to.
    let in_registry = matches!(&rule.image, DependencyImage::Repository(name) if name.registry().is_some());
    if !in_registry && app.version != rule.version {
        return Err(refused(rule, format!("its version is {}", app.version)));
    }
    let nested = config.lock.iter().flat_map(|lock| &lock.dependencies);
    let below = nested.flat_map(|one| one.with_all());
    if app.name == of.app.name {
        return Err(refused(rule, format!("it is {}, the application itself", app.name)));
    }
    if let Some(own) = below.into_iter().find(|one| one.name.repository() == of.app.name) {
        return Err(refused(
            rule,
            format!(
                "it was built with {}, an earlier version of the application itself",
                own.name
            ),
        ));
    }
    let asked = Capabilities::read(&app.permissions).map_err(|unknown| refused(rule, unknown))?;
    let mut more = of.capabilities.lacks(&asked, Given::Unasked);
    // The application decides what is kept, and for how long.
    let (own, others) = (&app.fs, &of.app.fs);
    if asked.fs != FsAccess::None && own.kind != others.kind {
        let kind = match app.fs.kind {
            FsKind::Memfs => "memfs",
            FsKind::Diskfs => "diskfs",
            FsKind::Netfs => "netfs",
        };
        more.push(format!("fs.type: {kind}"));
    } else if asked.fs != FsAccess::None && own.source != others.source {
        more.push("fs.source, which is another one".to_string());
    }
    if !more.is_empty() {
        let why = format!("it asks for more than the application has: {}", more.join("; "));
        return Err(refused(rule, why));
    }
    if let Some(allow) = &image.ceiling.allow {
        let more = allow.lacks(of.capabilities, Given::Everything);
        if !more.is_empty() {
            let why = format!(
                "it would have the application's permissions, and its rule of the trust policy does not allow it {}",
                more.join("; ")
            );
            return Err(refused(rule, why));
        }
    }
    Ok(())
}
