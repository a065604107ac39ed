//! A key in an ssh agent (draft-ietf-sshm-ssh-agent): the agent signs, and no private key is
//! read here. Two requests of its protocol are used: the list of keys, and a signature.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qyvol_trust::{PublicKey, Sign, SignError, ssh};
use qyvol_types::escape;

/// Largest message, which is OpenSSH's own bound.
const MESSAGE_BYTES: usize = 256 << 10;
/// Maximum number of keys that are read.
const KEYS: u32 = 1024;
/// Someone may have to confirm a signature.
const TIMEOUT: Duration = Duration::from_secs(120);

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// A key of an agent's.
pub(crate) struct AgentKey {
    socket: PathBuf,
    blob: Vec<u8>,
    key: PublicKey,
}

impl AgentKey {
    /// Finds a key by its fingerprint: the one that `ssh-add -l` shows, or ours.
    pub(crate) fn find(socket: &Path, fingerprint: &str) -> Result<AgentKey, String> {
        let answer = ask(socket, REQUEST_IDENTITIES, &[], IDENTITIES_ANSWER)?;
        let mut rest = answer.as_slice();
        let number = take(&mut rest, 4)?.try_into().map(u32::from_be_bytes);
        for _ in 0..number.unwrap_or(0).min(KEYS) {
            let (blob, _comment) = (field(&mut rest)?, field(&mut rest)?);
            let key = ssh::public_key(blob);
            let is_ours = key.as_ref().is_ok_and(|key| key.fingerprint() == fingerprint);
            if !is_ours && ssh::fingerprint(blob) != fingerprint {
                continue;
            }
            return Ok(AgentKey {
                socket: socket.to_path_buf(),
                blob: blob.to_vec(),
                key: key.map_err(|why| format!("the key {fingerprint} can't be used: {why}"))?,
            });
        }
        Err(format!(
            "it has no key {}: `ssh-add -l` lists its keys",
            escape(fingerprint)
        ))
    }

    fn request(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let mut body = Vec::new();
        put(&mut body, &self.blob);
        put(&mut body, message);
        body.extend([0; 4]);
        if body.len() >= MESSAGE_BYTES {
            return Err(format!(
                "the bytes to sign are {}, and an agent takes messages of at most {MESSAGE_BYTES}",
                message.len()
            ));
        }
        let answer = ask(&self.socket, SIGN_REQUEST, &body, SIGN_RESPONSE)?;
        let mut rest = answer.as_slice();
        let blob = field(&mut rest)?;
        ssh::signature(self.key.algorithm(), blob).map_err(|why| format!("its signature can't be used: {why}"))
    }
}

impl Sign for AgentKey {
    fn public(&self) -> &PublicKey {
        &self.key
    }

    fn sign_message(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.request(message).map_err(|why| SignError::Signer {
            signer: "ssh-agent".to_string(),
            why,
        })
    }
}

/// Sends one request and reads its answer.
fn ask(socket: &Path, request: u8, body: &[u8], answer: u8) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("can't talk to it at {}: {error}", escape(&socket.to_string_lossy()));
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    for set in [UnixStream::set_read_timeout, UnixStream::set_write_timeout] {
        set(&stream, Some(TIMEOUT)).map_err(failed)?;
    }
    let mut message = Vec::new();
    put(&mut message, &[&[request], body].concat());
    stream.write_all(&message).map_err(failed)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).map_err(failed)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES {
        return Err(format!(
            "it answers with {length} bytes, and at most {MESSAGE_BYTES} are read"
        ));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).map_err(failed)?;
    match message.split_first() {
        Some((kind, body)) if *kind == answer => Ok(body.to_vec()),
        _ => Err("it refused: the key may be locked, or nobody confirmed".to_string()),
    }
}

fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.extend((field.len() as u32).to_be_bytes());
    out.extend(field);
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (taken, after) = rest.split_at_checked(length).ok_or("its answer is cut short")?;
    *rest = after;
    Ok(taken)
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length: [u8; 4] = take(rest, 4)?.try_into().map_err(|_| "its answer is cut short")?;
    take(rest, u32::from_be_bytes(length) as usize)
}
