//! The credentials for a server.
//!
//! Secrets are wiped when they are dropped, except for the HTTP client's copy of a
//! request field, and never appear in `Debug` output. They are sent only to the origin of
//! the configured URL.

use std::fmt;

use base64::Engine;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::protocol::Protocol;

/// A text that is wiped after use and never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The credentials of a tree.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// No credentials.
    #[default]
    None,
    /// A user with a password (RFC 7617); HTTP and WebDAV.
    Basic {
        /// The user, without a colon.
        user: String,
        /// The password.
        password: Secret,
    },
    /// A bearer token (RFC 6750); HTTP and WebDAV.
    Bearer(Secret),
    /// An access key of S3.
    S3 {
        /// The key's name.
        access_key: String,
        /// The key itself, which is never sent.
        secret_key: Secret,
        /// The session token of a temporary key.
        session_token: Option<Secret>,
    },
}

impl Credentials {
    /// Checks that the protocol takes this kind of credentials, and that they can be sent.
    pub(crate) fn check(&self, protocol: &Protocol) -> Result<(), Error> {
        let is_s3 = matches!(protocol, Protocol::S3 { .. });
        let bad = |why: &str| Err(Error::Credentials(why.to_string()));
        match self {
            Credentials::None => Ok(()),
            Credentials::S3 { .. } if !is_s3 => {
                bad("expected a password or token, because the tree is not on S3, got an access key")
            }
            Credentials::Basic { .. } | Credentials::Bearer(_) if is_s3 => {
                bad("expected an access key with its secret key, as S3 needs, got a password or token")
            }
            Credentials::Basic { user, .. } if user.contains(':') || user.contains(char::is_control) => {
                bad("the user has a colon or a control character, which RFC 7617 can't send")
            }
            Credentials::Bearer(token) if !is_token(token.expose()) => {
                bad("the token is empty, or has characters that a token can't have (RFC 6750, 2.1)")
            }
            Credentials::S3 {
                access_key,
                session_token,
                ..
            } if !is_token(access_key) || session_token.as_ref().is_some_and(|t| !is_token(t.expose())) => {
                bad("the access key or session token is empty, or has characters that it can't have")
            }
            _ => Ok(()),
        }
    }

    /// The `Authorization` field, except for S3, where it depends on the request.
    pub(crate) fn authorization(&self) -> Option<Zeroizing<String>> {
        match self {
            Credentials::Basic { user, password } => {
                let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
                let encoded = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(pair.as_bytes()));
                Some(Zeroizing::new(format!("Basic {}", encoded.as_str())))
            }
            Credentials::Bearer(token) => Some(Zeroizing::new(format!("Bearer {}", token.expose()))),
            Credentials::None | Credentials::S3 { .. } => None,
        }
    }
}

/// Visible ASCII, as every token is.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(access_key: &str) -> Credentials {
        Credentials::S3 {
            access_key: access_key.to_string(),
            secret_key: Secret::new("hunter2"),
            session_token: Some(Secret::new("hunter2")),
        }
    }

    fn basic(user: &str) -> Credentials {
        Credentials::Basic {
            user: user.to_string(),
            password: Secret::new("hunter2"),
        }
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        for credentials in [s3("AKIA"), basic("ana"), Credentials::Bearer(Secret::new("hunter2"))] {
            let shown = format!("{credentials:?}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn credentials_of_another_protocol_are_refused() {
        let of_s3 = Protocol::S3 {
            region: "eu-west-1".to_string(),
        };
        s3("AKIA").check(&of_s3).unwrap();
        basic("ana").check(&Protocol::WebDav).unwrap();
        s3("AKIA").check(&Protocol::Http).unwrap_err();
        basic("ana").check(&of_s3).unwrap_err();
        s3("AK IA").check(&of_s3).unwrap_err();
        s3("").check(&of_s3).unwrap_err();
    }

    #[test]
    fn credentials_that_could_not_be_sent_are_refused() {
        for bad in [
            basic("ana:x"),
            basic("ana\r\nx"),
            Credentials::Bearer(Secret::new("a\r\nb")),
            Credentials::Bearer(Secret::new("")),
        ] {
            bad.check(&Protocol::Http).unwrap_err();
        }
        // RFC 7617, section 2.
        let example = Credentials::Basic {
            user: "Aladdin".to_string(),
            password: Secret::new("open sesame"),
        };
        assert_eq!(
            example.authorization().unwrap().as_str(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }
}
