//! What a manifest may ask for, but this version does not support.
//!
//! Checked at build, so that nothing is signed that can't run, and again before a run, for
//! images that another version built.

use qyvol_sandbox::{Capabilities, FsAccess};
use qyvol_types::{AppManifest, AppType, FsKind};

use crate::{Error, netfs};

/// Refuses an application that no host of this version can run as its manifest
/// has it. `label` is what the user named. Returns its permissions.
pub(crate) fn check_supported(label: &str, app: &AppManifest) -> Result<Capabilities, Error> {
    let refused = |why: String| Error::NotPermitted {
        target: label.to_string(),
        why,
    };
    let capabilities = Capabilities::read(&app.permissions).map_err(|unknown| refused(unknown.to_string()))?;
    if let Some(why) = capabilities.unsupported().or_else(|| unsupported(app, &capabilities)) {
        return Err(refused(why.to_string()));
    }
    if app.fs.kind == FsKind::Netfs {
        netfs::source(app).map_err(refused)?;
    }
    Ok(capabilities)
}

fn unsupported(app: &AppManifest, capabilities: &Capabilities) -> Option<&'static str> {
    if app.app_type == AppType::Gui {
        return Some("it is a graphical application, which this version can't run");
    }
    if matches!(capabilities.fs, FsAccess::Paths(_)) && app.fs.kind == FsKind::Netfs {
        return Some("its file system is netfs, which is given as a whole: `fs` must be read or write");
    }
    None
}
