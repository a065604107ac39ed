//! Sigstore's keyless signatures, verified offline: a bundle, a trusted root, and who signed.
//!
//! Fulcio certifies a key for some minutes to whoever logs in. The certificate has long
//! expired when an image is run, so what has to be shown is that the signature was made while
//! it was valid: by a time stamp (RFC 3161), or by a transparency log's signed time. All of
//! it is in the bundle, and all keys to check it with are in a `trusted_root.json`, which the
//! caller has pinned.
//!
//! ```text
//!   bundle: signature, certificate, time stamps, log entries --+
//!   trusted_root.json, pinned by digest                      --+--> issuer and subject, or why not
//!   the bytes that were signed                               --+
//! ```
//!
//! Invariants:
//! - bytes in, an identity out: no clock, no network, no file, no state;
//! - a key vouches for nothing outside the `validFor` that the trusted root gives it;
//! - a log's entry counts only for the very signature, certificate and content of the bundle
//!   (GHSA-whqx-f9j3-ch6m);
//! - certificates in a bundle lead to the trusted root's anchors, or nowhere;
//! - every length and count is bounded before it is used ([`bounds`]), and no input panics.
//!
//! What a trusted root doesn't name isn't asked for: without certificate logs no certificate
//! timestamp, without transparency logs no entry (GitHub's instance for private repositories
//! has neither). Time is always asked for.
//!
//! Deliberately absent: signing, fetching or updating trusted roots (TUF), comparing the
//! identity with a policy (the caller's part), witnesses' cosignatures.
//!
//! Sources: sigstore's protobuf-specs (`Bundle`, `TrustedRoot`), its client specification,
//! RFC 3161, RFC 5280, RFC 5652, RFC 6962, C2SP `tlog-checkpoint`.

pub mod bounds;
mod bundle;
mod certificate;
mod chain;
mod checkpoint;
mod entry;
mod error;
mod key;
mod root;
mod sct;
mod timestamp;
mod tlv;
mod verify;
mod wire;

pub use bundle::{Bundle, Content};
pub use certificate::Identity;
pub use error::{ParseError, Refusal};
pub use key::PublicKey;
pub use root::TrustedRoot;
pub use verify::{Vouched, claimed, verify, verify_with_key};
