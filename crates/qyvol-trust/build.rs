//! Names the sources that read policies. A parsed policy that a host keeps is used by builds
//! of the same sources alone: another build may read the same text otherwise, or refuse it.
#![allow(clippy::print_stdout, reason = "Cargo reads a build script's output")]

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::{fs, io};

/// The crates that take part, and the versions of all others.
const SOURCES: [&str; 4] = ["src", "../qyvol-sandbox/src", "../qyvol-types/src", "../../Cargo.lock"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut hasher = DefaultHasher::new();
    for source in SOURCES {
        add(Path::new(source), &mut hasher)?;
    }
    println!("cargo::rustc-env=QYVOL_POLICY_SOURCES={:016x}", hasher.finish());
    Ok(())
}

/// Adds a file, or a directory's files in the order of their names. Tests read no policy of a host.
fn add(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if path.file_stem().is_some_and(|name| name == "tests") {
        return Ok(());
    }
    if path.is_dir() {
        let entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path()));
        let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
        paths.sort();
        return paths.iter().try_for_each(|path| add(path, hasher));
    }
    // A new file is one that an old one names.
    println!("cargo::rerun-if-changed={}", path.display());
    let content = fs::read(path)?;
    for part in [path.as_os_str().as_encoded_bytes(), &content] {
        hasher.write_usize(part.len());
        hasher.write(part);
    }
    Ok(())
}
