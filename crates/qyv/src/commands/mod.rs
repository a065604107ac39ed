//! One function a verb: arguments to facade to output.

pub mod author;
pub mod inspect;
pub mod keys;
pub mod meta;
pub mod remote;
pub mod run;
pub mod store;
pub mod trust;

use qyvol::types::Reference;

use crate::failure::Failure;

/// Reads a name from the command line.
pub fn reference(text: &str) -> Result<Reference, Failure> {
    text.parse()
        .map_err(|why| Failure::usage(format!("`{}` is {why}", qyvol::types::escape(text))))
}
