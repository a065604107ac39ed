//! Whether the instances of an application may be reused, as its author wants.
//!
//! Checked at build, so that nothing is signed that can't be served, and again before it is
//! served, for images that another tool built.

use qyvol_types::AppManifest;

use crate::Error;

/// Refuses `serve.reuse` of an application whose instances can't answer several requests.
/// `label` is what the user named.
pub(crate) fn check_reuse(label: &str, app: &AppManifest, exports: &[String]) -> Result<(), Error> {
    if !app.serve.reuses() {
        return Ok(());
    }
    qyvol_runtime::check_reuse(exports).map_err(|why| Error::NotPermitted {
        target: label.to_string(),
        why: format!("`serve.reuse: {}` can't be had: {why}", app.serve.reuse),
    })
}
