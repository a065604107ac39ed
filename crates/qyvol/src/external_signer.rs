//! A program that signs: for keys in a token, a device or a service, of which this process sees
//! only the public half.
//!
//! It is started without a shell, reads the bytes to sign on its standard input, and writes
//! the signature to its standard output. What it writes is checked against the public key by
//! [`qyvol_trust`] before anything is written.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use qyvol_trust::{KeyType, PublicKey, Sign, SignError, ssh};
use qyvol_types::{SECRET_VARIABLES, escape};

/// Maximum size of its output, in bytes.
const SIGNATURE_BYTES: usize = 512;
/// Its timeout: someone may have to touch a token.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often the end is polled.
const POLL: Duration = Duration::from_millis(5);

/// A program and the key that it signs with.
pub(crate) struct ExternalSigner {
    pub(crate) command: Vec<String>,
    pub(crate) key: PublicKey,
}

impl Sign for ExternalSigner {
    fn public(&self) -> &PublicKey {
        &self.key
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let written = self.run(message, TIMEOUT).map_err(|why| SignError::Signer {
            signer: escape(self.command.first().map_or("", String::as_str)).to_string(),
            why,
        })?;
        // ECDSA has two forms: DER, and r and s of 32 bytes each, as tokens write them.
        match (self.key.algorithm(), written.split_at_checked(32)) {
            (KeyType::EcdsaP256, Some((r, s))) if s.len() == 32 => Ok(ssh::ecdsa_der(r, s).unwrap_or(written)),
            _ => Ok(written),
        }
    }
}

impl ExternalSigner {
    fn run(&self, message: &[u8], timeout: Duration) -> Result<Vec<u8>, String> {
        let (program, arguments) = self.command.split_first().ok_or("its command is empty")?;
        let mut command = Command::new(program);
        for name in SECRET_VARIABLES {
            command.env_remove(name);
        }
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("it can't be started: {error}"))?;
        let finished = communicate(&mut child, message, timeout);
        if finished.is_err() {
            // It may have ended by now.
            let _ = child.kill();
        }
        let _ = child.wait();
        finished
    }
}

/// Writes the message, and reads the signature, until the program has ended well.
fn communicate(child: &mut Child, message: &[u8], timeout: Duration) -> Result<Vec<u8>, String> {
    let (Some(mut to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("it has no standard input and output".to_string());
    };
    let message = message.to_vec();
    // A program may end without reading: its status and output decide.
    thread::spawn(move || to.write_all(&message));
    let (send, received) = mpsc::channel();
    thread::spawn(move || {
        let mut written = Vec::new();
        let read = from.take(SIGNATURE_BYTES as u64 + 1).read_to_end(&mut written);
        let _ = send.send(read.map(|_| written));
    });
    let end = Instant::now() + timeout;
    let late = || format!("it gave no signature within {timeout:?}");
    let left = || end.saturating_duration_since(Instant::now());
    let written = received
        .recv_timeout(left())
        .map_err(|_| late())?
        .map_err(|error| format!("its output can't be read: {error}"))?;
    if written.len() > SIGNATURE_BYTES {
        return Err(format!("it wrote more than {SIGNATURE_BYTES} bytes"));
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(written),
            Ok(Some(status)) => return Err(format!("it ended with {status}")),
            Ok(None) if left().is_zero() => return Err(late()),
            Ok(None) => thread::sleep(POLL.min(left())),
            Err(error) => return Err(format!("can't wait for it to end: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use qyvol_trust::PrivateKey;

    use super::*;

    // [SIGN-066]
    #[test]
    fn program_that_does_not_end_is_killed_at_its_timeout() {
        let key = PrivateKey::generate(KeyType::Ed25519).unwrap();
        for script in ["exec sleep 600", "exec >&-; exec sleep 600"] {
            let signer = ExternalSigner {
                command: ["sh", "-c", script].map(str::to_string).to_vec(),
                key: key.public().clone(),
            };
            let failed = signer.run(b"message", Duration::from_millis(50)).unwrap_err();
            assert!(failed.contains("no signature within 50ms"), "{failed}");
        }
    }
}
