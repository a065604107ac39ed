//! Where blobs are known to be: for each registry, which of its repositories had a layer when an
//! image was last pushed, pulled or copied, so that it is mounted from there and not sent.
//!
//! This is a hint and decides nothing: a registry mounts what it has, by digest, and gets
//! everything else sent. What can't be read counts as absent, and what can't be written is
//! not remembered.

use std::collections::{BTreeMap, HashMap};

use qyvol_remote::Mounts;
use qyvol_store::{Fetch, LocalStore};
use qyvol_types::{Digest, ImageManifest, Reference, RepositoryName, limits};
use serde::{Deserialize, Serialize};

use crate::{Context, Error};

/// Blobs of one registry that are remembered.
const PLACES: usize = 256;
/// Bytes of what is remembered of one registry: a name that is too long for this is forgotten.
const BYTES: usize = 60 << 10;
const SCHEMA: u32 = 1;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Place {
    digest: Digest,
    repository: String,
}

/// What is remembered of a registry, the newest last.
#[derive(Default, Serialize, Deserialize)]
struct Places {
    schema: u32,
    blobs: Vec<Place>,
}

impl Places {
    fn parse(bytes: Option<&[u8]>) -> Places {
        let parsed = bytes.and_then(|bytes| serde_json::from_slice::<Places>(bytes).ok());
        parsed.filter(|places| places.schema == SCHEMA).unwrap_or_default()
    }
}

fn state_name(registry: &str) -> String {
    format!("blobs in {registry}")
}

/// Remembers that a repository has the layers of an image.
pub(super) fn remember(ctx: &Context<'_>, name: &Reference, image: &ImageManifest) {
    if let Err(why) = try_remember(ctx, name, image) {
        ctx.report
            .detailed(&format!("where the layers of {name} are is not remembered: {why}"));
    }
}

fn try_remember(ctx: &Context<'_>, name: &Reference, image: &ImageManifest) -> Result<(), Error> {
    let Some(registry) = name.registry() else {
        return Ok(());
    };
    let store = ctx.store()?;
    let state = state_name(registry);
    let new = image.layers().iter().map(|layer| Place {
        digest: layer.digest,
        repository: name.repository().to_string(),
    });
    let new: Vec<Place> = new.collect();
    let known = Places::parse(store.host_state(&state)?.as_deref());
    if new.iter().all(|place| known.blobs.contains(place)) {
        return Ok(());
    }
    store.update_host_state(&state, |old| {
        let mut places = Places::parse(old);
        places.schema = SCHEMA;
        places
            .blobs
            .retain(|old| new.iter().all(|new| new.digest != old.digest));
        places.blobs.extend(new);
        let surplus = places.blobs.len().saturating_sub(PLACES);
        places.blobs.drain(..surplus);
        loop {
            let bytes = serde_json::to_vec(&places).map_err(Error::malformed(&state))?;
            if bytes.len() <= BYTES || places.blobs.is_empty() {
                return Ok(bytes);
            }
            places.blobs.drain(..places.blobs.len().div_ceil(4));
        }
    })
}

/// From where a registry can mount what it is to get of an image.
pub(super) fn mounts(ctx: &Context<'_>, to: &Reference, image: &ImageManifest) -> Mounts {
    let mut found: HashMap<Digest, String> = HashMap::new();
    let known = ctx.store().and_then(|store| {
        named(&store, to, image, &mut found)?;
        let state = store.host_state(&state_name(to.registry().unwrap_or_default()))?;
        Ok(Places::parse(state.as_deref()))
    });
    let known = known.unwrap_or_else(|why| {
        ctx.report
            .detailed(&format!("blobs that other repositories have are not mounted: {why}"));
        Places::default()
    });
    for place in known.blobs {
        let is_name = || {
            format!("x.example/{}", place.repository)
                .parse::<RepositoryName>()
                .is_ok()
        };
        let is_wanted = image.layers().iter().any(|layer| layer.digest == place.digest);
        if is_wanted && place.repository != to.repository() && is_name() {
            found.insert(place.digest, place.repository);
        }
    }
    // A repository with all of the layers is likely to have the rest too.
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    found.values().for_each(|from| *counts.entry(from).or_default() += 1);
    let layers: std::collections::BTreeSet<Digest> = image.layers().iter().map(|layer| layer.digest).collect();
    match counts.iter().find(|(_, count)| **count == layers.len()) {
        Some((from, _)) => Mounts::All((*from).clone()),
        None => Mounts::Each(found),
    }
}

/// Repositories of the same registry that have some of the layers by the store's names.
fn named(
    store: &LocalStore,
    to: &Reference,
    image: &ImageManifest,
    found: &mut HashMap<Digest, String>,
) -> Result<(), Error> {
    for (name, descriptor) in store.references()? {
        if name.registry() != to.registry() || name.repository() == to.repository() {
            continue;
        }
        // Unreadable images are just not used for mounting.
        let Ok(raw) = store.fetch_bytes(&descriptor, limits::MANIFEST_BYTES) else {
            continue;
        };
        if let Ok(manifest) = ImageManifest::parse(raw) {
            let shared = manifest.layers().iter().filter(|layer| image.layers().contains(layer));
            found.extend(shared.map(|layer| (layer.digest, name.repository().to_string())));
        }
    }
    Ok(())
}
