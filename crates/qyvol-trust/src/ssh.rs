//! Keys and signatures in the form that an ssh agent has them (RFC 4251, RFC 4253, RFC 5656,
//! RFC 8709), made into those that the rest reads. The bytes that an agent signs for such a key
//! are the message's own, so its signatures are standard ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::key::sha256;
use crate::{KeyError, KeyType, PublicKey};

/// Longest field of a key or signature.
const FIELD_BYTES: usize = 1024;

/// Why a key or signature of ssh's can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SshError {
    /// The text is no line of a public key.
    #[error("it is not one line with a key type, a key in base64 and a comment")]
    Line,
    /// The bytes are not of the form.
    #[error("its bytes don't have the form of RFC 4253")]
    Form,
    /// A security key signs a hash and a counter of its own beside the message.
    #[error("it is a security key (`{0}`), which signs other bytes than it is given")]
    SecurityKey(String),
    /// Another algorithm.
    #[error("it is of type {0}: Ed25519 and ECDSA on P-256 are supported")]
    Algorithm(String),
    /// A key that is refused everywhere.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// Takes a field: its length in four bytes, and so many bytes.
fn field<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SshError> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(SshError::Form)?;
    let length = u32::from_be_bytes(*length) as usize;
    if length > FIELD_BYTES {
        return Err(SshError::Form);
    }
    let (field, after) = after.split_at_checked(length).ok_or(SshError::Form)?;
    *rest = after;
    Ok(field)
}

fn algorithm(name: &[u8]) -> Result<KeyType, SshError> {
    match name {
        b"ssh-ed25519" => Ok(KeyType::Ed25519),
        b"ecdsa-sha2-nistp256" => Ok(KeyType::EcdsaP256),
        other => {
            let name: String = String::from_utf8_lossy(other).chars().take(64).collect();
            let shown = qyvol_types::escape(&name).to_string();
            Err(match name.starts_with("sk-") {
                true => SshError::SecurityKey(shown),
                false => SshError::Algorithm(shown),
            })
        }
    }
}

/// A public key from its blob.
pub fn public_key(blob: &[u8]) -> Result<PublicKey, SshError> {
    let mut rest = blob;
    let kind = algorithm(field(&mut rest)?)?;
    if kind == KeyType::EcdsaP256 && field(&mut rest)? != b"nistp256" {
        return Err(SshError::Form);
    }
    let point = field(&mut rest)?;
    if !rest.is_empty() {
        return Err(SshError::Form);
    }
    Ok(PublicKey::from_point(kind, point)?)
}

/// Whether a text begins as a line of a public key does, of whatever type.
fn is_public_line(text: &str) -> bool {
    let first = text.trim_start().split([' ', '\t']).next().unwrap_or_default();
    ["ssh-", "ecdsa-", "sk-"].iter().any(|start| first.starts_with(start))
}

/// A public key from the one line of a `.pub` file: type, base64, and a comment, which is not
/// looked at. Options before the type are not taken.
fn public_line(text: &str) -> Result<PublicKey, SshError> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(SshError::Line);
    };
    // Some readers take a lone carriage return for the end of a line.
    if line.contains('\r') {
        return Err(SshError::Line);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
        return Err(SshError::Line);
    };
    let blob = STANDARD.decode(base64).map_err(|_| SshError::Line)?;
    // The type stands in the blob too, and that one counts.
    let key = public_key(&blob)?;
    match (kind, key.algorithm()) {
        ("ssh-ed25519", KeyType::Ed25519) | ("ecdsa-sha2-nistp256", KeyType::EcdsaP256) => Ok(key),
        _ => Err(SshError::Line),
    }
}

impl PublicKey {
    /// Reads a PEM of the label `PUBLIC KEY`, or a line as OpenSSH writes it to a `.pub` file.
    pub fn from_text(text: &str) -> Result<PublicKey, KeyError> {
        match is_public_line(text) {
            true => public_line(text).map_err(|why| KeyError::Ssh(why.to_string())),
            false => PublicKey::from_pem(text),
        }
    }
}

/// The fingerprint that `ssh-add -l` shows.
pub fn fingerprint(blob: &[u8]) -> String {
    crate::KeyId(sha256(blob)).fingerprint()
}

/// A signature of an agent's: as it is for Ed25519, in DER for ECDSA.
pub fn signature(kind: KeyType, blob: &[u8]) -> Result<Vec<u8>, SshError> {
    let mut rest = blob;
    let found = algorithm(field(&mut rest)?)?;
    let value = field(&mut rest)?;
    if found != kind || !rest.is_empty() {
        return Err(SshError::Form);
    }
    match kind {
        KeyType::Ed25519 => Ok(value.to_vec()),
        KeyType::EcdsaP256 => {
            let mut numbers = value;
            let (r, s) = (field(&mut numbers)?, field(&mut numbers)?);
            match numbers {
                [] => ecdsa_der(r, s).ok_or(SshError::Form),
                _ => Err(SshError::Form),
            }
        }
    }
}

/// An ECDSA signature on P-256 in DER (RFC 3279), from the two numbers in big-endian bytes;
/// none where one is larger than the curve's are.
pub fn ecdsa_der(r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for number in [r, s] {
        let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = digits.first().is_none_or(|first| *first >= 0x80);
        let length = u8::try_from(digits.len() + usize::from(sign))
            .ok()
            .filter(|n| *n <= 33)?;
        body.extend([2, length]);
        body.extend(sign.then_some(0));
        body.extend(digits);
    }
    let length = u8::try_from(body.len()).ok()?;
    Some([&[0x30, length], body.as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateKey;

    fn put(fields: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for field in fields {
            out.extend((field.len() as u32).to_be_bytes());
            out.extend(*field);
        }
        out
    }

    // [SIGN-067]
    #[test]
    fn keys_and_signatures_of_ssh_are_the_same_as_ours() {
        // The one of RFC 8032's first test.
        let point = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
            0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        let key = public_key(&put(&[b"ssh-ed25519", &point])).unwrap();
        assert_eq!(key.algorithm(), KeyType::Ed25519);
        let ours = PrivateKey::generate(KeyType::EcdsaP256).unwrap();
        let signed = ours.sign(b"message").unwrap();
        // DER's numbers have a sign byte where ssh's do: both are two's complement.
        let r = usize::from(signed[3]);
        let (r, s) = (&signed[4..4 + r], &signed[4 + r + 2..]);
        let blob = put(&[b"ecdsa-sha2-nistp256", &put(&[r, s])]);
        assert_eq!(signature(KeyType::EcdsaP256, &blob).unwrap(), signed);
        assert!(signature(KeyType::Ed25519, &blob).is_err());
    }

    // [SIGN-068]
    #[test]
    fn line_of_a_public_key_is_the_same_key_as_its_pem() {
        // Written by ssh-keygen and openssl from the keys of RFC 8032's first test, and of SEC 1's
        // generator point.
        let point = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
            0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        let blob = put(&[b"ssh-ed25519", &point]);
        let key = public_key(&blob).unwrap();
        let base64 = STANDARD.encode(&blob);
        for text in [
            format!("ssh-ed25519 {base64} ana@laptop with words\n"),
            format!("ssh-ed25519 {base64}"),
            format!("\nssh-ed25519\t{base64}\r\n\n"),
        ] {
            assert_eq!(PublicKey::from_text(&text).unwrap(), key, "{text}");
        }
        assert_eq!(PublicKey::from_text(&key.to_pem()).unwrap(), key);
        for (text, why) in [
            (format!("ssh-ed25519 {base64}\nssh-ed25519 {base64}\n"), "one line"),
            (format!("ssh-ed25519 {base64} a\rssh-ed25519 {base64}\n"), "one line"),
            (format!("ecdsa-sha2-nistp256 {base64}"), "one line"),
            (format!("ssh-ed25519-cert-v01@openssh.com {base64}"), "one line"),
            ("ssh-ed25519".to_string(), "one line"),
            (format!("ssh-ed25519 {}", &base64[..20]), "RFC 4253"),
            ("ssh-ed25519 !!!! x".to_string(), "one line"),
            (
                format!("ssh-rsa {}", STANDARD.encode(put(&[b"ssh-rsa", &[1], &[1]]))),
                "ssh-rsa",
            ),
            (
                format!(
                    "sk-ssh-ed25519@openssh.com {}",
                    STANDARD.encode(put(&[b"sk-ssh-ed25519@openssh.com", &point, b"ssh:"]))
                ),
                "security key",
            ),
            (
                format!("ssh-ed25519 {}", STANDARD.encode(put(&[b"ssh-ed25519", &[0; 32]]))),
                "small order",
            ),
            // A line of authorized_keys, which may hold options.
            (format!("restrict ssh-ed25519 {base64}"), "PEM"),
        ] {
            let refused = PublicKey::from_text(&text).unwrap_err().to_string();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    // [SIGN-067]
    #[test]
    fn numbers_become_the_shortest_der() {
        for (r, s, der) in [
            (&[0, 0, 1][..], &[0x80][..], &[0x30, 7, 2, 1, 1, 2, 2, 0, 0x80][..]),
            (&[], &[0], &[0x30, 6, 2, 1, 0, 2, 1, 0]),
        ] {
            assert_eq!(ecdsa_der(r, s).unwrap(), der);
        }
        assert_eq!(ecdsa_der(&[1; 34], &[1]), None);
        assert_eq!(ecdsa_der(&[0xff; 33], &[1]), None);
    }

    // [SIGN-067]
    #[test]
    fn security_keys_and_malformed_keys_are_refused() {
        let refused = |blob: &[u8]| public_key(blob).unwrap_err().to_string();
        assert!(refused(&put(&[b"sk-ssh-ed25519@openssh.com", &[1; 32], b"ssh:"])).contains("security key"));
        assert!(refused(&put(&[b"ssh-rsa", &[1], &[1]])).contains("ssh-rsa"));
        for bad in [
            put(&[b"ssh-ed25519"]),
            put(&[b"ssh-ed25519", &[1; 31]]),
            put(&[b"ssh-ed25519", &[0; 32]]),
            put(&[b"ssh-ed25519", &[1; 32], b""]),
            put(&[b"ecdsa-sha2-nistp256", b"nistp384", &[4; 65]]),
            put(&[b"ecdsa-sha2-nistp256", b"nistp256", &[4; 65]]),
            vec![0xff; 8],
            Vec::new(),
        ] {
            public_key(&bad).unwrap_err();
        }
    }
}
