//! The signatures and attestations of an image, as this hub finds them.
//!
//! A signature is checked against the key that came with it, by the routine that hosts use.
//! Anyone can make a key, so this says that the signature and that key belong together, and
//! nothing of whose key it is. Whether it counts is for each host's policy.

use std::io;

use qyvol_hub::{ListedManifest, Repository};
use qyvol_image::ImageSignature;
use qyvol_trust::{PublicKey, Revoked, SignatureReport, Subject, TrustPolicy, Verdict, verify};
use qyvol_types::{Descriptor, Digest, ImageManifest, Timestamp, limits, media_type};

use crate::facts::App;
use crate::shown::{Inert, Moment, moment, size};

/// Referrers of an image that are looked at.
const REFERRERS: usize = 64;
/// Signatures that are shown, and what else refers to an image.
const SIGNATURES: usize = 8;
const ATTACHED: usize = 10;
/// Bytes of HTML for a short text.
const SHORT: usize = 160;

/// What refers to an image.
#[derive(Default)]
pub(crate) struct Referrers {
    pub(crate) signatures: Vec<Signature>,
    pub(crate) attached: Vec<Attached>,
    /// Valid signatures, whether shown or not.
    pub(crate) valid: usize,
    /// Whether one of these is of a release, as hosts require by default.
    pub(crate) is_released: bool,
    /// Those that are not.
    pub(crate) others: usize,
    /// Signatures and attachments that are not shown.
    pub(crate) not_shown: usize,
    /// Referrers that were not looked at.
    pub(crate) not_read: usize,
}

/// One signature.
pub(crate) struct Signature {
    pub(crate) finding: Finding,
    pub(crate) fingerprint: Option<String>,
    pub(crate) algorithm: Option<String>,
    /// What it states; only if it was made with the key.
    pub(crate) role: Option<Inert>,
    pub(crate) signed: Option<Moment>,
    pub(crate) expires: Option<Moment>,
    /// Whom its certificate names, which nobody has checked.
    pub(crate) claim: Option<Inert>,
}

/// What was found about a signature, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Finding {
    Valid,
    Expired,
    NotYetValid,
    NotChecked,
    OtherName,
    OtherImage,
    Wrong,
    Malformed,
}

/// Something else that refers to an image. Nothing of it was checked.
pub(crate) struct Attached {
    pub(crate) kind: Kind,
    pub(crate) name: Inert,
    pub(crate) size: String,
}

/// What it is about, by its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Provenance,
    Sbom,
    Attestation,
    Encodings,
    Other,
}

impl Kind {
    fn of(name: &str) -> Option<Kind> {
        let starts = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
        if starts(&["https://slsa.dev/provenance/"]) {
            return Some(Kind::Provenance);
        }
        if starts(&[
            "https://spdx.dev/",
            "https://cyclonedx.org/bom",
            "application/spdx+",
            "application/vnd.cyclonedx+",
        ]) {
            return Some(Kind::Sbom);
        }
        (name == media_type::ENCODINGS).then_some(Kind::Encodings)
    }
}

/// Reads and checks what refers to an application.
pub(crate) fn referrers(repository: &Repository, digest: &Digest, app: &App, now: Timestamp) -> io::Result<Referrers> {
    let (number, listed) = repository.referrers(digest, REFERRERS);
    let mut out = Referrers {
        not_read: number.saturating_sub(REFERRERS),
        ..Referrers::default()
    };
    for one in &listed {
        match referrer(repository, one, app, now)? {
            Some(Referrer::Signature(signature)) => out.signatures.push(signature),
            Some(Referrer::Attached(attached)) => out.attached.push(attached),
            None => {}
        }
    }
    let is_valid = |signature: &&Signature| signature.finding == Finding::Valid;
    out.valid = out.signatures.iter().filter(is_valid).count();
    out.is_released = out.signatures.iter().any(|one| is_valid(&one) && is_release(one));
    out.others = out.signatures.len() - out.valid;
    // A release before what others say of it.
    let order = |one: &Signature| (one.finding, !is_release(one), one.fingerprint.clone());
    out.signatures.sort_by_cached_key(order);
    out.not_shown = out.signatures.len().saturating_sub(SIGNATURES) + out.attached.len().saturating_sub(ATTACHED);
    out.signatures.truncate(SIGNATURES);
    out.attached.truncate(ATTACHED);
    Ok(out)
}

fn is_release(signature: &Signature) -> bool {
    signature.role.as_ref().is_some_and(|role| role.is("release"))
}

enum Referrer {
    Signature(Signature),
    Attached(Attached),
}

fn referrer(
    repository: &Repository,
    listed: &ListedManifest,
    app: &App,
    now: Timestamp,
) -> io::Result<Option<Referrer>> {
    let name = listed.artifact_type.as_deref().unwrap_or(&listed.media_type);
    let attached = |kind: Option<Kind>, name: &str, bytes: u64| {
        Some(Referrer::Attached(Attached {
            kind: kind.unwrap_or(Kind::Other),
            name: Inert::line(name, SHORT),
            size: size(bytes),
        }))
    };
    if listed.artifact_type.as_deref() != Some(media_type::SIGSTORE_BUNDLE) {
        return Ok(attached(Kind::of(name), name, listed.size));
    }
    let Some(raw) = repository.read(&listed.digest, limits::MANIFEST_BYTES)? else {
        return Ok(None);
    };
    let manifest = ImageManifest::parse(raw).ok().filter(ImageSignature::has_form);
    let Some((manifest, layer)) = manifest
        .as_ref()
        .and_then(|manifest| Some((manifest, manifest.layers().first()?)))
    else {
        return Ok(Some(Referrer::Signature(unreadable())));
    };
    if ImageSignature::is_attestation(manifest) {
        let predicate = manifest.annotations().get(media_type::ANNOTATION_BUNDLE_PREDICATE);
        let predicate = predicate.map(String::as_str).unwrap_or_default();
        let kind = Kind::of(predicate).unwrap_or(Kind::Attestation);
        return Ok(attached(Some(kind), predicate, layer.size));
    }
    let bundle = repository.read(&layer.digest, limits::BUNDLE_BYTES)?;
    let signature = bundle.map_or_else(unreadable, |bundle| check(manifest, bundle, app, now));
    Ok(Some(Referrer::Signature(signature)))
}

fn unreadable() -> Signature {
    Signature {
        finding: Finding::Malformed,
        fingerprint: None,
        algorithm: None,
        role: None,
        signed: None,
        expires: None,
        claim: None,
    }
}

/// Checks a signature against the key that came with it.
fn check(manifest: &ImageManifest, bundle: Vec<u8>, app: &App, now: Timestamp) -> Signature {
    let key = manifest.annotations().get(media_type::ANNOTATION_SIGNER);
    let key = key.and_then(|text| PublicKey::from_base64(text).ok());
    let algorithm = key.as_ref().map(|key| key.algorithm().to_string());
    let policy = match key {
        Some(key) => TrustPolicy::single_key(key, Revoked::default()),
        None => TrustPolicy::reject_all(),
    };
    let descriptor: Descriptor = app.manifest.descriptor();
    let subject = Subject {
        descriptor: &descriptor,
        name: &app.own_name,
        version: &app.own_version,
        asked: None,
        pinned: true,
    };
    let judged = verify(&policy, &subject, &[bundle], now, None);
    let report = match &judged {
        Ok(accepted) => &accepted.report,
        Err(refused) => refused.report(),
    };
    let Some(found) = report.signatures.first() else {
        return unreadable();
    };
    let finding = finding(found);
    let statement = found.statement.as_ref();
    let is_by_key = !matches!(finding, Finding::NotChecked | Finding::Malformed);
    Signature {
        finding,
        fingerprint: found.fingerprint.clone(),
        algorithm: algorithm.filter(|_| is_by_key),
        role: statement.map(|statement| Inert::line(&statement.role, SHORT)),
        signed: statement.and_then(|statement| moment(statement.created)),
        expires: statement.and_then(|statement| moment(statement.expires?)),
        claim: match finding {
            Finding::NotChecked => found.reason.as_deref().map(|reason| Inert::line(reason, 2 * SHORT)),
            _ => None,
        },
    }
}

fn finding(report: &SignatureReport) -> Finding {
    match report.verdict {
        Verdict::Good => Finding::Valid,
        Verdict::Expired => Finding::Expired,
        Verdict::NotYetValid => Finding::NotYetValid,
        Verdict::OtherImage => Finding::OtherImage,
        Verdict::Identity => Finding::OtherName,
        Verdict::BadSignature => Finding::Wrong,
        Verdict::Malformed => Finding::Malformed,
        // Without its key there is nothing to check it against.
        Verdict::UnknownKey | Verdict::OtherForm | Verdict::Revoked | Verdict::Rollback | Verdict::OverLimit => {
            Finding::NotChecked
        }
    }
}
