//! Removing what is unreachable.
//!
//! Reachable is everything that a name or a running guest leads to: the manifest, its
//! config and layers, its referrers and theirs, the trees unpacked from and the
//! code compiled from those layers. A plan takes no exclusive lock and can be
//! shown; carrying it out plans again under the exclusive lock and removes only
//! what is in both plans: nothing that came into use meanwhile, and nothing that
//! was not shown.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use qyvol_types::{Descriptor, Digest, ImageManifest, limits, media_type};
use serde::Serialize;

use super::layout::from_file_name;
use super::{LocalStore, staging};
use crate::{Fetch, StoreError, sys};

/// What a prune removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PruneKind {
    /// Compiled code, with its record.
    Code,
    /// An unpacked tree, with its index.
    Tree,
    /// The link from an image to a referrer.
    Referrer,
    /// A blob.
    Blob,
    /// A staging directory of a process that was killed, with its lock.
    Staging,
    /// A partial blob of an interrupted ingest.
    Partial,
    /// The parsed form of a policy.
    Policy,
    /// Something that was found damaged and moved to quarantine.
    Quarantine,
}

/// One thing to remove.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PruneItem {
    /// What it is.
    pub kind: PruneKind,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What a prune would remove.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PrunePlan {
    /// Everything, in the order of removal.
    pub items: Vec<PruneItem>,
    /// The size of all of it.
    pub bytes: u64,
    #[serde(skip)]
    engine: Option<String>,
}

/// What a prune removed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// What is gone.
    pub removed: Vec<PruneItem>,
    /// Its size.
    pub bytes: u64,
    /// What could not be removed, and why.
    pub failed: Vec<(PathBuf, String)>,
}

impl LocalStore {
    /// What a prune would remove now. Fails if reachability is unknown, because of a damaged
    /// name, referrer or manifest.
    pub fn prune_plan(&self) -> Result<PrunePlan, StoreError> {
        self.plan(None)
    }

    /// The same, and compiled code of every engine except this one.
    pub fn prune_plan_keeping(&self, engine: &str) -> Result<PrunePlan, StoreError> {
        self.plan(Some(engine.to_string()))
    }

    /// Removes what is in a plan and still unreachable. Waits for writers to
    /// finish.
    pub fn prune(&self, plan: &PrunePlan) -> Result<Pruned, StoreError> {
        self.layout().create()?;
        let _gc = self.lock_gc(sys::Lock::Exclusive)?;
        let _install = self.lock_install()?;
        let now: BTreeSet<(PruneKind, PathBuf)> = self
            .plan(plan.engine.clone())?
            .items
            .into_iter()
            .map(|item| (item.kind, item.path))
            .collect();
        let mut pruned = Pruned::default();
        let mut linked = false;
        for item in &plan.items {
            if !now.contains(&(item.kind, item.path.clone())) {
                continue;
            }
            // A blob that a referrer's link still names must stay.
            if item.kind == PruneKind::Blob && linked {
                continue;
            }
            match remove(item) {
                Ok(()) => {
                    pruned.bytes = pruned.bytes.saturating_add(item.bytes);
                    pruned.removed.push(item.clone());
                }
                Err(error) => {
                    linked |= item.kind == PruneKind::Referrer;
                    pruned.failed.push((item.path.clone(), error.to_string()));
                }
            }
        }
        self.remove_empty_directories();
        self.remove_free_locks();
        Ok(pruned)
    }

    fn plan(&self, engine: Option<String>) -> Result<PrunePlan, StoreError> {
        let reachable = self.reachable()?;
        let mut items = Vec::new();
        let mut add = |kind, path: PathBuf| {
            let companion_path = companion_path(kind, &path).map_or(0, |path| sys::usage(&path));
            let bytes = sys::usage(&path).saturating_add(companion_path);
            items.push(PruneItem { kind, path, bytes });
        };
        let reaches = |name: &str| from_file_name(name).is_some_and(|d| reachable.contains(&d));

        let code = self.layout().directory("code");
        for directory in text_names(&code)? {
            let other = engine.as_ref().is_some_and(|engine| *engine != directory);
            let directory = code.join(directory);
            for name in stems(&directory, ".record")? {
                if other || !reaches(&name) {
                    add(PruneKind::Code, directory.join(name));
                }
            }
        }
        let trees = self.layout().directory("trees");
        for name in stems(&trees, ".index")? {
            // A tree without an index is a leftover, unless it is being installed: then it has
            // one when the plan is made again.
            let path = trees.join(&name);
            let whole = companion_path(PruneKind::Tree, &path).is_some_and(|index| index.exists());
            if !whole || !reaches(&name) {
                add(PruneKind::Tree, path);
            }
        }
        let referrers = self.layout().directory("referrers");
        for algorithm in text_names(&referrers)? {
            let directory = referrers.join(&algorithm);
            for name in text_names(&directory)? {
                let subject: Option<Digest> = format!("{algorithm}:{name}").parse().ok();
                if subject.is_none_or(|d| !reachable.contains(&d)) {
                    add(PruneKind::Referrer, directory.join(name));
                }
            }
        }
        for (path, digest) in self.blob_paths()? {
            if digest.is_none_or(|d| !reachable.contains(&d)) {
                add(PruneKind::Blob, path);
            }
        }
        for (directory, _, _) in staging::dead(&self.layout().directory("tmp")) {
            add(PruneKind::Staging, directory);
        }
        let partial = self.layout().directory("partial");
        for name in sys::names(&partial)? {
            add(PruneKind::Partial, partial.join(name));
        }
        // The newest is usually that of the policy in force.
        for path in self.parsed_policies()?.into_iter().skip(1) {
            add(PruneKind::Policy, path);
        }
        let quarantine = self.layout().directory("quarantine");
        for name in sys::names(&quarantine)? {
            add(PruneKind::Quarantine, quarantine.join(name));
        }
        items.sort();
        let bytes = items.iter().fold(0, |sum: u64, item| sum.saturating_add(item.bytes));
        Ok(PrunePlan { items, bytes, engine })
    }

    /// Every digest that a name or a running guest leads to.
    pub(crate) fn reachable(&self) -> Result<HashSet<Digest>, StoreError> {
        let mut reachable = HashSet::new();
        let mut left = Vec::new();
        for entry in self.entries()? {
            left.push(entry?.descriptor);
        }
        for digest in self.running_images()? {
            let Some(size) = self.blob_size(&digest)? else {
                continue;
            };
            let root = Descriptor::new(media_type::IMAGE_MANIFEST, digest, size);
            // A lock doesn't say what kind of blob it is for; any may be held.
            if size > limits::MANIFEST_BYTES
                || ImageManifest::parse(self.fetch_bytes(&root, limits::MANIFEST_BYTES)?).is_err()
            {
                reachable.insert(digest);
            } else {
                left.push(root);
            }
        }
        while let Some(descriptor) = left.pop() {
            if !reachable.insert(descriptor.digest) || descriptor.media_type != media_type::IMAGE_MANIFEST {
                continue;
            }
            for link in self.links(&descriptor.digest)? {
                left.push(link?);
            }
            let digest = descriptor.digest;
            let bytes = match self.fetch_bytes(&descriptor, limits::MANIFEST_BYTES) {
                Ok(bytes) => bytes,
                // Its children can't be known, and it can't run.
                Err(StoreError::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            let manifest = ImageManifest::parse(bytes).map_err(|source| StoreError::Manifest { digest, source })?;
            left.push(manifest.config().clone());
            left.extend(manifest.layers().iter().cloned());
        }
        Ok(reachable)
    }

    /// Images whose run lock is held.
    fn running_images(&self) -> Result<Vec<Digest>, StoreError> {
        let directory = self.layout().directory("locks");
        let mut found = Vec::new();
        for name in text_names(&directory)? {
            let Some(digest) = from_file_name(&name) else {
                continue;
            };
            let path = directory.join(name);
            match sys::open_read(&path).and_then(|file| sys::try_lock(&file)) {
                Ok(true) => {}
                Ok(false) => found.push(digest),
                Err(error) if sys::is_absent(&error) => {}
                // Unknown: it counts as running.
                Err(_) => found.push(digest),
            }
        }
        Ok(found)
    }

    /// Removes lock files that nobody holds. A process that opens one at this
    /// moment sees that it has no name any more and makes another.
    fn remove_free_locks(&self) {
        let directory = self.layout().directory("locks");
        for name in text_names(&directory).unwrap_or_default() {
            if from_file_name(&name).is_none() {
                continue;
            }
            let path = directory.join(name);
            if let Ok(file) = sys::open_read(&path)
                && sys::try_lock(&file).unwrap_or(false)
            {
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    /// Removes directories that a prune has emptied. To be called with the
    /// exclusive lock held: writers make these directories.
    fn remove_empty_directories(&self) {
        for (parent, depth) in [("blobs", 2), ("referrers", 2), ("code", 1)] {
            let mut level = vec![self.layout().directory(parent)];
            for _ in 0..depth {
                level = level
                    .iter()
                    .flat_map(|directory| {
                        let names = sys::names(directory).unwrap_or_default();
                        names.into_iter().map(|name| directory.join(name)).collect::<Vec<_>>()
                    })
                    .collect();
            }
            for directory in level {
                // Fails if it is not empty, as intended.
                let _ = std::fs::remove_dir(directory);
            }
        }
    }

    /// Every file below `blobs/` with the digest that its path names, if it
    /// names one.
    pub(crate) fn blob_paths(&self) -> Result<Vec<(PathBuf, Option<Digest>)>, StoreError> {
        let blobs = self.layout().directory("blobs");
        let mut found = Vec::new();
        for algorithm in text_names(&blobs)? {
            let directory = blobs.join(&algorithm);
            for head in text_names(&directory)? {
                let directory = directory.join(&head);
                for name in text_names(&directory)? {
                    let digest: Option<Digest> = format!("{algorithm}:{name}").parse().ok();
                    found.push((directory.join(&name), digest.filter(|_| name.starts_with(&head))));
                }
            }
        }
        Ok(found)
    }
}

/// The companion file of an item: its record, index or lock.
fn companion_path(kind: PruneKind, path: &Path) -> Option<PathBuf> {
    let suffix = match kind {
        PruneKind::Code => "record",
        PruneKind::Tree => "index",
        PruneKind::Staging => "lock",
        _ => return None,
    };
    let mut name = path.file_name()?.to_os_string();
    name.push(".");
    name.push(suffix);
    Some(path.with_file_name(name))
}

/// Removes an item: a record or index before what it authenticates, so that an interrupted
/// prune leaves leftovers, no damage; a lock after its directory.
fn remove(item: &PruneItem) -> std::io::Result<()> {
    match companion_path(item.kind, &item.path) {
        Some(lock) if item.kind == PruneKind::Staging => {
            sys::remove(&item.path)?;
            sys::remove(&lock)
        }
        Some(record) => {
            sys::remove(&record)?;
            sys::remove(&item.path)
        }
        None => sys::remove(&item.path),
    }
}

/// The names in a directory without a suffix that some have, each once.
fn stems(directory: &Path, suffix: &str) -> Result<BTreeSet<String>, StoreError> {
    let names = text_names(directory)?;
    Ok(names
        .iter()
        .map(|name| name.strip_suffix(suffix).unwrap_or(name).to_string())
        .collect())
}

/// The names in a directory, converted lossily. Names that are not UTF-8 are not
/// the store's: converted, they are no digests.
pub(crate) fn text_names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let names = sys::names(directory)?;
    Ok(names
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect())
}
