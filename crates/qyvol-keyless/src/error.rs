//! Why something can't be read, and why a signature isn't accepted.

use qyvol_types::json::JsonError;
use thiserror::Error;

/// Why some bytes are no bundle, or no trusted root.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Past a bound.
    #[error("{what}: {got}, and at most {limit} are read")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much there is.
        got: usize,
        /// The bound.
        limit: usize,
    },
    /// Not strict JSON, or a field is missing or of another type.
    #[error("it is {0}")]
    Json(#[from] JsonError),
    /// A value that isn't allowed.
    #[error("{what}: {why}")]
    Value {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl ParseError {
    pub(crate) fn value(what: &'static str, why: impl Into<String>) -> ParseError {
        ParseError::Value { what, why: why.into() }
    }
}

/// Why a bundle is not a signature of somebody whom the trusted root vouches for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The bundle has no certificate.
    #[error("it has no certificate")]
    NoCertificate,
    /// The bundle is by a certificate, and a key was given.
    #[error("it is signed by a certificate, not by a key")]
    NotByKey,
    /// The caller gave no content for a signature over a file, or gave one for an envelope.
    #[error("{0}")]
    Content(&'static str),
    /// The signature is not the key's over the content.
    #[error("the signature is not its key's over this content")]
    Signature,
    /// The certificate can't be read, or says what it must not.
    #[error("the certificate {0}")]
    Certificate(String),
    /// No certificate authority of the trusted root vouches for the certificate at that time.
    #[error("no certificate authority of the trusted root vouches for the certificate at {time}: {why}")]
    Chain {
        /// In seconds since 1970, as text.
        time: String,
        /// What the nearest one lacks.
        why: String,
    },
    /// No certificate log of the trusted root vouches for the certificate.
    #[error("no certificate log of the trusted root vouches for the certificate: {0}")]
    CertificateLog(String),
    /// A transparency log's entry is wrong, or none is there.
    #[error("the transparency log's entry {0}")]
    Log(String),
    /// Nobody vouches for a time.
    #[error("nothing in the bundle says when it was signed in a way that the trusted root vouches for{0}")]
    NoTime(String),
}

impl Refusal {
    pub(crate) fn log(why: impl Into<String>) -> Refusal {
        Refusal::Log(why.into())
    }

    pub(crate) fn certificate(why: impl Into<String>) -> Refusal {
        Refusal::Certificate(why.into())
    }
}
