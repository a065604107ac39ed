//! Credential helpers: programs named `docker-credential-…` that keep secrets
//! where a file can't.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::RemoteError;
use crate::credentials::{Credential, LIMIT, Secret, failed};

/// Docker's own convention for identity tokens in helpers.
pub(crate) fn password_of(user: &str, password: &str) -> Credential {
    if user == "<token>" {
        return Credential::Identity(Secret::new(password));
    }
    Credential::Password {
        user: user.to_string(),
        password: Secret::new(password),
    }
}

/// A credential helper (docker-credential-helpers' protocol): the verb is its
/// argument, everything else goes through pipes.
pub(crate) struct Helper {
    pub(crate) program: String,
    host: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperEntry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Helper {
    pub(crate) fn new(name: &str, host: &str) -> Result<Helper, RemoteError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            let shown = qyvol_types::escape(name).to_string();
            return Err(failed(
                "read",
                host,
                format!("{shown} is not the name of a credential helper"),
            ));
        }
        Ok(Helper {
            program: format!("docker-credential-{name}"),
            host: host.to_string(),
        })
    }

    fn run(&self, verb: &str, input: &[u8]) -> Result<(bool, Vec<u8>), RemoteError> {
        let failed = |e: std::io::Error| failed("read", &self.host, format!("{}: {e}", self.program));
        let mut command = Command::new(&self.program);
        // Signing is no business of a helper's.
        for name in ["QYVOL_KEY", "QYVOL_KEY_FILE", "QYVOL_KEY_PASSPHRASE"] {
            command.env_remove(name);
        }
        let mut child = command
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that doesn't read its input says by its exit what it wants.
            let _ = stdin.write_all(input);
        }
        let mut out = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(LIMIT).read_to_end(&mut out).map_err(failed)?;
        }
        Ok((child.wait().map_err(failed)?.success(), out))
    }

    pub(crate) fn get(&self, host: &str) -> Result<Option<Credential>, RemoteError> {
        let (fine, out) = self.run("get", host.as_bytes())?;
        if !fine {
            let text = String::from_utf8_lossy(&out);
            if text.contains("credentials not found") {
                return Ok(None);
            }
            let said: String = text.trim().chars().take(200).collect();
            let said = qyvol_types::escape(&said).to_string();
            return Err(failed("read", host, format!("{} failed: {said}", self.program)));
        }
        let entry: HelperEntry = serde_json::from_slice(&out)
            .map_err(|_| failed("read", host, format!("{} gave something else", self.program)))?;
        Ok(Some(password_of(&entry.username, &entry.secret)))
    }

    pub(crate) fn store(&self, host: &str, user: &str, secret: &str) -> Result<(), RemoteError> {
        let entry = HelperEntry {
            server_url: host.to_string(),
            username: user.to_string(),
            secret: secret.to_string(),
        };
        let input = serde_json::to_vec(&entry).map_err(|e| failed("write", host, e))?;
        self.change("store", host, &input)
    }

    pub(crate) fn erase(&self, host: &str) -> Result<(), RemoteError> {
        self.change("erase", host, host.as_bytes())
    }

    fn change(&self, verb: &str, host: &str, input: &[u8]) -> Result<(), RemoteError> {
        let (fine, _) = self.run(verb, input)?;
        if fine {
            Ok(())
        } else {
            Err(failed("write", host, format!("{} {verb} failed", self.program)))
        }
    }
}
