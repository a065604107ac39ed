//! Chains of certificates (RFC 5280), on webpki.

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};
use x509_cert::der::Decode as _;

use crate::tlv;

/// What a certificate is for: the value of an extended key usage's object identifier.
pub(crate) const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
pub(crate) const TIME_STAMPING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 8] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
];

/// A chain of certificates: the one that signs first, the anchor last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) valid: Period,
}

/// From a second to a second, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) start: u64,
    pub(crate) end: Option<u64>,
}

impl Period {
    pub(crate) fn contains(&self, time: u64) -> bool {
        self.start <= time && self.end.is_none_or(|end| time <= end)
    }
}

/// Whether a certificate can be an anchor.
pub(crate) fn is_anchor(der: &[u8]) -> bool {
    anchor_from_trusted_cert(&CertificateDer::from(der)).is_ok()
}

/// Checks that `leaf` is for `purpose` and leads to the authority's anchor at `time`, through
/// the authority's certificates alone. Returns the `SubjectPublicKeyInfo` of its issuer.
///
/// webpki takes any purpose of a certificate that names none: the leaf must name it, while an
/// authority's own certificates may leave it out.
pub(crate) fn verify(leaf: &[u8], authority: &Authority, time: u64, purpose: &'static [u8]) -> Result<Vec<u8>, String> {
    let (anchor, between) = authority.chain.split_last().ok_or("it has no certificate")?;
    in_validity(anchor, time)?;
    if !has_purpose(leaf, purpose) {
        return Err("the certificate is for another purpose".to_string());
    }
    let anchor = CertificateDer::from(anchor.as_slice());
    let anchors = [anchor_from_trusted_cert(&anchor).map_err(|e| e.to_string())?];
    let between: Vec<CertificateDer<'_>> = between.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|e| e.to_string())?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let usage = KeyUsage::required_if_present(purpose);
    let path = leaf
        .verify_for_usage(&ALGORITHMS, &anchors, &between, at, usage, None, None)
        .map_err(|e| e.to_string())?;
    Ok(match path.intermediate_certificates().next() {
        Some(issuer) => issuer.subject_public_key_info().as_ref().to_vec(),
        None => {
            let content = path.anchor().subject_public_key_info.as_ref();
            tlv::wrap(der::Tag::Sequence, content).ok_or("its key can't be read")?
        }
    })
}

/// webpki does not look at an anchor's own dates.
fn in_validity(certificate: &[u8], time: u64) -> Result<(), String> {
    let certificate = x509_cert::Certificate::from_der(certificate).map_err(|_| "its anchor can't be read")?;
    let validity = certificate.tbs_certificate().validity();
    let at = Duration::from_secs(time);
    match validity.not_before.to_unix_duration() <= at && at <= validity.not_after.to_unix_duration() {
        true => Ok(()),
        false => Err("its anchor is not valid then".to_string()),
    }
}

fn has_purpose(certificate: &[u8], purpose: &[u8]) -> bool {
    use x509_cert::ext::pkix::ExtendedKeyUsage;
    let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else {
        return false;
    };
    let named = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>();
    matches!(named, Ok(Some((_, usage))) if usage.0.iter().any(|oid| oid.as_bytes() == purpose))
}
