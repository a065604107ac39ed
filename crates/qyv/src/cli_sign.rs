//! The command line of `sign`, and what a signature says.

use clap::Args;

use crate::complete::{keys, targets};

#[derive(Debug, Args)]
pub struct SignArgs {
    /// A .qyvbin, or the name or digest of a stored image
    #[arg(add = targets())]
    pub target: String,
    /// The key that signs: a name of `qyv keys list`, a key's file, or ssh:FINGERPRINT of a key in the ssh agent
    #[arg(long, add = keys(), value_name = "KEY")]
    pub key: Option<String>,
    /// A program that signs, with --key as its public key: it reads the bytes from stdin and writes the signature to stdout, as 64 bytes or DER; it is started without a shell
    #[arg(long, value_name = "'CMD ARGS'", requires = "key")]
    pub signer: Option<String>,
    #[command(flatten)]
    pub claims: ClaimArgs,
    /// Sign nothing and print the predicate, for a tool that signs without a key
    #[arg(long, conflicts_with = "key")]
    pub print_predicate: bool,
}

/// What a signature says.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// The role of the signature, as in the rules of the trust policy
    #[arg(long, value_name = "ROLE", default_value = "release")]
    pub role: String,
    /// Sequence number, higher for each newer release of a name [default: from the version]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..1 << 53))]
    pub sequence: Option<u64>,
    /// When the signature expires, such as 2027-01-31 or 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
}
