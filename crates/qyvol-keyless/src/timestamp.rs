//! Time stamps (RFC 3161): an authority's signature over the hash of ours and a time, as CMS
//! (RFC 5652).

use der::Tag;
use der::asn1::ObjectIdentifier;
use qyvol_types::Timestamp;

use crate::chain::{self, Authority, TIME_STAMPING};
use crate::key::{EC, ED25519, Hash, RSA};
use crate::root::TrustedRoot;
use crate::tlv::{Tlv, context, elements};
use crate::{PublicKey, bounds};

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const SIGNED_DATA: ObjectIdentifier = oid("1.2.840.113549.1.7.2");
const TST_INFO: ObjectIdentifier = oid("1.2.840.113549.1.9.16.1.4");
const CONTENT_TYPE: ObjectIdentifier = oid("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = oid("1.2.840.113549.1.9.4");
const SIGNING_CERTIFICATE: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.12");
const SIGNING_CERTIFICATE_V2: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.47");
const SUBJECT_KEY_ID: ObjectIdentifier = oid("2.5.29.14");

/// A token's parts, as far as they are used.
struct Token<'a> {
    /// The `TSTInfo`.
    content: &'a [u8],
    certificates: Vec<&'a [u8]>,
    signer: Signer<'a>,
}

struct Signer<'a> {
    /// An `IssuerAndSerialNumber`, or a key's identifier.
    id: Tlv<'a>,
    hash: Hash,
    attributes: Tlv<'a>,
    algorithm: ObjectIdentifier,
    signature: &'a [u8],
}

/// Checks one answer over `signature` and returns its time, in seconds since 1970.
///
/// The certificate that signed may come with the answer: it counts if it leads to an
/// authority of the trusted root at that very time.
pub(crate) fn verify(answer: &[u8], signature: &[u8], root: &TrustedRoot) -> Result<u64, String> {
    let token = parse(answer).ok_or("a time stamp can't be read")?;
    let time = stamped(token.content, signature)?;
    let attributes = attributes(&token).ok_or("a time stamp does not sign its content")?;
    let mut nearest = "a time stamp is by an authority that the trusted root doesn't name".to_string();
    for authority in &root.timestamp_authorities {
        match by(&token, &attributes, authority, time) {
            Ok(()) => return Ok(time),
            Err(Some(why)) => nearest = why,
            Err(None) => {}
        }
    }
    Err(nearest)
}

/// Checks the token against one authority. Without a reason, it is another's.
fn by(token: &Token<'_>, attributes: &[Attribute<'_>], authority: &Authority, time: u64) -> Result<(), Option<String>> {
    let own = authority.chain.iter().map(Vec::as_slice);
    // The first that is meant is the one whose chain is looked at.
    let mut candidates = own.chain(token.certificates.iter().copied());
    let is_meant = |certificate: &&[u8]| is_of(certificate, &token.signer.id) && is_named(attributes, certificate);
    let certificate = candidates.find(is_meant).ok_or(None)?;
    if !is_signed(token, certificate) {
        return Err(Some(
            "a time stamp is not its authority's over this signature".to_string(),
        ));
    }
    if let Err(why) = chain::verify(certificate, authority, time, TIME_STAMPING) {
        return Err(Some(format!(
            "a time stamp's authority is not one of the trusted root: {why}"
        )));
    }
    match authority.valid.contains(time) {
        true => Ok(()),
        false => Err(Some("a time stamp's authority was not valid then".to_string())),
    }
}

fn parse(answer: &[u8]) -> Option<Token<'_>> {
    let answer = Tlv::parse(answer)?.inside(Tag::Sequence)?;
    let [status, content_info] = answer.as_slice() else {
        return None;
    };
    // Granted, or granted with changes.
    let status = status.inside(Tag::Sequence)?.first()?.value(Tag::Integer)?;
    if !matches!(status, [0 | 1]) {
        return None;
    }
    let content_info = content_info.inside(Tag::Sequence)?;
    let [kind, data] = content_info.as_slice() else {
        return None;
    };
    let data = Tlv::parse(data.value(context(0))?).filter(|_| kind.oid() == Some(SIGNED_DATA))?;
    let data = data.inside(Tag::Sequence)?;
    let [_version, _algorithms, content, optional @ .., signers] = data.as_slice() else {
        return None;
    };
    let content = content.inside(Tag::Sequence)?;
    let [kind, content] = content.as_slice() else {
        return None;
    };
    let content = Tlv::parse(content.value(context(0))?)?.value(Tag::OctetString)?;
    if kind.oid() != Some(TST_INFO) {
        return None;
    }
    let certificates = optional.iter().find(|part| part.tag == context(0));
    let certificates = match certificates {
        Some(set) => elements(set.value)?,
        None => Vec::new(),
    };
    let signers = signers.inside(Tag::Set)?;
    let [signer] = signers.as_slice() else { return None };
    Some(Token {
        content,
        certificates: certificates
            .into_iter()
            .filter(|certificate| {
                certificate.tag == Tag::Sequence && certificate.raw.len() <= bounds::CERTIFICATE_BYTES
            })
            .take(bounds::CHAIN)
            .map(|certificate| certificate.raw)
            .collect(),
        signer: read_signer(signer)?,
    })
}

fn read_signer<'a>(signer: &Tlv<'a>) -> Option<Signer<'a>> {
    let parts = signer.inside(Tag::Sequence)?;
    let [_version, id, digest, attributes, algorithm, signature, ..] = parts.as_slice() else {
        return None;
    };
    Some(Signer {
        id: *id,
        hash: hash(algorithm_of(digest)?)?,
        attributes: Some(*attributes).filter(|attributes| attributes.tag == context(0))?,
        algorithm: algorithm_of(algorithm)?,
        signature: signature.value(Tag::OctetString)?,
    })
}

/// The identifier of an `AlgorithmIdentifier`.
fn algorithm_of(identifier: &Tlv<'_>) -> Option<ObjectIdentifier> {
    identifier.inside(Tag::Sequence)?.first()?.oid()
}

fn hash(algorithm: ObjectIdentifier) -> Option<Hash> {
    const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
    const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
    const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");
    match algorithm {
        SHA256 => Some(Hash::Sha256),
        SHA384 => Some(Hash::Sha384),
        SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}

/// The digest of a signature's algorithm, which may leave it to the one that stands beside it.
fn signature_hash(algorithm: ObjectIdentifier, beside: Hash) -> Option<Hash> {
    const ECDSA_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
    const ECDSA_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
    const RSA_SHA256: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
    const RSA_SHA384: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
    const RSA_SHA512: ObjectIdentifier = oid("1.2.840.113549.1.1.13");
    match algorithm {
        ECDSA_SHA256 | RSA_SHA256 => Some(Hash::Sha256),
        ECDSA_SHA384 | RSA_SHA384 => Some(Hash::Sha384),
        RSA_SHA512 => Some(Hash::Sha512),
        EC | RSA | ED25519 => Some(beside),
        _ => None,
    }
}

/// The time of a `TSTInfo` over the signature.
fn stamped(info: &[u8], signature: &[u8]) -> Result<u64, String> {
    let read = || {
        let info = Tlv::parse(info)?.inside(Tag::Sequence)?;
        let [version, _policy, imprint, _serial, time, ..] = info.as_slice() else {
            return None;
        };
        let imprint = imprint.inside(Tag::Sequence)?;
        let [algorithm, digest] = imprint.as_slice() else {
            return None;
        };
        let is_over = digest.value(Tag::OctetString)? == hash(algorithm_of(algorithm)?)?.of(signature);
        let time = generalized(time.value(Tag::GeneralizedTime)?)?;
        (version.value(Tag::Integer)? == [1]).then_some((is_over, time))
    };
    match read() {
        Some((true, time)) => Ok(time),
        Some((false, _)) => Err("a time stamp is over another signature".to_string()),
        None => Err("a time stamp's content can't be read".to_string()),
    }
}

/// `YYYYMMDDhhmmss[.f…]Z`; a fraction is cut off.
fn generalized(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    let (whole, fraction) = text.split_at_checked(14)?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let is_fraction = fraction.is_empty() || fraction.strip_prefix('.').is_some_and(|f| !f.is_empty() && digits(f));
    if !digits(whole) || !is_fraction {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    );
    text.parse().ok().map(Timestamp::unix)
}

type Attribute<'a> = (ObjectIdentifier, Tlv<'a>);

/// The signed attributes, if they name this content.
fn attributes<'a>(token: &Token<'a>) -> Option<Vec<Attribute<'a>>> {
    let mut out: Vec<Attribute<'a>> = Vec::new();
    for attribute in elements(token.signer.attributes.value)? {
        let parts = attribute.inside(Tag::Sequence)?;
        let [kind, values] = parts.as_slice() else { return None };
        let values = values.inside(Tag::Set)?;
        let [value] = values.as_slice() else { return None };
        let kind = kind.oid()?;
        if out.iter().any(|(other, _)| *other == kind) {
            return None;
        }
        out.push((kind, *value));
    }
    let find = |oid| out.iter().find(|(kind, _)| *kind == oid).map(|(_, value)| *value);
    let named = find(CONTENT_TYPE)?.oid()? == TST_INFO;
    let digest = find(MESSAGE_DIGEST)?.value(Tag::OctetString)?;
    (named && digest == token.signer.hash.of(token.content)).then_some(out)
}

/// Whether the certificate is the one that the signer says is its own, where it does
/// (RFC 5035): several certificates may hold one key.
fn is_named(attributes: &[Attribute<'_>], certificate: &[u8]) -> bool {
    let first = |value: &Tlv<'_>| {
        let certificates = value.inside(Tag::Sequence)?.first()?.inside(Tag::Sequence)?;
        certificates
            .first()?
            .inside(Tag::Sequence)
            .map(|id| match id.as_slice() {
                [algorithm, digest, ..] if algorithm.tag == Tag::Sequence => {
                    let hash = algorithm_of(algorithm).and_then(hash);
                    hash.is_some_and(|hash| digest.value(Tag::OctetString) == Some(&hash.of(certificate)))
                }
                [digest, ..] => {
                    let own = digest.value(Tag::OctetString).unwrap_or_default();
                    let sha1 = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
                    own == Hash::Sha256.of(certificate) || own == sha1.as_ref()
                }
                [] => false,
            })
    };
    let kinds = [SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2];
    let mut named = attributes.iter().filter(|(kind, _)| kinds.contains(kind));
    named.all(|(_, value)| first(value) == Some(true))
}

/// Whether a certificate is the one that a signer's identifier means.
fn is_of(certificate: &[u8], id: &Tlv<'_>) -> bool {
    let read = || {
        let body = *Tlv::parse(certificate)?.inside(Tag::Sequence)?.first()?;
        let body = body.inside(Tag::Sequence)?;
        let [_version, serial, _algorithm, issuer, .., last] = body.as_slice() else {
            return None;
        };
        if let Some(id) = id.inside(Tag::Sequence) {
            let [named_issuer, named_serial] = id.as_slice() else {
                return None;
            };
            return Some(named_issuer.raw == issuer.raw && named_serial.raw == serial.raw);
        }
        for extension in Tlv::parse(last.value(context(3))?)?.inside(Tag::Sequence)? {
            let parts = extension.inside(Tag::Sequence)?;
            if parts.first()?.oid() == Some(SUBJECT_KEY_ID) {
                let value = Tlv::parse(parts.last()?.value(Tag::OctetString)?)?;
                return Some(id.raw.first() == Some(&0x80) && value.value(Tag::OctetString)? == id.value);
            }
        }
        None
    };
    read().unwrap_or_default()
}

fn is_signed(token: &Token<'_>, certificate: &[u8]) -> bool {
    let signer = &token.signer;
    let read = || {
        let der = rustls_pki_types::CertificateDer::from(certificate);
        let certificate = webpki::EndEntityCert::try_from(&der).ok()?;
        let key = PublicKey::from_spki(certificate.subject_public_key_info().as_ref()).ok()?;
        // What is signed is the set itself, not the field that holds it (RFC 5652, 5.4).
        let mut signed = signer.attributes.raw.to_vec();
        *signed.first_mut()? = 0x31;
        let hash = signature_hash(signer.algorithm, signer.hash)?;
        Some(key.verify_with(hash, &signed, signer.signature))
    };
    read().unwrap_or_default()
}
