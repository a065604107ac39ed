//! One function a verb: arguments to facade to output.

pub mod attest;
pub mod author;
pub mod call;
pub mod compare;
pub mod compile;
pub mod data;
pub mod dependencies;
pub mod first_use;
pub mod fleet;
pub mod help;
#[cfg(feature = "import")]
pub mod import;
pub mod init;
pub mod inspect;
pub mod keys;
pub mod meta;
mod policy_change;
pub mod remote;
pub mod run;
pub mod serve;
pub mod store;
pub mod trust;
pub mod verify;

use qyvol::ImageName;
use qyvol::types::{Reference, Serving};

use crate::failure::Failure;

/// Reads the names of stored images from the command line.
pub fn image_names(names: &[String]) -> Result<Vec<ImageName>, Failure> {
    let parsed: Result<Vec<_>, _> = names.iter().map(|name| ImageName::parse(name)).collect();
    Ok(parsed?)
}

/// What reuse of instances means.
pub fn reuse(serving: &Serving) -> String {
    format!(
        "one instance answers up to {} requests; what a request leaves in its memory is there for the next client's",
        serving.reuse
    )
}

/// Reads a name with a tag or digest from the command line.
pub fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse()
        .map_err(|why| Failure::usage(format!("`{}`: {why}", qyvol::types::escape(text))))
}
