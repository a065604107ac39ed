//! `qyv.lock`: read, checked against the manifest, and written.

use std::ffi::OsStr;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use qyvol_types::{DependencyRule, Lock, LockedDependency};

use super::LockUse;
use crate::temp_file::TempFile;
use crate::text_file::read_text;
use crate::{Context, Error};

/// The name of the file, in the manifest's directory.
const LOCK: &str = "qyv.lock";

/// Where the lock of a manifest in `directory` is.
pub(crate) fn lock_path(directory: &Path) -> PathBuf {
    directory.join(LOCK)
}

/// Reads a lock, if there is one.
pub(super) fn read(path: &Path) -> Result<Option<Lock>, Error> {
    match path.metadata() {
        // Opening a pipe would wait for its writer.
        Ok(meta) if !meta.is_file() => {
            let other = io::Error::other("it is not a regular file");
            return Err(Error::file("read", path)(other));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let text = read_text(path)?;
    let lock = Lock::parse_yaml(&text).map_err(|problems| Error::Yaml {
        path: path.to_path_buf(),
        problems,
    })?;
    Ok(Some(lock))
}

/// For each dependency of a manifest, what the lock pins, or nothing if it is to be resolved.
pub(super) fn compare<'l>(
    path: &Path,
    lock: Option<&'l Lock>,
    rules: &[DependencyRule],
    use_of: LockUse<'_>,
) -> Result<Vec<Option<&'l LockedDependency>>, Error> {
    let drift = |key: &dyn ToString, why: String| Error::Lock {
        key: key.to_string(),
        why,
    };
    if let LockUse::Updated(keys) = use_of
        && let Some(unknown) = keys.iter().find(|key| !rules.iter().any(|rule| rule.key == **key))
    {
        let known: Vec<String> = rules.iter().map(|rule| rule.key.to_string()).collect();
        return Err(Error::Usage(format!(
            "the manifest has no dependency `{unknown}`: it has {}",
            known.join(", ")
        )));
    }
    let mut pins = Vec::new();
    for rule in rules {
        let pin = lock.and_then(|lock| lock.get(&rule.key));
        pins.push(match pin {
            _ if use_of.resolves_anew(&rule.key) => None,
            Some(pin) if pin.is_of(rule) => Some(pin),
            Some(pin) => {
                return Err(drift(
                    &rule.key,
                    format!(
                        "the manifest asks for {} {}, and the lock has {} {}",
                        rule.image, rule.version, pin.image, pin.version
                    ),
                ));
            }
            None if use_of == LockUse::Locked => {
                return Err(drift(&rule.key, format!("{} does not have it", shown(path))));
            }
            None => None,
        });
    }
    let left = lock.map(|lock| &lock.dependencies).into_iter().flatten();
    let mut left = left.filter(|pin| !rules.iter().any(|rule| rule.key == pin.key));
    if use_of == LockUse::Locked
        && let Some(pin) = left.next()
    {
        return Err(drift(&pin.key, "the lock has it, and the manifest has not".to_string()));
    }
    Ok(pins)
}

fn shown(path: &Path) -> String {
    qyvol_types::escape(&path.to_string_lossy()).to_string()
}

/// Checks an entry of the lock against the image, whose digest it has.
pub(super) fn check_pin(rule: &DependencyRule, pin: &LockedDependency, now: &LockedDependency) -> Result<(), Error> {
    let altered = |why: String| Error::Lock {
        key: rule.key.to_string(),
        why,
    };
    if pin.name != now.name {
        return Err(altered(format!(
            "the image is {}, and the lock says {}",
            now.name, pin.name
        )));
    }
    if pin.component != now.component {
        return Err(altered(format!(
            "the image's component is {}, and the lock says {}",
            now.component, pin.component
        )));
    }
    if pin.signers.is_empty() {
        return Err(altered("the lock names no signer of it".to_string()));
    }
    if let Some(signer) = pin.signers.iter().find(|signer| !now.signers.contains(signer)) {
        return Err(altered(format!(
            "the lock says that {} signed it, and by the policy of this host only {} did",
            qyvol_types::escape(signer),
            now.signers.join(", ")
        )));
    }
    Ok(())
}

/// A lock that is to be written.
#[derive(Clone, Debug)]
pub(crate) struct PendingLock {
    path: PathBuf,
    text: String,
}

impl PendingLock {
    /// What is to be written, if anything is.
    pub(super) fn new(
        path: PathBuf,
        lock: &Lock,
        before: Option<&Lock>,
        use_of: LockUse<'_>,
    ) -> Result<Option<PendingLock>, Error> {
        let text = lock.to_yaml();
        let same = before.is_some_and(|before| before.to_yaml() == text);
        match use_of {
            LockUse::Locked | LockUse::Unwritten => Ok(None),
            _ if same => Ok(None),
            LockUse::Extended | LockUse::Updated(_) => Ok(Some(PendingLock { path, text })),
        }
    }

    /// The lock's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes it next to its destination.
    pub(crate) fn stage<'a>(&self, ctx: &Context<'a>) -> Result<StagedLock<'a>, Error> {
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = || Error::file("write", &self.path);
        let mut file = TempFile::create(ctx.temporaries, directory, 0o644).map_err(failed())?;
        file.file().write_all(self.text.as_bytes()).map_err(failed())?;
        file.file().sync_all().map_err(failed())?;
        Ok(StagedLock {
            file,
            path: self.path.clone(),
        })
    }
}

/// A lock that is written but not in place yet. If it is dropped, nothing is left of it.
pub(crate) struct StagedLock<'a> {
    file: TempFile<'a>,
    path: PathBuf,
}

impl StagedLock<'_> {
    /// Puts it in its place.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let name = self.path.file_name().unwrap_or(OsStr::new(LOCK));
        self.file.replace(name).map_err(Error::file("write", &self.path))
    }
}
