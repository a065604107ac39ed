//! Names and paths of a tree, as the local kernel accepts them.

use crate::error::{ErrorKind, FsError};

/// Longest name, in bytes (`NAME_MAX`).
const NAME_BYTES: usize = 255;
/// Longest path, in bytes. Less than `PATH_MAX`, to leave room for the location of the
/// tree.
const PATH_BYTES: usize = 3 << 10;
/// Maximum number of parts of a path.
const MAX_DEPTH: usize = 64;

/// Whether a name is a valid file name here.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES && name != "." && name != ".." && !name.contains(['/', '\0'])
}

/// Checks a path from a guest: empty for the root, else names separated by slashes.
pub(crate) fn check(path: &str) -> Result<(), FsError> {
    let parts = || path.split('/');
    let is_path = path.len() <= PATH_BYTES && parts().count() <= MAX_DEPTH && parts().all(is_name);
    if path.is_empty() || is_path {
        return Ok(());
    }
    Err(FsError::new(
        ErrorKind::InvalidPath,
        format!(
            "`{}` is not a path in a remote tree: expected at most {MAX_DEPTH} names of 1 to {NAME_BYTES} bytes, \
             {PATH_BYTES} bytes in all, none of them `.` or `..`",
            qyvol_types::escape(path.get(..200).unwrap_or(path))
        ),
    ))
}

/// The directory that a path is in. The root is the empty path, and is in none.
pub(crate) fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/') {
        Some((parent, _)) => Some(parent),
        None if path.is_empty() => None,
        None => Some(""),
    }
}

/// The last part of a path.
pub(crate) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path of `name` in `directory`.
pub(crate) fn join(directory: &str, name: &str) -> String {
    match directory.is_empty() {
        true => name.to_string(),
        false => format!("{directory}/{name}"),
    }
}

/// The directories above a path, starting below the root.
pub(crate) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_that_a_kernel_would_read_differently_is_refused() {
        for good in ["", "a", "a/b c/ñ", "...", &"a".repeat(255)] {
            check(good).unwrap();
        }
        let deep = ["a"; 65].join("/");
        for bad in [
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "a/..",
            "../a",
            "a/./b",
            "a\0b",
            &"a".repeat(256),
            &deep,
        ] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::InvalidPath, "{bad:?}");
        }
    }

    #[test]
    fn path_is_split_and_joined() {
        assert_eq!(ancestors("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(ancestors("a").count(), 0);
        assert_eq!((parent("a/b"), parent("a"), parent("")), (Some("a"), Some(""), None));
        assert_eq!(
            (join("", "a"), join("a", "b"), name("a/b"), name("a")),
            ("a".into(), "a/b".into(), "b", "a")
        );
    }
}
