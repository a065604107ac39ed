//! Garbage collection: removes what no manifest refers to, once it is old enough.
//!
//! First each repository's links that no listed manifest needs and whose time is older than the
//! grace time. Then the pool's files that have no other link. Pushes continue meanwhile: each
//! removal checks the time again under the exclusive lock, and every use of a blob renews its
//! time under the shared lock (see the parent module).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::PoisonError;

use qyvol_types::{Algorithm, Digest};

use super::{Store, StoredRepository, disk};
use crate::cache::lock;
use crate::manifest;

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Manifests that were marked from.
    pub manifests: u64,
    /// Links removed from repositories.
    pub links: u64,
    /// Files removed from the pool: this content is gone.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that had expired.
    pub uploads: u64,
    /// Repositories from which nothing was removed, because what their manifests need is
    /// unknown.
    pub kept: Vec<GcSkipped>,
}

/// A repository that could not be collected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcSkipped {
    /// Its name.
    pub repository: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Store {
    /// Removes what nothing refers to and nobody used within the grace time.
    pub(crate) fn collect(&self) -> io::Result<GcReport> {
        let _one_at_a_time = lock(&self.gc_mutex);
        let mut report = GcReport::default();
        for repository in self.repositories() {
            if let Err(error) = self.collect_links(&repository, &mut report) {
                report.kept.push(GcSkipped {
                    repository: repository.name.to_string(),
                    reason: error.to_string(),
                });
            }
        }
        self.pool.walk(|path| {
            if self.is_old(&path)?.is_some_and(|(links, _)| links == 1) {
                let _alone = self.gc_lock.write().unwrap_or_else(PoisonError::into_inner);
                if let Some((1, size)) = self.is_old(&path)? {
                    self.disk.remove(&path)?;
                    report.blobs += 1;
                    report.bytes += size;
                }
            }
            Ok(())
        })?;
        Ok(report)
    }

    fn collect_links(&self, repository: &StoredRepository, report: &mut GcReport) -> io::Result<()> {
        // Candidates before marks: what is linked after this is not considered.
        let mut candidates = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for file in fs::read_dir(repository.blobs(algorithm))? {
                let file = file?;
                let digest = file
                    .file_name()
                    .to_str()
                    .and_then(|hex| format!("{}:{hex}", algorithm.name()).parse::<Digest>().ok());
                if let Some(digest) = digest
                    && self.is_old(&file.path())?.is_some()
                {
                    candidates.push(digest);
                }
            }
        }
        if candidates.is_empty() {
            return Ok(());
        }
        let marked = self.mark(repository, report)?;
        for digest in candidates.iter().filter(|digest| !marked.contains(digest)) {
            let path = repository.blob_path(digest);
            let _alone = self.gc_lock.write().unwrap_or_else(PoisonError::into_inner);
            // A manifest pushed since the marks has renewed what it needs; one
            // pushed under this very digest is listed.
            if repository.state().manifests.contains_key(digest) || self.is_old(&path)?.is_none() {
                continue;
            }
            self.known.remove(&(repository.id, *digest));
            self.content.remove(digest);
            if self.disk.remove(&path)? {
                report.links += 1;
            }
        }
        Ok(())
    }

    fn mark(&self, repository: &StoredRepository, report: &mut GcReport) -> io::Result<HashSet<Digest>> {
        let manifests: Vec<_> = repository.state().manifests.keys().copied().collect();
        let mut marked = HashSet::new();
        for digest in manifests {
            marked.insert(digest);
            report.manifests += 1;
            match repository.references_of(&digest) {
                Ok(Some(needs)) => marked.extend(needs),
                // Deleted since.
                Ok(None) => {}
                // Keep everything rather than guess what it needs.
                Err(reason) => return Err(io::Error::other(format!("manifest {digest} {reason}"))),
            }
        }
        Ok(marked)
    }

    /// The number of links and the size of a file that was not used within the grace time.
    fn is_old(&self, path: &Path) -> io::Result<Option<(u64, u64)>> {
        let Some(metadata) = disk::stat(path)? else {
            return Ok(None);
        };
        let old = self.now().duration_since(metadata.modified()?).unwrap_or_default() > self.grace;
        Ok(old.then(|| (metadata.nlink(), metadata.len())))
    }
}

impl StoredRepository {
    /// All that a manifest refers to; none if it is no longer listed. The file is hashed: a
    /// damaged manifest proves nothing.
    pub(super) fn references_of(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, String> {
        let needs = match fs::read(self.blob_path(digest)) {
            Ok(bytes) if !digest.matches(&bytes) => Err("does not match its digest".to_string()),
            Ok(bytes) => manifest::references(&bytes).map_err(|error| format!("can't be parsed: {error}")),
            Err(error) => Err(format!("can't be read: {error}")),
        };
        match needs {
            Ok(needs) => Ok(Some(needs)),
            Err(_) if !self.state().manifests.contains_key(digest) => Ok(None),
            Err(reason) => Err(reason),
        }
    }
}
