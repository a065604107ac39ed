//! Files that decide what is trusted: read only where nobody but their owner
//! and root could have put or changed them.
//!
//! The directories on the path are checked first, then the file is opened, and the opened file
//! is checked: a user who can't write a directory can't replace its entries in between.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// The owner that a user namespace shows for users that it does not map.
const OVERFLOW_USER: u32 = 65_534;

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum SecureFileError {
    /// There is none.
    Absent,
    /// Others could have modified it, or it can't be opened.
    Refused(String),
}

/// Opens a file that nobody but its owner and root can have written.
pub(crate) fn open(path: &Path) -> Result<File, SecureFileError> {
    let real = guarded_path(path)?;
    // A FIFO in its place must not block the process.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(&real, flags, Mode::empty()).map_err(|e| refused(e.into()))?;
    let file = File::from(file);
    let meta = file.metadata().map_err(refused)?;
    match insecure_file(&real, &meta) {
        Some(why) => Err(SecureFileError::Refused(why)),
        None => Ok(file),
    }
}

/// Refuses a file that someone else could swap through one of its parent
/// directories. A missing file is fine.
pub(crate) fn check_directories(path: &Path) -> Result<(), String> {
    match guarded_path(path) {
        Ok(_) | Err(SecureFileError::Absent) => Ok(()),
        Err(SecureFileError::Refused(why)) => Err(why),
    }
}

/// The target of a path, if nobody else can change it.
fn guarded_path(path: &Path) -> Result<PathBuf, SecureFileError> {
    let named = std::path::absolute(path).map_err(refused)?;
    let real = match fs::canonicalize(&named) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(absent(&named)),
        real => real.map_err(refused)?,
    };
    let starts: &[&PathBuf] = if named == real { &[&real] } else { &[&named, &real] };
    for start in starts {
        for directory in start.ancestors().skip(1) {
            let meta = fs::metadata(directory).map_err(refused)?;
            if let Some(why) = insecure_directory(directory, &meta, start.parent() == Some(directory)) {
                return Err(SecureFileError::Refused(why));
            }
        }
    }
    Ok(real)
}

/// A missing file, unless someone else could have removed it.
fn absent(named: &Path) -> SecureFileError {
    if named.symlink_metadata().is_ok() {
        return SecureFileError::Refused("it is a link to a file that is not there".to_string());
    }
    for directory in named.ancestors().skip(1) {
        let Ok(meta) = fs::metadata(directory) else { continue };
        if let Some(why) = insecure_directory(directory, &meta, named.parent() == Some(directory)) {
            return SecureFileError::Refused(format!("it is not there, and {why}"));
        }
    }
    SecureFileError::Absent
}

fn refused(error: io::Error) -> SecureFileError {
    match error.kind() {
        ErrorKind::NotFound => SecureFileError::Absent,
        _ => SecureFileError::Refused(error.to_string()),
    }
}

fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether the overflow user represents users of the host that this user namespace does not
/// map, including root: in a container the root directory may be one of theirs. Where it is
/// mapped it is a user like any other.
fn is_unmapped() -> bool {
    leaves_out_overflow(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
}

/// Whether a map, rows of first user inside, first outside and number, has no
/// row for the overflow user (user_namespaces(7)).
fn leaves_out_overflow(map: &str) -> bool {
    let has = |row: &str| {
        let mut numbers = row.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (first, number) = (numbers.next().flatten(), numbers.nth(1).flatten());
        let (Some(first), Some(number)) = (first, number) else {
            return true;
        };
        (first..first.saturating_add(number)).contains(&u64::from(OVERFLOW_USER))
    };
    !map.trim().is_empty() && !map.lines().any(has)
}

/// Why others could replace the entries of a directory, if they could.
fn insecure_directory(path: &Path, meta: &Metadata, nearest: bool) -> Option<String> {
    let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
    let owner = meta.uid();
    if owner != 0 && owner != user() && !(owner == OVERFLOW_USER && is_unmapped()) {
        return Some(format!(
            "its directory {shown} belongs to user {owner}, neither to you ({}) nor to root",
            user()
        ));
    }
    // In a sticky directory only the owner of an entry can replace it; the entry's owner is
    // checked too.
    let sticky = meta.mode() & 0o1000 != 0;
    let others = meta.mode() & 0o002 != 0;
    let group = meta.mode() & 0o020 != 0;
    // Some systems give every user a group, and home directories to it.
    let own_group = || !nearest && meta.gid() == rustix::process::getegid().as_raw() && owner == user();
    if !sticky && (others || group && !own_group()) {
        return Some(format!(
            "others can write its directory {shown} (mode {:04o}): run `chmod go-w {shown}`",
            meta.mode() & 0o7777
        ));
    }
    None
}

/// Why a file may have been written by others, if it may.
fn insecure_file(path: &Path, meta: &Metadata) -> Option<String> {
    let shown = qyvol_types::escape(&path.to_string_lossy()).to_string();
    if meta.is_dir() {
        return Some("it is a directory".to_string());
    }
    if !meta.is_file() {
        return Some("it is not a regular file".to_string());
    }
    if meta.uid() != 0 && meta.uid() != user() {
        return Some(format!(
            "it belongs to user {}, neither to you ({}) nor to root",
            meta.uid(),
            user()
        ));
    }
    let mode = meta.mode() & 0o7777;
    (mode & 0o022 != 0).then(|| format!("others can write it (mode {mode:04o}): run `chmod go-w {shown}`"))
}

/// Replaces a guarded file, or creates it: atomically and synced. A link's target is replaced,
/// not the link.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mode = fs::metadata(&real).map_or(mode, |meta| meta.mode() & 0o7777);
    let directory = match real.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".qyv-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&real).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    // [SIGN-021]
    #[test]
    fn overflow_user_counts_as_the_hosts_only_where_users_are_not_mapped() {
        assert!(!leaves_out_overflow("         0          0 4294967295\n"));
        assert!(!leaves_out_overflow("") && !leaves_out_overflow("what is this\n"));
        assert!(!leaves_out_overflow("0 100000 65536\n65536 0 1\n"));
        assert!(leaves_out_overflow("         0       1000          1\n"));
        assert!(leaves_out_overflow("0 1000 1\n1 100000 65533\n"));
    }

    // [SIGN-021]
    #[test]
    fn file_that_others_could_have_taken_away_does_not_count_as_absent() {
        let base = tempfile::tempdir().unwrap();
        let config = base.path().join("config");
        fs::create_dir(&config).unwrap();
        let file = config.join("trust.yaml");
        mode(base.path(), 0o700);
        mode(&config, 0o700);
        assert!(matches!(open(&file), Err(SecureFileError::Absent)));
        assert!(matches!(
            open(&config.join("none/trust.yaml")),
            Err(SecureFileError::Absent)
        ));
        mode(&config, 0o777);
        assert!(matches!(open(&file), Err(SecureFileError::Refused(_))));
        mode(&config, 0o700);
        std::os::unix::fs::symlink("/nonexistent/trust.yaml", &file).unwrap();
        assert!(matches!(open(&file), Err(SecureFileError::Refused(_))));
    }

    // [SIGN-021]
    #[test]
    fn file_in_a_directory_that_others_can_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let home = base.path().join("home");
        let config = home.join("config");
        fs::create_dir_all(&config).unwrap();
        let file = config.join("trust.yaml");
        fs::write(&file, "x").unwrap();
        for (path, plain) in [(base.path(), 0o700), (&home, 0o755), (&config, 0o700), (&file, 0o600)] {
            mode(path, plain);
        }
        open(&file).unwrap();
        let refused = |path: &Path, bad: u32| {
            let good = fs::metadata(path).unwrap().permissions();
            mode(path, bad);
            let why = match open(&file) {
                Err(SecureFileError::Refused(why)) => why,
                other => panic!("{path:?} {bad:o}: {other:?}"),
            };
            assert!(why.contains("chmod"), "{why}");
            fs::set_permissions(path, good).unwrap();
        };
        refused(&config, 0o777);
        refused(&config, 0o770);
        refused(&home, 0o777);
        refused(&file, 0o666);
        // In a sticky directory such as /tmp, nobody can replace our file.
        mode(&home, 0o1777);
        open(&file).unwrap();
        // A link is followed, and both paths are checked.
        let link = home.join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        open(&link).unwrap();
        let loose = base.path().join("loose");
        fs::create_dir(&loose).unwrap();
        mode(&loose, 0o777);
        std::os::unix::fs::symlink(&file, loose.join("link")).unwrap();
        assert!(matches!(open(&loose.join("link")), Err(SecureFileError::Refused(_))));
        assert!(matches!(open(&config.join("none")), Err(SecureFileError::Absent)));
    }

    #[test]
    fn opening_a_fifo_does_not_block() {
        let base = tempfile::tempdir().unwrap();
        let pipe = base.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from_bits_truncate(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(open(&pipe), Err(SecureFileError::Refused(_))));
    }
}
