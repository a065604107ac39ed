//! A transparency log's entry: that it is about this signature, this certificate and this
//! content, and that the log promised it.
//!
//! An entry that is good and about something else proves nothing (GHSA-whqx-f9j3-ch6m). The
//! body is the log's, and is hashed as it stands; what is compared is read from those bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qyvol_types::{escape, json};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::bundle::LogEntry;
use crate::key::Hash;
use crate::root::Log;
use crate::wire::{Bytes, base64, hex, show};
use crate::{PublicKey, Refusal};

/// What an entry must be about.
pub(crate) struct Claim<'a> {
    pub(crate) by: By<'a>,
    pub(crate) signature: &'a [u8],
    /// The bytes that the signature is over.
    pub(crate) signed: &'a [u8],
    /// The envelope's payload, if it is over one.
    pub(crate) payload: Option<&'a [u8]>,
}

/// What a signature is verified with.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    Certificate(&'a [u8]),
    Key(&'a PublicKey),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
}

#[derive(Deserialize)]
struct Body<T> {
    spec: T,
}

#[derive(Deserialize)]
struct HashedRekord {
    data: Data,
    signature: RekordSignature,
}

#[derive(Deserialize)]
struct Data {
    hash: HexHash,
}

#[derive(Deserialize)]
struct HexHash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RekordSignature {
    content: Bytes,
    public_key: PemContent,
}

#[derive(Deserialize)]
struct PemContent {
    content: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload_hash: HexHash,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: Bytes,
    verifier: Bytes,
}

#[derive(Deserialize)]
struct Intoto {
    content: IntotoContent,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoContent {
    envelope: IntotoEnvelope,
    payload_hash: HexHash,
}

#[derive(Deserialize)]
struct IntotoEnvelope {
    signatures: Vec<IntotoSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IntotoSignature {
    sig: Bytes,
    public_key: Bytes,
}

#[derive(Deserialize)]
struct HashedRekordV2 {
    #[serde(rename = "hashedRekordV002")]
    inner: HashedRekordInner,
}

#[derive(Deserialize)]
struct HashedRekordInner {
    data: RawHash,
    signature: SignatureV2,
}

#[derive(Deserialize)]
struct DsseV2 {
    #[serde(rename = "dsseV002")]
    inner: DsseInner,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseInner {
    payload_hash: RawHash,
    signatures: Vec<SignatureV2>,
}

#[derive(Deserialize)]
struct RawHash {
    algorithm: String,
    digest: Bytes,
}

#[derive(Deserialize)]
struct SignatureV2 {
    content: Bytes,
    verifier: VerifierV2,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifierV2 {
    #[serde(default)]
    x509_certificate: Option<Raw>,
    #[serde(default)]
    public_key: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: Bytes,
}

impl HexHash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        let hash = match self.algorithm.as_str() {
            "sha256" => Hash::Sha256,
            "sha384" => Hash::Sha384,
            "sha512" => Hash::Sha512,
            _ => return false,
        };
        self.value == hex(&hash.of(bytes))
    }
}

impl RawHash {
    fn is_of(&self, bytes: &[u8]) -> bool {
        let hash = match self.algorithm.as_str() {
            "SHA2_256" => Hash::Sha256,
            "SHA2_384" => Hash::Sha384,
            "SHA2_512" => Hash::Sha512,
            _ => return false,
        };
        self.digest.0 == hash.of(bytes)
    }
}

impl By<'_> {
    /// Whether PEM holds just this, however its lines are broken: some logs keep it on one.
    fn is_pem(self, bytes: &[u8]) -> bool {
        let (label, der) = match self {
            By::Certificate(certificate) => ("CERTIFICATE", certificate),
            By::Key(key) => ("PUBLIC KEY", key.spki()),
        };
        let text = std::str::from_utf8(bytes).unwrap_or_default().trim();
        let inside = text.strip_prefix(&format!("-----BEGIN {label}-----"));
        let inside = inside.and_then(|text| text.strip_suffix(&format!("-----END {label}-----")));
        let digits: Option<String> = inside.map(|text| text.split_ascii_whitespace().collect());
        digits
            .and_then(|digits| base64(&digits))
            .is_some_and(|found| found == der)
    }

    fn is_v2(self, verifier: &VerifierV2) -> bool {
        match (self, &verifier.x509_certificate, &verifier.public_key) {
            (By::Certificate(own), Some(raw), None) => raw.raw_bytes.0 == own,
            (By::Key(own), None, Some(raw)) => raw.raw_bytes.0 == own.spki(),
            _ => false,
        }
    }
}

fn spec<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    let body: Result<Body<T>, _> = json::decode(body);
    body.map(|body| body.spec)
        .map_err(|error| Refusal::log(format!("has a body that is {error}")))
}

/// Whether a list has one element, which is as it must be.
fn one<T>(list: &[T], holds: impl Fn(&T) -> bool) -> bool {
    matches!(list, [only] if holds(only))
}

/// Checks that an entry is about the claim, by its kind and version.
pub(crate) fn bind(entry: &LogEntry, claim: &Claim<'_>) -> Result<(), Refusal> {
    let body = entry.body.as_slice();
    let head: Head = json::decode(body).map_err(|error| Refusal::log(format!("has a body that is {error}")))?;
    if (&head.kind, &head.api_version) != (&entry.kind, &entry.version) {
        return Err(Refusal::log("has a body of another kind than the bundle says"));
    }
    let (content, signature) = match (head.kind.as_str(), head.api_version.as_str(), claim.payload) {
        ("hashedrekord", "0.0.1", _) => {
            let spec: HashedRekord = spec(body)?;
            let by = claim.by.is_pem(&spec.signature.public_key.content.0);
            (
                spec.data.hash.is_of(claim.signed),
                by && spec.signature.content.0 == claim.signature,
            )
        }
        // Over an envelope, its hash is that of the bytes that were signed.
        ("hashedrekord", "0.0.2", _) => {
            let HashedRekordV2 { inner } = spec(body)?;
            (inner.data.is_of(claim.signed), is_signature_v2(&inner.signature, claim))
        }
        ("dsse", "0.0.1", Some(payload)) => {
            let spec: Dsse = spec(body)?;
            let signature = one(&spec.signatures, |s| {
                s.signature.0 == claim.signature && claim.by.is_pem(&s.verifier.0)
            });
            (spec.payload_hash.is_of(payload), signature)
        }
        ("dsse", "0.0.2", Some(payload)) => {
            let DsseV2 { inner } = spec(body)?;
            let signature = one(&inner.signatures, |s| is_signature_v2(s, claim));
            (inner.payload_hash.is_of(payload), signature)
        }
        ("intoto", "0.0.2", Some(payload)) => {
            let Intoto { content } = spec(body)?;
            // The signature stands in base64 twice.
            let twice = STANDARD.encode(claim.signature);
            let signature = one(&content.envelope.signatures, |s| {
                s.sig.0 == twice.as_bytes() && claim.by.is_pem(&s.public_key.0)
            });
            (content.payload_hash.is_of(payload), signature)
        }
        (kind, version, _) => {
            let kind = format!("{kind} {version}");
            return Err(Refusal::log(format!(
                "is of a kind that says nothing of this content: {}",
                escape(&kind)
            )));
        }
    };
    match (content, signature) {
        (false, _) => Err(Refusal::log("is about other content")),
        (true, false) => Err(Refusal::log("is about another signature or certificate")),
        (true, true) => Ok(()),
    }
}

fn is_signature_v2(signature: &SignatureV2, claim: &Claim<'_>) -> bool {
    signature.content.0 == claim.signature && claim.by.is_v2(&signature.verifier)
}

/// Checks the log's promise (the signed entry timestamp), and returns the time it vouches
/// for. Nothing is signed of an entry's time without one.
pub(crate) fn promised(entry: &LogEntry, log: &Log) -> Result<Option<u64>, Refusal> {
    let Some(promise) = &entry.promise else { return Ok(None) };
    // RFC 8785: names in order, no white space.
    let signed = format!(
        r#"{{"body":"{}","integratedTime":{},"logID":"{}","logIndex":{}}}"#,
        STANDARD.encode(&entry.body),
        entry.time,
        hex(&entry.log),
        entry.index
    );
    if !log.key.verify(signed.as_bytes(), promise) {
        return Err(Refusal::log("has a promise that its log has not signed"));
    }
    in_validity(log, entry.time)?;
    Ok(Some(entry.time))
}

/// Refuses a log's key outside the time that the trusted root gives it.
pub(crate) fn in_validity(log: &Log, time: u64) -> Result<(), Refusal> {
    match log.valid.contains(time) {
        true => Ok(()),
        false => Err(Refusal::log(format!("is by a key that is not valid at {}", show(time)))),
    }
}
