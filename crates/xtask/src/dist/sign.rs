//! Signatures of what is released: bundles as `qyv` makes them for images, here
//! with the digest of a file as their subject.
//!
//! Beside `FILE.sigstore.json`, which sigstore's tools read, are the signed bytes
//! and the bare signature, so that openssl alone can check them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qyvol_trust::{Envelope, PrivateKey, Statement};
use qyvol_types::{Digest, Timestamp};

use super::Release;
use crate::files::{read, write};
use crate::process::output;

const PUBLIC_KEY: &str = "qyv-release.pub";

/// Who signs a release.
pub(super) struct Signer {
    key: PrivateKey,
}

impl Signer {
    /// Reads the key.
    pub(super) fn open(file: Option<&Path>) -> Result<Signer, String> {
        let text = match file {
            Some(path) => fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
            None => env::var("QYVOL_KEY")
                .ok()
                .filter(|text| !text.is_empty())
                .ok_or("nothing to sign with: add --key FILE or set QYVOL_KEY, or add --no-sign")?,
        };
        let passphrase = env::var("QYVOL_KEY_PASSPHRASE").unwrap_or_default();
        let key = match text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            true => PrivateKey::from_encrypted_pem(&text, &passphrase),
            false => PrivateKey::from_pem(&text),
        };
        let key = key.map_err(|e| format!("the signing key: {e}"))?;
        Ok(Signer { key })
    }

    /// Signs each of the files, and checks the signatures by openssl.
    pub(super) fn sign(&self, release: &Release, directory: &Path, files: &[PathBuf]) -> Result<(), String> {
        let public = directory.join(PUBLIC_KEY);
        write(&public, self.key.public().to_pem())?;
        for file in files {
            let statement = Statement {
                subject: Digest::of(&read(file)?),
                name: "qyvol/qyv".to_string(),
                version: release.version.clone(),
                role: "release".to_string(),
                sequence: release.time,
                created: Timestamp::from_unix(release.time).map_err(|e| format!("the commit's time: {e}"))?,
                expires: None,
                critical: Vec::new(),
            };
            let envelope = Envelope::sign(&self.key, &statement).map_err(|e| format!("{}: {e}", file.display()))?;
            let beside = |ending: &str| PathBuf::from(format!("{}.{ending}", file.display()));
            write(&beside("sigstore.json"), envelope.bytes())?;
            write(&beside("signed"), envelope.pae().map_err(|e| e.to_string())?)?;
            write(&beside("sig"), envelope.signature())?;
            let mut openssl = Command::new("openssl");
            openssl.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]);
            openssl.arg(&public).arg("-in").arg(beside("signed"));
            output(openssl.arg("-sigfile").arg(beside("sig")))?;
        }
        Ok(())
    }
}
