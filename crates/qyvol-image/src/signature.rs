//! A signature or an attestation of an image: a manifest that refers to the image, with a
//! sigstore bundle as its one layer. Nothing here looks into the bundle.

use std::collections::BTreeMap;

use qyvol_types::{Descriptor, ImageManifest, limits, media_type};

use crate::ImageError;

/// What an empty config is: the content of `media_type::EMPTY`.
pub(crate) const EMPTY: &[u8] = b"{}";

/// One signature or attestation: a manifest that refers to the image, and a bundle.
#[derive(Clone, Debug)]
pub struct ImageSignature {
    /// The signature's manifest.
    pub manifest: ImageManifest,
    /// The bundle it carries, not looked into.
    pub bundle: Vec<u8>,
}

impl ImageSignature {
    /// Wraps a bundle as a referrer of `subject`.
    pub fn new(subject: &Descriptor, predicate_type: &str, bundle: Vec<u8>) -> Result<ImageSignature, ImageError> {
        ImageSignature::wrap(subject, predicate_type, bundle, None)
    }

    /// The same, with the public key of the signer (base64 of its SPKI) for hosts that see it for
    /// the first time.
    pub fn with_key(
        subject: &Descriptor,
        predicate_type: &str,
        bundle: Vec<u8>,
        key: &str,
    ) -> Result<ImageSignature, ImageError> {
        ImageSignature::wrap(subject, predicate_type, bundle, Some(key))
    }

    fn wrap(
        subject: &Descriptor,
        predicate_type: &str,
        bundle: Vec<u8>,
        key: Option<&str>,
    ) -> Result<ImageSignature, ImageError> {
        let layer = Descriptor::of(media_type::SIGSTORE_BUNDLE, &bundle);
        let subject = Descriptor::new(&subject.media_type, subject.digest, subject.size);
        let mut annotations = BTreeMap::from([
            (
                media_type::ANNOTATION_BUNDLE_CONTENT.to_string(),
                "dsse-envelope".to_string(),
            ),
            (
                media_type::ANNOTATION_BUNDLE_PREDICATE.to_string(),
                predicate_type.to_string(),
            ),
        ]);
        if let Some(key) = key {
            annotations.insert(media_type::ANNOTATION_SIGNER.to_string(), key.to_string());
        }
        let manifest = ImageManifest::referrer(media_type::SIGSTORE_BUNDLE, subject, layer, annotations)?;
        Ok(ImageSignature { manifest, bundle })
    }

    /// Reads back what a store keeps: the manifest and the bundle it names.
    pub fn from_parts(manifest: ImageManifest, bundle: Vec<u8>) -> Result<ImageSignature, ImageError> {
        let signature = ImageSignature { manifest, bundle };
        signature.check()?;
        Ok(signature)
    }

    /// The public key that it carries, as unchecked text: the author of the manifest chose it.
    pub fn unverified_key(&self) -> Option<&str> {
        let key = self.manifest.annotations().get(media_type::ANNOTATION_SIGNER);
        key.map(String::as_str)
    }

    /// Whether a manifest says that its bundle is an attestation. The statement in the bundle
    /// decides: nothing that is an attestation by its manifest counts as a signature, and
    /// nothing that is one by its statement.
    pub fn is_attestation(manifest: &ImageManifest) -> bool {
        let kind = manifest.annotations().get(media_type::ANNOTATION_BUNDLE_PREDICATE);
        kind.is_some_and(|kind| !media_type::is_signature_predicate(kind))
    }

    /// Whether a manifest has the form of a signature's, whatever is in its bundle.
    pub fn has_form(manifest: &ImageManifest) -> bool {
        let empty = Descriptor::of(media_type::EMPTY, EMPTY);
        manifest.artifact_type() == Some(media_type::SIGSTORE_BUNDLE)
            && manifest.subject().is_some()
            // cosign's says the artifact's type too.
            && manifest.config().is_same_blob(&empty)
            && matches!(manifest.layers(), [layer] if layer.media_type == media_type::SIGSTORE_BUNDLE)
    }

    /// Whether an archive can contain it as an attestation.
    pub fn fits_archive(&self) -> bool {
        self.bundle.len() as u64 <= limits::BUNDLE_BYTES
    }

    pub(crate) fn check(&self) -> Result<(), ImageError> {
        let bundle = Descriptor::of(media_type::SIGSTORE_BUNDLE, &self.bundle);
        if !ImageSignature::has_form(&self.manifest) || self.manifest.layers() != [bundle] {
            return Err(ImageError::format(
                "a referrer is not a signature: a sigstore bundle as its one layer, and the empty config",
            ));
        }
        Ok(())
    }
}
