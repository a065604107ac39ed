//! Changes to a users file: one at a time, each written completely or not at all.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Gid, Uid};

use super::users::Users;
use crate::error::HubError;
use crate::reload;

impl Users {
    /// The users of a file.
    pub fn read(path: &Path) -> Result<Users, HubError> {
        Users::parse(&reload::read(path)?)
    }

    /// Changes a users file, or creates it. Concurrent callers wait; a server sees the file as
    /// it was before or after the change, nothing in between. Nothing is written if `change`
    /// fails or its result is invalid.
    pub fn edit<E: From<HubError>>(path: &Path, change: impl FnOnce(&mut Users) -> Result<(), E>) -> Result<(), E> {
        // The target of a symbolic link is changed, and the link stays.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let directory = match path.parent() {
            Some(parent) if parent != Path::new("") => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let lock = File::open(&directory).map_err(HubError::storage("can't open", &directory))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(HubError::storage("can't lock", &directory))?;
        let (mut users, before) = match fs::metadata(&path) {
            Ok(metadata) => (Users::read(&path)?, Some(metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Users::none(), None),
            Err(error) => return Err(HubError::storage("can't read", &path)(error).into()),
        };
        change(&mut users)?;
        users.check().map_err(HubError::Access)?;
        let mut text = serde_json::to_vec_pretty(&users).map_err(|e| HubError::Access(e.to_string()))?;
        text.push(b'\n');
        replace(&path, &directory, &text, before.as_ref()).map_err(HubError::storage("can't write", &path))?;
        Ok(())
    }
}

fn replace(path: &Path, directory: &Path, text: &[u8], before: Option<&fs::Metadata>) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = directory.join(format!(".{}.new", name.to_string_lossy()));
    // Left by a change that was killed: we have the lock, so nobody is writing it.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write(&temporary, text, before).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let _already_failed = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

/// Writes a file that only the owner can read, or keeps the mode of the file that it replaces.
fn write(path: &Path, text: &[u8], before: Option<&fs::Metadata>) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    if let Some(before) = before {
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            let (uid, gid) = (Uid::from_raw(before.uid()), Gid::from_raw(before.gid()));
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        file.set_permissions(Permissions::from_mode(before.mode() & 0o777))?;
    }
    file.write_all(text)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::access::{User, hash_password};

    fn user(name: &str) -> Arc<User> {
        Arc::new(User {
            name: name.to_string(),
            password: hash_password(b"x").unwrap(),
            scopes: Vec::new(),
        })
    }

    #[test]
    fn change_to_the_users_file_is_complete_or_has_no_effect() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("users.json");
        let add = |name: &str| {
            let user = user(name);
            Users::edit::<HubError>(&path, |users| {
                users.users.push(user);
                Ok(())
            })
        };
        add("ana").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(add("ana").is_err(), "a duplicate name is invalid");
        assert_eq!(fs::read(&path).unwrap(), before);
        std::thread::scope(|scope| {
            for name in ["b", "c", "d", "e"] {
                scope.spawn(move || add(name).unwrap());
            }
        });
        assert_eq!(Users::read(&path).unwrap().users.len(), 5);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Users::edit::<HubError>(&link, |users| {
            users.users.clear();
            Ok(())
        })
        .unwrap();
        assert!(Users::read(&path).unwrap().users.is_empty());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
