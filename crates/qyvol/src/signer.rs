//! Who signs: the key that was named, or the default one.

use std::path::{Path, PathBuf};

use qyvol_image::FileId;
use qyvol_trust::{KeyType, PublicKey, Sign, SignError};

use crate::agent::AgentKey;
use crate::external_signer::ExternalSigner;
use crate::keys::{DEFAULT_KEY, Keyring, Passphrase, is_path, open_file, parse_private};
use crate::{Context, Error, policy};

/// Who signs.
pub enum SignerChoice<'a> {
    /// The default key, made if there is none.
    Default,
    /// The default key, which must exist.
    Existing,
    /// A key of the keyring or a key's file.
    Named(&'a str),
    /// A key's file.
    File(&'a Path),
    /// A key's PEM, from the environment.
    Pem(&'a str),
    /// A program that has the private key.
    Program {
        /// The program and its arguments.
        command: Vec<String>,
        /// The public key: a file, or a name of the keyring.
        key: &'a str,
    },
    /// A key of an ssh agent's.
    Agent {
        /// Its fingerprint, as `ssh-add -l` shows it.
        fingerprint: &'a str,
        /// The agent's socket.
        socket: &'a Path,
    },
    /// Nobody.
    Unsigned,
}

impl SignerChoice<'_> {
    /// The key's file, where one is named.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            SignerChoice::File(path) => Some(path),
            SignerChoice::Program { key, .. } if is_path(key) => Some(Path::new(key)),
            SignerChoice::Named(spelling) if is_path(spelling) => Some(Path::new(spelling)),
            _ => None,
        }
    }
}

/// A key that was made because there was none.
#[derive(Clone, Debug)]
pub struct FirstKey {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Whether a first policy was written that trusts it for local files.
    pub trusted: bool,
}

/// A key to sign with, and its origin.
pub(crate) struct Signer {
    /// None where nothing is to be signed.
    pub(crate) key: Option<Box<dyn Sign>>,
    /// The file that it was read from.
    pub(crate) file: Option<(PathBuf, FileId)>,
    /// It was made for this.
    pub(crate) first_key: Option<FirstKey>,
}

/// Finds who signs; makes the machine's first key if there is none.
pub(crate) fn signer(
    ctx: &Context<'_>,
    choice: &SignerChoice<'_>,
    passphrase: Passphrase<'_>,
) -> Result<Signer, Error> {
    let keyring = Keyring::new(ctx);
    let mut first_key = None;
    let opened = match choice {
        SignerChoice::Unsigned => {
            return Ok(Signer {
                key: None,
                file: None,
                first_key: None,
            });
        }
        SignerChoice::Pem(pem) => {
            return Ok(Signer {
                key: Some(Box::new(parse_private(pem, Path::new("QYVOL_KEY"), passphrase)?)),
                file: None,
                first_key: None,
            });
        }
        SignerChoice::Program { command, key } => {
            return Ok(Signer {
                key: Some(Box::new(ExternalSigner {
                    command: command.clone(),
                    key: policy::public_key(ctx, key)?,
                })),
                file: None,
                first_key: None,
            });
        }
        SignerChoice::Agent { fingerprint, socket } => {
            let key = AgentKey::find(socket, fingerprint).map_err(|why| {
                Error::Signer(SignError::Signer {
                    signer: "ssh-agent".to_string(),
                    why,
                })
            })?;
            return Ok(Signer {
                key: Some(Box::new(key)),
                file: None,
                first_key: None,
            });
        }
        SignerChoice::Named(name) => keyring.open(name, passphrase)?,
        SignerChoice::File(path) => open_file(path, passphrase)?,
        SignerChoice::Existing if !keyring.has(DEFAULT_KEY) => return Err(Error::NoSigner),
        SignerChoice::Default if !keyring.has(DEFAULT_KEY) => {
            // Concurrent builds on a new machine make one key, not several.
            let _one = keyring.lock()?;
            if !keyring.has(DEFAULT_KEY) {
                let public: PublicKey = keyring.generate(DEFAULT_KEY, KeyType::Ed25519, None)?;
                first_key = Some(FirstKey {
                    fingerprint: public.fingerprint(),
                    trusted: policy::trust_first_key(ctx, DEFAULT_KEY, &public)?,
                });
            }
            keyring.open(DEFAULT_KEY, passphrase)?
        }
        SignerChoice::Existing | SignerChoice::Default => keyring.open(DEFAULT_KEY, passphrase)?,
    };
    Ok(Signer {
        key: Some(Box::new(opened.key)),
        file: Some((opened.path, opened.id)),
        first_key,
    })
}
