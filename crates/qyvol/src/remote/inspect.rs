//! `inspect --remote`.

use std::sync::Arc;

use qyvol_remote::Client;
use qyvol_types::Reference;

use super::find;
use crate::inspect::view;
use crate::{Context, Error, Inspection};

/// Inspects an image on its registry: its manifest, config and signatures, and none of its
/// layers. Nothing is judged or stored.
pub fn inspect_remote(ctx: &Context<'_>, client: &Arc<Client>, name: &Reference) -> Result<Inspection, Error> {
    let (_, image) = find(ctx, client, name)?;
    view(&name.to_string(), &image, None)
}
