//! A signature as it travels: a sigstore bundle v0.3 around one DSSE envelope.

use base64::Engine as _;
use base64::alphabet::{STANDARD as PLAIN, URL_SAFE};
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use qyvol_types::{json, limits, media_type};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::sign::sign_checked;
use crate::statement::{pae, pae_of};
use crate::{KeyId, Sign, SignError, Statement, StatementError};

/// One signature over one statement.
#[derive(Clone, Debug)]
pub struct Envelope {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    hint: Option<KeyId>,
}

/// Why some bytes are not such a bundle.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Past the bound.
    #[error("the bundle is {got} bytes: at most {limit} are read")]
    TooLarge {
        /// Its size.
        got: usize,
        /// The bound.
        limit: u64,
    },
    /// Not strict JSON, or a field is missing or of another type.
    #[error("the bundle is {0}")]
    Json(#[from] json::JsonError),
    /// A value that isn't allowed.
    #[error("the bundle has {0}")]
    Value(String),
    /// The statement can't be signed.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// Nothing was signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: DsseEnvelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationMaterial {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_key: Option<KeyHint>,
}

#[derive(Serialize, Deserialize)]
struct KeyHint {
    #[serde(default)]
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
struct Signature {
    sig: String,
}

impl Envelope {
    /// Signs a statement.
    pub fn sign(signer: &dyn Sign, statement: &Statement) -> Result<Envelope, EnvelopeError> {
        let payload = statement.to_json()?;
        pae(&payload)?;
        Envelope::seal(signer, payload)
    }

    /// Signs a payload.
    pub(crate) fn seal(signer: &dyn Sign, payload: Vec<u8>) -> Result<Envelope, EnvelopeError> {
        let signature = sign_checked(signer, &pae_of(&payload))?;
        let hint = signer.public().id();
        let bundle = Bundle {
            media_type: media_type::SIGSTORE_BUNDLE.to_string(),
            verification_material: VerificationMaterial {
                public_key: Some(KeyHint { hint: hint.hint() }),
            },
            dsse_envelope: DsseEnvelope {
                payload: STANDARD.encode(&payload),
                payload_type: media_type::IN_TOTO.to_string(),
                signatures: vec![Signature {
                    sig: STANDARD.encode(&signature),
                }],
            },
        };
        let bytes = json::encode(&bundle)?;
        Ok(Envelope {
            bytes,
            payload,
            signature,
            hint: Some(hint),
        })
    }

    /// Reads a bundle. What it carries beside hint, payload and signature
    /// (keys, certificates, log entries) is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        Envelope::parse_within(bytes, limits::BUNDLE_BYTES)
    }

    /// The same of an attestation's bundle, which may be larger.
    pub fn parse_attestation(bytes: &[u8]) -> Result<Envelope, EnvelopeError> {
        Envelope::parse_within(bytes, limits::ATTESTATION_BYTES)
    }

    fn parse_within(bytes: &[u8], limit: u64) -> Result<Envelope, EnvelopeError> {
        if bytes.len() as u64 > limit {
            let got = bytes.len();
            return Err(EnvelopeError::TooLarge { got, limit });
        }
        let bundle: Bundle = json::decode(bytes)?;
        let value = |what: String| Err(EnvelopeError::Value(what));
        if bundle.media_type != media_type::SIGSTORE_BUNDLE {
            return value(format!("the media type {}", qyvol_types::escape(&bundle.media_type)));
        }
        let dsse = bundle.dsse_envelope;
        if dsse.payload_type != media_type::IN_TOTO {
            return value(format!("the payload type {}", qyvol_types::escape(&dsse.payload_type)));
        }
        let [signature] = dsse.signatures.as_slice() else {
            return value(format!("{} signatures: expected one", dsse.signatures.len()));
        };
        Ok(Envelope {
            bytes: bytes.to_vec(),
            payload: decode(&dsse.payload, "payload")?,
            signature: decode(&signature.sig, "signature")?,
            hint: bundle
                .verification_material
                .public_key
                .and_then(|k| KeyId::from_hint(&k.hint)),
        })
    }

    /// The bundle's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes that are signed: DSSE's pre-authentication encoding.
    pub fn pae(&self) -> Result<Vec<u8>, StatementError> {
        pae(&self.payload)
    }

    /// The signature's own bytes.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The payload, which nothing has vouched for yet.
    pub(crate) fn payload_unverified(&self) -> &[u8] {
        &self.payload
    }

    /// The key that the signature names.
    pub(crate) fn hint(&self) -> Option<KeyId> {
        self.hint
    }

    /// The hint in the form of a fingerprint, if it has the form of one.
    pub fn hinted_fingerprint(&self) -> Option<String> {
        self.hint.map(|id| id.fingerprint())
    }
}

/// Base64 in either alphabet, padded or not, but with no bits that don't count
/// (DSSE protocol v1 allows both alphabets).
fn decode(text: &str, what: &str) -> Result<Vec<u8>, EnvelopeError> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(false);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &PLAIN };
    GeneralPurpose::new(alphabet, config)
        .decode(text)
        .map_err(|_| EnvelopeError::Value(format!("a {what} that is not canonical base64")))
}
