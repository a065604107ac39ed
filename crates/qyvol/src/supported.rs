//! What a manifest may ask for and this version does not give.
//!
//! Asked at build, so that nothing is signed that can't run, and again before a
//! run, for images that another version built.

use qyvol_types::{AppManifest, AppType, FsAccess, FsKind};

use crate::Error;

/// Refuses an application that no host of this version can run as its manifest
/// has it. `label` is what the user named.
pub(crate) fn check_supported(label: &str, app: &AppManifest) -> Result<(), Error> {
    match unsupported(app) {
        None => Ok(()),
        Some(why) => Err(Error::NotPermitted {
            target: label.to_string(),
            why: why.to_string(),
        }),
    }
}

fn unsupported(app: &AppManifest) -> Option<&'static str> {
    if app.permissions.exec {
        return Some("its manifest asks for `exec`, which this version does not support");
    }
    if app.permissions.gfx || app.app_type == AppType::Gui {
        return Some("it is a graphical application, which this version can't run");
    }
    if app.app_type == AppType::Function {
        return Some("it is a set of functions to call, not a program to run");
    }
    if app.permissions.fs != FsAccess::None && app.fs.kind == FsKind::Netfs {
        return Some("its file system is netfs, which this version can't mount");
    }
    None
}
