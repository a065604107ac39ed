//! The command line of `attest`.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::complete::{keys, targets};

#[derive(Debug, Args)]
#[command(
    after_help = "An attestation travels with the image, but does not count as a signature. A rule of the trust policy\ncan ask for attestations under `attest`. A .qyvbin holds attestations of at most 64 KiB; the store and registries,\nof at most 16 MiB.\n\n--provenance states what the variables of GitHub Actions or GitLab CI say: repository, ref, commit,\nrun. The job that signs writes it, so it is SLSA Build L1.\n\n  qyv attest app.qyvbin --sbom app.cdx.json\n  qyv attest app.qyvbin --provenance\n  qyv attest app:1.0.0 --type https://example.com/review/v1 --predicate review.json",
    group(ArgGroup::new("stated").required(true).args(["predicate_type", "sbom", "provenance"]))
)]
pub struct AttestArgs {
    /// A .qyvbin, or the name or digest of a stored image
    #[arg(add = targets())]
    pub target: String,
    /// The type of the predicate, a URI
    #[arg(long = "type", value_name = "URI", requires = "predicate")]
    pub predicate_type: Option<String>,
    /// The predicate: a file of JSON
    #[arg(long, value_name = "FILE", requires = "predicate_type")]
    pub predicate: Option<PathBuf>,
    /// An SBOM: CycloneDX or SPDX 2 in JSON
    #[arg(long, value_name = "FILE")]
    pub sbom: Option<PathBuf>,
    /// SLSA provenance, from the variables of the pipeline that this runs in
    #[arg(long)]
    pub provenance: bool,
    /// The key that signs: a name of `qyv keys list`, a key's file, or ssh:FINGERPRINT of a key in the ssh agent
    #[arg(long, add = keys(), value_name = "KEY")]
    pub key: Option<String>,
    /// A program that signs with the key whose public half is --key: it reads the bytes on stdin and writes the signature to stdout, 64 bytes or DER; no shell is used
    #[arg(long, value_name = "'CMD ARGS'", requires = "key")]
    pub signer: Option<String>,
}
