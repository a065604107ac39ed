//! `build`: from a `.qyv` to a signed `.qyvbin` and a tag in the store.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use qyvol_image::{BuildOptions, Built, Head, ImageBuilder, write_archive};
use qyvol_store::Ingest;
use qyvol_trust::{KeyType, PrivateKey, PublicKey};
use qyvol_types::{Reference, Timestamp};

use crate::install::stage_small;
use crate::keys::{DEFAULT_KEY, Keyring, Passphrase};
use crate::output::Output;
use crate::sign::{Claims, sign_image};
use crate::{Context, Error, policy, validate};

/// Who signs.
pub enum SignerChoice<'a> {
    /// The default key, made if there is none.
    Default,
    /// The default key, which must exist.
    Existing,
    /// A key of the keyring or a key's file.
    Named(&'a str),
    /// A key's file.
    File(&'a Path),
    /// A key's PEM, from the environment.
    Pem(&'a str),
    /// Nobody.
    Unsigned,
}

/// What to build.
pub struct BuildRequest<'a> {
    /// A `.qyv` or the folder of one.
    pub path: &'a Path,
    /// Where the archive goes; `<manifest's name>.qyvbin` here if absent.
    pub output: Option<&'a Path>,
    /// More names in the store, beside the image's own.
    pub tags: Vec<Reference>,
    /// Who signs.
    pub signer: SignerChoice<'a>,
    /// What the signature says beside the digest.
    pub claims: Claims,
    /// Asks for a key's passphrase.
    pub passphrase: Passphrase<'a>,
    /// Whether a core module is made a component.
    pub componentize: bool,
}

/// A key that was made because there was none.
#[derive(Clone, Debug)]
pub struct FirstKey {
    /// Its fingerprint.
    pub fingerprint: String,
    /// Whether a first policy was written that trusts it for local files.
    pub trusted: bool,
}

/// What was built.
#[derive(Clone, Debug)]
pub struct BuildReport {
    /// The archive.
    pub output: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The image, with its config.
    pub built: Built,
    /// Names it has in the store.
    pub tags: Vec<Reference>,
    /// Fingerprint of the key that signed, if one did.
    pub signed_by: Option<String>,
    /// The key that was made for this.
    pub first_key: Option<FirstKey>,
}

/// Builds. Every fault of the input is found before anything is written; the
/// archive and the store's entry appear whole or not at all.
pub fn build(ctx: &Context<'_>, request: &BuildRequest<'_>) -> Result<BuildReport, Error> {
    let manifest = validate(request.path)?;
    let label = manifest.path.to_string_lossy().into_owned();
    let output = match request.output {
        Some(path) => path.to_path_buf(),
        None => PathBuf::from(manifest.path.file_stem().unwrap_or_default()).with_extension("qyvbin"),
    };
    if output.is_dir() {
        return Err(Error::Usage(format!(
            "the output {} is a folder: name a file in it",
            output.display()
        )));
    }
    let mut skip = HashSet::new();
    skip.extend(manifest.path.canonicalize());
    skip.extend(output.canonicalize());
    let options = BuildOptions {
        created: ctx.source_date.unwrap_or(Timestamp::EPOCH),
        componentize: request.componentize,
        skip,
    };
    let builder = ImageBuilder::read(manifest.app, &manifest.folder, &options).map_err(Error::image(&label))?;
    // The output's folder and the key come before the long work.
    let mut file = Output::create(&output)?;
    let (signer, first_key) = signer(ctx, &request.signer, request.passphrase)?;

    let store = ctx.store()?;
    let mut stage: Ingest = store.begin()?;
    ctx.report.started("building", Some(builder.total()));
    let mut built = builder.write(&mut stage, ctx.report).map_err(Error::image(&label))?;
    ctx.report.finished();
    if let Some(key) = &signer {
        let created = ctx.source_date.unwrap_or(Timestamp::EPOCH);
        let signature =
            sign_image(key, &built.image, &built.config, &request.claims, created).map_err(Error::image(&label))?;
        built.image.signatures.push(signature);
    }
    stage_small(&mut stage, &built.image)?;
    let head = Head::new(vec![built.image.clone()]).map_err(Error::image(&label))?;
    ctx.report
        .started("writing", Some(head.content().iter().map(|b| b.size).sum()));
    write_archive(&head, &stage, &mut file, ctx.report).map_err(Error::image(&output.to_string_lossy()))?;
    ctx.report.finished();
    let mut tags = vec![built.image.name.clone()];
    tags.extend(request.tags.iter().filter(|t| **t != built.image.name).cloned());
    for name in &tags {
        stage.tag(name, &built.descriptor);
    }
    stage.commit()?;
    let size = file.finish()?;
    Ok(BuildReport {
        output,
        size,
        built,
        tags,
        signed_by: signer.map(|key| key.public().fingerprint()),
        first_key,
    })
}

/// Finds who signs; makes the machine's first key if there is none.
pub(crate) fn signer(
    ctx: &Context<'_>,
    choice: &SignerChoice<'_>,
    passphrase: Passphrase<'_>,
) -> Result<(Option<PrivateKey>, Option<FirstKey>), Error> {
    let keyring = Keyring::new(ctx);
    let key = match choice {
        SignerChoice::Unsigned => return Ok((None, None)),
        SignerChoice::Named(name) => keyring.private(name, passphrase)?,
        SignerChoice::Pem(pem) => PrivateKey::from_pem(pem).map_err(Error::key("from the environment"))?,
        SignerChoice::File(path) => keyring.private_file(path, passphrase)?,
        SignerChoice::Default | SignerChoice::Existing if keyring.has(DEFAULT_KEY) => {
            keyring.private(DEFAULT_KEY, passphrase)?
        }
        SignerChoice::Existing => return Err(Error::NoSigner),
        SignerChoice::Default => {
            // Builds at once on a new machine make one key, not several.
            let _one = keyring.lock()?;
            if keyring.has(DEFAULT_KEY) {
                return Ok((Some(keyring.private(DEFAULT_KEY, passphrase)?), None));
            }
            let public: PublicKey = keyring.generate(DEFAULT_KEY, KeyType::Ed25519, None)?;
            let trusted = policy::trust_first_key(ctx, DEFAULT_KEY, &public)?;
            let first = FirstKey {
                fingerprint: public.fingerprint(),
                trusted,
            };
            return Ok((Some(keyring.private(DEFAULT_KEY, passphrase)?), Some(first)));
        }
    };
    Ok((Some(key), None))
}
