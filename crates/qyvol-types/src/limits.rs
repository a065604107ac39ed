//! Upper bounds on what is read from outside. Each is checked before the
//! memory it bounds is taken.

/// The head of a `.qyvbin`, decoded.
pub const HEAD_BYTES: u64 = 1 << 20;
/// An image manifest or signature manifest.
pub const MANIFEST_BYTES: u64 = 256 << 10;
/// An image config.
pub const CONFIG_BYTES: u64 = 512 << 10;
/// A signature bundle.
pub const BUNDLE_BYTES: u64 = 64 << 10;
/// Referrers of one image that are read in search of signatures.
pub const SIGNATURES: usize = 1024;
/// All signatures read of one image, together.
pub const SIGNATURES_BYTES: u64 = 16 << 20;
/// Signatures by unknown keys that a stored image keeps.
pub const UNKNOWN_SIGNATURES: usize = 128;
/// Signatures by one known key that a stored image keeps. Both are far below
/// what is read and checked.
pub const SIGNATURES_BY_KEY: usize = 256;
/// An attestation's bundle. In an archive, and where it counts as a signature, one is no larger
/// than [`BUNDLE_BYTES`].
pub const ATTESTATION_BYTES: u64 = 16 << 20;
/// Attestations of one image that are read.
pub const ATTESTATIONS: usize = 256;
/// All attestations of one image that an archive holds, together.
pub const ATTESTATIONS_IN_ARCHIVE: u64 = 512 << 10;
/// All attestations of one image that are too large for an archive, together.
pub const LARGE_ATTESTATIONS_BYTES: u64 = 32 << 20;
/// Attestations by unknown keys that a stored image keeps.
pub const UNKNOWN_ATTESTATIONS: usize = 32;
/// Attestations by one known key that a stored image keeps.
pub const ATTESTATIONS_BY_KEY: usize = 64;
/// Attestations checked for one image: those that name a key of the policy.
pub const ATTESTATION_CHECKS: usize = 2048;
/// Signatures checked for one image: those that name a key of the rule.
pub const SIGNATURE_CHECKS: usize = 1024;
/// The signed bytes: DSSE's pre-authentication encoding.
pub const PAE_BYTES: usize = 4096;
/// A `.qyv` manifest, and whatever else people write.
pub const YAML_BYTES: u64 = 256 << 10;
/// A trust policy: 1,000 P-256 keys, and 1,000 rules with every condition, take 1.3 MB.
pub const POLICY_BYTES: u64 = 2 << 20;
/// A trust policy in its parsed form.
pub const PARSED_POLICY_BYTES: u64 = 2 << 20;
/// Values, lists and mappings of a YAML document: twice what [`YAML_BYTES`] can hold.
pub const YAML_NODES: usize = 256 << 10;
/// Nesting of a YAML or JSON document.
pub const NESTING: usize = 32;
/// A component or core module.
pub const COMPONENT_BYTES: u64 = 256 << 20;
/// Files among an image's assets.
pub const ASSET_FILES: u64 = 250_000;
/// Directories among an image's assets. Each costs an inode and several system
/// calls on the host that unpacks it, and nothing in the archive.
pub const ASSET_DIRECTORIES: usize = 50_000;
/// Components of an asset's path.
pub const ASSET_DEPTH: usize = 32;
/// All assets of an image, unpacked.
pub const ASSET_BYTES: u64 = 256 << 30;
/// Layers of an image.
pub const LAYERS: usize = 2;
/// Images in one archive.
pub const ARCHIVE_IMAGES: usize = 256;
/// Window of a zstd frame.
pub const ZSTD_WINDOW: u64 = 8 << 20;
/// One file or blob inside an archive: what a ustar size field holds.
pub const ENTRY_BYTES: u64 = (1 << 33) - 1;
/// A layer of files of another tool's image, as it is sent.
pub const IMPORT_LAYER_BYTES: u64 = 1 << 30;
/// The same, unpacked.
pub const IMPORT_UNPACKED_BYTES: u64 = 4 << 30;
/// Entries of such a layer.
pub const IMPORT_ENTRIES: usize = 250_000;
/// Layers of files that are searched.
pub const IMPORT_LAYERS: usize = 32;

/// Dependencies of one application.
pub const DEPENDENCIES: usize = 32;
/// The same with what those were built with themselves.
pub const DEPENDENCIES_ALL: usize = 256;
/// How many dependencies may be built one with the other, in a row.
pub const DEPENDENCY_DEPTH: usize = 8;

/// Most components and modules in one component. To validate it takes the square of their
/// number, for each has the types of those before it.
pub const COMPONENT_PARTS: usize = 1000;

/// Most components that are inside each other.
pub const COMPONENT_DEPTH: usize = 100;

/// Most types of components and instances that are declared in others, in one section. Each
/// that is inside another takes about a kilobyte of the stack to read.
pub const TYPE_NESTING: usize = 500;
