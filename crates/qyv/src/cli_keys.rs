//! The command line of `keys`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::complete::key_names;

#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key
    Generate {
        /// Its name
        #[arg(default_value = "default")]
        name: String,
        /// Its algorithm
        #[arg(long = "type", value_enum, default_value = "ed25519")]
        kind: KeyKind,
        /// Encrypt it; the passphrase is asked for, or QYVOL_KEY_PASSPHRASE
        #[arg(long)]
        encrypt: bool,
    },
    /// List the keys
    List,
    /// Show one key: algorithm, fingerprint, public half
    Show {
        /// Its name
        #[arg(default_value = "default", add = key_names())]
        name: String,
    },
    /// Print a key as PEM: the public half by default
    Export {
        /// Its name
        #[arg(default_value = "default", add = key_names())]
        name: String,
        /// Print the private half, encrypted
        #[arg(long)]
        private: bool,
        /// Print the private half as it is, readable by anyone who sees it
        #[arg(long, requires = "private")]
        unencrypted: bool,
    },
    /// Remove a key
    Rm {
        /// Its name
        #[arg(add = key_names())]
        name: String,
        /// Remove its private half too, which may be the last copy
        #[arg(short, long)]
        yes: bool,
    },
    /// Import a key from a PEM file (PKCS#8 or SPKI, as OpenSSL writes them)
    Import {
        /// The name it will have
        name: String,
        /// The PEM file
        file: PathBuf,
        /// Encrypt it here; the passphrase is asked for, or QYVOL_KEY_PASSPHRASE
        #[arg(long)]
        encrypt: bool,
    },
}

/// A key's algorithm.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeyKind {
    /// Ed25519 (RFC 8032): signatures are deterministic
    Ed25519,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5): signatures are randomized
    EcdsaP256,
}
