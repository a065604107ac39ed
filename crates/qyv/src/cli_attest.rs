//! The command line of `attest`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::complete::{keys, targets};

#[derive(Debug, Args)]
#[command(
    after_help = "An attestation travels with its image, and does not count as a signature. A rule of the trust policy\ncan ask for one under `attest`. A .qyvbin holds attestations of up to 64 KiB each; the store and\nregistries hold them up to 16 MiB.\n\n--provenance takes the repository, ref, commit and run from the variables of GitHub Actions or\nGitLab CI. The job states them about itself, so this is SLSA Build L1.\n\n  qyv attest app.qyvbin --sbom app.cdx.json\n  qyv attest app.qyvbin --provenance\n  qyv attest app:1.0.0 --type https://example.com/review/v1 --predicate review.json",
    group(ArgGroup::new("stated").required(true).args(["predicate_type", "sbom", "provenance"]))
)]
pub struct AttestArgs {
    /// A .qyvbin, or the name or digest of a stored image
    #[arg(add = targets())]
    pub target: String,
    /// The type of the predicate: a URI
    #[arg(long = "type", value_name = "URI", requires = "predicate")]
    pub predicate_type: Option<String>,
    /// The predicate: a JSON file
    #[arg(long, value_name = "FILE", requires = "predicate_type")]
    pub predicate: Option<PathBuf>,
    /// Attest an SBOM: a JSON file, CycloneDX or SPDX 2
    #[arg(long, value_name = "FILE")]
    pub sbom: Option<PathBuf>,
    /// Attest SLSA provenance, from the variables of the CI job that runs this
    #[arg(long)]
    pub provenance: bool,
    /// The key that signs: a name of `qyv keys list`, a key's file, or ssh:FINGERPRINT of a key in the ssh agent
    #[arg(long, add = keys(), value_name = "KEY")]
    pub key: Option<String>,
    /// A program that signs, with --key as its public key: it reads the bytes from stdin and writes the signature to stdout, as 64 bytes or DER; it is started without a shell
    #[arg(long, value_name = "'CMD ARGS'", requires = "key")]
    pub signer: Option<String>,
}
