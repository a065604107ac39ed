//! The media types that Qyvol reads and writes. `formats/media-types.json` is
//! generated from this list.

/// An OCI image manifest.
pub const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The CNCF Wasm OCI artifact's config.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// A component or core module, raw.
pub const WASM: &str = "application/wasm";
/// The assets: a canonical tar, zstd-compressed.
pub const ASSETS: &str = "application/vnd.qyvol.assets.v1.tar+zstd";
/// A sigstore bundle, version 0.3.
pub const SIGSTORE_BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The OCI empty config, `{}`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// A trust policy that hosts follow: `trust.yaml`.
pub const TRUST_POLICY: &str = "application/vnd.qyvol.trust-policy.v1+yaml";
/// A list of representations of an image's blobs.
pub const ENCODINGS: &str = "application/vnd.qyvol.encodings.v1+json";
/// A representation of a blob, in one of the encodings that a list names.
pub const ENCODED: &str = "application/vnd.qyvol.encoded.v1";
/// An in-toto statement, DSSE's payload type.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Every type with what it is for, in the order of the generated table.
pub const ALL: &[(&str, &str)] = &[
    (IMAGE_MANIFEST, "image manifest and signature manifest"),
    (IMAGE_INDEX, "index.json of a .qyvbin"),
    (WASM_CONFIG, "image config, with the key `qyv`"),
    (WASM, "layer 0: the component or core module, raw"),
    (ASSETS, "layer 1: the assets, a canonical tar in zstd frames"),
    (SIGSTORE_BUNDLE, "signature or attestation: a sigstore bundle v0.3"),
    (EMPTY, "config of a signature manifest: {}"),
    (
        TRUST_POLICY,
        "artifact type and layer of a trust policy that hosts follow",
    ),
    (
        ENCODINGS,
        "artifact type and layer 0 of representations: the list of them",
    ),
    (ENCODED, "representation of a blob: compressed, or a patch"),
    (IN_TOTO, "payload type of the signed envelope"),
];

/// Annotation: the image's own `name:version`, in `index.json`.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation: a blob's title, its file name.
pub const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";
/// Annotation: the name that an imported image was fetched by.
pub const ANNOTATION_BASE_NAME: &str = "org.opencontainers.image.base.name";
/// Annotation: the digest of the manifest that an imported image was made from.
pub const ANNOTATION_BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// Annotation: the version of what is in an image.
pub const ANNOTATION_VERSION: &str = "org.opencontainers.image.version";
/// Annotation: what a sigstore bundle holds.
pub const ANNOTATION_BUNDLE_CONTENT: &str = "dev.sigstore.bundle.content";
/// Annotation: the predicate type of the statement in a sigstore bundle.
pub const ANNOTATION_BUNDLE_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// Annotation of a signature's manifest: the public key that made it, as base64 of its SPKI. It
/// is shown to whoever decides about trust, and decides nothing.
pub const ANNOTATION_SIGNER: &str = "dev.qyvol.signer";

/// Beginnings of the predicate types of signatures. Statements of any other type are
/// attestations.
const SIGNATURES: [&str; 2] = ["https://qyvol.dev/release/", "https://sigstore.dev/cosign/sign/"];

/// Whether a statement of this predicate type vouches for an image as such. Any other is an
/// attestation: it says something about the image.
pub fn is_signature_predicate(predicate_type: &str) -> bool {
    SIGNATURES.iter().any(|start| predicate_type.starts_with(start))
}
