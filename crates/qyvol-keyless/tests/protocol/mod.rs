//! The verb `verify-bundle` of sigstore-conformance's protocol for clients
//! (`docs/cli_protocol.md` there).
//!
//! It fetches nothing: without `--trusted-root` it refuses. A signature over a file
//! (`messageSignature`) needs the file, because the library that checks signatures takes no
//! digests.

use std::error::Error;
use std::fs;
use std::path::Path;

use qyvol_keyless::{Bundle, Content, PublicKey, TrustedRoot, verify, verify_with_key};
use qyvol_types::Digest;
use serde_json::Value;

const USAGE: &str = "usage: verify-bundle [--staging] --bundle FILE \
                     (--certificate-identity IDENTITY --certificate-oidc-issuer URL | --key FILE) \
                     --trusted-root FILE (FILE | sha256:DIGEST)";

/// Judges what the arguments after the verb name. A later option replaces an earlier one.
///
/// # Errors
/// Why the bundle is refused, or what is wrong with the arguments.
pub fn verify_bundle(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [mut bundle, mut identity, mut issuer, mut key, mut root, mut artifact] = [const { None::<&str> }; 6];
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let option = match arg {
            "--bundle" => &mut bundle,
            "--certificate-identity" => &mut identity,
            "--certificate-oidc-issuer" => &mut issuer,
            "--key" => &mut key,
            "--trusted-root" => &mut root,
            // The root says which instance is trusted.
            "--staging" => continue,
            _ if arg.starts_with("--") || artifact.is_some() => return Err(USAGE.into()),
            _ => {
                artifact = Some(arg);
                continue;
            }
        };
        *option = Some(args.next().ok_or(USAGE)?);
    }
    let (Some(bundle), Some(artifact)) = (bundle, artifact) else {
        return Err(USAGE.into());
    };
    let root = root.ok_or("--trusted-root FILE is needed: no trusted root is fetched")?;
    let root = TrustedRoot::parse(&fs::read(root)?)?;
    let bundle = Bundle::parse(&fs::read(bundle)?)?;
    let artifact = Artifact::read(artifact)?;
    let file = match (bundle.content(), &artifact) {
        (Content::Envelope { .. }, _) => None,
        (Content::File { .. }, Artifact::File(bytes)) => Some(bytes.as_slice()),
        (Content::File { .. }, Artifact::Digest(_)) => {
            return Err("a signature over a file is checked with the file, not with its digest alone".into());
        }
    };
    match (key, identity, issuer) {
        (Some(key), None, None) => {
            let key = PublicKey::from_pem(&fs::read_to_string(key)?)?;
            verify_with_key(&bundle, &root, &key, file)?;
        }
        (None, Some(identity), Some(issuer)) => {
            let found = verify(&bundle, &root, file)?.identity;
            if found.subject != identity || found.issuer != issuer {
                return Err(format!("signed by {} of {}", found.subject, found.issuer).into());
            }
        }
        _ => return Err(USAGE.into()),
    }
    match bundle.content() {
        Content::Envelope { payload, .. } => artifact.is_subject_of(payload),
        Content::File { .. } => Ok(()),
    }
}

enum Artifact {
    File(Vec<u8>),
    Digest(Digest),
}

impl Artifact {
    /// A digest, unless a file has that name.
    fn read(text: &str) -> Result<Artifact, Box<dyn Error>> {
        match text.parse() {
            Ok(digest) if !Path::new(text).exists() => Ok(Artifact::Digest(digest)),
            _ => Ok(Artifact::File(fs::read(text)?)),
        }
    }

    fn is_subject_of(&self, payload: &[u8]) -> Result<(), Box<dyn Error>> {
        let digest = match self {
            Artifact::File(bytes) => Digest::of(bytes),
            Artifact::Digest(digest) => *digest,
        };
        let statement: Value = serde_json::from_slice(payload)?;
        let subjects = statement["subject"].as_array().ok_or("no subjects")?;
        match subjects
            .iter()
            .any(|subject| subject["digest"]["sha256"] == digest.hex())
        {
            true => Ok(()),
            false => Err("the statement is about other files".into()),
        }
    }
}
