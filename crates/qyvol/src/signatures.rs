//! Which of an image's signatures are kept: anyone may attach signatures to an image in a
//! registry, and they must not crowd out the good ones.
//!
//! A signature by a known key can't be forged, but its bundle can be written in
//! many ways. So for each known key, signatures with different statements are kept, and of all
//! others a stored image keeps only a few, over all pulls and loads together. This is not a
//! verdict: whether a signature counts is decided by [`crate::verify`].

use std::collections::{HashMap, HashSet};

use qyvol_image::{Head, ImageSignature, SignedImage};
use qyvol_store::{LocalStore, Referrers};
use qyvol_trust::{Envelope, KeyId, Revoked, TrustPolicy};
use qyvol_types::{Descriptor, Digest, limits, media_type};

use crate::image_source::{read_bundle, referrer_manifest};
use crate::output::{Output, OutputPath};
use crate::policy::load_policy;
use crate::{Context, Error, ImageSource, Keyring, Target};

/// A known key and what it has signed.
type Signed = (KeyId, Digest);

/// The keys that this host knows: those of its own policy, of the one that the
/// command was given, and of the keyring.
struct KnownKeys<'a> {
    given: Option<&'a TrustPolicy>,
    policies: Vec<TrustPolicy>,
}

impl<'a> KnownKeys<'a> {
    fn load(ctx: &Context<'_>, given: Option<&'a TrustPolicy>) -> Result<KnownKeys<'a>, Error> {
        let mut policies = vec![load_policy(ctx)?];
        if ctx.policy.is_some() {
            let own = Context {
                home: ctx.home.clone(),
                policy: None,
                ..*ctx
            };
            policies.push(load_policy(&own)?);
        }
        let keyring = Keyring::new(ctx);
        for row in keyring.list(&mut |_| ())? {
            let key = keyring.public(&row.name)?;
            policies.push(TrustPolicy::single_key(key, Revoked::default()));
        }
        Ok(KnownKeys { given, policies })
    }

    fn signed(&self, image: &Digest, bundle: &[u8]) -> Option<Signed> {
        let mut policies = self.given.into_iter().chain(&self.policies);
        policies.find_map(|policy| policy.signer_of(image, bundle))
    }

    fn is_empty(&self) -> bool {
        self.given.is_none() && self.policies.iter().all(|policy| !policy.names_keys())
    }
}

/// Removes from `image` the signatures and attestations that the store should not keep. If a
/// policy can't be read, it is unknown which those are, and all are kept.
pub(crate) fn keep(
    ctx: &Context<'_>,
    store: &LocalStore,
    given: Option<&TrustPolicy>,
    label: &str,
    image: &mut SignedImage,
) -> Result<(), Error> {
    if image.signatures.is_empty() && image.attestations.is_empty() {
        return Ok(());
    }
    let Ok(known) = KnownKeys::load(ctx, given) else {
        return Ok(());
    };
    let subject = image.descriptor();
    let mut signatures = Held::new(limits::UNKNOWN_SIGNATURES, limits::SIGNATURES_BY_KEY);
    let mut attestations = Held::new(limits::UNKNOWN_ATTESTATIONS, limits::ATTESTATIONS_BY_KEY);
    for referrer in store.referrers(&subject.digest)? {
        let Ok(manifest) = referrer_manifest(store, &referrer) else {
            signatures.add(referrer.digest, None);
            continue;
        };
        let held = match ImageSignature::is_attestation(&manifest) {
            // How many of these there are is bounded by their size.
            true if manifest.layers().iter().any(|layer| layer.size > limits::BUNDLE_BYTES) => continue,
            true => &mut attestations,
            false => &mut signatures,
        };
        let found = read_bundle(store, manifest, &subject);
        let signed = found.ok().flatten();
        held.add(
            referrer.digest,
            signed.and_then(|s| known.signed(&subject.digest, &s.bundle)),
        );
    }
    for (held, incoming, what) in [
        (&mut signatures, &mut image.signatures, "signatures"),
        (&mut attestations, &mut image.attestations, "attestations"),
    ] {
        let dropped = held.keep(&known, &subject.digest, incoming);
        if dropped > 0 {
            ctx.report.warned(&format!(
                "{label}: {dropped} of its {what} {} not stored: an image keeps at most {} that no trusted key has made, \
                 and {} of one key",
                if dropped == 1 { "was" } else { "were" },
                held.most_unknown,
                held.most_by_key
            ));
        }
    }
    Ok(())
}

/// Signatures or attestations that a stored image has.
struct Held {
    most_unknown: usize,
    most_by_key: usize,
    /// The digests of their manifests.
    there: HashSet<Digest>,
    said: HashSet<Signed>,
    unknown: usize,
    by_key: HashMap<KeyId, usize>,
}

impl Held {
    fn new(most_unknown: usize, most_by_key: usize) -> Held {
        Held {
            most_unknown,
            most_by_key,
            there: HashSet::new(),
            said: HashSet::new(),
            unknown: 0,
            by_key: HashMap::new(),
        }
    }

    fn add(&mut self, manifest: Digest, signed: Option<Signed>) {
        self.there.insert(manifest);
        match signed {
            Some(signed) => {
                *self.by_key.entry(signed.0).or_default() += 1;
                self.said.insert(signed);
            }
            None => self.unknown += 1,
        }
    }

    /// Leaves out what there is no place for. Returns the number of those.
    fn keep(&mut self, known: &KnownKeys<'_>, image: &Digest, incoming: &mut Vec<ImageSignature>) -> usize {
        let mut dropped = 0;
        incoming.retain(|signature| {
            if self.there.contains(&signature.manifest.digest()) {
                return true;
            }
            match known.signed(image, &signature.bundle) {
                // Another bundle with the same statement adds nothing.
                Some(signed) if !self.said.insert(signed) => false,
                Some((key, _)) if self.by_key.get(&key).is_none_or(|n| *n < self.most_by_key) => {
                    *self.by_key.entry(key).or_default() += 1;
                    true
                }
                None if self.unknown < self.most_unknown => {
                    self.unknown += 1;
                    true
                }
                _ => {
                    dropped += 1;
                    false
                }
            }
        });
        dropped
    }
}

/// How many referrers of an image in the store are not attestations.
pub(crate) fn number(store: &LocalStore, image: &Digest) -> Result<usize, Error> {
    let referrers = store.referrers(image)?;
    let is_attestation = |referrer: &Descriptor| {
        let manifest = referrer_manifest(store, referrer);
        manifest.is_ok_and(|manifest| ImageSignature::is_attestation(&manifest))
    };
    Ok(referrers.iter().filter(|referrer| !is_attestation(referrer)).count())
}

/// A signature that was removed.
#[derive(Clone, Debug)]
pub struct RemovedSignature {
    /// The digest of its manifest.
    pub digest: Digest,
    /// The fingerprint that it names, if it is readable.
    pub fingerprint: Option<String>,
}

/// What to remove from an image.
#[derive(Debug)]
pub struct CleanRequest<'a> {
    /// An archive or a stored image.
    pub target: &'a Target,
    /// A dry run.
    pub dry_run: bool,
    /// Go on if no signature would remain.
    pub all: bool,
}

/// Removes the signatures that no known key has made, and those that only
/// repeat another. The image stays as it is.
pub fn clean(ctx: &Context<'_>, request: &CleanRequest<'_>) -> Result<Vec<RemovedSignature>, Error> {
    let known = KnownKeys::load(ctx, None)?;
    if known.is_empty() {
        return Err(Error::Usage(
            "neither the trust policy nor the keyring has a key, so every signature would be removed".to_string(),
        ));
    }
    let source = ImageSource::open(ctx, request.target)?;
    let label = source.label();
    let image = source.single()?;
    let subject = image.descriptor();
    let mut said = HashSet::new();
    let mut stays = |bundle: &[u8]| {
        let signed = known.signed(&subject.digest, bundle);
        signed.is_some_and(|signed| said.insert(signed))
    };
    let mut removed = Vec::new();
    let mut kept: Vec<ImageSignature> = Vec::new();
    match &source {
        ImageSource::Archive { .. } => {
            for signature in &image.signatures {
                match stays(&signature.bundle) {
                    true => kept.push(signature.clone()),
                    false => removed.push(named(signature.manifest.digest(), Some(&signature.bundle))),
                }
            }
        }
        ImageSource::Stored { store, .. } => {
            for referrer in store.referrers(&subject.digest)? {
                // Leave other referrers alone, such as an SBOM.
                if referrer.artifact_type.as_deref() != Some(media_type::SIGSTORE_BUNDLE) {
                    continue;
                }
                let manifest = referrer_manifest(store, &referrer);
                // Attestations too: they are no signatures.
                if manifest.as_ref().is_ok_and(ImageSignature::is_attestation) {
                    continue;
                }
                match manifest.and_then(|manifest| read_bundle(store, manifest, &subject)) {
                    Ok(Some(signature)) if stays(&signature.bundle) => kept.push(signature),
                    Ok(signature) => removed.push(named(referrer.digest, signature.as_ref().map(|s| &*s.bundle))),
                    Err(error) if error.is_content_error() => removed.push(named(referrer.digest, None)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    if request.dry_run || removed.is_empty() {
        return Ok(removed);
    }
    if kept.is_empty() && !request.all {
        return Err(Error::Usage(format!(
            "{label} has no signature by a key of the trust policy or the keyring: none would remain (--all removes them all \
             the same)"
        )));
    }
    match &source {
        ImageSource::Archive { archive } => {
            let mut image = image.clone();
            image.signatures = kept;
            let head = Head::new(vec![image]).map_err(Error::image(&label))?;
            let file = archive.file_id().map_err(Error::file("read", archive.path()))?;
            let mut file = Output::create(ctx, OutputPath::of(archive.path(), file)?)?;
            archive.rewrite(&head, &mut file).map_err(Error::image(&label))?;
            file.finish()?;
        }
        ImageSource::Stored { store, .. } => {
            for removed in &removed {
                store.remove_referrer(&subject.digest, &removed.digest)?;
            }
        }
    }
    Ok(removed)
}

fn named(digest: Digest, bundle: Option<&[u8]>) -> RemovedSignature {
    let envelope = bundle.and_then(|bundle| Envelope::parse(bundle).ok());
    RemovedSignature {
        digest,
        fingerprint: envelope.and_then(|envelope| envelope.hinted_fingerprint()),
    }
}
