//! The command line of `verify`, of the trust policy and of applications' data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use qyvol::types::Digest;

use crate::cli::RegistryArgs;
use crate::complete::{images, keys, targets};

/// What a signed name and version are checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityArg {
    /// The name must fit the repository, the tag be the signed version
    Exact,
    /// The name must fit the repository, with any tag; older images are refused
    Repository,
    /// Any name and version
    Any,
}

/// The form of a key's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormArg {
    /// Name, version and role are signed
    Qyvol,
    /// `cosign sign --key`: the digest alone is signed; ECDSA P-256 keys
    Cosign,
}

#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Print where the policy is and what it says
    Show,
    /// Check a policy file and report every problem in it
    #[command(
        after_help = "With --all, every image in the store is judged by that policy too. Exit codes: 0 it refuses nothing\nthat this host accepts now; 10 to 18 why it refuses the first image that this host accepts now;\n19 the policy can't be used, or has expired by then. Nothing is changed, and no network is used.\n\n  qyv trust check new.yaml --all\n  qyv trust check --all --at 2027-01-01"
    )]
    Check {
        /// The file [default: the one in force]
        file: Option<PathBuf>,
        /// List which images in the store it accepts and which it refuses
        #[arg(long)]
        all: bool,
        /// Judge as if it were this time, such as 2027-01-31 or 2027-01-31T12:00:00Z
        #[arg(long, value_name = "TIME", requires = "all")]
        at: Option<String>,
    },
    /// Trust a key for the images of a scope
    #[command(
        after_help = "A scope is HOST/REPOSITORY by whole segments, `*` for one and `**` at the end for the rest;\n`file:` for archives and local names, `file:NAME` for those of that name. Where a rule has the\nscope already, the key is added to it. The policy is made if there is none.\n\n  qyv trust add 'registry.example/acme/**' --key acme.pub\n  qyv trust add registry.example/acme/app --key acme.pub --identity repository\n  qyv trust add file: --key acme.pub"
    )]
    Add {
        /// What the key signs for
        scope: String,
        /// A public key's file in PEM or as ssh-keygen writes it (a path, or *.pub, *.pem, *.key), or the name of a key
        #[arg(long, add = keys(), value_name = "FILE|NAME")]
        key: String,
        /// The role it signs in
        #[arg(long, default_value = "release")]
        role: String,
        /// The form of its signatures
        #[arg(long, value_enum, default_value_t = FormArg::Qyvol)]
        form: FormArg,
        /// How many of the role's keys must sign [default: as it was, or 1]
        #[arg(long, value_name = "N")]
        threshold: Option<usize>,
        /// How signed names are compared with the requested one [default: as it was, or exact]
        #[arg(long, value_enum)]
        identity: Option<IdentityArg>,
    },
    /// Trust the key that comes with an image, for releases of its repository
    #[command(
        after_help = "For the first image of a repository that no rule covers. The public key comes with the signature, so\nit proves nothing by itself: compare its fingerprint with the one that the publisher shows\nelsewhere. Without --fingerprint, the command asks on the terminal. `qyv run` and\n`qyv pull --verify` ask too, unless CI is set. From then on, an image that is signed with another\nkey is refused (11).\n\n  qyv trust pin registry.example/acme/app:1.0.0 --fingerprint SHA256:…"
    )]
    Pin {
        /// An image in a registry, as HOST/NAME[:TAG][@DIGEST]
        #[arg(value_name = "REF", add = images())]
        name: String,
        /// The key's fingerprint, as its publisher gave it to you (SHA256:…)
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<String>,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Remove the rule of a scope, or one key from it
    Remove {
        /// The rule's scope
        scope: String,
        /// Only this key: its file, its name or its fingerprint
        #[arg(long, add = keys(), value_name = "FILE|NAME|FINGERPRINT")]
        key: Option<String>,
    },
    /// Refuse a key's signatures, or one image, from now on
    #[command(
        after_help = "If this host follows a policy that others publish, that policy stays as it is: the revocation is\nwritten to trust.yaml.revoked beside it, which `qyv trust pull` keeps, and holds on this host\nalone, whatever --policy or --key says. It can only revoke.\n\n  qyv trust revoke acme-ci\n  qyv trust revoke sha256:…\n  qyv trust revoke --undo sha256:…"
    )]
    Revoke {
        /// A key's file, name or fingerprint (SHA256:…), or an image's digest (sha256:…)
        #[arg(value_name = "KEY|DIGEST", add = keys())]
        what: String,
        /// Keep accepting the key's signatures over this image (repeatable)
        #[arg(long, value_name = "DIGEST")]
        keep: Vec<Digest>,
        /// Revoke it no longer
        #[arg(long, conflicts_with = "keep")]
        undo: bool,
    },
    /// Show which rule applies to an image, and the verdict on each of its signatures
    Explain {
        /// A .qyvbin, or the name of a stored image
        #[arg(add = targets())]
        target: String,
    },
    #[command(flatten)]
    Fleet(FleetCommand),
}

/// Policies that hosts follow.
#[derive(Debug, Subcommand)]
pub enum FleetCommand {
    /// Follow a policy that others publish and sign
    #[command(
        after_help = "The first document is trusted because you name it: by a file, or by the digest that `qyv trust sign`\nprints. Each later one must be signed by enough keys of the one before it, and of its own. From\nthen on `qyv trust pull` or `qyv trust import` changes the policy; `qyv trust add` and `remove` are\nrefused, and `qyv trust revoke` revokes on this host alone.\n\n  qyv trust follow fleet.yaml\n  qyv trust follow registry.example/policy@sha256:…"
    )]
    Follow {
        /// A policy's file, or HOST/REPOSITORY@DIGEST
        source: String,
        /// Replace the policy that is in force; one that was not followed is kept as trust.yaml.before
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Replace the policy by the newest one that its publisher has signed
    #[command(
        after_help = "Exit codes: 0 replaced or unchanged; 11 and 13 signed by no key or too few, 15 an older document or\nanother one of the same serial, 16 malformed, 18 another policy's name, 19 the newest policy has\nexpired or is not fresh, 69 and 75 the registry failed. If a document is refused, those before it\nare put into force."
    )]
    Pull {
        /// The repository [default: `update.from` of the policy in force]
        repository: Option<String>,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Replace the policy by the newest one in a file of `qyv trust export`, without a network
    Import {
        /// The file
        file: PathBuf,
    },
    /// Fetch a policy's signed documents into a file
    Export {
        /// The repository [default: `update.from` of the policy in force]
        repository: Option<String>,
        /// The file to write
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The first serial [default: that of the policy in force, or 1]
        #[arg(long, value_name = "SERIAL")]
        from: Option<u64>,
        #[command(flatten)]
        registry: RegistryArgs,
    },
    /// Sign a policy that hosts follow
    #[command(
        after_help = "The file holds a line of JSON for each document, with its signatures: each signer adds theirs. A\npolicy that hosts follow has a `name`, a `serial` that grows by one, and an `update`:\n\n  name: fleet\n  serial: 7\n  update: { keys: [alice, bob], threshold: 2, from: registry.example/policy }\n\n  qyv trust sign fleet.jsonl --document fleet.yaml --key alice\n  qyv trust sign fleet.jsonl --key bob\n  qyv trust push fleet.jsonl"
    )]
    Sign {
        /// The file of signed documents; made if there is none
        file: PathBuf,
        /// A policy to add, with the next serial [default: sign the last one]
        #[arg(long, value_name = "FILE")]
        document: Option<PathBuf>,
        /// Say that the last document is the newest, instead of signing it
        #[arg(long, conflicts_with = "document")]
        fresh: bool,
        /// A program that signs for the public key of --key, as `qyv help sign` says
        #[arg(long, value_name = "COMMAND", requires = "key")]
        signer: Option<String>,
        /// The key that signs: a name of `qyv keys list`, or a key's file
        #[arg(long, add = keys(), value_name = "KEY")]
        key: Option<String>,
    },
    /// Publish signed policies in a registry
    Push {
        /// The file of `qyv trust sign`
        file: PathBuf,
        /// The repository [default: `update.from` of the last document]
        repository: Option<String>,
        #[command(flatten)]
        registry: RegistryArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// List the data that applications keep on this host
    Ls,
    /// Give an application's data to another owner or name
    Move {
        /// The application that has the data now, as `data ls` prints it
        application: String,
        /// The repository or name to give the data to
        to: String,
        /// The current owner, a scope or key; needed if there are several
        #[arg(long)]
        owner: Option<String>,
        /// The new owner, a scope or key [default: the current one]
        #[arg(long)]
        to_owner: Option<String>,
    },
    /// Remove an application's data
    Rm {
        /// The application that has the data, as `data ls` prints it
        application: String,
        /// The owner, a scope or key; needed if there are several
        #[arg(long)]
        owner: Option<String>,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 accepted; 10 unsigned, 11 no trusted key, 12 bad signature, 13 too few keys or no\nattestation, 14 expired or revoked, 15 rollback, 16 malformed, 17 over a limit, 18 another name or\nversion, 19 policy unusable or expired. If there are several targets, the first one that trust\nrefuses decides the exit code; if there is none, the first one that fails for another reason\ndecides. Nothing is unpacked or stored, and no network is used without --remote.\n\n  qyv verify app.qyvbin\n  qyv verify releases/ --record audit.json\n  qyv verify --remote registry.example/acme/app:1.0.0"
)]
#[command(mut_group("RegistryArgs", |group| group.requires("remote")))]
pub struct VerifyArgs {
    /// .qyvbin files, directories of them (written with a `/` at the end), or names or digests of stored images
    #[arg(required = true, add = targets(), value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Trust this public key alone, instead of the policy: a file or a name of the keyring
    #[arg(long, add = keys(), value_name = "FILE|NAME")]
    pub key: Option<String>,
    /// Write what was verified, and by which policy or key, to this new JSON file
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// If an image's name has a registry, verify the image in that registry, without storing it
    #[arg(long)]
    pub remote: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}
