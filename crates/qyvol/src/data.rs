//! Directories of applications' own data (`diskfs`).
//!
//! A directory belongs to an owner (the scope of the rule that accepted the image, or
//! the key that `--key` named) and to an application (the requested repository, or the
//! signed name if there was none). So a key that is trusted for other names can't
//! access it, and a key that replaces another one in its rule can.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use qyvol_runtime::Usage;
use qyvol_types::Digest;
use serde::Serialize;

use crate::output::private_directory;
use crate::{Context, Error};

/// Longest encoded name; file systems take 255 bytes.
const NAME_BYTES: usize = 200;
/// Bytes of an application's data, unless a limit says otherwise.
pub(crate) const DEFAULT_QUOTA: u64 = 4 << 30;
/// The owner of the data of manifests under development.
pub(crate) const DEVELOPMENT: &str = "development";

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DataName {
    /// A rule's scope, a key's fingerprint, or `development`.
    pub owner: String,
    /// `registry/repository`, or an image's own name.
    pub application: String,
}

/// A directory of data.
#[derive(Clone, Debug, Serialize)]
pub struct DataRow {
    /// Its owner and application.
    #[serde(flatten)]
    pub name: DataName,
    /// Where it is.
    pub path: PathBuf,
    /// Lengths of all files in it.
    pub bytes: u64,
    /// How much of `resources.storage` they take.
    pub storage: u64,
}

impl DataName {
    /// Its path below the directory of all data. Different names have different paths.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(encode(&self.owner)).join(encode(&self.application))
    }
}

/// Encodes a text as a file name: `%` and two digits for every byte that could have
/// another meaning, or a digest if it is too long. `%s`, which marks a digest, occurs in no
/// encoded text.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for (index, byte) in text.bytes().enumerate() {
        let word = byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if word || byte == b'.' && index > 0 {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    if out.len() > NAME_BYTES || out.is_empty() {
        return format!("%sha256-{}", Digest::of(text.as_bytes()).hex());
    }
    out
}

/// The text that [`encode`] encoded. Digests, and names that it did not make, stay as
/// they are.
fn decode(name: &str) -> String {
    let mut out = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = more.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = more;
            }
        }
    }
    match String::from_utf8(out) {
        Ok(text) if encode(&text) == name => text,
        _ => name.to_string(),
    }
}

/// Returns the directory of a name, and creates it if it does not exist.
pub(crate) fn directory(ctx: &Context<'_>, name: &DataName) -> Result<PathBuf, Error> {
    let path = ctx.home.data.join(name.path());
    private_directory(&path)?;
    Ok(path)
}

/// The existing directories, by owner and application.
pub fn data_list(ctx: &Context<'_>) -> Result<Vec<DataRow>, Error> {
    let mut rows = Vec::new();
    for owner in names(&ctx.home.data)? {
        let below = ctx.home.data.join(&owner);
        for application in names(&below)? {
            let path = below.join(&application);
            // An unreadable directory is an error only when it is used.
            let usage = Usage::of(&path).unwrap_or_default();
            rows.push(DataRow {
                name: DataName {
                    owner: decode(&owner),
                    application: decode(&application),
                },
                bytes: usage.bytes,
                storage: usage.space,
                path,
            });
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// Finds the directory of an application; the owner is needed if several have data of
/// it.
pub fn data_find(ctx: &Context<'_>, application: &str, owner: Option<&str>) -> Result<DataRow, Error> {
    let mut rows = data_list(ctx)?;
    rows.retain(|row| row.name.application == application && owner.is_none_or(|owner| row.name.owner == owner));
    match <[DataRow; 1]>::try_from(rows) {
        Ok([row]) => Ok(row),
        Err(rows) if rows.is_empty() => Err(Error::Usage(format!(
            "{application} has no data: `qyv data ls` lists the applications that have some"
        ))),
        Err(rows) => {
            let owners: Vec<&str> = rows.iter().map(|row| row.name.owner.as_str()).collect();
            Err(Error::Usage(format!(
                "{} owners have data of {application}: name one of them with --owner ({})",
                owners.len(),
                owners.join(", ")
            )))
        }
    }
}

/// Gives a directory to another owner or application. Nothing is overwritten.
pub fn data_move(ctx: &Context<'_>, from: &DataRow, to: &DataName) -> Result<PathBuf, Error> {
    let path = ctx.home.data.join(to.path());
    let taken = || {
        Error::Usage(format!(
            "{} already has data owned by {}: remove it or give it another name first",
            to.application, to.owner
        ))
    };
    if let Some(parent) = path.parent() {
        private_directory(parent)?;
    }
    // A directory that a run has just created is empty; one with data is kept.
    match fs::remove_dir(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => return Err(taken()),
        Err(error) => return Err(Error::file("replace", &path)(error)),
    }
    match rename_new(&from.path, &path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
        Err(error) => Err(Error::file("move", &from.path)(error)),
    }
}

/// Removes a directory with its content. No link is followed.
pub fn data_remove(row: &DataRow) -> Result<(), Error> {
    remove_tree(&row.path).map_err(Error::file("remove", &row.path))?;
    // The owner's directory goes with its last application.
    if let Some(owner) = row.path.parent() {
        let _ = fs::remove_dir(owner);
    }
    Ok(())
}

/// Removes a tree, however deep a guest made it: the entries of a directory are moved to
/// the top before the directory is removed, so that neither the stack nor paths nor open
/// files grow with the depth.
fn remove_tree(top: &Path) -> io::Result<()> {
    let mut number = 0u64;
    loop {
        let mut directories = 0;
        for entry in fs::read_dir(top)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            directories += 1;
            for below in fs::read_dir(entry.path())? {
                let below = below?;
                if below.file_type()?.is_dir() {
                    move_up(&below.path(), top, &mut number)?;
                } else {
                    fs::remove_file(below.path())?;
                }
            }
            fs::remove_dir(entry.path())?;
        }
        if directories == 0 {
            return fs::remove_dir(top);
        }
    }
}

/// Moves a directory to the top, under an unused name.
fn move_up(from: &Path, top: &Path, number: &mut u64) -> io::Result<()> {
    loop {
        *number += 1;
        match rename_new(from, &top.join(format!(".removed-{number}"))) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            done => return done,
        }
    }
}

/// Renames without overwriting anything.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let flags = rustix::fs::RenameFlags::NOREPLACE;
    Ok(rustix::fs::renameat_with(
        rustix::fs::CWD,
        from,
        rustix::fs::CWD,
        to,
        flags,
    )?)
}

/// The names of the directories in a directory.
fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let failed = |error| Error::file("list", directory)(error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(owner: &str, application: &str) -> DataName {
        DataName {
            owner: owner.to_string(),
            application: application.to_string(),
        }
    }

    #[test]
    fn data_directory_is_unique_per_owner_and_application() {
        let long = "a/".repeat(120) + "a";
        let hashed = format!("sha256-{}", Digest::of(long.as_bytes()).hex());
        let texts = [
            "file:",
            "file:**",
            "file:a",
            "file:a/b",
            "file%3Aa",
            "file+a",
            "file.a",
            ".",
            "..",
            "a",
            "A",
            "a/b",
            "a%2fb",
            "a%2Fb",
            "",
            &long,
            &hashed,
            "SHA256:ab+c/d",
            "SHA256:ab+C/d",
            "development",
            "r.example/*",
            "r.example/**",
        ];
        let mut seen = std::collections::BTreeMap::new();
        for owner in texts {
            for application in texts {
                let path = name(owner, application).path();
                let parts: Vec<_> = path.components().collect();
                assert_eq!(parts.len(), 2, "{path:?}");
                assert!(
                    parts
                        .iter()
                        .all(|p| matches!(p, std::path::Component::Normal(n) if n.len() < 255))
                );
                if let Some(other) = seen.insert(path.clone(), (owner, application)) {
                    panic!("{path:?} is that of {other:?} and of {owner:?}, {application:?}");
                }
            }
            if !owner.is_empty() && owner != long {
                assert_eq!(decode(&encode(owner)), owner);
            }
        }
        assert_eq!(decode("local+app"), "local+app");
    }

    #[test]
    fn tree_of_any_depth_is_removed() {
        let base = tempfile::tempdir().unwrap();
        let top = base.path().join("data");
        fs::create_dir(&top).unwrap();
        let mut at = fs::File::open(&top).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::RWXU).unwrap();
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
            at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty())
                .unwrap()
                .into();
        }
        drop(at);
        let outside = base.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        std::os::unix::fs::symlink(&outside, top.join("link")).unwrap();
        std::os::unix::fs::symlink(base.path(), top.join("d/link")).unwrap();
        remove_tree(&top).unwrap();
        assert!(!top.exists() && outside.exists());
    }
}
