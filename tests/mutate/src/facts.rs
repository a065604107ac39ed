//! What was signed, and what an independent reader sees of what is judged.

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet::{STANDARD as PLAIN, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// What a payload says that a key signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The role, or nothing in cosign's form.
    pub role: Option<String>,
    /// Digest of the image.
    pub image: String,
    /// Whether it can count: it has not expired, and is no other kind of statement.
    pub counts: bool,
}

/// Facts by fingerprint and payload.
#[derive(Default)]
pub struct Facts(HashMap<(String, Vec<u8>), Fact>);

impl Facts {
    pub fn add(&mut self, fingerprint: String, payload: Vec<u8>, fact: Fact) {
        self.0.insert((fingerprint, payload), fact);
    }

    /// What a bundle is, if its key signed its payload.
    pub fn of(&self, seen: &Seen) -> Option<&Fact> {
        self.0.get(&(seen.fingerprint.clone(), seen.payload.clone()))
    }
}

/// A bundle as a lenient reader reads it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub fingerprint: String,
    pub payload: Vec<u8>,
    /// Whether its types and the number of its signatures are those of a signature.
    pub typed: bool,
}

/// Reads a bundle without any of the code under test.
pub fn see(bytes: &[u8]) -> Option<Seen> {
    let bundle: Value = serde_json::from_slice(bytes).ok()?;
    let envelope = &bundle["dsseEnvelope"];
    let hint = bundle["verificationMaterial"]["publicKey"]["hint"].as_str()?;
    Some(Seen {
        fingerprint: format!("SHA256:{}", hint.trim_end_matches('=')),
        payload: decode(envelope["payload"].as_str()?)?,
        typed: bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
            && envelope["payloadType"] == "application/vnd.in-toto+json"
            && envelope["signatures"].as_array().is_some_and(|list| list.len() == 1),
    })
}

/// Base64 in either alphabet, as lenient as can be.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    [&PLAIN, &URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
}
