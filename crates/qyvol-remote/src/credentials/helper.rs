//! Credential helpers: programs named `docker-credential-…` that keep secrets
//! where a file can't (docker-credential-helpers' protocol). The verb is the
//! argument, everything else goes through pipes.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use qyvol_types::SECRET_VARIABLES;
use serde::{Deserialize, Serialize};

use super::credentials_error;
use super::{Credential, Secret};
use crate::RemoteError;

/// Largest answer of a helper, in bytes.
const ANSWER_BYTES: u64 = 1 << 20;
/// How often a helper that has closed its output is polled.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// Docker's convention for identity tokens in helpers.
pub(super) fn password_of(user: &str, password: &str) -> Credential {
    if user == "<token>" {
        return Credential::Identity(Secret::new(password));
    }
    Credential::Password {
        user: user.to_string(),
        password: Secret::new(password),
    }
}

/// A credential helper.
#[derive(Debug)]
pub(super) struct Helper {
    pub(super) program: String,
    /// For messages.
    host: String,
    deadline: Duration,
}

/// What a helper returns for a registry.
#[derive(Debug)]
pub(super) enum Lookup {
    Found(Credential),
    NotFound,
    /// There is no such program.
    NotInstalled,
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
    pub(super) fn new(name: &str, host: &str, deadline: Duration) -> Result<Helper, RemoteError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            let shown = qyvol_types::escape(name).to_string();
            let why = format!("{shown} is not the name of a credential helper");
            return Err(credentials_error("read", host, why));
        }
        Ok(Helper {
            program: format!("docker-credential-{name}"),
            host: host.to_string(),
            deadline,
        })
    }

    /// Asks for the credentials of a server.
    pub(super) fn get(&self, server: &str) -> Result<Lookup, RemoteError> {
        let (status, out) = match self.run("get", server.as_bytes()) {
            Ok(done) => done,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lookup::NotInstalled),
            Err(error) => return Err(self.failed("read", error)),
        };
        if !status.success() {
            let text = String::from_utf8_lossy(&out);
            if text.contains("credentials not found") {
                return Ok(Lookup::NotFound);
            }
            let said: String = text.trim().chars().take(200).collect();
            return Err(self.failed("read", format!("it failed: {}", qyvol_types::escape(&said))));
        }
        let entry: HelperEntry =
            serde_json::from_slice(&out).map_err(|_| self.failed("read", "its answer is not the expected JSON"))?;
        Ok(Lookup::Found(password_of(&entry.username, &entry.secret)))
    }

    pub(super) fn store(&self, server: &str, user: &str, secret: &str) -> Result<(), RemoteError> {
        let entry = HelperEntry {
            server_url: server.to_string(),
            username: user.to_string(),
            secret: secret.to_string(),
        };
        let input = serde_json::to_vec(&entry).map_err(|e| self.failed("write", e))?;
        self.change("store", &input)
    }

    pub(super) fn erase(&self, server: &str) -> Result<(), RemoteError> {
        self.change("erase", server.as_bytes())
    }

    fn change(&self, verb: &str, input: &[u8]) -> Result<(), RemoteError> {
        match self.run(verb, input) {
            Ok((status, _)) if status.success() => Ok(()),
            Ok(_) => Err(self.failed("write", format!("`{verb}` failed"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.not_installed()),
            Err(error) => Err(self.failed("write", error)),
        }
    }

    /// The error if the helper is indispensable.
    pub(super) fn not_installed(&self) -> RemoteError {
        self.failed("write", "it is not installed")
    }

    fn failed(&self, action: &'static str, why: impl std::fmt::Display) -> RemoteError {
        credentials_error(action, &self.host, format!("{}: {why}", self.program))
    }

    /// Runs the helper, which is killed at its deadline.
    fn run(&self, verb: &str, input: &[u8]) -> io::Result<(ExitStatus, Vec<u8>)> {
        let begin = Instant::now();
        let mut command = Command::new(&self.program);
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
        let mut child = command
            .arg(verb)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let input = input.to_vec();
        let (send, receive) = mpsc::sync_channel(1);
        // Pipes have no timeouts, so a thread reads and writes them.
        thread::spawn(move || {
            if let Some(mut stdin) = stdin {
                // If a helper reads no input, its exit status says why.
                let _ = stdin.write_all(&input);
            }
            let mut out = Vec::new();
            let read = stdout.map_or(Ok(0), |stdout| stdout.take(ANSWER_BYTES).read_to_end(&mut out));
            let _ = send.send(read.map(|_| out));
        });
        let done = match receive.recv_timeout(self.deadline) {
            Ok(out) => wait_until(&mut child, begin + self.deadline)?.map(|status| out.map(|out| (status, out))),
            Err(_) => None,
        };
        done.unwrap_or_else(|| {
            let _ = child.kill();
            let _ = child.wait();
            let why = format!("it did not answer within {} s", self.deadline.as_secs_f32());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }
}

/// Waits for a process to end; none if it still runs at the deadline.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        thread::sleep(EXIT_POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper(script: &str, deadline: Duration) -> (Helper, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker-credential-test");
        // Written by another process: if this one opened it, a child of a parallel test would
        // inherit it, and it could not be executed.
        let mut writer = Command::new("sh");
        writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" >\"$0\" && chmod 700 \"$0\""]);
        assert!(writer.arg(&path).arg(script).status().unwrap().success());
        let helper = Helper {
            program: path.to_string_lossy().into_owned(),
            host: "r.example".to_string(),
            deadline,
        };
        (helper, directory)
    }

    #[test]
    fn credentials_come_from_a_helper() {
        let script =
            r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"ana\",\"Secret\":\"pw-$server\"}""#;
        let (helper, _directory) = helper(script, Duration::from_secs(60));
        match helper.get("r.example").unwrap() {
            Lookup::Found(credential) => assert_eq!(credential, password_of("ana", "pw-r.example")),
            other => panic!("{other:?}"),
        }
    }

    // [REG-024]
    #[test]
    fn unresponsive_helper_is_killed_at_its_timeout() {
        for script in ["exec sleep 600", "exec >&-; exec sleep 600"] {
            let (helper, _directory) = helper(script, Duration::from_millis(50));
            let begin = Instant::now();
            let error = helper.get("r.example").unwrap_err();
            assert!(matches!(error, RemoteError::Credentials { .. }), "{error:?}");
            assert!(begin.elapsed() < Duration::from_secs(300));
        }
    }

    #[test]
    fn helper_lookup_distinguishes_not_found_from_not_installed() {
        let (mut helper, _directory) = helper(
            "echo 'credentials not found in native keychain'; exit 1",
            Duration::from_secs(60),
        );
        assert!(matches!(helper.get("r").unwrap(), Lookup::NotFound));
        helper.program.push_str("-absent");
        assert!(matches!(helper.get("r").unwrap(), Lookup::NotInstalled));
        assert!(helper.store("r", "ana", "pw").is_err());
    }
}
