//! The user's keys: `NAME.key` (PKCS#8 PEM, 0600) and `NAME.pub` (SPKI PEM) in
//! the configuration's `keys` directory.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use qyvol_image::FileId;
use qyvol_trust::{KeyType, PrivateKey, PublicKey};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::output::{private_directory, write_new};
use crate::secure_file;
use crate::text_file::{read_open_file, read_text};
use crate::{Context, Error};

/// The key that is made at first use and signs unless another is named.
pub(crate) const DEFAULT_KEY: &str = "default";
/// The first line of a private key that is not encrypted.
pub const SECRET_KEY_TEXT: &str = "-----BEGIN PRIVATE KEY-----";

/// Asks for the passphrase of the key at a path.
pub type Passphrase<'a> = &'a dyn Fn(&Path) -> Result<Zeroizing<String>, String>;

/// Where nobody can be asked.
pub(crate) fn no_passphrase(_: &Path) -> Result<Zeroizing<String>, String> {
    Err("it is encrypted, and nobody can be asked for its passphrase".to_string())
}

/// The directory of keys.
#[derive(Clone, Debug)]
pub struct Keyring {
    directory: PathBuf,
}

/// A key as `keys list` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct KeyRow {
    /// Its name.
    pub name: String,
    /// `ed25519` or `ecdsa-p256`.
    pub algorithm: String,
    /// Its fingerprint, as ssh shows them.
    pub fingerprint: String,
    /// Whether the private half is here.
    pub private: bool,
    /// Whether the private half is encrypted.
    pub encrypted: bool,
}

impl Keyring {
    /// The keyring of a home.
    pub fn new(ctx: &Context<'_>) -> Keyring {
        Keyring {
            directory: ctx.home.config.join("keys"),
        }
    }

    fn private_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    fn public_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pub"))
    }

    /// Whether a private key of this name is here.
    pub fn has(&self, name: &str) -> bool {
        check_name(name).is_ok() && self.private_path(name).is_file()
    }

    /// Makes a key and keeps it, encrypted if there is a passphrase.
    pub fn generate(&self, name: &str, kind: KeyType, passphrase: Option<&str>) -> Result<PublicKey, Error> {
        check_name(name)?;
        let key = PrivateKey::generate(kind).map_err(Error::key(name))?;
        self.keep(name, &key, passphrase)?;
        Ok(key.public().clone())
    }

    /// Waits for whoever else makes this machine's first key, until dropped.
    pub(crate) fn lock(&self) -> Result<fs::File, Error> {
        private_directory(&self.directory)?;
        let lock = fs::File::open(&self.directory).and_then(|directory| directory.lock().map(|()| directory));
        lock.map_err(Error::file("lock", &self.directory))
    }

    /// Keeps a key under a name that is free.
    fn keep(&self, name: &str, key: &PrivateKey, passphrase: Option<&str>) -> Result<(), Error> {
        let pem = match passphrase {
            Some(passphrase) => Zeroizing::new(key.to_encrypted_pem(passphrase).map_err(Error::key(name))?),
            None => key.to_pem(),
        };
        self.keep_as(name, &pem, key)
    }

    /// Keeps a key whose PEM is given.
    fn keep_as(&self, name: &str, pem: &str, key: &PrivateKey) -> Result<(), Error> {
        if self.private_path(name).exists() || self.public_path(name).exists() {
            let why = format!("there is a key of this name already, in {}", self.directory.display());
            return Err(Error::Key {
                key: name.to_string(),
                why,
            });
        }
        private_directory(&self.directory)?;
        write_new(&self.private_path(name), pem.as_bytes(), 0o600)?;
        write_new(&self.public_path(name), key.public().to_pem().as_bytes(), 0o644)
    }

    /// The keys, sorted by name. An unreadable file is skipped and reported.
    pub fn list(&self, warn: &mut dyn FnMut(String)) -> Result<Vec<KeyRow>, Error> {
        let mut rows = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(rows),
            Err(error) => return Err(Error::file("list", &self.directory)(error)),
        };
        for entry in entries {
            let path = entry.map_err(Error::file("list", &self.directory))?.path();
            if path.extension().is_none_or(|e| e != "pub") {
                continue;
            }
            let Some(name) = path.file_stem().and_then(|s| s.to_str()) else {
                continue;
            };
            match self.show(name) {
                Ok(row) => rows.push(row),
                Err(error) => warn(error.to_string()),
            }
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }

    /// One key.
    pub fn show(&self, name: &str) -> Result<KeyRow, Error> {
        let public = self.public(name)?;
        let private = self.private_path(name);
        let encrypted = private.is_file() && read_text(&private).is_ok_and(|pem| !pem.contains(SECRET_KEY_TEXT));
        Ok(KeyRow {
            name: name.to_string(),
            algorithm: public.algorithm().to_string(),
            fingerprint: public.fingerprint(),
            private: private.is_file(),
            encrypted,
        })
    }

    /// The public half of a key.
    pub fn public(&self, name: &str) -> Result<PublicKey, Error> {
        check_name(name)?;
        let path = self.public_path(name);
        if !path.exists() {
            return Err(Error::NoKey {
                key: name.to_string(),
                directory: self.directory.clone(),
            });
        }
        PublicKey::from_pem(&read_text(&path)?).map_err(Error::key(name))
    }

    /// The private half of a key, by its name here or by the path of its file,
    /// as it is spelled.
    pub fn private(&self, spelling: &str, passphrase: Passphrase<'_>) -> Result<PrivateKey, Error> {
        Ok(self.open(spelling, passphrase)?.key)
    }

    pub(crate) fn open(&self, spelling: &str, passphrase: Passphrase<'_>) -> Result<OpenedKey, Error> {
        if is_path(spelling) {
            return open_file(Path::new(spelling), passphrase);
        }
        check_name(spelling)?;
        let path = self.private_path(spelling);
        if !path.exists() {
            return Err(Error::NoKey {
                key: spelling.to_string(),
                directory: self.directory.clone(),
            });
        }
        // A user who can replace the file could make us sign with their key.
        secure_file::check_directories(&path).map_err(|why| Error::Key {
            key: spelling.to_string(),
            why,
        })?;
        open_file(&path, passphrase)
    }

    /// The private key as PEM, encrypted if a new passphrase is given.
    pub fn export(
        &self,
        name: &str,
        passphrase: Passphrase<'_>,
        new: Option<&str>,
    ) -> Result<Zeroizing<String>, Error> {
        let key = self.private(name, passphrase)?;
        match new {
            Some(new) => Ok(Zeroizing::new(key.to_encrypted_pem(new).map_err(Error::key(name))?)),
            None => Ok(key.to_pem()),
        }
    }

    /// Removes a key. A private half may be the last copy, so `last` has to allow it.
    pub fn remove(&self, name: &str, last: bool) -> Result<KeyRow, Error> {
        let row = match self.show(name) {
            Ok(row) => row,
            // Half a key is a key to remove, too.
            Err(_) if self.has(name) => KeyRow {
                name: name.to_string(),
                algorithm: "unknown".to_string(),
                fingerprint: "unknown".to_string(),
                private: true,
                encrypted: false,
            },
            Err(error) => return Err(error),
        };
        if row.private && !last {
            return Err(Error::LastCopy { key: name.to_string() });
        }
        for path in [self.private_path(name), self.public_path(name)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::file("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(row)
    }

    /// Takes in a key from a PEM file: a private one, or a public one to trust.
    pub fn import(
        &self,
        name: &str,
        path: &Path,
        passphrase: Passphrase<'_>,
        new: Option<&str>,
    ) -> Result<KeyRow, Error> {
        check_name(name)?;
        let pem = Zeroizing::new(read_text(path)?);
        if pem.contains("PRIVATE KEY-----") {
            let key = parse_private(&pem, path, passphrase)?;
            // An encrypted key stays encrypted, with its passphrase.
            let is_encrypted = pem.contains("ENCRYPTED PRIVATE KEY");
            match new {
                None if is_encrypted => self.keep_as(name, &pem, &key)?,
                _ => self.keep(name, &key, new)?,
            }
        } else {
            let key = PublicKey::from_pem(&pem).map_err(Error::key(&path.to_string_lossy()))?;
            write_new(&self.public_path(name), key.to_pem().as_bytes(), 0o644)?;
        }
        self.show(name)
    }
}

/// A private key and the file that it was read from.
pub(crate) struct OpenedKey {
    pub(crate) key: PrivateKey,
    pub(crate) path: PathBuf,
    pub(crate) id: FileId,
}

/// The private key of a file. A `.pub` beside it must be its other half.
pub(crate) fn open_file(path: &Path, passphrase: Passphrase<'_>) -> Result<OpenedKey, Error> {
    let (pem, id) = read_private(path)?;
    let key = parse_private(&pem, path, passphrase)?;
    let public = path.with_extension("pub");
    if public.is_file() {
        let name = path.to_string_lossy();
        let public = PublicKey::from_pem(&read_text(&public)?).map_err(Error::key(&name))?;
        if public.fingerprint() != key.public().fingerprint() {
            return Err(Error::Key {
                key: name.into_owned(),
                why: "its .pub file belongs to another key".to_string(),
            });
        }
    }
    Ok(OpenedKey {
        key,
        path: path.to_path_buf(),
        id,
    })
}

/// Reads a private key's file, which nobody else may read: the opened file is checked, whatever
/// its name refers to by then.
pub(crate) fn read_private(path: &Path) -> Result<(Zeroizing<String>, FileId), Error> {
    let file = File::open(path).map_err(Error::file("open the key", path))?;
    let meta = file.metadata().map_err(Error::file("open the key", path))?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        // What anybody may read is often the wrong half.
        if read_open_file(file, path).is_ok_and(|text| text.contains("BEGIN PUBLIC KEY")) {
            return Err(Error::Key {
                key: path.to_string_lossy().into_owned(),
                why: "it is a public key, and a private one signs".to_string(),
            });
        }
        return Err(Error::KeyMode {
            path: path.to_path_buf(),
            mode: meta.mode() & 0o7777,
            own: meta.uid() == rustix::process::geteuid().as_raw(),
        });
    }
    Ok((Zeroizing::new(read_open_file(file, path)?), FileId::of(&meta)))
}

pub(crate) fn parse_private(pem: &str, path: &Path, passphrase: Passphrase<'_>) -> Result<PrivateKey, Error> {
    let name = path.to_string_lossy();
    if pem.contains("ENCRYPTED PRIVATE KEY") {
        let secret = passphrase(path).map_err(|why| Error::Key {
            key: name.to_string(),
            why,
        })?;
        return PrivateKey::from_encrypted_pem(pem, &secret).map_err(Error::key(&name));
    }
    PrivateKey::from_pem(pem).map_err(Error::key(&name))
}

/// Whether a key is spelled as the path of a file; else it is a name of the
/// keyring. What exists in the current directory never decides.
pub fn is_path(spelling: &str) -> bool {
    spelling.contains('/') || [".pub", ".pem", ".key"].iter().any(|end| spelling.ends_with(end))
}

/// Names of keys become file names.
fn check_name(name: &str) -> Result<(), Error> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    if name.is_empty() || name.len() > 64 || name.starts_with(['.', '-']) || !name.bytes().all(word) || is_path(name) {
        let why = "a key's name is up to 64 letters, digits, `-`, `_` and `.`, and does not end in .pub, .pem or .key"
            .to_string();
        return Err(Error::Key {
            key: name.to_string(),
            why,
        });
    }
    Ok(())
}
