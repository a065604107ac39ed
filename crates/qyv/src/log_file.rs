//! Files of lines that this process appends to, and nobody else can change.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use qyvol::DirGrant;
use qyvol::types::escape;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::failure::Failure;

/// Opens a file to append to: a new file, an empty one, or one that begins as one of
/// `starts`, so that no other file of the operator's is written to; and one that only this user
/// can write. A link in its place is not followed. Also returns its length.
pub fn open(path: &Path, starts: &[&[u8]], what: &str) -> Result<(File, u64), String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    let opened = options.custom_flags(flags).open(path);
    let mut file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => "it is a symbolic link, which is not followed".to_string(),
        _ => error.to_string(),
    })?;
    let failed = |error: io::Error| error.to_string();
    let meta = file.metadata().map_err(failed)?;
    check_owner(&meta)?;
    let mut start = Vec::new();
    let longest = starts.iter().map(|start| start.len()).max().unwrap_or_default();
    (&mut file)
        .take(longest as u64)
        .read_to_end(&mut start)
        .map_err(failed)?;
    if !start.is_empty() && !starts.iter().any(|known| start.starts_with(known)) {
        return Err(format!(
            "it contains something other than {what}, which is left as it is"
        ));
    }
    let length = meta.len();
    // A full disk may have left half a line.
    let mut last = [b'\n'];
    if let Some(end) = length.checked_sub(1) {
        file.read_exact_at(&mut last, end).map_err(failed)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n").map_err(failed)?;
    }
    Ok((file, length))
}

/// Refuses a file that somebody else could change.
fn check_owner(meta: &Metadata) -> Result<(), String> {
    if !meta.is_file() {
        return Err("it is not a file".to_string());
    }
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(format!(
            "other users can change it: its mode is {:o}, and its owner the user {}",
            meta.mode() & 0o7777,
            meta.uid()
        ));
    }
    match meta.nlink() {
        1 => Ok(()),
        _ => Err("it has another name, too".to_string()),
    }
}

/// Refuses a file, named by `option`, that the guest could change.
pub fn check_apart(option: &str, path: &Path, dirs: &[DirGrant]) -> Result<(), Failure> {
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    // If the directory isn't there, opening the file says so.
    let Ok(parent) = fs::canonicalize(parent) else {
        return Ok(());
    };
    let is_in = |dir: &&DirGrant| fs::canonicalize(&dir.host).is_ok_and(|host| parent.starts_with(host));
    match dirs.iter().filter(|dir| dir.writable).find(is_in) {
        None => Ok(()),
        Some(dir) => Err(Failure::usage(format!(
            "{option} {}: the guest could change it, because --dir grants {} for writing",
            escape(&path.to_string_lossy()),
            dir.host.display()
        ))
        .hint("name a file elsewhere, or grant the directory read-only, with :ro")),
    }
}
