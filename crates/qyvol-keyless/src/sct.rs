//! Signed certificate timestamps (RFC 6962, 3.2): a certificate log's promise to publish the
//! certificate, made over its precertificate.

use crate::certificate::Leaf;
use crate::key::Hash;
use crate::root::{Log, TrustedRoot};
use crate::wire::{sha256, show};
use crate::{Refusal, bounds};

/// Takes bytes off the front, as TLS encodes values.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        let bytes = self.take(bytes)?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// Bytes behind their length in 16 bits.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.number(2)?;
        self.take(length as usize)
    }
}

struct Sct<'a> {
    log: &'a [u8],
    /// Milliseconds since 1970.
    time: u64,
    extensions: &'a [u8],
    hash: u64,
    signature: &'a [u8],
}

fn parse(bytes: &[u8]) -> Option<Sct<'_>> {
    let mut c = Cursor(bytes);
    if c.number(1)? != 0 {
        return None;
    }
    let log = c.take(32)?;
    let time = c.number(8)?;
    let extensions = c.vector()?;
    let hash = c.number(1)?;
    let _algorithm = c.number(1)?;
    let signature = c.vector()?;
    c.0.is_empty().then_some(Sct {
        log,
        time,
        extensions,
        hash,
        signature,
    })
}

fn list(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut outer = Cursor(bytes);
    let mut inner = Cursor(outer.vector()?);
    let mut out = Vec::new();
    while !inner.0.is_empty() {
        if out.len() == bounds::SCTS {
            return None;
        }
        out.push(inner.vector()?);
    }
    outer.0.is_empty().then_some(out)
}

/// The bytes that a log signs over a precertificate.
fn signed(sct: &Sct<'_>, issuer: &[u8], precertificate: &[u8]) -> Option<Vec<u8>> {
    // Version 1, a certificate timestamp.
    let mut out = vec![0, 0];
    out.extend_from_slice(&sct.time.to_be_bytes());
    // An entry of the type precert_entry.
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(&sha256(issuer));
    let length = u32::try_from(precertificate.len()).ok().filter(|n| *n < 1 << 24)?;
    out.extend_from_slice(length.to_be_bytes().get(1..)?);
    out.extend_from_slice(precertificate);
    out.extend_from_slice(&u16::try_from(sct.extensions.len()).ok()?.to_be_bytes());
    out.extend_from_slice(sct.extensions);
    Some(out)
}

/// Checks that one log of the root, with a key that was valid then, has signed the
/// certificate. `issuer` is the `SubjectPublicKeyInfo` of the certificate's issuer. A root
/// without certificate logs asks for none.
pub(crate) fn verify(leaf: &Leaf<'_>, issuer: &[u8], root: &TrustedRoot) -> Result<(), Refusal> {
    if root.certificate_logs.is_empty() {
        return Ok(());
    }
    let refused = |why: &str| Refusal::CertificateLog(why.to_string());
    let bytes = leaf.scts.as_deref();
    let bytes = bytes.ok_or_else(|| refused("it has no certificate timestamp"))?;
    let scts = list(bytes).ok_or_else(|| refused("its timestamps can't be read"))?;
    let precertificate = leaf.precertificate();
    let precertificate = precertificate.ok_or_else(|| refused("its body can't be rebuilt"))?;
    let mut nearest = refused("its timestamps are by other logs");
    for sct in scts.into_iter().filter_map(parse) {
        for log in root.certificate_logs.iter().filter(|log| log.id == sct.log) {
            match one(&sct, log, issuer, &precertificate) {
                Ok(()) => return Ok(()),
                Err(why) => nearest = refused(&why),
            }
        }
    }
    Err(nearest)
}

fn one(sct: &Sct<'_>, log: &Log, issuer: &[u8], precertificate: &[u8]) -> Result<(), String> {
    let seconds = sct.time / 1000;
    if !log.valid.contains(seconds) {
        return Err(format!("the log's key is not valid at {}", show(seconds)));
    }
    // TLS's number of SHA-256, the one hash that RFC 6962 allows.
    let message = signed(sct, issuer, precertificate).filter(|_| sct.hash == 4);
    match message {
        Some(message) if log.key.verify_with(Hash::Sha256, &message, sct.signature) => Ok(()),
        _ => Err("a timestamp is not its log's over this certificate".to_string()),
    }
}
