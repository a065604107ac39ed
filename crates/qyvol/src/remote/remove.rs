//! `rm --remote`.

use std::sync::Arc;

use qyvol_remote::{Access, Client, Repository};
use qyvol_types::Reference;

use super::manifest_not_found;
use crate::Error;

/// Removes tags, or by their digest images with all of their tags, from their
/// registries. All must exist before the first is removed.
pub fn remove_remote(
    client: &Arc<Client>,
    names: &[Reference],
    removed: &mut dyn FnMut(&Reference),
) -> Result<(), Error> {
    let mut found = Vec::new();
    for name in names {
        let repository = Repository::new(client, name, Access::Delete)?;
        if repository.resolve(name)?.is_none() {
            return Err(manifest_not_found(&repository, name).into());
        }
        found.push((repository, name));
    }
    for (repository, name) in found {
        if !repository.delete(name)? {
            return Err(manifest_not_found(&repository, name).into());
        }
        removed(name);
    }
    Ok(())
}
