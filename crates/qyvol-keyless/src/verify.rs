//! The one verification: from a bundle and a trusted root to who signed, and when.

use crate::bundle::{Bundle, Content, Material, Version};
use crate::certificate::{Identity, Leaf};
use crate::chain::{self, CODE_SIGNING};
use crate::entry::{self, By, Claim};
use crate::root::TrustedRoot;
use crate::wire::show;
use crate::{PublicKey, Refusal, checkpoint, sct, timestamp};

/// A signature that the trusted root vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// Who signed.
    pub identity: Identity,
    /// When, in seconds since 1970: the earliest time that is vouched for.
    pub time: u64,
}

/// Verifies a bundle that carries a certificate. `file` is the content of a signature over a
/// file, and absent for an envelope, whose payload the caller reads from the same bundle.
///
/// The checks, in their order: the certificate's issue; the signature by the certificate's key; the log entries' being
/// about it; the times that the log and the time-stamping authorities vouch for; the entries'
/// inclusion; the certificate's chain and purpose at each of those times; a certificate log's
/// timestamp.
///
/// A time stamp or log entry by somebody whom the root doesn't name counts as absent: anyone
/// could have taken it out.
///
/// # Errors
/// Why it isn't accepted.
pub fn verify(bundle: &Bundle, root: &TrustedRoot, file: Option<&[u8]>) -> Result<Vouched, Refusal> {
    let Material::Certificate(der) = &bundle.material else {
        return Err(Refusal::NoCertificate);
    };
    let leaf = Leaf::parse(der)?;
    // Of anyone's certificates, those of strangers cost the least.
    certified(&leaf, root, leaf.issued)?;
    let times = signed(bundle, root, &leaf.key, By::Certificate(leaf.der), file)?;
    for time in &times {
        let issuer = certified(&leaf, root, *time)?;
        sct::verify(&leaf, &issuer, root)?;
    }
    Ok(Vouched {
        identity: leaf.identity,
        time: earliest(&times),
    })
}

/// Whom the bundle's certificate claims to be of, if it has one. Nobody has vouched for it:
/// this is to choose what to verify it against.
///
/// # Errors
/// What can't be read of it.
pub fn claimed(bundle: &Bundle) -> Result<Option<Identity>, Refusal> {
    match &bundle.material {
        Material::Certificate(der) => Leaf::parse(der).map(|leaf| Some(leaf.identity)),
        Material::Key => Ok(None),
    }
}

/// Verifies a bundle by a key that the caller knows, in the same way but for the certificate.
/// Returns when it was signed.
///
/// # Errors
/// Why it isn't accepted.
pub fn verify_with_key(
    bundle: &Bundle,
    root: &TrustedRoot,
    key: &PublicKey,
    file: Option<&[u8]>,
) -> Result<u64, Refusal> {
    match bundle.material {
        Material::Key => Ok(earliest(&signed(bundle, root, key, By::Key(key), file)?)),
        Material::Certificate(_) => Err(Refusal::NotByKey),
    }
}

fn earliest(times: &[u64]) -> u64 {
    times.iter().copied().min().unwrap_or_default()
}

/// Checks signature and log entries, and returns the times that are vouched for: at least one.
fn signed(
    bundle: &Bundle,
    root: &TrustedRoot,
    key: &PublicKey,
    by: By<'_>,
    file: Option<&[u8]>,
) -> Result<Vec<u64>, Refusal> {
    let (message, payload) = match (&bundle.content, file) {
        (Content::Envelope { payload_type, payload }, None) => (pae(payload_type, payload), Some(payload.as_slice())),
        (Content::File { claimed }, Some(file)) => {
            let digest = crate::wire::sha256(file);
            if claimed.as_ref().is_some_and(|claimed| *claimed != digest) {
                return Err(Refusal::Content("the bundle is about a file of another digest"));
            }
            (file.to_vec(), None)
        }
        (Content::Envelope { .. }, Some(_)) => return Err(Refusal::Content("it signs an envelope, not a file")),
        (Content::File { .. }, None) => return Err(Refusal::Content("it signs a file, not an envelope")),
    };
    if !key.verify(&message, &bundle.signature) {
        return Err(Refusal::Signature);
    }
    let claim = Claim {
        by,
        signature: &bundle.signature,
        signed: &message,
        payload,
    };
    let mut unvouched = String::new();
    let mut stamps = Vec::new();
    for answer in &bundle.timestamps {
        match timestamp::verify(answer, &bundle.signature, root) {
            Ok(time) => stamps.push(time),
            Err(why) => unvouched = format!(": {why}"),
        }
    }
    let promises = logged(bundle, root, &claim, &stamps)?;
    let times = [stamps, promises].concat();
    match times.is_empty() {
        true => Err(Refusal::NoTime(unvouched)),
        false => Ok(times),
    }
}

/// Checks the entries of the root's logs, and returns the times that the logs promised.
fn logged(bundle: &Bundle, root: &TrustedRoot, claim: &Claim<'_>, stamps: &[u64]) -> Result<Vec<u64>, Refusal> {
    let mut promises = Vec::new();
    let mut found = root.transparency_logs.is_empty();
    for entry in &bundle.entries {
        let Some(log) = root.transparency_logs.iter().find(|log| log.id == *entry.log) else {
            continue;
        };
        entry::bind(entry, claim)?;
        match entry::promised(entry, log)? {
            Some(time) => promises.push(time),
            // Nothing dates the entry itself; the signature's stamps date its key.
            None => stamps.iter().try_for_each(|time| entry::in_validity(log, *time))?,
        }
        match &entry.proof {
            // v0.1 rests on the promise; its proofs may come without a checkpoint.
            proof if bundle.version == Version::V01 && entry.promise.is_some() => {
                let proof = proof.as_ref().filter(|proof| proof.checkpoint.is_some());
                proof.map_or(Ok(()), |proof| checkpoint::verify(proof, &entry.body, log))?;
            }
            Some(proof) => checkpoint::verify(proof, &entry.body, log)?,
            None => return Err(Refusal::log("has no proof of inclusion")),
        }
        found = true;
    }
    match found {
        true => Ok(promises),
        false => Err(Refusal::log("is missing: none is by a log of the trusted root")),
    }
}

/// The `SubjectPublicKeyInfo` of the authority that vouches for the certificate at a time.
fn certified(leaf: &Leaf<'_>, root: &TrustedRoot, time: u64) -> Result<Vec<u8>, Refusal> {
    let mut why = "none is valid then".to_string();
    for authority in root.certificate_authorities.iter().filter(|ca| ca.valid.contains(time)) {
        match chain::verify(leaf.der, authority, time, CODE_SIGNING) {
            Ok(issuer) => return Ok(issuer),
            Err(error) => why = error,
        }
    }
    Err(Refusal::Chain { time: show(time), why })
}

/// DSSE's pre-authentication encoding (DSSE protocol v1).
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}
