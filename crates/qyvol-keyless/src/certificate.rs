//! Fulcio's certificate: the key it certifies, and whose it says that key is.

use der::asn1::{ObjectIdentifier, Utf8StringRef};
use der::{Decode as _, Encode as _, Tag};
use x509_cert::Certificate;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::tlv::{self, Tlv};
use crate::{PublicKey, Refusal};

const SAN: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
/// RFC 6962.
const SCT_LIST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.11129.2.4.2");
/// Fulcio's (its `docs/oid-info.md`).
const ISSUER_V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
const OTHER_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");
const REPOSITORY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.15");
const OWNER_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.17");

/// A name or number that a certificate states, in characters.
const MAX_TEXT: usize = 4096;

/// Who signed, as the certificate authority certified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who vouched for the name: the OIDC issuer's URL.
    pub issuer: String,
    /// The name: an address, or the URI of a workflow.
    pub subject: String,
    /// The number of the repository that the workflow ran for. Names can be given anew.
    pub repository_id: Option<String>,
    /// The number of its owner.
    pub owner_id: Option<String>,
}

/// A certificate that nobody has vouched for yet.
pub(crate) struct Leaf<'a> {
    pub(crate) der: &'a [u8],
    pub(crate) key: PublicKey,
    pub(crate) identity: Identity,
    /// When it was issued, in seconds since 1970.
    pub(crate) issued: u64,
    /// The list of certificate timestamps, as TLS encodes it.
    pub(crate) scts: Option<Vec<u8>>,
}

impl<'a> Leaf<'a> {
    pub(crate) fn parse(der: &'a [u8]) -> Result<Leaf<'a>, Refusal> {
        let bad = |_| Refusal::certificate("can't be read");
        let certificate = Certificate::from_der(der).map_err(bad)?;
        let body = certificate.tbs_certificate();
        let spki = body.subject_public_key_info().to_der().map_err(bad)?;
        let key = PublicKey::from_spki(&spki).map_err(|error| Refusal::certificate(format!("has {error}")))?;
        let extensions = body.extensions().map(Vec::as_slice).unwrap_or_default();
        let find = |oid| only(extensions, oid);
        let san = find(SAN)?.ok_or_else(|| Refusal::certificate("names nobody"))?;
        let issuer = match (find(ISSUER_V2)?, find(ISSUER_V1)?) {
            (Some(issuer), _) => utf8(issuer)?,
            (None, Some(issuer)) => text(issuer)?,
            (None, None) => return Err(Refusal::certificate("does not say who vouched for the name in it")),
        };
        let scts = find(SCT_LIST)?.map(|value| Tlv::parse(value).and_then(|list| list.value(Tag::OctetString)));
        let scts = match scts {
            Some(None) => return Err(Refusal::certificate("has certificate timestamps that can't be read")),
            Some(Some(list)) => Some(list.to_vec()),
            None => None,
        };
        Ok(Leaf {
            der,
            key,
            identity: Identity {
                issuer,
                subject: subject(san)?,
                repository_id: find(REPOSITORY_ID)?.map(utf8).transpose()?,
                owner_id: find(OWNER_ID)?.map(utf8).transpose()?,
            },
            issued: body.validity().not_before.to_unix_duration().as_secs(),
            scts,
        })
    }

    /// The body as the certificate log saw it: without the timestamps (RFC 6962, 3.2), every
    /// other byte as it stands.
    pub(crate) fn precertificate(&self) -> Option<Vec<u8>> {
        let certificate = Tlv::parse(self.der)?.inside(Tag::Sequence)?;
        let mut body = Vec::new();
        for part in certificate.first()?.inside(Tag::Sequence)? {
            if part.tag != tlv::context(3) {
                body.extend_from_slice(part.raw);
                continue;
            }
            let mut kept = Vec::new();
            for extension in Tlv::parse(part.value)?.inside(Tag::Sequence)? {
                let id = extension.inside(Tag::Sequence)?.first()?.oid()?;
                if id != SCT_LIST {
                    kept.extend_from_slice(extension.raw);
                }
            }
            body.extend(tlv::wrap(tlv::context(3), &tlv::wrap(Tag::Sequence, &kept)?)?);
        }
        tlv::wrap(Tag::Sequence, &body)
    }
}

/// The value of an extension. Twice, it would be one to one reader and another to the next.
fn only(extensions: &[Extension], oid: ObjectIdentifier) -> Result<Option<&[u8]>, Refusal> {
    let mut found = extensions.iter().filter(|extension| extension.extn_id == oid);
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Refusal::certificate("has an extension twice")),
        (found, None) => Ok(found.map(|extension| extension.extn_value.as_bytes())),
    }
}

/// The one name: an address, a URI, or Fulcio's own kind.
fn subject(san: &[u8]) -> Result<String, Refusal> {
    let names = SubjectAltName::from_der(san).map_err(|_| Refusal::certificate("has a name that can't be read"))?;
    let [name] = names.0.as_slice() else {
        return Err(Refusal::certificate(format!(
            "has {} names: expected one",
            names.0.len()
        )));
    };
    match name {
        GeneralName::Rfc822Name(name) => text(name.as_bytes()),
        GeneralName::UniformResourceIdentifier(name) => text(name.as_bytes()),
        GeneralName::OtherName(name) if name.type_id == OTHER_NAME => {
            let value = name.value.to_der();
            utf8(&value.map_err(|_| Refusal::certificate("has a name that can't be read"))?)
        }
        _ => Err(Refusal::certificate("has a name that is neither an address nor a URI")),
    }
}

fn utf8(value: &[u8]) -> Result<String, Refusal> {
    let value = Utf8StringRef::from_der(value).map_err(|_| Refusal::certificate("has a text that can't be read"))?;
    text(value.as_str().as_bytes())
}

fn text(value: &[u8]) -> Result<String, Refusal> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && text.len() <= MAX_TEXT => Ok(text.to_string()),
        _ => Err(Refusal::certificate("has a text that is empty, too long or not UTF-8")),
    }
}
