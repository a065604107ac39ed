//! Keys, signed statements and the host's policy: what makes an image
//! trusted. Pure and synchronous: bytes and a time in, a verdict out.
//!
//! Invariants:
//! - there is one verification routine, [`verify()`], and [`Verified`] values
//!   come from nowhere else (but for the one constructor with an ugly name);
//! - keys come from the policy alone; what a signature says of its key only
//!   finds that key there;
//! - a key's algorithm is the key's, never the envelope's;
//! - the statement that is judged is read from the very bytes whose signature
//!   was checked, once.
//!
//! Deliberately absent: files, clocks, networks, certificates, transparency
//! logs. `spec/signing.md` is the normative text.

mod encrypted;
mod envelope;
mod error;
mod key;
mod policy;
mod policy_yaml;
mod report;
mod statement;
#[cfg(test)]
mod tests;
mod verified;
mod verify;

pub use envelope::{Envelope, EnvelopeError};
pub use error::KeyError;
pub use key::{KeyType, PrivateKey, PublicKey};
pub use policy::{Identity, PolicyKey, Requirement, Rule, Scope, TrustPolicy};
pub use report::{Report, SignatureReport, Verdict};
pub use statement::{PREDICATE_TYPE, Statement, StatementError};
pub use verified::{BindError, Verified};
pub use verify::{Refusal, Subject, VerifyError, verify};
