//! The file of the trust policy: its text, and the lock that those take who write beside it.
//!
//! Deliberately absent: what the policy says.

use std::fs::File;
use std::path::{Path, PathBuf};

use qyvol_types::limits;

use crate::Error;
use crate::output::private_directory;
use crate::secure_file::{self, SecureFileError};
use crate::text_file::read_within;

/// The policy's text, if there is a policy.
pub(crate) fn policy_text(path: &Path) -> Result<Option<String>, Error> {
    guarded_text(path, limits::POLICY_BYTES)
}

/// The text of a file that nobody but its owner and root can have written, if it is there.
pub(crate) fn guarded_text(path: &Path, most: u64) -> Result<Option<String>, Error> {
    let refused = |why: String| Error::Policy {
        path: path.to_path_buf(),
        why,
    };
    match secure_file::open(path) {
        Ok(file) => read_within(file, path, most)
            .map(Some)
            .map_err(|e| refused(e.to_string())),
        Err(SecureFileError::Absent) => Ok(None),
        Err(SecureFileError::Refused(why)) => Err(refused(why)),
    }
}

/// Waits for whoever else writes a file beside this one, until dropped.
pub(crate) fn lock_policy(path: &Path) -> Result<File, Error> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    private_directory(&directory)?;
    let lock = File::open(&directory).and_then(|lock| lock.lock().map(|()| lock));
    lock.map_err(Error::file("lock", &directory))
}
