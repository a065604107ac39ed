//! The artifact that carries a list to a registry: a referrer of the image, whose layers are
//! the list and every blob that it names.

use std::collections::HashSet;

use qyvol_types::{Descriptor, ImageManifest, ManifestError, media_type};
use thiserror::Error;

use crate::{LIST_BYTES, List, ListError};

/// Why there is no artifact.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The list can't be written.
    #[error(transparent)]
    List(#[from] ListError),
    /// The manifest can't be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// The manifest that refers to `subject`, and the list that is its first layer. Each blob of
/// the list is a layer once, so that a registry keeps it as long as the manifest.
pub fn artifact(subject: &Descriptor, list: &List) -> Result<(ImageManifest, Vec<u8>), ArtifactError> {
    let bytes = list.encode()?;
    let mut layers = vec![Descriptor::of(media_type::ENCODINGS, &bytes)];
    let mut seen = HashSet::new();
    for entry in list.entries() {
        if seen.insert(entry.blob) {
            layers.push(Descriptor::new(media_type::ENCODED, entry.blob.digest, entry.blob.size));
        }
    }
    let subject = Descriptor::new(&subject.media_type, subject.digest, subject.size);
    let manifest = ImageManifest::referrer_with_layers(media_type::ENCODINGS, subject, layers)?;
    Ok((manifest, bytes))
}

/// The descriptor of the list, if the manifest is that of such an artifact.
pub fn list_of(manifest: &ImageManifest) -> Option<&Descriptor> {
    let list = manifest.layers().first()?;
    let is_list = manifest.artifact_type() == Some(media_type::ENCODINGS)
        && manifest.subject().is_some()
        && list.media_type == media_type::ENCODINGS
        && list.size <= LIST_BYTES;
    is_list.then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Blob, ENTRIES, Encoding, Representation};

    // [ENC-001] [ENC-002]
    #[test]
    fn artifact_refers_to_the_image_and_names_every_blob_once() {
        let entry = |n: usize| Representation {
            target: Blob::of(format!("target {n}").as_bytes()),
            encoding: Encoding::ZstdPatch {
                base: Blob::of(b"base"),
            },
            blob: Blob::of(format!("blob {}", n.max(1)).as_bytes()),
        };
        let list = List::new((0..ENTRIES).map(entry).collect()).unwrap();
        let subject = Descriptor::of(media_type::IMAGE_MANIFEST, b"image");
        let (manifest, bytes) = artifact(&subject, &list).unwrap();
        let manifest = ImageManifest::parse(manifest.raw().to_vec()).unwrap();
        assert_eq!(manifest.subject(), Some(&subject));
        assert_eq!(manifest.layers().len(), ENTRIES);
        assert_eq!(list_of(&manifest), Some(&Descriptor::of(media_type::ENCODINGS, &bytes)));
        assert_eq!(List::parse(&bytes).unwrap(), list);
    }
}
