//! Tokens of the registry token protocol: JWTs signed with HMAC-SHA-256 under
//! a key that this process made and nobody else has.
//!
//! A restart invalidates all tokens; clients then request new ones. A token is
//! read only here, so its header is compared and never interpreted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use super::users::Action;
use crate::error::{ApiError, HubError};

/// How long a token is valid. A slow push of many layers renews it.
pub(crate) const LIFETIME: Duration = Duration::from_secs(300);
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// A token comes in a header, so its size and the work on it are bounded. Even a token with the
/// most scopes, of the longest names, is shorter.
const MAX_TOKEN_BYTES: usize = 32 << 10;

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) sub: Option<String>,
    /// A tag of the user's password hash.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(super) password: String,
    iat: u64,
    exp: u64,
    access: Vec<Grant>,
}

/// Actions on one thing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Grant {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    actions: Vec<String>,
}

impl Grant {
    pub(super) fn catalog() -> Grant {
        Grant {
            kind: "registry".to_string(),
            name: "catalog".to_string(),
            actions: vec!["*".to_string()],
        }
    }

    pub(super) fn repository(name: &str, actions: Vec<String>) -> Grant {
        Grant {
            kind: "repository".to_string(),
            name: name.to_string(),
            actions,
        }
    }
}

impl Claims {
    pub(super) fn grants(&self, name: &str, action: Action) -> bool {
        let word = match action {
            Action::Read => "pull",
            Action::Write => "push",
            Action::Delete => "delete",
        };
        self.access
            .iter()
            .any(|grant| grant.kind == "repository" && grant.name == name && grant.actions.iter().any(|a| a == word))
    }

    pub(super) fn catalog(&self) -> bool {
        self.access
            .iter()
            .any(|grant| grant.kind == "registry" && grant.name == "catalog")
    }
}

pub(super) struct Signer(hmac::Key);

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Signer {
    pub(super) fn new(random: &SystemRandom) -> Result<Signer, HubError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, random).map_err(|_| HubError::Random)?;
        Ok(Signer(key))
    }

    /// A keyed hash, to cache credentials without storing them.
    pub(super) fn tag(&self, bytes: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        // A prefix that no token starts with keeps the two uses apart.
        let mut context = hmac::Context::with_key(&self.0);
        context.update(b"credentials\0");
        context.update(bytes);
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    pub(super) fn sign(
        &self,
        user: Option<(String, String)>,
        access: Vec<Grant>,
        now: SystemTime,
    ) -> Result<String, ApiError> {
        let iat = seconds(now);
        let (sub, password) = user.unzip();
        let claims = Claims {
            sub,
            password: password.unwrap_or_default(),
            iat,
            exp: iat + LIFETIME.as_secs(),
            access,
        };
        let claims = serde_json::to_vec(&claims).map_err(ApiError::internal)?;
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = hmac::sign(&self.0, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The claims of a token, if it is valid and not expired.
    pub(super) fn read(&self, token: &str, now: SystemTime) -> Option<Claims> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, signed.as_bytes(), &signature).ok()?;
        let (header, claims) = signed.split_once('.')?;
        if URL_SAFE_NO_PAD.decode(header).ok()? != HEADER.as_bytes() {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        (seconds(now) < claims.exp).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forged_altered_and_expired_tokens_are_rejected() {
        let random = SystemRandom::new();
        let signer = Signer::new(&random).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let grants = vec![Grant::repository("a/b", vec!["pull".to_string()])];
        let token = signer
            .sign(Some(("ci".to_string(), "tag".to_string())), grants, now)
            .unwrap();
        let claims = signer.read(&token, now).unwrap();
        assert!(claims.grants("a/b", Action::Read));
        assert!(!claims.grants("a/b", Action::Write) && !claims.grants("a", Action::Read) && !claims.catalog());
        assert!(signer.read(&token, now + LIFETIME).is_none());
        assert!(Signer::new(&random).unwrap().read(&token, now).is_none());
        let mut parts: Vec<_> = token.split('.').map(str::to_string).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(r#"{"iat":0,"exp":99999999999,"access":[]}"#);
        assert!(signer.read(&parts.join("."), now).is_none());
        parts[0] = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        parts[2].clear();
        assert!(signer.read(&parts.join("."), now).is_none());
    }
}
