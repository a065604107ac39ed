//! The files of a project as they are at one moment, and what differs from another.
//!
//! Sources are what a build may read: all files but those that are hidden, that `.gitignore`
//! names, or that only tools and editors have. What the build makes is looked at by itself,
//! wherever it is.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};
use qyvol::types::Digest;

use crate::failure::Failure;

/// Files and directories of a project.
const MOST: usize = 20_000;
/// Bytes of a file whose content is compared. A larger one has changed if it was written.
const COMPARED: u64 = 1 << 20;
/// Directories of tools, which no sources are in.
const TOOLS: [&str; 3] = ["target", "node_modules", "__pycache__"];
/// Endings of files that editors and this command leave for a moment.
const MOMENTARY: [&str; 5] = ["~", ".swp", ".swx", ".tmp", ".qyvbin"];

/// The files of a project.
#[derive(Debug, Default)]
pub struct Files {
    sources: BTreeMap<PathBuf, FileState>,
    made: BTreeMap<PathBuf, Option<Stamp>>,
}

/// Device, inode, size, and seconds and nanoseconds of the changes of content and attributes.
type Stamp = [i128; 7];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    stamp: Stamp,
    /// The digest of its content, if it is not too large.
    content: Option<Digest>,
}

/// What has changed.
#[derive(Debug, Default)]
pub struct Changed {
    /// Sources that were written, made or removed.
    pub sources: Vec<PathBuf>,
    /// Whether what the build makes has changed.
    pub made: bool,
}

impl Changed {
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && !self.made
    }
}

impl Files {
    /// Looks at the files below `root`. The content of those that are as they were in `before`
    /// is not read again. `enter` is called with each directory before its files are looked at.
    pub fn read(
        root: &Path,
        made: &[PathBuf],
        before: &Files,
        enter: &dyn Fn(&Path) -> Result<(), Failure>,
    ) -> Result<Files, Failure> {
        let mut files = Files::default();
        let walk = WalkBuilder::new(root)
            .require_git(false)
            .git_global(false)
            .parents(false)
            .filter_entry(|entry| !is_tools(entry))
            .build();
        for (number, entry) in walk.enumerate() {
            if number >= MOST {
                return Err(
                    Failure::new(format!("{} has more than {MOST} files and directories", root.display()))
                        .hint("name those that are no sources in .gitignore: they are not watched then"),
                );
            }
            // What can't be read, or is gone again, is no source of a build.
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            let Ok(meta) = fs::metadata(path) else { continue };
            if meta.is_dir() {
                enter(path)?;
            } else if meta.is_file() && !is_momentary(path) && !made.iter().any(|one| one == path) {
                let old = before.sources.get(path);
                files
                    .sources
                    .insert(path.to_path_buf(), FileState::of(path, &meta, old));
            }
        }
        for path in made {
            // They may be in directories that are no sources.
            let ancestors = path
                .ancestors()
                .skip(1)
                .take_while(|ancestor| ancestor.starts_with(root));
            ancestors.filter(|directory| directory.is_dir()).try_for_each(enter)?;
            files
                .made
                .insert(path.clone(), fs::metadata(path).ok().map(|meta| stamp(&meta)));
        }
        Ok(files)
    }

    /// What is different in `next`.
    pub fn compare(&self, next: &Files) -> Changed {
        let differs =
            |(path, state): &(&PathBuf, &FileState)| !self.sources.get(*path).is_some_and(|old| old.is(state));
        let written = next.sources.iter().filter(differs);
        let removed = self
            .sources
            .iter()
            .filter(|(path, _)| !next.sources.contains_key(*path));
        Changed {
            sources: written.chain(removed).map(|(path, _)| path.clone()).collect(),
            made: self.made != next.made,
        }
    }
}

impl FileState {
    fn of(path: &Path, meta: &Metadata, old: Option<&FileState>) -> FileState {
        let stamp = stamp(meta);
        match old {
            Some(old) if old.stamp == stamp => *old,
            _ => FileState {
                stamp,
                content: (meta.len() <= COMPARED).then(|| content(path)).flatten(),
            },
        }
    }

    /// Whether another state has the same content.
    fn is(&self, other: &FileState) -> bool {
        match (self.content, other.content) {
            (Some(content), Some(others)) => content == others,
            _ => self.stamp == other.stamp,
        }
    }
}

fn content(path: &Path) -> Option<Digest> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(COMPARED + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= COMPARED).then(|| Digest::of(&bytes))
}

fn stamp(meta: &Metadata) -> Stamp {
    [
        meta.dev().into(),
        meta.ino().into(),
        meta.size().into(),
        meta.mtime().into(),
        meta.mtime_nsec().into(),
        meta.ctime().into(),
        meta.ctime_nsec().into(),
    ]
}

fn is_tools(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_name().to_str().is_some_and(|name| TOOLS.contains(&name))
}

fn is_momentary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    MOMENTARY.iter().any(|ending| name.ends_with(ending)) || name.starts_with('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(changed: &Changed, root: &Path) -> Vec<String> {
        let names = changed
            .sources
            .iter()
            .map(|path| path.strip_prefix(root).unwrap().display().to_string());
        names.collect()
    }

    #[test]
    fn only_what_a_build_may_read_is_a_source() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        fs::create_dir_all(root.join("src/deep")).unwrap();
        fs::create_dir_all(root.join("target/release")).unwrap();
        fs::write(root.join(".gitignore"), "out.txt\n/ignored\n").unwrap();
        let made = [root.join("target/release/app.wasm"), root.join("app.wasm")];
        let look = |before: &Files| Files::read(root, &made, before, &|_| Ok(())).unwrap();
        let first = look(&Files::default());
        for name in [
            "target/x",
            "src/x~",
            "src/.x.swp",
            ".hidden",
            "out.txt",
            "a.qyvbin",
            "#a#",
            "target/release/y",
        ] {
            fs::write(root.join(name), "x").unwrap();
        }
        let second = look(&first);
        assert!(first.compare(&second).is_empty(), "{:?}", first.compare(&second));
        fs::write(root.join("src/deep/main.c"), "x").unwrap();
        let third = look(&second);
        assert_eq!(names(&second.compare(&third), root), ["src/deep/main.c"]);
        // Written again with the same content, or another file with the same content.
        fs::write(root.join("new"), "x").unwrap();
        fs::rename(root.join("new"), root.join("src/deep/main.c")).unwrap();
        let fourth = look(&third);
        assert!(third.compare(&fourth).is_empty());
        fs::remove_dir_all(root.join("src/deep")).unwrap();
        fs::write(&made[0], "wasm").unwrap();
        let last = look(&fourth);
        let changed = fourth.compare(&last);
        assert_eq!(
            (names(&changed, root), changed.made),
            (vec!["src/deep/main.c".to_string()], true)
        );
    }
}
