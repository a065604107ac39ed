//! The user's directories: the only code that reads the environment for them.
//!
//! `QYVOL_HOME` puts everything under one directory. Without it, the XDG base
//! directories: configuration in `$XDG_CONFIG_HOME/qyvol`, store and
//! applications' data in `$XDG_DATA_HOME/qyvol`. An empty XDG variable counts as not set, by
//! its specification.

use std::env;
use std::path::PathBuf;

use qyvol::Home;

use crate::failure::Failure;
use crate::variables;

/// Where the host has a file system in memory.
const MEMORY: &str = "/dev/shm";

/// Finds the user's directories. None of them need exist.
pub fn home() -> Result<Home, Failure> {
    let memory = PathBuf::from(MEMORY);
    let memory = memory.is_dir().then_some(memory);
    if let Some(home) = directory("QYVOL_HOME")? {
        return Ok(Home {
            config: home.clone(),
            store: home.clone(),
            data: home.join("data"),
            memory,
        });
    }
    let config = base("XDG_CONFIG_HOME", ".config")?.join("qyvol");
    let data = base("XDG_DATA_HOME", ".local/share")?.join("qyvol");
    Ok(Home {
        config,
        store: data.clone(),
        data: data.join("data"),
        memory,
    })
}

/// An absolute directory from the environment.
fn directory(name: &str) -> Result<Option<PathBuf>, Failure> {
    match variables::path(name)? {
        None => Ok(None),
        Some(value) => {
            let path = PathBuf::from(value);
            if path.is_absolute() {
                return Ok(Some(path));
            }
            let here =
                env::current_dir().map_err(|e| Failure::new(format!("can't determine the current directory: {e}")))?;
            Ok(Some(here.join(path)))
        }
    }
}

/// An XDG base directory; relative ones are to be ignored (XDG base directory
/// specification 0.8).
fn base(name: &str, default: &str) -> Result<PathBuf, Failure> {
    if let Some(path) = env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute()) {
        return Ok(path);
    }
    match env::home_dir().filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(default)),
        None => Err(Failure::new("there is no home directory to keep keys and images in")
            .hint("set HOME, or QYVOL_HOME to a directory of your own")),
    }
}
