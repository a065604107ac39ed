//! `hosts.yaml`: the operator's settings for single registries.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use qyvol_remote::{HostOptions, parse_hosts};

use crate::secure_file::{self, SecureFileError};
use crate::text_file::read_open_file;
use crate::{Error, Home};

/// Largest file of certificates, in bytes.
const CA_BYTES: u64 = 4 << 20;

/// Where the file is.
pub fn hosts_path(home: &Home) -> PathBuf {
    home.config.join("hosts.yaml")
}

/// Reads the file and the certificates that it names; nothing if there is no file. A file that
/// others could have written is refused: it decides which registries are trusted.
pub fn load_hosts(home: &Home) -> Result<BTreeMap<String, HostOptions>, Error> {
    let path = hosts_path(home);
    let Some(text) = read_private(&path)? else {
        return Ok(BTreeMap::new());
    };
    let entries = parse_hosts(&text).map_err(|problems| Error::HostsYaml {
        path: path.clone(),
        problems,
    })?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut hosts = BTreeMap::new();
    for (host, entry) in entries {
        let ca = entry.ca.map(|ca| read_certificates(&directory.join(ca))).transpose()?;
        let options = HostOptions {
            ca,
            plain_http: entry.plain_http,
            mirrors: entry.mirrors,
            timeout: entry.timeout,
            concurrency: entry.concurrency,
        };
        hosts.insert(host, options);
    }
    Ok(hosts)
}

/// The files that [`load_hosts`] reads, if they are there.
pub fn hosts_files(home: &Home) -> Vec<PathBuf> {
    let path = hosts_path(home);
    let text = read_private(&path).ok().flatten();
    let entries = text.and_then(|text| parse_hosts(&text).ok()).unwrap_or_default();
    let directory = path.parent().unwrap_or(Path::new(".")).to_path_buf();
    let certificates = entries
        .into_values()
        .filter_map(|entry| Some(directory.join(entry.ca?)));
    let certificates: Vec<PathBuf> = certificates.collect();
    std::iter::once(path).chain(certificates).collect()
}

/// Reads a file of certificates, PEM.
pub fn read_certificates(path: &Path) -> Result<Vec<u8>, Error> {
    let read = fs::File::open(path).and_then(|file| read_bounded(file, CA_BYTES));
    read.map_err(Error::file("read the certificates in", path))
}

fn read_private(path: &Path) -> Result<Option<String>, Error> {
    let refused = |why: String| Error::Hosts {
        path: path.to_path_buf(),
        why,
    };
    match secure_file::open(path) {
        Ok(file) => read_open_file(file, path).map(Some).map_err(|e| refused(e.to_string())),
        Err(SecureFileError::Absent) => Ok(None),
        Err(SecureFileError::Refused(why)) => Err(refused(why)),
    }
}

fn read_bounded(file: fs::File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("it is larger than {limit} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home(directory: &Path) -> Home {
        Home {
            config: directory.to_path_buf(),
            store: directory.to_path_buf(),
            data: directory.to_path_buf(),
            memory: None,
        }
    }

    // [REG-023]
    #[test]
    fn hosts_file_that_others_can_write_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = home(directory.path());
        assert!(load_hosts(&home).unwrap().is_empty());
        let path = hosts_path(&home);
        fs::write(&path, "version: 1\nhosts:\n  r.example: { ca: own.pem }\n").unwrap();
        fs::write(directory.path().join("own.pem"), "pem").unwrap();
        for (mode, is_read) in [(0o644, true), (0o600, true), (0o664, false), (0o602, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match load_hosts(&home) {
                Ok(hosts) => assert!(is_read && hosts["r.example"].ca.as_deref() == Some(b"pem")),
                Err(error) => assert!(!is_read && matches!(error, Error::Hosts { .. }), "{error:?}"),
            }
        }
    }

    #[test]
    fn hosts_file_that_names_no_readable_certificates_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let home = home(directory.path());
        fs::write(
            hosts_path(&home),
            "version: 1\nhosts:\n  r.example: { ca: absent.pem }\n",
        )
        .unwrap();
        let error = load_hosts(&home).unwrap_err();
        assert!(error.to_string().contains("absent.pem"), "{error}");
    }
}
