//! `attest`: a signed statement about an image, whose digest stays.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use qyvol_image::ImageSignature;
use qyvol_trust::{Attestation, Envelope, EnvelopeError, is_attestation_type};
use qyvol_types::{ImageConfig, escape, json, limits};
use serde::Deserialize;

use crate::keys::Passphrase;
use crate::sign::write_referrers;
use crate::signer::{FirstKey, SignerChoice, signer};
use crate::{Context, Error, ImageSource, Target};

/// What is stated.
pub enum Stated<'a> {
    /// A predicate of this type, from a file of JSON.
    Predicate {
        /// A URI.
        predicate_type: &'a str,
        /// The file.
        file: &'a Path,
    },
    /// An SBOM, CycloneDX or SPDX in JSON, whose type follows from its content.
    Sbom(&'a Path),
    /// A predicate that is known already.
    Known {
        /// A URI.
        predicate_type: &'a str,
        /// JSON.
        predicate: Vec<u8>,
    },
}

/// What to attest.
pub struct AttestRequest<'a> {
    /// An archive or a stored image.
    pub target: &'a Target,
    /// Who signs.
    pub signer: SignerChoice<'a>,
    /// What is stated of it.
    pub stated: Stated<'a>,
    /// Asks for a key's passphrase.
    pub passphrase: Passphrase<'a>,
}

/// What was attested.
#[derive(Clone, Debug)]
pub struct AttestReport {
    /// The image manifest's digest.
    pub digest: String,
    /// The image's own name.
    pub image: String,
    /// The type of the predicate.
    pub predicate_type: String,
    /// Bytes of the bundle.
    pub size: u64,
    /// The signer's fingerprint.
    pub fingerprint: String,
    /// The key that was made for this.
    pub first_key: Option<FirstKey>,
}

/// Signs a statement about the one image of the target.
pub fn attest(ctx: &Context<'_>, request: &AttestRequest<'_>) -> Result<AttestReport, Error> {
    let (predicate_type, predicate) = predicate(&request.stated)?;
    if !is_attestation_type(&predicate_type) {
        return Err(Error::Usage(format!(
            "{} can't be the type of an attestation: a URI is expected, of at most 256 characters, that is not the type of \
             a signature or a policy",
            escape(&predicate_type)
        )));
    }
    let source = ImageSource::open(ctx, request.target)?;
    let label = source.label();
    let image = source.single()?;
    let config = ImageConfig::parse(&image.config).map_err(Error::malformed(&label))?;
    let signer = signer(ctx, &request.signer, request.passphrase)?;
    let Some(key) = signer.key else {
        return Err(Error::Usage("there is no key to sign with".to_string()));
    };
    let subject = image.descriptor();
    let attestation = Attestation {
        subject: subject.digest,
        name: config.qyv.app.name.clone(),
        predicate_type,
        predicate,
    };
    let envelope = Envelope::attest(&*key, &attestation).map_err(|error| match error {
        EnvelopeError::Sign(error) => Error::Signer(error),
        error => Error::Usage(error.to_string()),
    })?;
    let bundle = envelope.bytes().to_vec();
    let size = bundle.len() as u64;
    let signed = ImageSignature::new(&subject, &attestation.predicate_type, bundle).map_err(Error::image(&label))?;
    if matches!(source, ImageSource::Archive { .. }) && !signed.fits_archive() {
        return Err(Error::Usage(format!(
            "the attestation is {size} bytes, and a .qyvbin holds such of at most {}: load the image, attest it in the \
             store, and push it to a registry",
            limits::BUNDLE_BYTES
        )));
    }
    let mut attested = image.clone();
    attested.add_referrer(signed);
    write_referrers(ctx, &source, &attested)?;
    Ok(AttestReport {
        digest: subject.digest.to_string(),
        image: format!("{}:{}", config.qyv.app.name, config.qyv.app.version),
        predicate_type: attestation.predicate_type,
        size,
        fingerprint: key.public().fingerprint(),
        first_key: signer.first_key,
    })
}

fn predicate(stated: &Stated<'_>) -> Result<(String, Vec<u8>), Error> {
    match stated {
        Stated::Predicate { predicate_type, file } => Ok((predicate_type.to_string(), read(file)?)),
        Stated::Known {
            predicate_type,
            predicate,
        } => Ok((predicate_type.to_string(), predicate.clone())),
        Stated::Sbom(file) => {
            let bytes = read(file)?;
            match sbom_type(&bytes) {
                Some(kind) => Ok((kind.to_string(), bytes)),
                None => Err(Error::Usage(format!(
                    "{} is neither CycloneDX nor SPDX 2 in JSON: `--type URI --predicate FILE` attests any other document",
                    escape(&file.to_string_lossy())
                ))),
            }
        }
    }
}

/// A file of JSON, within the bound of an attestation.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::file("open", path))?;
    file.take(limits::ATTESTATION_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", path))?;
    let shown = path.to_string_lossy();
    if bytes.len() as u64 > limits::ATTESTATION_BYTES {
        return Err(Error::Usage(format!(
            "{} is larger than {} bytes, the most that an attestation may be",
            escape(&shown),
            limits::ATTESTATION_BYTES
        )));
    }
    json::check(&bytes).map_err(|why| Error::Usage(format!("{} is {why}", escape(&shown))))?;
    Ok(bytes)
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Sbom {
    bom_format: Option<String>,
    spdx_version: Option<String>,
}

/// The type under which `cosign attest` files an SBOM, too.
fn sbom_type(document: &[u8]) -> Option<&'static str> {
    let sbom: Sbom = json::decode(document).ok()?;
    match (sbom.bom_format.as_deref(), sbom.spdx_version.as_deref()) {
        (Some("CycloneDX"), None) => Some("https://cyclonedx.org/bom"),
        (None, Some(version)) if version.starts_with("SPDX-2.") => Some("https://spdx.dev/Document"),
        _ => None,
    }
}
