//! Upper bounds on what is read.

/// A bundle.
pub const BUNDLE_BYTES: usize = 1 << 20;
/// A trusted root.
pub const ROOT_BYTES: usize = 256 << 10;
/// Logs, authorities and certificate authorities of a trusted root, each.
pub const ROOT_ENTRIES: usize = 64;
/// Certificates of a chain.
pub const CHAIN: usize = 8;
/// A certificate, DER.
pub const CERTIFICATE_BYTES: usize = 32 << 10;
/// A transparency log's entries in a bundle.
pub const LOG_ENTRIES: usize = 4;
/// Time stamps in a bundle.
pub const TIMESTAMPS: usize = 4;
/// Hashes of an inclusion proof: a log of 2^64 entries has no more.
pub const PROOF_HASHES: usize = 64;
/// A checkpoint's text.
pub const CHECKPOINT_BYTES: usize = 16 << 10;
/// Signatures of a checkpoint.
pub const CHECKPOINT_SIGNATURES: usize = 64;
/// Certificate timestamps in a certificate.
pub const SCTS: usize = 16;
/// Elements of one ASN.1 value.
pub const ELEMENTS: usize = 128;
/// A signature.
pub const SIGNATURE_BYTES: usize = 2048;
