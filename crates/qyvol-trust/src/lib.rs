//! Keys, signed statements and the host's policy: what makes an image
//! trusted. Pure and synchronous: bytes and a time in, a verdict out.
//!
//! ```text
//!   policy, time ----------+
//!   descriptor, names -----+--verify()--> Verified<Descriptor>, or a Report of why not
//!   bundles, attestations -+
//! ```
//!
//! Invariants:
//! - there is one verification routine, [`verify()`], and [`Verified`] values
//!   come from nowhere else (except [`Verified::dangerously_trust`]);
//! - keys and identities come from the policy alone; a signature's hint or
//!   certificate only selects one of them;
//! - a key's algorithm is the key's, never the envelope's;
//! - the statement that is judged is read from the very bytes whose signature
//!   was checked, once.
//!
//! Deliberately absent: files, clocks, networks. Certificates and transparency
//! logs are `qyvol-keyless`'s. `spec/signing.md` is the normative text.

mod attest;
mod attest_yaml;
mod chain;
mod change;
mod cosign;
mod encrypted;
mod envelope;
mod error;
mod key;
mod key_names;
mod parsed;
mod policy;
mod policy_yaml;
mod refusal;
mod report;
mod revocations;
mod revoked;
mod rollback;
mod scope;
mod sign;
mod signature;
mod signed;
mod signer;
pub mod ssh;
mod statement;
mod summary;
#[cfg(test)]
mod tests;
mod time_yaml;
mod update;
mod update_yaml;
mod verified;
mod verify;

pub use attest::{Attestation, is_attestation_type};
pub use chain::{CHAIN_BYTES, CHAIN_DOCUMENTS, CHAIN_LINE_BYTES, ChainError, DOCUMENT_SIGNATURES};
pub use change::{EditedPolicy, PolicyEdit, PolicyEditError, change};
pub use envelope::{Envelope, EnvelopeError};
pub use error::KeyError;
pub use key::{KeyId, KeyType, PrivateKey, PublicKey};
pub use parsed::PARSED_FORM;
pub use policy::{
    AttestCondition, Ceiling, Identity, Names, PolicyKey, Remap, Requirement, Rule, TrustPolicy, Update,
    required_identity,
};
pub use refusal::{Refusal, VerifyError};
pub use report::{
    AttestationReport, Cause, Report, RequirementReport, RuleReport, SignatureReport, StatementReport, Verdict,
};
pub use revocations::Revocations;
pub use revoked::Revoked;
pub use rollback::RollbackState;
pub use scope::{Scope, ScopeError, Subject};
pub use sign::{Sign, SignError};
pub use signer::{IdentityReport, PolicyRoot, Signer, SignerIdentity};
pub use statement::{Form, PREDICATE_TYPE, Statement, StatementError, is_role, sequence_of};
pub use update::{
    DocumentError, FRESH_PREDICATE, POLICY_PREDICATE, PolicyDocument, Signatures, SignedPolicy, UpdateError,
};
pub use verified::{BindError, Verified};
pub use verify::{Accepted, verify, verify_attested};
