//! One element of DER at a time (X.690): what CMS and precertificates are read with.
//!
//! The library checks tags and lengths; this only keeps an element's own bytes beside its
//! value, because signatures cover those.

use der::{AnyRef, Decode, Encode, Header, Reader, SliceReader, Tag, TagNumber};

use crate::bounds;

/// An element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: Tag,
    pub(crate) value: &'a [u8],
    /// Tag, length and value.
    pub(crate) raw: &'a [u8],
}

/// A context-specific tag that is constructed.
pub(crate) const fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

impl<'a> Tlv<'a> {
    /// The one element that the bytes are.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Tlv<'a>> {
        match elements(bytes)?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// The elements inside, if it has this tag.
    pub(crate) fn inside(&self, tag: Tag) -> Option<Vec<Tlv<'a>>> {
        if self.tag == tag { elements(self.value) } else { None }
    }

    /// The value, if it has this tag.
    pub(crate) fn value(&self, tag: Tag) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.value)
    }

    /// An object identifier.
    pub(crate) fn oid(&self) -> Option<der::asn1::ObjectIdentifier> {
        der::asn1::ObjectIdentifier::from_der(self.raw).ok()
    }
}

/// The elements that the bytes are a row of.
pub(crate) fn elements(bytes: &[u8]) -> Option<Vec<Tlv<'_>>> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if out.len() == bounds::ELEMENTS {
            return None;
        }
        let mut reader = SliceReader::new(rest).ok()?;
        let any = AnyRef::decode(&mut reader).ok()?;
        let used = usize::try_from(reader.position()).ok()?;
        let (raw, behind) = rest.split_at_checked(used)?;
        out.push(Tlv {
            tag: any.header().tag(),
            value: any.value(),
            raw,
        });
        rest = behind;
    }
    Some(out)
}

/// An element made of others.
pub(crate) fn wrap(tag: Tag, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Header::new(tag, value.len().try_into().ok()?).to_der().ok()?;
    out.extend_from_slice(value);
    Some(out)
}
