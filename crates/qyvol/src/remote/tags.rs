//! `tags`.

use std::sync::Arc;

use qyvol_remote::{Access, Client, Repository};
use qyvol_types::{Digest, RepositoryName};

use crate::Error;

/// Visits the tags of a repository, but for those that stand in for lists of
/// referrers.
pub fn tags(client: &Arc<Client>, name: &RepositoryName, visit: &mut dyn FnMut(String)) -> Result<(), Error> {
    let stands_in = |tag: &str| tag.replacen('-', ":", 1).parse::<Digest>().is_ok();
    let repository = Repository::new(client, &name.latest(), Access::Pull)?;
    repository.visit_tags(&mut |tag| {
        if !stands_in(&tag) {
            visit(tag);
        }
    })?;
    Ok(())
}
