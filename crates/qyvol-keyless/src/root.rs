//! A `trusted_root.json`: whose keys count, and when.

use qyvol_types::{escape, json};
use serde::Deserialize;

use crate::chain::{Authority, Period, is_anchor};
use crate::wire::{self, Bytes};
use crate::{ParseError, PublicKey, bounds};

const MEDIA_TYPES: [&str; 2] = [
    "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    "application/vnd.dev.sigstore.trustedroot.v0.2+json",
];

/// Whose keys count, and when. Whoever parses one has pinned its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedRoot {
    /// Fulcio's.
    pub(crate) certificate_authorities: Vec<Authority>,
    /// Rekor's.
    pub(crate) transparency_logs: Vec<Log>,
    /// RFC 6962's.
    pub(crate) certificate_logs: Vec<Log>,
    /// RFC 3161's.
    pub(crate) timestamp_authorities: Vec<Authority>,
}

/// A log's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) id: [u8; 32],
    pub(crate) key: PublicKey,
    pub(crate) valid: Period,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRoot {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<WireLog>,
    #[serde(default)]
    certificate_authorities: Vec<WireAuthority>,
    #[serde(default)]
    ctlogs: Vec<WireLog>,
    #[serde(default)]
    timestamp_authorities: Vec<WireAuthority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireLog {
    #[serde(default)]
    hash_algorithm: Option<String>,
    public_key: WireKey,
    log_id: LogId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireKey {
    raw_bytes: Bytes,
    #[serde(default)]
    key_details: String,
    valid_for: WirePeriod,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogId {
    pub(crate) key_id: Bytes,
}

#[derive(Deserialize)]
struct WirePeriod {
    start: String,
    #[serde(default)]
    end: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAuthority {
    cert_chain: CertificateChain,
    valid_for: WirePeriod,
}

#[derive(Deserialize)]
pub(crate) struct CertificateChain {
    #[serde(default)]
    pub(crate) certificates: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawCertificate {
    pub(crate) raw_bytes: Bytes,
}

impl TrustedRoot {
    /// Reads a trusted root: strict JSON, every key with the time it is valid from.
    ///
    /// # Errors
    /// What can't be read refuses the whole.
    pub fn parse(bytes: &[u8]) -> Result<TrustedRoot, ParseError> {
        wire::at_most("bytes of the trusted root", bytes.len(), bounds::ROOT_BYTES)?;
        let root: WireRoot = json::decode(bytes)?;
        if !MEDIA_TYPES.contains(&root.media_type.as_str()) {
            let why = format!("{} is not a trusted root's", escape(&root.media_type));
            return Err(ParseError::value("the media type", why));
        }
        let parsed = TrustedRoot {
            certificate_authorities: each("certificate authorities", root.certificate_authorities, authority)?,
            transparency_logs: each("transparency logs", root.tlogs, log)?,
            certificate_logs: each("certificate logs", root.ctlogs, log)?,
            timestamp_authorities: each("time-stamping authorities", root.timestamp_authorities, authority)?,
        };
        if parsed.certificate_authorities.is_empty() {
            return Err(ParseError::value("the certificate authorities", "there is none"));
        }
        Ok(parsed)
    }
}

fn each<W, T>(what: &'static str, list: Vec<W>, read: fn(W) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
    wire::at_most(what, list.len(), bounds::ROOT_ENTRIES)?;
    list.into_iter().map(read).collect()
}

fn period(wire: &WirePeriod) -> Result<Period, ParseError> {
    let start = wire::time(&wire.start, "the start of a key's validity")?;
    let end = wire.end.as_deref();
    let end = end
        .map(|end| wire::time(end, "the end of a key's validity"))
        .transpose()?;
    Ok(Period { start, end })
}

fn log(wire: WireLog) -> Result<Log, ParseError> {
    if let Some(other) = wire.hash_algorithm.filter(|name| name != "SHA2_256") {
        let why = format!("{}: expected SHA2_256", escape(&other));
        return Err(ParseError::value("the hash algorithm of a log", why));
    }
    let id = wire.log_id.key_id.0.try_into();
    let raw = &wire.public_key.raw_bytes.0;
    let key = match wire.public_key.key_details.as_str() {
        "PKCS1_RSA_PKCS1V5" => PublicKey::from_pkcs1(raw),
        _ => PublicKey::from_spki(raw)?,
    };
    Ok(Log {
        id: id.map_err(|_| ParseError::value("the id of a log", "it is not 32 bytes"))?,
        key,
        valid: period(&wire.public_key.valid_for)?,
    })
}

fn authority(wire: WireAuthority) -> Result<Authority, ParseError> {
    let certificates = wire.cert_chain.certificates;
    wire::at_most("certificates of a chain", certificates.len(), bounds::CHAIN)?;
    let chain: Vec<Vec<u8>> = certificates.into_iter().map(|c| c.raw_bytes.0).collect();
    for certificate in &chain {
        wire::at_most("bytes of a certificate", certificate.len(), bounds::CERTIFICATE_BYTES)?;
    }
    let anchor = chain
        .last()
        .ok_or_else(|| ParseError::value("a chain", "it is empty"))?;
    if !is_anchor(anchor) {
        return Err(ParseError::value("a chain", "its last certificate can't be read"));
    }
    Ok(Authority {
        chain,
        valid: period(&wire.valid_for)?,
    })
}
