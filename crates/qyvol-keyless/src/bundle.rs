//! A sigstore bundle, read.

use qyvol_types::{escape, json};
use serde::Deserialize;

use crate::root::{CertificateChain, LogId, RawCertificate};
use crate::wire::{self, Bytes, Int};
use crate::{ParseError, bounds};

/// A signature with what proves whose it is. Nothing in it is trusted.
#[derive(Clone, Debug)]
pub struct Bundle {
    pub(crate) version: Version,
    pub(crate) material: Material,
    pub(crate) content: Content,
    pub(crate) signature: Vec<u8>,
    pub(crate) entries: Vec<LogEntry>,
    /// Answers of time-stamping authorities (RFC 3161, `TimeStampResp`).
    pub(crate) timestamps: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Has the log's promise; a proof of inclusion only came later.
    V01,
    V02,
    V03,
}

#[derive(Clone, Debug)]
pub(crate) enum Material {
    /// DER.
    Certificate(Vec<u8>),
    /// The key is the verifier's to know.
    Key,
}

/// What a signature is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// DSSE's envelope: the signature is over both (its pre-authentication encoding).
    Envelope {
        /// The payload's type.
        payload_type: String,
        /// The payload.
        payload: Vec<u8>,
    },
    /// A file that is elsewhere.
    File {
        /// Its SHA-256, as the bundle claims.
        claimed: Option<Vec<u8>>,
    },
}

/// An entry of a transparency log.
#[derive(Clone, Debug)]
pub(crate) struct LogEntry {
    pub(crate) log: Vec<u8>,
    pub(crate) index: u64,
    pub(crate) kind: String,
    pub(crate) version: String,
    /// When it was logged, if the promise proves it.
    pub(crate) time: u64,
    pub(crate) promise: Option<Vec<u8>>,
    pub(crate) proof: Option<InclusionProof>,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct InclusionProof {
    pub(crate) index: u64,
    pub(crate) size: u64,
    pub(crate) root: Vec<u8>,
    pub(crate) hashes: Vec<Vec<u8>>,
    pub(crate) checkpoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBundle {
    media_type: String,
    verification_material: WireMaterial,
    #[serde(default)]
    message_signature: Option<MessageSignature>,
    #[serde(default)]
    dsse_envelope: Option<DsseEnvelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMaterial {
    #[serde(default)]
    certificate: Option<RawCertificate>,
    #[serde(default)]
    x509_certificate_chain: Option<CertificateChain>,
    #[serde(default)]
    public_key: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    tlog_entries: Vec<WireEntry>,
    #[serde(default)]
    timestamp_verification_data: Option<Timestamps>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    #[serde(default)]
    log_index: Int,
    log_id: LogId,
    kind_version: KindVersion,
    #[serde(default)]
    integrated_time: Int,
    #[serde(default)]
    inclusion_promise: Option<Promise>,
    #[serde(default)]
    inclusion_proof: Option<WireProof>,
    canonicalized_body: Bytes,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    #[serde(default)]
    signed_entry_timestamp: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireProof {
    #[serde(default)]
    log_index: Int,
    root_hash: Bytes,
    tree_size: Int,
    #[serde(default)]
    hashes: Vec<Bytes>,
    #[serde(default)]
    checkpoint: Option<Checkpoint>,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

#[derive(Deserialize)]
struct Timestamps {
    #[serde(default, rename = "rfc3161Timestamps")]
    rfc3161: Vec<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamp {
    signed_timestamp: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    #[serde(default)]
    message_digest: Option<MessageDigest>,
    signature: Bytes,
}

#[derive(Deserialize)]
struct MessageDigest {
    #[serde(default)]
    algorithm: String,
    #[serde(default)]
    digest: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DsseEnvelope {
    payload: Bytes,
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    sig: Bytes,
}

fn version(media_type: &str) -> Result<Version, ParseError> {
    match media_type {
        "application/vnd.dev.sigstore.bundle+json;version=0.1" => Ok(Version::V01),
        "application/vnd.dev.sigstore.bundle+json;version=0.2" => Ok(Version::V02),
        "application/vnd.dev.sigstore.bundle+json;version=0.3" | "application/vnd.dev.sigstore.bundle.v0.3+json" => {
            Ok(Version::V03)
        }
        other => {
            let why = format!("{} is not a bundle's, v0.1 to v0.3", escape(other));
            Err(ParseError::value("the media type", why))
        }
    }
}

impl Bundle {
    /// Reads a bundle: strict JSON, one signature, within [`bounds`].
    ///
    /// # Errors
    /// What can't be read refuses the whole.
    pub fn parse(bytes: &[u8]) -> Result<Bundle, ParseError> {
        wire::at_most("bytes of the bundle", bytes.len(), bounds::BUNDLE_BYTES)?;
        let wire: WireBundle = json::decode(bytes)?;
        let version = version(&wire.media_type)?;
        let material = wire.verification_material;
        wire::at_most("log entries", material.tlog_entries.len(), bounds::LOG_ENTRIES)?;
        let timestamps = material.timestamp_verification_data.map(|data| data.rfc3161);
        let timestamps = timestamps.unwrap_or_default();
        wire::at_most("time stamps", timestamps.len(), bounds::TIMESTAMPS)?;
        let (content, signature) = content(wire.message_signature, wire.dsse_envelope)?;
        wire::at_most("bytes of a signature", signature.len(), bounds::SIGNATURE_BYTES)?;
        Ok(Bundle {
            version,
            content,
            signature,
            entries: material.tlog_entries.into_iter().map(entry).collect::<Result<_, _>>()?,
            timestamps: timestamps.into_iter().map(|t| t.signed_timestamp.0).collect(),
            material: read_material(
                version,
                material.certificate,
                material.x509_certificate_chain,
                material.public_key.is_some(),
            )?,
        })
    }

    /// What the signature is over.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Whether it carries a certificate. Otherwise it is by a key.
    pub fn has_certificate(&self) -> bool {
        matches!(self.material, Material::Certificate(_))
    }
}

fn content(file: Option<MessageSignature>, dsse: Option<DsseEnvelope>) -> Result<(Content, Vec<u8>), ParseError> {
    match (file, dsse) {
        (Some(file), None) => {
            let claimed = file.message_digest.map(|digest| match digest.algorithm.as_str() {
                "SHA2_256" => Ok(digest.digest.0),
                other => Err(ParseError::value(
                    "the algorithm of the file's digest",
                    escape(other).to_string(),
                )),
            });
            let claimed = claimed.transpose()?;
            Ok((Content::File { claimed }, file.signature.0))
        }
        (None, Some(dsse)) => {
            let [signature] = dsse.signatures.as_slice() else {
                let why = format!("{}: expected one", dsse.signatures.len());
                return Err(ParseError::value("the signatures of the envelope", why));
            };
            let content = Content::Envelope {
                payload_type: dsse.payload_type,
                payload: dsse.payload.0,
            };
            Ok((content, signature.sig.0.clone()))
        }
        _ => Err(ParseError::value(
            "the content",
            "expected either an envelope or a signature over a file",
        )),
    }
}

fn read_material(
    version: Version,
    certificate: Option<RawCertificate>,
    chain: Option<CertificateChain>,
    key: bool,
) -> Result<Material, ParseError> {
    let der = match (certificate, chain, key) {
        (Some(certificate), None, false) => certificate.raw_bytes.0,
        (None, Some(chain), false) if version != Version::V03 => {
            wire::at_most("certificates of a chain", chain.certificates.len(), bounds::CHAIN)?;
            // Those behind the first are not used: the trusted root has its own. But a root
            // certificate among them is forbidden.
            let mut certificates = chain.certificates.into_iter();
            let first = certificates.next();
            if certificates.any(|certificate| is_self_issued(&certificate.raw_bytes.0)) {
                return Err(ParseError::value("the chain", "a root certificate must not be in it"));
            }
            let first = first.ok_or_else(|| ParseError::value("the chain", "it is empty"))?;
            first.raw_bytes.0
        }
        (None, None, true) => return Ok(Material::Key),
        _ => {
            let why = "expected one of certificate, publicKey and, before v0.3, x509CertificateChain";
            return Err(ParseError::value("the verification material", why));
        }
    };
    wire::at_most("bytes of a certificate", der.len(), bounds::CERTIFICATE_BYTES)?;
    Ok(Material::Certificate(der))
}

fn is_self_issued(certificate: &[u8]) -> bool {
    use x509_cert::der::Decode as _;
    x509_cert::Certificate::from_der(certificate).is_ok_and(|certificate| {
        let body = certificate.tbs_certificate();
        body.issuer() == body.subject()
    })
}

fn entry(wire: WireEntry) -> Result<LogEntry, ParseError> {
    let proof = wire.inclusion_proof.map(|proof| {
        wire::at_most("hashes of a proof", proof.hashes.len(), bounds::PROOF_HASHES)?;
        let checkpoint = proof.checkpoint.map(|checkpoint| checkpoint.envelope);
        let length = checkpoint.as_ref().map_or(0, String::len);
        wire::at_most("bytes of a checkpoint", length, bounds::CHECKPOINT_BYTES)?;
        Ok::<_, ParseError>(InclusionProof {
            index: proof.log_index.0,
            size: proof.tree_size.0,
            root: proof.root_hash.0,
            hashes: proof.hashes.into_iter().map(|hash| hash.0).collect(),
            checkpoint,
        })
    });
    let promise = wire.inclusion_promise.map(|promise| promise.signed_entry_timestamp.0);
    Ok(LogEntry {
        log: wire.log_id.key_id.0,
        index: wire.log_index.0,
        kind: wire.kind_version.kind,
        version: wire.kind_version.version,
        time: wire.integrated_time.0,
        promise: promise.filter(|promise| !promise.is_empty()),
        proof: proof.transpose()?,
        body: wire.canonicalized_body.0,
    })
}
