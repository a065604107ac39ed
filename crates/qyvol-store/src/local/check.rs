//! Checks everything in a store, and reports what is damaged.
//!
//! Every blob is hashed, every name and referrer followed, every tree compared
//! with its index, every piece of compiled code hashed. Leftovers of killed processes are no
//! damage: the next writer or prune removes them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use qyvol_types::{Descriptor, Digest, Hasher, ImageManifest, escape, limits, media_type};
use serde::Serialize;

use super::layout::from_file_name;
use super::prune::text_names;
use super::{LocalStore, code};
use crate::error::show;
use crate::{Exists, Fetch, Reporter, StoreError, sys};

/// Something in a store that differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Where.
    pub path: PathBuf,
    /// What is wrong; safe to show.
    pub what: String,
    /// What to do about it; safe to show.
    pub repair: String,
    /// Whether that was done now, partly or completely.
    pub repaired: bool,
}

/// How to move a damaged entry away.
const REPAIR_HINT: &str = "run `qyv check --repair`";
const RELOAD_HINT: &str = "load, pull or build the image again";
const RERUN_HINT: &str = "run the image: it is made again";

impl LocalStore {
    /// Checks everything. With `repair`, damaged entries are moved to quarantine, so that the
    /// next load or pull restores them, and loose modes are tightened. Prune waits meanwhile,
    /// if this process can lock.
    pub fn check(&self, report: &dyn Reporter, repair: bool) -> Result<Vec<Damage>, StoreError> {
        let _gc = match sys::stat(self.layout().v1()) {
            Ok(Some(_)) => self.lock_gc(sys::Lock::Shared).ok(),
            _ => return Ok(Vec::new()),
        };
        let mut check = Check {
            store: self,
            report,
            repair,
            found: Vec::new(),
        };
        check.directories()?;
        check.key();
        check.blobs()?;
        check.names()?;
        check.referrers()?;
        check.trees()?;
        check.code()?;
        // The notices from the check are all in the result.
        self.take_notices();
        Ok(check.found)
    }
}

struct Check<'a> {
    store: &'a LocalStore,
    report: &'a dyn Reporter,
    repair: bool,
    found: Vec<Damage>,
}

impl Check<'_> {
    fn add(&mut self, path: &Path, what: String, repair: &str, repaired: bool) {
        self.found.push(Damage {
            path: path.to_path_buf(),
            what,
            repair: repair.to_string(),
            repaired,
        });
    }

    /// Records damage that is repaired by moving it away.
    fn record_damage(&mut self, path: &Path, what: String, repair: &str) {
        let repaired = self.repair && self.store.layout().quarantine(path).unwrap_or(false);
        self.add(path, what, &advice(repair, repaired), repaired);
    }

    fn directories(&mut self) -> Result<(), StoreError> {
        let v1 = self.store.layout().v1().to_path_buf();
        let mut left: Vec<PathBuf> = Vec::new();
        for name in text_names(&v1)? {
            left.push(v1.join(name));
        }
        // The directories that the store itself makes, without unpacked trees.
        for (parent, depth) in [("blobs", 2), ("referrers", 2), ("code", 1)] {
            let mut level = vec![v1.join(parent)];
            for _ in 0..depth {
                let mut below = Vec::new();
                for directory in &level {
                    below.extend(text_names(directory)?.into_iter().map(|name| directory.join(name)));
                }
                left.extend(below.iter().cloned());
                level = below;
            }
        }
        for path in left {
            let Some(meta) = sys::stat(&path).map_err(|e| StoreError::io("read", &path, e))? else {
                continue;
            };
            if !meta.is_dir() {
                let what = format!("expected a directory, got {}", sys::kind_of(&meta));
                self.record_damage(&path, what, "load, pull or build the images again");
            } else if meta.mode() & 0o022 != 0 {
                self.loose(&path, &meta);
            } else if meta.uid() != sys::user() && meta.uid() != 0 {
                let what = format!("it belongs to user {}", meta.uid());
                let repair = format!("run `chown -R {} {}`", sys::user(), show(&path));
                self.add(&path, what, &repair, false);
            }
        }
        Ok(())
    }

    /// Records something that others can write to; the caller has checked that it is no link.
    fn loose(&mut self, path: &Path, meta: &fs::Metadata) {
        let what = format!("others can write to it (mode {:04o})", meta.mode() & 0o7777);
        let tight = fs::Permissions::from_mode(meta.mode() & 0o7755);
        let repaired = self.repair && fs::set_permissions(path, tight).is_ok();
        let repair = match repaired {
            true => "nothing else to do".to_string(),
            false => format!("{REPAIR_HINT}, or `chmod go-w {}`", show(path)),
        };
        self.add(path, what, &repair, repaired);
    }

    fn key(&mut self) {
        let path = self.store.layout().key();
        if let Err(StoreError::Damaged { what, .. }) = code::read_key(&path) {
            self.record_damage(&path, format!("record key: {what}"), RERUN_HINT);
        }
    }

    fn blobs(&mut self) -> Result<(), StoreError> {
        let paths = self.store.blob_paths()?;
        let total = paths.iter().map(|(path, _)| size_of(path)).fold(0, u64::saturating_add);
        self.report.started("blobs", Some(total));
        for (path, digest) in paths {
            let Some(digest) = digest else {
                self.record_damage(&path, "its name is no digest".to_string(), "run `qyv prune`");
                continue;
            };
            if let Ok(Some(meta)) = sys::stat(&path)
                && meta.is_file()
                && meta.mode() & 0o022 != 0
            {
                self.loose(&path, &meta);
            }
            match self.hash(&path, &digest) {
                // Removed after it was listed.
                Ok(None) => {}
                Ok(Some(got)) if got == digest => {}
                Ok(Some(got)) => self.record_damage(&path, format!("its content has the digest {got}"), RELOAD_HINT),
                Err(error) => {
                    let what = format!("it can't be read: {error}");
                    if sys::is_link(&error) {
                        self.record_damage(&path, what, RELOAD_HINT);
                    } else {
                        self.add(&path, what, "see the system's log for a failing disk", false);
                    }
                }
            }
        }
        self.report.finished();
        Ok(())
    }

    fn hash(&self, path: &Path, digest: &Digest) -> io::Result<Option<Digest>> {
        let mut file: File = match sys::open_read(path) {
            Ok(file) => file,
            Err(error) if sys::is_absent(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = match file.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(chunk) = buffer.get(..n).filter(|chunk| !chunk.is_empty()) else {
                return Ok(Some(hasher.finish()));
            };
            hasher.update(chunk);
            self.report.advanced(n as u64);
        }
    }

    fn names(&mut self) -> Result<(), StoreError> {
        for entry in self.store.entries()? {
            match entry {
                Ok(entry) => {
                    let path = self.store.layout().reference(&entry.name.to_string());
                    let name = escape(&entry.name.to_string()).to_string();
                    if let Some(what) = self.missing_content(&entry.descriptor)? {
                        let repair = format!("load, pull or build {name} again, or run `qyv rm {name}`");
                        self.add(&path, format!("{name}: {what}"), &repair, false);
                    }
                }
                Err(StoreError::Damaged { path, what }) => {
                    self.record_damage(&path, format!("name: {what}"), "tag the image again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The blobs that an image lacks. They were hashed already; this only checks that they
    /// exist.
    fn missing_content(&self, root: &Descriptor) -> Result<Option<String>, StoreError> {
        let lacks = |d: &Descriptor| format!("blob {} is missing", d.digest);
        if !self.store.exists(root)? {
            return Ok(Some(lacks(root)));
        }
        if root.media_type != media_type::IMAGE_MANIFEST {
            return Ok(None);
        }
        let bytes = match self.store.fetch_bytes(root, limits::MANIFEST_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_content_error() => return Ok(Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let manifest = match ImageManifest::parse(bytes) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Some(error.to_string())),
        };
        for child in std::iter::once(manifest.config()).chain(manifest.layers()) {
            if !self.store.exists(child)? {
                return Ok(Some(lacks(child)));
            }
        }
        Ok(None)
    }

    fn referrers(&mut self) -> Result<(), StoreError> {
        let top = self.store.layout().directory("referrers");
        for algorithm in text_names(&top)? {
            let directory = top.join(&algorithm);
            for name in text_names(&directory)? {
                let path = directory.join(&name);
                let Ok(subject) = format!("{algorithm}:{name}").parse::<Digest>() else {
                    self.record_damage(&path, "its name is no digest".to_string(), "run `qyv prune`");
                    continue;
                };
                for link in self.store.links(&subject)? {
                    self.link(&path, &subject, link)?;
                }
            }
        }
        Ok(())
    }

    fn link(
        &mut self,
        directory: &Path,
        subject: &Digest,
        link: Result<Descriptor, StoreError>,
    ) -> Result<(), StoreError> {
        match link {
            Ok(link) => {
                let path = directory.join(super::layout::file_name(&link.digest));
                if let Some(what) = self.missing_content(&link)? {
                    let what = format!("referrer of {subject}: {what}");
                    self.record_damage(&path, what, RELOAD_HINT);
                }
                Ok(())
            }
            Err(StoreError::Damaged { path, what }) => {
                self.record_damage(&path, format!("referrer of {subject}: {what}"), RELOAD_HINT);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn trees(&mut self) -> Result<(), StoreError> {
        let directory = self.store.layout().directory("trees");
        for id in digests(&directory, ".index")? {
            if let Some(what) = self.store.check_tree(&id)? {
                let path = self.store.layout().tree(&id);
                if self.repair {
                    self.store.quarantine_tree(&id, &what);
                }
                let repaired = self.repair && !path.exists();
                self.add(
                    &path,
                    format!("unpacked tree: {what}"),
                    &advice(RERUN_HINT, repaired),
                    repaired,
                );
            }
        }
        Ok(())
    }

    fn code(&mut self) -> Result<(), StoreError> {
        let top = self.store.layout().directory("code");
        for engine in text_names(&top)? {
            let directory = top.join(&engine);
            for component in digests(&directory, ".record")? {
                match self.store.check_code(&engine, &component) {
                    Ok(None) | Err(StoreError::InvalidEngineId(_)) => {}
                    Ok(Some(what)) => {
                        let path = directory.join(super::layout::file_name(&component));
                        self.record_damage(&path, what, RERUN_HINT);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// What to do about damage, from before the repair or after it.
fn advice(then: &str, repaired: bool) -> String {
    match repaired {
        true => then.to_string(),
        false => format!("{REPAIR_HINT}, then {then}"),
    }
}

/// The digests that name files in a directory, if there is a file with this suffix.
fn digests(directory: &Path, suffix: &str) -> Result<BTreeSet<Digest>, StoreError> {
    let names = text_names(directory)?;
    Ok(names
        .iter()
        .filter_map(|name| from_file_name(name.strip_suffix(suffix)?))
        .collect())
}

fn size_of(path: &Path) -> u64 {
    sys::stat(path).ok().flatten().map_or(0, |meta| meta.len())
}
