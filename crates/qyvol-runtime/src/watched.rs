//! Tracks which of a guest's descriptors are in a watched mount, which is a sealed or
//! backed one, and at which path. For components and for preview 1.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crate::Mount;
use crate::backing::{Backing, Change, Intent};
use crate::sealed::{IntegrityError, Seal};

/// Maximum length of a path, as in the operating system.
const PATH_LIMIT: usize = 4096;

/// Renumbers a descriptor in a table by descriptor; the one that had the number is closed.
pub(crate) fn renumber<V>(open: &mut HashMap<u32, V>, from: u32, to: u32) {
    if from == to {
        return;
    }
    match open.remove(&from) {
        Some(kept) => open.insert(to, kept),
        None => open.remove(&to),
    };
}

/// A place in a watched mount.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    mount: usize,
    path: String,
}

/// The places of a call that takes two paths.
pub(crate) type Places = (Option<Place>, Option<Place>);

/// A mount, with its seal or backing.
#[derive(Debug)]
struct WatchedMount {
    guest: String,
    /// Its directory for the seal and the backing.
    path: String,
    seal: Option<Arc<dyn Seal>>,
    backing: Option<Arc<dyn Backing>>,
}

/// The mounts of a guest, and its descriptors that are in a watched one.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    mounts: Vec<WatchedMount>,
    open: HashMap<u32, Place>,
}

impl Watched {
    pub(crate) fn new(mounts: &[Mount]) -> Watched {
        let watched = |mount: &Mount| WatchedMount {
            guest: mount.guest.clone(),
            path: mount.path.clone(),
            seal: mount.seal.clone(),
            backing: mount.backing.clone(),
        };
        Watched {
            mounts: mounts.iter().map(watched).collect(),
            open: HashMap::new(),
        }
    }

    /// Whether any mount is sealed.
    pub(crate) fn any_sealed(&self) -> bool {
        self.mounts.iter().any(|mount| mount.seal.is_some())
    }

    /// Whether any mount is backed.
    pub(crate) fn any_backed(&self) -> bool {
        self.mounts.iter().any(|mount| mount.backing.is_some())
    }

    /// The guest got mount number `mount` as a descriptor.
    pub(crate) fn opened_mount(&mut self, mount: usize, descriptor: u32) {
        let is_watched = |mount: &&WatchedMount| mount.seal.is_some() || mount.backing.is_some();
        if let Some(watched) = self.mounts.get(mount).filter(is_watched) {
            let path = watched.path.clone();
            self.open.insert(descriptor, Place { mount, path });
        }
    }

    /// The guest opened a place as a descriptor.
    pub(crate) fn opened(&mut self, place: Place, descriptor: u32) {
        self.open.insert(descriptor, place);
    }

    pub(crate) fn closed(&mut self, descriptor: u32) {
        self.open.remove(&descriptor);
    }

    /// The guest renumbered a descriptor; the one that had the number is closed.
    pub(crate) fn renumbered(&mut self, from: u32, to: u32) {
        renumber(&mut self.open, from, to);
    }

    /// The place of `path` relative to a descriptor, and its mount. None outside watched
    /// mounts, and for a path that leads nowhere.
    fn place(&self, descriptor: u32, path: &str) -> io::Result<Option<(Place, &WatchedMount)>> {
        let Some(directory) = self.open.get(&descriptor) else {
            return Ok(None);
        };
        // The kernel may see the same entry by a shorter path.
        if path.len() > PATH_LIMIT {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        let place = directory.join(path);
        Ok(place.and_then(|place| Some((self.mounts.get(place.mount)?, place)).map(|(mount, place)| (place, mount))))
    }

    /// For the place that `path` leads to from a descriptor: checks it if the mount is
    /// sealed, and provides what the guest is about to use if it is backed. The outer
    /// error ends the guest; the inner one is returned by its call.
    pub(crate) fn check(
        &self,
        descriptor: u32,
        path: &str,
        intent: Intent,
    ) -> Result<io::Result<Option<Place>>, IntegrityError> {
        let (place, mount) = match self.place(descriptor, path) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        if let Some(seal) = &mount.seal {
            seal.check(&place.path).map_err(|why| IntegrityError {
                path: mount.in_guest(&place.path),
                why,
            })?;
        }
        let ensured = mount
            .backing
            .as_ref()
            .map_or(Ok(()), |backing| backing.ensure(&place.path, intent));
        Ok(ensured.map(|()| Some(place)))
    }

    /// Refuses to create a symbolic link in a backed mount.
    pub(crate) fn refuse_link(&self, descriptor: u32) -> io::Result<()> {
        match self.backing(descriptor) {
            Some(_) => Err(io::Error::from_raw_os_error(libc::EPERM)),
            None => Ok(()),
        }
    }

    /// The guest syncs the file or directory of a descriptor.
    pub(crate) fn flush(&self, descriptor: u32) -> io::Result<()> {
        self.backing(descriptor).map_or(Ok(()), |backing| backing.flush())
    }

    fn backing(&self, descriptor: u32) -> Option<&Arc<dyn Backing>> {
        let place = self.open.get(&descriptor)?;
        self.mounts.get(place.mount)?.backing.as_ref()
    }

    /// The guest removed a file or directory.
    pub(crate) fn removed(&self, place: Option<Place>) {
        self.report(place.as_ref(), Change::Removed);
    }

    /// The guest made a directory at a place.
    pub(crate) fn made_directory(&self, place: Option<Place>) {
        self.report(place.as_ref(), Change::MadeDirectory);
    }

    fn report<'a>(&self, place: Option<&'a Place>, change: impl FnOnce(&'a str) -> Change<'a>) {
        if let Some(place) = place
            && let Some(backing) = self.mounts.get(place.mount).and_then(|mount| mount.backing.as_ref())
        {
            backing.changed(change(&place.path));
        }
    }

    /// The guest renamed something within one file system; the system refuses anything
    /// else. Descriptors of what it renamed follow.
    pub(crate) fn renamed(&mut self, from: Option<Place>, to: Option<Place>) {
        let (Some(from), Some(to)) = (from, to) else {
            return;
        };
        self.report(Some(&from), |path| Change::Renamed(path, &to.path));
        let Watched { mounts, open } = self;
        let is_same_tree = |mount: usize| match (mounts.get(mount), mounts.get(from.mount)) {
            (Some(one), Some(other)) => mount == from.mount || one.shares_seal(other),
            _ => false,
        };
        for place in open.values_mut().filter(|place| is_same_tree(place.mount)) {
            if let Some(rest) = beneath(&place.path, &from.path) {
                *place = Place {
                    mount: to.mount,
                    path: format!("{}{rest}", to.path),
                };
            }
        }
    }
}

impl WatchedMount {
    /// The guest's path of an entry of the seal and the backing.
    fn in_guest(&self, path: &str) -> String {
        let guest = self.guest.trim_end_matches('/');
        let rest = beneath(path, &self.path).unwrap_or(path);
        format!("{guest}/{}", rest.trim_start_matches('/'))
    }

    /// Whether both belong to one tree.
    fn shares_seal(&self, other: &WatchedMount) -> bool {
        match (&self.seal, &other.seal) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// The rest of a path after a directory: nothing, or a `/` and the rest. The empty directory
/// contains everything.
fn beneath<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(directory)?;
    (rest.is_empty() || rest.starts_with('/') || directory.is_empty()).then_some(rest)
}

impl Place {
    /// Resolves a path from here. A watched mount has no links, so that `..`
    /// removes the component before it.
    fn join(&self, path: &str) -> Option<Place> {
        if path.starts_with('/') {
            return None;
        }
        let mut parts: Vec<&str> = self.path.split('/').filter(|p| !p.is_empty()).collect();
        let own = parts.len();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                // Above the directory: the system refuses that.
                ".." if parts.len() == own => return None,
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Some(Place {
            mount: self.mount,
            path: parts.join("/"),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Only(&'static str);

    impl Seal for Only {
        fn check(&self, path: &str) -> Result<(), String> {
            match path == self.0 {
                true => Ok(()),
                false => Err(format!("asked for {path:?}")),
            }
        }
    }

    fn watched(only: &'static str) -> Watched {
        let mount = |guest: &str, seal: Option<Arc<dyn Seal>>| Mount {
            host: "/nowhere".into(),
            guest: guest.to_string(),
            writable: false,
            path: String::new(),
            seal,
            backing: None,
            quota: None,
        };
        let mut watched = Watched::new(&[mount("/", None), mount("/assets", Some(Arc::new(Only(only))))]);
        watched.opened_mount(0, 3);
        watched.opened_mount(1, 4);
        watched
    }

    #[test]
    fn path_resolves_as_the_kernel_resolves_it() {
        for path in ["a/b", "./a//b/", "a/c/../b", "x/../a/./b"] {
            assert!(
                watched("a/b").check(4, path, Intent::Stat).unwrap().unwrap().is_some(),
                "{path}"
            );
        }
        for path in ["", ".", "a/.."] {
            assert!(
                watched("").check(4, path, Intent::Stat).unwrap().unwrap().is_some(),
                "{path}"
            );
        }
        // The kernel refuses each of them.
        for path in ["/a", "..", "a/../../a", "../assets/a"] {
            assert!(
                watched("a").check(4, path, Intent::Stat).unwrap().unwrap().is_none(),
                "{path}"
            );
        }
        let broken = watched("a").check(4, "b", Intent::Stat).unwrap_err();
        assert_eq!(broken.to_string(), "/assets/b: asked for \"b\"");
    }

    #[test]
    fn descriptors_are_tracked_from_open_to_close() {
        let mut watched = watched("a/b");
        assert!(
            watched.check(3, "b", Intent::Stat).unwrap().unwrap().is_none(),
            "not in a sealed mount"
        );
        let place = watched.open[&4].join("a").unwrap();
        watched.opened(place, 5);
        assert!(watched.check(5, "b", Intent::Stat).unwrap().unwrap().is_some());
        watched.renumbered(5, 9);
        assert!(watched.check(5, "x", Intent::Stat).unwrap().unwrap().is_none());
        watched.check(9, "x", Intent::Stat).unwrap_err();
        watched.renumbered(3, 9);
        assert!(watched.check(9, "x", Intent::Stat).unwrap().unwrap().is_none());
        watched.closed(4);
        assert!(watched.check(4, "x", Intent::Stat).unwrap().unwrap().is_none());
    }

    #[test]
    fn mount_of_a_subdirectory_is_checked_by_its_full_path() {
        let part = Mount {
            host: "/nowhere".into(),
            guest: "/data".to_string(),
            writable: true,
            path: "data".to_string(),
            seal: Some(Arc::new(Only("data/a"))),
            backing: None,
            quota: None,
        };
        let mut watched = Watched::new(&[part]);
        watched.opened_mount(0, 3);
        assert!(watched.check(3, "x/../a", Intent::Stat).unwrap().unwrap().is_some());
        let broken = watched.check(3, "b", Intent::Stat).unwrap_err();
        assert_eq!(broken.path, "/data/b");
        for path in ["../data/a", "..", "x/../../other"] {
            assert!(
                watched.check(3, path, Intent::Stat).unwrap().unwrap().is_none(),
                "{path}"
            );
        }
    }

    #[test]
    fn open_entries_of_a_renamed_directory_are_tracked_by_their_new_path() {
        let seal: Arc<dyn Seal> = Arc::new(Only("other/new/deep/f"));
        let mount = |path: &str| Mount {
            host: "/nowhere".into(),
            guest: format!("/{path}"),
            writable: true,
            path: path.to_string(),
            seal: Some(seal.clone()),
            backing: None,
            quota: None,
        };
        let mut watched = Watched::new(&[mount("data"), mount("other"), mount("data/old")]);
        for (mount, descriptor) in [(0, 3), (1, 4), (2, 5)] {
            watched.opened_mount(mount, descriptor);
        }
        let (old, new) = (
            watched.open[&3].join("old").unwrap(),
            watched.open[&4].join("new").unwrap(),
        );
        watched.opened(old.join("deep").unwrap(), 6);
        watched.opened(watched.open[&3].join("older").unwrap(), 7);
        watched.renamed(Some(old), Some(new));
        assert!(watched.check(6, "f", Intent::Stat).unwrap().unwrap().is_some());
        assert!(watched.check(5, "deep/f", Intent::Stat).unwrap().unwrap().is_some());
        watched.check(7, "f", Intent::Stat).unwrap_err();
    }
}
