//! `sign`: one more signature on an image, whose digest stays.

use qyvol_image::{Head, ImageError, ImageSignature, SignedImage};
use qyvol_trust::{Envelope, EnvelopeError, PREDICATE_TYPE, Sign, Statement, sequence_of};
use qyvol_types::{ImageConfig, Timestamp};

use crate::install::stage_metadata;
use crate::keys::Passphrase;
use crate::output::{Output, OutputPath};
use crate::signer::{FirstKey, SignerChoice, signer};
use crate::{Context, Error, ImageSource, Target};

/// What a signature says beside the image's digest, name and version.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The role of the signature: `release` by default.
    pub role: String,
    /// The sequence number of this release; from the version if absent.
    pub sequence: Option<u64>,
    /// When the signature expires.
    pub expires: Option<Timestamp>,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims {
            role: "release".to_string(),
            sequence: None,
            expires: None,
        }
    }
}

/// What to sign.
pub struct SignRequest<'a> {
    /// An archive or a stored image.
    pub target: &'a Target,
    /// Who signs.
    pub signer: SignerChoice<'a>,
    /// What the signature says.
    pub claims: Claims,
    /// Asks for a key's passphrase.
    pub passphrase: Passphrase<'a>,
}

/// What was signed.
#[derive(Clone, Debug)]
pub struct SignReport {
    /// The image manifest's digest.
    pub digest: String,
    /// The image's own name.
    pub image: String,
    /// The signer's fingerprint.
    pub fingerprint: String,
    /// Signatures on the image now.
    pub signatures: usize,
    /// The key that was made for this.
    pub first_key: Option<FirstKey>,
}

/// Signs the one image of the target.
pub fn sign(ctx: &Context<'_>, request: &SignRequest<'_>) -> Result<SignReport, Error> {
    let source = ImageSource::open(ctx, request.target)?;
    let label = source.label();
    let image = source.single()?;
    let config = ImageConfig::parse(&image.config).map_err(Error::malformed(&label))?;
    let signer = signer(ctx, &request.signer, request.passphrase)?;
    let Some(key) = signer.key else {
        return Err(Error::Usage("there is no key to sign with".to_string()));
    };
    // A later signature records its time; see `build` for the first.
    let created = ctx.source_date.unwrap_or(ctx.now);
    let signature = sign_image(&label, &*key, image, &config, &request.claims, created)?;
    let mut signed = image.clone();
    signed.add_referrer(signature);
    write_referrers(ctx, &source, &signed)?;
    Ok(SignReport {
        digest: image.manifest.digest().to_string(),
        image: format!("{}:{}", config.qyv.app.name, config.qyv.app.version),
        fingerprint: key.public().fingerprint(),
        signatures: signed.signatures.len(),
        first_key: signer.first_key,
    })
}

/// Writes an image that has one more signature or attestation to where it came from.
pub(crate) fn write_referrers(ctx: &Context<'_>, source: &ImageSource, signed: &SignedImage) -> Result<(), Error> {
    let label = source.label();
    match source {
        ImageSource::Archive { archive } => {
            let head = Head::new(vec![signed.clone()]).map_err(Error::image(&label))?;
            let file = archive.file_id().map_err(Error::file("read", archive.path()))?;
            let mut file = Output::create(ctx, OutputPath::of(archive.path(), file)?)?;
            archive.rewrite(&head, &mut file).map_err(Error::image(&label))?;
            file.finish()?;
        }
        ImageSource::Stored { store, .. } => {
            let mut stage = store.begin()?;
            stage_metadata(&mut stage, signed)?;
            stage.commit()?;
        }
    }
    Ok(())
}

/// Makes one signature over an image.
pub(crate) fn sign_image(
    label: &str,
    key: &dyn Sign,
    image: &SignedImage,
    config: &ImageConfig,
    claims: &Claims,
    created: Timestamp,
) -> Result<ImageSignature, Error> {
    let subject = image.descriptor();
    let statement = statement(image, config, claims, created);
    let envelope = Envelope::sign(key, &statement).map_err(|error| match error {
        EnvelopeError::Sign(error) => Error::Signer(error),
        error => Error::image(label)(ImageError::Format(error.to_string())),
    })?;
    let brought = key.public().to_base64();
    ImageSignature::with_key(&subject, PREDICATE_TYPE, envelope.bytes().to_vec(), &brought).map_err(Error::image(label))
}

fn statement(image: &SignedImage, config: &ImageConfig, claims: &Claims, created: Timestamp) -> Statement {
    let app = &config.qyv.app;
    Statement {
        subject: image.descriptor().digest,
        name: app.name.clone(),
        version: app.version.clone(),
        role: claims.role.clone(),
        sequence: claims.sequence.unwrap_or_else(|| sequence_of(&app.version)),
        created,
        expires: claims.expires,
        critical: Vec::new(),
    }
}

/// The predicate that [`sign`] would sign, as JSON: for a tool that signs by its own identity.
/// Signs nothing, and needs no key.
pub fn release_predicate(ctx: &Context<'_>, target: &Target, claims: &Claims) -> Result<String, Error> {
    let source = ImageSource::open(ctx, target)?;
    let label = source.label();
    let image = source.single()?;
    let config = ImageConfig::parse(&image.config).map_err(Error::malformed(&label))?;
    let statement = statement(image, &config, claims, ctx.source_date.unwrap_or(ctx.now));
    let json = statement.predicate_json();
    let json = json.map_err(|e| Error::image(&label)(ImageError::Format(e.to_string())))?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}
