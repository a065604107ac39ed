//! A chain of documents in a registry.
//!
//! A document is an artifact under the tag of its serial; its signatures refer to it. The
//! statement that it is the newest is an artifact of its own under the tag `SERIAL.fresh`,
//! which each later statement replaces: as referrers they would accumulate.

use std::sync::Arc;

use qyvol_image::ImageSignature;
use qyvol_remote::{Access, Client, RemoteError, Repository};
use qyvol_store::{Fetch, Push, Referrers, StoreError};
use qyvol_trust::{Envelope, POLICY_PREDICATE, PolicyDocument, SignedPolicy};
use qyvol_types::{Descriptor, ImageManifest, Reference, RepositoryName, limits, media_type};

use crate::image_source::{read_bundle, referrer_manifest};
use crate::remote::{attribute_to_registry, manifest_not_found};
use crate::{Error, ErrorClass};

/// The repository of a chain.
pub(super) struct Documents {
    repository: Repository,
    name: RepositoryName,
}

impl Documents {
    /// For reading.
    pub(super) fn open(client: &Arc<Client>, name: &Reference) -> Result<Documents, Error> {
        Documents::with(client, name, Access::Pull)
    }

    /// For reading and writing.
    pub(super) fn open_to_push(client: &Arc<Client>, name: &Reference) -> Result<Documents, Error> {
        Documents::with(client, name, Access::Push)
    }

    fn with(client: &Arc<Client>, name: &Reference, access: Access) -> Result<Documents, Error> {
        Ok(Documents {
            repository: Repository::new(client, name, access)?,
            name: name.repository_name(),
        })
    }

    fn tagged(&self, tag: &str) -> Result<Reference, Error> {
        let name = format!("{}:{tag}", self.name);
        name.parse().map_err(|error| Error::Usage(format!("{name}: {error}")))
    }

    /// The document that a digest names.
    pub(super) fn named(&self, name: &Reference) -> Result<PolicyDocument, Error> {
        let found = self.repository.resolve(name)?;
        let descriptor = found.ok_or_else(|| manifest_not_found(&self.repository, name))?;
        self.document(name, &descriptor)
    }

    /// The document of a serial with its signatures, if there is one.
    pub(super) fn get(&self, serial: u64) -> Result<Option<SignedPolicy>, Error> {
        let name = self.tagged(&serial.to_string())?;
        let Some(descriptor) = self.repository.resolve(&name)? else {
            return Ok(None);
        };
        let document = self.document(&name, &descriptor)?;
        if document.serial() != serial {
            return Err(malformed(
                &name,
                format!("its document has the serial {}", document.serial()),
            ));
        }
        let signatures = self.signatures(&document)?;
        let fresh = match document.policy().update().and_then(|update| update.max_lag) {
            Some(_) => self.fresh(serial)?,
            None => None,
        };
        Ok(Some(SignedPolicy {
            document,
            signatures,
            fresh,
        }))
    }

    fn document(&self, name: &Reference, descriptor: &Descriptor) -> Result<PolicyDocument, Error> {
        let raw = self.read(descriptor, limits::MANIFEST_BYTES)?;
        let manifest = ImageManifest::parse(raw).map_err(|error| malformed(name, error.to_string()))?;
        let layer = manifest.layers().first();
        let layer = layer.filter(|layer| layer.media_type == media_type::TRUST_POLICY);
        let Some(layer) = layer.filter(|_| manifest.artifact_type() == Some(media_type::TRUST_POLICY)) else {
            return Err(malformed(name, "it is not a trust policy".to_string()));
        };
        let text = String::from_utf8(self.read(layer, limits::POLICY_BYTES)?)
            .map_err(|_| malformed(name, "its policy is not UTF-8".to_string()))?;
        let document = super::document(name.to_string().as_ref(), &text)?;
        if document.digest() != descriptor.digest {
            return Err(malformed(
                name,
                "its manifest is not the one that belongs to its policy".to_string(),
            ));
        }
        Ok(document)
    }

    /// The readable signatures. Others are skipped, because anyone may write referrers.
    fn signatures(&self, document: &PolicyDocument) -> Result<Vec<Envelope>, Error> {
        let subject = subject(document);
        let mut found = Vec::new();
        let referrers = self.repository.referrers(&subject.digest)?;
        let claimed = |kind: &str| kind == media_type::SIGSTORE_BUNDLE;
        let referrers = referrers
            .iter()
            .filter(|referrer| referrer.artifact_type.as_deref().is_none_or(claimed));
        for referrer in referrers.take(limits::SIGNATURES) {
            match self.signature(referrer, &subject) {
                Ok(Some(signature)) => found.extend(Envelope::parse(&signature.bundle)),
                Ok(None) => {}
                Err(error) if error.is_content_error() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    fn signature(&self, referrer: &Descriptor, subject: &Descriptor) -> Result<Option<ImageSignature>, StoreError> {
        let manifest = referrer_manifest(&self.repository, referrer)?;
        let is_small = |layer: &Descriptor| layer.size <= limits::BUNDLE_BYTES;
        match manifest.layers().first().is_some_and(is_small) {
            true => read_bundle(&self.repository, manifest, subject),
            false => Ok(None),
        }
    }

    /// Whether there is no document at all.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let mut is_empty = true;
        let visited = self
            .repository
            .visit_tags(&mut |tag| is_empty &= tag.parse::<u64>().is_err());
        match visited {
            Err(RemoteError::NotFound { .. }) => Ok(true),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(is_empty),
        }
    }

    /// The statement that a document is the newest. An unreadable one counts as absent, and
    /// does not block access to the documents.
    fn fresh(&self, serial: u64) -> Result<Option<Envelope>, Error> {
        match self.read_fresh(serial) {
            Err(error) if matches!(error.class(), ErrorClass::Refused(_)) => Ok(None),
            found => found,
        }
    }

    fn read_fresh(&self, serial: u64) -> Result<Option<Envelope>, Error> {
        let name = self.tagged(&format!("{serial}.fresh"))?;
        let Some(descriptor) = self.repository.resolve(&name)? else {
            return Ok(None);
        };
        let raw = self.read(&descriptor, limits::MANIFEST_BYTES)?;
        let manifest = ImageManifest::parse(raw).map_err(|error| malformed(&name, error.to_string()))?;
        let Some(layer) = manifest.layers().first() else {
            return Ok(None);
        };
        Ok(Envelope::parse(&self.read(layer, limits::BUNDLE_BYTES)?).ok())
    }

    fn read(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let bytes = self.repository.fetch_bytes(descriptor, limit);
        bytes.map_err(|error| attribute_to_registry(error.into(), &self.repository))
    }

    /// Publishes a document with its signatures: these first.
    pub(super) fn put(&self, step: &SignedPolicy) -> Result<(), Error> {
        let document = &step.document;
        let manifest = document.manifest();
        self.write(manifest, document.text().as_bytes())?;
        let subject = subject(document);
        let mut bytes = manifest.raw();
        self.repository.push(&subject, &mut bytes)?;
        for envelope in &step.signatures {
            let signature = ImageSignature::new(&subject, POLICY_PREDICATE, envelope.bytes().to_vec())
                .map_err(Error::image(&self.name.to_string()))?;
            self.write(&signature.manifest, &signature.bundle)?;
            let mut bytes = signature.manifest.raw();
            self.repository.push(&signature.manifest.descriptor(), &mut bytes)?;
        }
        self.repository.publish_referrers()?;
        self.repository.tag(&document.serial().to_string(), manifest)?;
        Ok(())
    }

    /// Publishes the statement that a document is the newest.
    pub(super) fn put_fresh(&self, document: &PolicyDocument, fresh: &Envelope) -> Result<(), Error> {
        let layer = Descriptor::of(media_type::SIGSTORE_BUNDLE, fresh.bytes());
        let manifest = ImageManifest::artifact(media_type::SIGSTORE_BUNDLE, layer)
            .map_err(|error| Error::Usage(error.to_string()))?;
        self.write(&manifest, fresh.bytes())?;
        self.repository
            .tag(&format!("{}.fresh", document.serial()), &manifest)?;
        Ok(())
    }

    /// Pushes the blobs of a manifest of ours.
    fn write(&self, manifest: &ImageManifest, layer: &[u8]) -> Result<(), Error> {
        let mut config: &[u8] = b"{}";
        self.repository.push(manifest.config(), &mut config)?;
        for descriptor in manifest.layers() {
            let mut bytes = layer;
            self.repository.push(descriptor, &mut bytes)?;
        }
        Ok(())
    }
}

/// The subject of a document's signatures.
fn subject(document: &PolicyDocument) -> Descriptor {
    let whole = document.manifest().descriptor();
    Descriptor::new(&whole.media_type, whole.digest, whole.size)
}

fn malformed(name: &Reference, why: String) -> Error {
    Error::Malformed {
        target: name.to_string(),
        why,
    }
}
