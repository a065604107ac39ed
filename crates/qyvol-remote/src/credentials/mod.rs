//! Stored credentials, where Docker, ORAS and Podman keep them: a JSON file
//! with `auths`, and programs named `docker-credential-…`.
//!
//! Invariants: a secret appears in no argument, message or debug output; the file is written
//! with mode 0600 and replaced atomically; its other fields stay.

mod config_file;
mod helper;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use self::config_file::ConfigFile;
pub use self::config_file::{erase_credentials, store_credentials};
use crate::RemoteError;
use crate::retry::Notify;

/// How long a credential helper may take: long enough for a person who is
/// asked to unlock a keyring.
pub(crate) const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

/// A text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, to be sent to the server that it is for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What authenticates us to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Name and password.
    Password {
        /// The name.
        user: String,
        /// The password, or a personal access token.
        password: Secret,
    },
    /// An identity token, which a token server exchanges.
    Identity(Secret),
    /// An access token that the registry itself accepts.
    Token(Secret),
}

/// A source of credentials.
pub trait Credentials: Send + Sync {
    /// The credentials for a registry (`host` or `host:port`) and repository.
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError>;
}

/// No credentials: all requests are anonymous.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl Credentials for Anonymous {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, RemoteError> {
        Ok(None)
    }
}

/// One credential for one registry, and none for others.
#[derive(Clone, Debug)]
pub struct StaticCredential {
    /// The registry it is for.
    pub registry: String,
    /// The credential.
    pub credential: Credential,
}

impl Credentials for StaticCredential {
    fn find(&self, registry: &str, _: &str) -> Result<Option<Credential>, RemoteError> {
        Ok((registry == self.registry).then(|| self.credential.clone()))
    }
}

/// Credentials from files, after those from the environment.
pub struct CredentialFiles {
    /// From the environment, for one registry.
    pub given: Option<StaticCredential>,
    /// The files; the first one that knows the registry counts, and those that
    /// don't exist are skipped.
    pub files: Vec<PathBuf>,
    /// How long a credential helper may take.
    pub helper_timeout: Duration,
    notify: Notify,
    /// Helpers that are not installed, each reported once.
    missing: Mutex<BTreeSet<String>>,
}

impl fmt::Debug for CredentialFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialFiles")
            .field("given", &self.given)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl CredentialFiles {
    /// The files are read when credentials are first looked for.
    pub fn new(given: Option<StaticCredential>, files: Vec<PathBuf>, notify: Notify) -> CredentialFiles {
        CredentialFiles {
            given,
            files,
            helper_timeout: HELPER_TIMEOUT,
            notify,
            missing: Mutex::default(),
        }
    }

    /// Warns of a helper that a file names and that is not installed. Anonymous reads need
    /// none, so this is no error.
    fn warn_missing_helper(&self, program: &str) {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.insert(program.to_string()) {
            (self.notify)(&format!(
                "the credential helper {program} is not installed: continuing without its credentials"
            ));
        }
    }
}

impl Credentials for CredentialFiles {
    fn find(&self, registry: &str, repository: &str) -> Result<Option<Credential>, RemoteError> {
        if let Some(given) = &self.given
            && let Some(found) = given.find(registry, repository)?
        {
            return Ok(Some(found));
        }
        for path in &self.files {
            let Some(file) = ConfigFile::read(path, registry)? else {
                continue;
            };
            let missing = |program: &str| self.warn_missing_helper(program);
            let found = file.find(registry, repository, self.helper_timeout, &missing)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Credentials of a host could not be read or written.
fn credentials_error(action: &'static str, host: &str, why: impl fmt::Display) -> RemoteError {
    RemoteError::Credentials {
        action,
        host: host.to_string(),
        why: why.to_string(),
    }
}
