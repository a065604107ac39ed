//! What a PEM file says of itself (RFC 7468, RFC 1421), before it is decoded.
//!
//! Deliberately absent: decoding.

/// Whether a file has an encrypted private key, by PKCS #8 or in OpenSSL's older form. Text
/// around a key is not looked at.
pub fn is_encrypted_key(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line == b"-----BEGIN ENCRYPTED PRIVATE KEY-----" || line.starts_with(b"Proc-Type: 4,ENCRYPTED")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_encrypted_by_its_label_and_not_by_the_text_around_it() {
        for (pem, is_encrypted) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\r\nAAAA\n", true),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n",
                true,
            ),
            (
                "friendlyName: key (was ENCRYPTED)\n-----BEGIN PRIVATE KEY-----\nAAAA\n",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_encrypted_key(pem.as_bytes()), is_encrypted, "{pem}");
        }
    }
}
