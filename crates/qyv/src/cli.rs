//! The command line: every verb, option and word of help. `spec/cli.md`, the
//! completions and the man pages are generated from here.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use crate::cli_attest::AttestArgs;
pub use crate::cli_call::CallArgs;
pub use crate::cli_keys::{KeyKind, KeysCommand};
pub use crate::cli_meta::{CompletionsArgs, DoctorArgs, HelpArgs, ManArgs, QuickstartArgs};
pub use crate::cli_project::{DevArgs, InitArgs};
#[cfg(feature = "import")]
pub use crate::cli_registry::ImportArgs;
pub use crate::cli_registry::{
    CatalogArgs, CopyArgs, EncodeArgs, LoginArgs, LogoutArgs, PullArgs, PullWhen, PushArgs, RegistryArgs, TagsArgs,
};
#[cfg(feature = "hub")]
pub use crate::cli_registry::{HubCommand, HubServeArgs, HubUserAddArgs, HubUserArgs, HubUserCommand};
pub use crate::cli_run::{CompileArgs, GuestArgs, RunArgs, ServeArgs};
pub use crate::cli_sign::{ClaimArgs, SignArgs};
pub use crate::cli_trust::{DataCommand, FleetCommand, FormArg, IdentityArg, TrustCommand, VerifyArgs};
use crate::complete::{images, keys, targets};

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document; its fields only ever grow.
    Json,
    /// The same document as YAML.
    Yaml,
}

/// Pack, sign, verify and run WebAssembly applications.
#[derive(Debug, Parser)]
#[command(
    name = "qyv",
    version,
    about = "Pack, sign, verify and run WebAssembly applications",
    long_about = "Pack a WebAssembly application (a component or WASI module, its .qyv manifest, its assets) into one signed .qyvbin file; verify it without a network; run it.",
    after_help = "Start with:\n  qyv quickstart                 every step, on a built-in example\n  qyv init NAME --lang rust      a project of your own\n  qyv build DIR                  build and sign the application in DIR\n  qyv run FILE.qyvbin            verify it and run it\n\nData goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed,\n2 wrong usage, 10-19 refused by trust (see `qyv help trust`).",
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// `qyv run …` alone. Describing every other command to the parser takes longer than verifying
/// an image, so this command has a parser of its own, which accepts and prints the same (a test
/// compares them).
#[derive(Debug, Parser)]
#[command(name = "qyv", bin_name = "qyv", max_term_width = 100, disable_help_subcommand = true)]
pub struct RunCli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: RunCommand,
}

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Verify an application and run it
    Run(RunArgs),
}

impl Cli {
    /// Reads the command line.
    pub fn read() -> Cli {
        let is_run = std::env::args_os().nth(1).is_some_and(|word| word == "run");
        if !is_run {
            return Cli::parse();
        }
        let RunCli {
            global,
            command: RunCommand::Run(args),
        } = RunCli::parse();
        Cli {
            global,
            command: Command::Run(args),
        }
    }
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How data is printed
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        help_heading = "Global options"
    )]
    pub format: Format,
    /// Say more on stderr
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// Say nothing on stderr but errors
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub quiet: bool,
    /// Use this trust policy instead of trust.yaml in the configuration
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub policy: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a project: an application that builds with its language's own tools
    Init(InitArgs),
    /// Build an application and run it, and do so again after each change
    Dev(DevArgs),
    /// Check a .qyv manifest and report every problem in it
    Validate(ValidateArgs),
    /// Build a signed .qyvbin from a .qyv, and tag it in the store
    Build(BuildArgs),
    /// Resolve the dependencies of a .qyv again, and rewrite its qyv.lock
    Update(UpdateArgs),
    /// Add a signature to a .qyvbin or a stored image
    Sign(SignArgs),
    /// Sign a statement about an image: provenance, an SBOM, or any other
    Attest(AttestArgs),
    /// Remove the signatures that no trusted key has made
    Clean(CleanArgs),
    /// Make, list, show, export, import and remove keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Verify images against the trust policy, and all of their content against its digests
    Verify(VerifyArgs),
    /// Verify an application and run it
    Run(RunArgs),
    /// Verify an HTTP service and answer requests with it
    Serve(ServeArgs),
    /// Verify an application and call one of its functions
    Call(CallArgs),
    /// Verify an application and compile it ahead of its first run
    Compile(CompileArgs),
    /// Show what an image, an archive or a .wasm file is
    Inspect(InspectArgs),
    /// List the images in the store; with --quiet, their names alone
    #[command(visible_alias = "ls")]
    Images,
    /// Give a stored image another name
    Tag(TagArgs),
    /// Remove names from the store, or tags from a registry
    #[command(visible_alias = "rmi")]
    Rm(RmArgs),
    /// Remove what no name and no running application needs
    Prune(PruneArgs),
    /// Re-hash the whole store and report what is damaged
    Check(CheckArgs),
    /// Send an image with its signatures to a registry
    Push(PushArgs),
    /// Fetch an image with its signatures from a registry
    Pull(PullArgs),
    /// Make a signed image of a component that another tool has published
    #[cfg(feature = "import")]
    Import(ImportArgs),
    /// Copy an image with all that refers to it from registry to registry
    #[command(visible_alias = "cp")]
    Copy(CopyArgs),
    /// Publish smaller representations of an image that is in a registry
    Encode(EncodeArgs),
    /// List the tags of a repository
    Tags(TagsArgs),
    /// List the repositories of a registry
    Catalog(CatalogArgs),
    /// Store the credentials for a registry, once it has accepted them
    Login(LoginArgs),
    /// Forget the credentials for a registry
    Logout(LogoutArgs),
    /// Run your own registry
    #[cfg(feature = "hub")]
    Hub {
        #[command(subcommand)]
        command: HubCommand,
    },
    /// Write stored images into one .qyvbin
    Save(SaveArgs),
    /// Load the images of a .qyvbin, or of an OCI image layout, into the store
    Load(LoadArgs),
    /// Show and change the trust policy
    Trust {
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// List, move and remove what applications keep on this host
    Data {
        #[command(subcommand)]
        command: DataCommand,
    },
    /// Show what this host has and lacks for applications, and how to fix it
    Doctor(DoctorArgs),
    /// Build, sign, push, pull, verify and run an example, for real
    Quickstart(QuickstartArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Write man pages into a directory
    #[command(hide = true)]
    Man(ManArgs),
    /// Print the reference of every command, as Markdown
    #[command(hide = true)]
    Reference,
    /// Print the version and what it was built with
    Version,
    /// Show the help of a command, or of a topic: manifest, permissions, trust, directories, pipelines
    Help(HelpArgs),
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// A .qyv file, or the directory of one
    #[arg(default_value = ".", value_name = "DIR|FILE.qyv")]
    pub path: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Signing is the default. The first build on a machine makes the key `default` and trusts it\nfor local files on this machine. In CI, QYVOL_KEY_FILE names a key's file and QYVOL_KEY holds\na key's PEM; QYVOL_KEY_PASSPHRASE opens an encrypted one. If CI is set, no key is made here.\nWith SOURCE_DATE_EPOCH set, its time is recorded; without, 1970: the same inputs and key give\nthe same bytes.\n\nDirectories and globs under `assets` leave out .git, .env*, *.qyvbin, keys, and what .qyvignore\nnames. -v lists what is packed.\n\nImages under `dependencies` are judged by the trust policy and linked into the component. qyv.lock,\nin the manifest's directory, records them; a build uses those, and adds what the lock lacks.\n\nWith --compare, the exit code is 0 if the image is reproduced byte for byte, or if manifest,\ncomponent and files are the same and only the form differs, which is reported; 1 if they differ,\nwith the first difference."
)]
pub struct BuildArgs {
    /// A .qyv file, or the directory of one
    #[arg(default_value = ".", value_name = "DIR|FILE.qyv")]
    pub path: PathBuf,
    /// Output file [default: the manifest's file name with .qyvbin, in the current directory]
    #[arg(short, long, value_name = "FILE.qyvbin")]
    pub output: Option<PathBuf>,
    /// Replace the output even if it is not a .qyvbin; never one of the files that are read
    #[arg(short, long)]
    pub force: bool,
    /// One more name for the image in the store (repeatable)
    #[arg(short, long = "tag", value_name = "NAME:TAG")]
    pub tags: Vec<String>,
    /// The key that signs: a name of `qyv keys list`, a key's file, or ssh:FINGERPRINT of a key in the ssh agent
    #[arg(long, add = keys(), value_name = "KEY", conflicts_with = "no_sign")]
    pub key: Option<String>,
    /// A program that signs, with --key as its public key: it reads the bytes from stdin and writes the signature to stdout, as 64 bytes or DER; it is started without a shell
    #[arg(long, value_name = "'CMD ARGS'", requires = "key")]
    pub signer: Option<String>,
    /// Don't sign
    #[arg(long)]
    pub no_sign: bool,
    /// Make a component of a core WASI module
    #[arg(long)]
    pub componentize: bool,
    /// First run the manifest's `build`, the author's own tools, in the manifest's directory. It gets no variable QYVOL_…, and has ended before a key is read
    #[arg(long, conflicts_with = "compare")]
    pub run_build: bool,
    /// Write nothing; compare what would be built with this image: a .qyvbin, or a stored image's name or digest
    #[arg(
        long,
        value_name = "IMAGE",
        add = targets(),
        conflicts_with_all = ["output", "force", "tags", "key", "signer", "no_sign", "sequence", "expires"]
    )]
    pub compare: Option<String>,
    /// Refuse to build if qyv.lock does not have every dependency that the manifest asks for
    #[arg(long)]
    pub locked: bool,
    /// When to contact the registries in the names of dependencies [default: missing]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pull: Option<PullWhen>,
    #[command(flatten)]
    pub claims: ClaimArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A dependency whose name has a registry is looked up there; any other in the store, or in its file.\nEach must be accepted by the trust policy, ask for nothing that the application lacks, and fit its\nimports; if one does not, qyv.lock is not changed. Exit codes: 10-19 refused by trust; 69 a registry\nfailed, and trying again won't help; 75 it may."
)]
pub struct UpdateArgs {
    /// The dependencies to resolve anew, by their keys in the manifest [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// A .qyv file, or the directory of one
    #[arg(long, default_value = ".", value_name = "DIR|FILE.qyv")]
    pub path: PathBuf,
    /// When to contact the registries in the names of dependencies [default: always]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pull: Option<PullWhen>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Signatures by keys of the trust policy and of the keyring are kept. The image does not change.\nEach line names a signature's digest and the key that it claims. A registry may still serve\nwhat was removed here, and the next pull fetches it again."
)]
pub struct CleanArgs {
    /// A .qyvbin, or the name or digest of a stored image
    #[arg(add = targets())]
    pub target: String,
    /// Only list what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Remove them even if no signature remains
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
#[command(mut_group("RegistryArgs", |group| group.requires("remote")))]
pub struct InspectArgs {
    /// A .qyvbin, the name or digest of a stored image, or a .wasm file
    #[arg(add = targets())]
    pub target: String,
    /// Print the WIT of the component
    #[arg(long)]
    pub wit: bool,
    /// List the assets, with their sizes in bytes
    #[arg(long, conflicts_with = "wit")]
    pub assets: bool,
    /// Print what the component says it was built from, as an SBOM in JSON
    #[arg(long, value_enum, value_name = "FORM", conflicts_with_all = ["wit", "assets"])]
    pub sbom: Option<SbomForm>,
    /// Look at the image on its registry; its layers are not fetched
    #[arg(long, conflicts_with_all = ["wit", "assets", "sbom"])]
    pub remote: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// The form of an SBOM.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SbomForm {
    /// CycloneDX 1.5
    Cyclonedx,
}

#[derive(Debug, Args)]
pub struct TagArgs {
    /// A name in the store, or a digest
    #[arg(add = images())]
    pub from: String,
    /// The additional name
    pub to: String,
}

#[derive(Debug, Args)]
pub struct RmArgs {
    /// Names in the store; of a digest, every name of that image
    #[arg(required = true, add = images())]
    pub names: Vec<String>,
    /// On their registries, not in the store: a tag, or with @DIGEST an image and all its tags
    #[arg(long)]
    pub remote: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Don't ask
    #[arg(short, long)]
    pub yes: bool,
    /// Only say what would be removed
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Move damaged entries to quarantine, so that the next load or pull restores them
    #[arg(long)]
    pub repair: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A name in a registry is recorded in the file, and `qyv load` restores it if the policy accepts it.\nAn image with another name, or named by its digest, is recorded under its own name:version."
)]
pub struct SaveArgs {
    /// Names in the store, or digests
    #[arg(required = true, add = images())]
    pub names: Vec<String>,
    /// The file to write
    #[arg(short, long, value_name = "FILE.qyvbin")]
    pub output: PathBuf,
    /// Replace the output even if it is not a .qyvbin
    #[arg(short, long)]
    pub force: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The trust policy judges each image before anything is stored: a name in a registry by that name's\nrule, any other by the rule for files. If one of its images is refused, the whole file is. A name\nthat refers to another image in the store is not moved without --replace."
)]
pub struct LoadArgs {
    /// .qyvbin files, or OCI image layouts: directories, or tars that are not compressed
    #[arg(required = true, value_name = "FILE.qyvbin|LAYOUT")]
    pub files: Vec<PathBuf>,
    /// Don't verify: store each image under its own name:version alone
    #[arg(long)]
    pub no_verify: bool,
    /// Move names that point to another image in the store
    #[arg(long)]
    pub replace: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn run_is_the_same_command_in_both_parsers() {
        let help = |mut command: clap::Command| {
            command.build();
            command
                .find_subcommand_mut("run")
                .map(|c| c.render_long_help().to_string())
        };
        assert!(help(Cli::command()).is_some());
        assert_eq!(help(Cli::command()), help(RunCli::command()));
    }

    fn assert_fits(command: &clap::Command) {
        for line in command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default()
            .lines()
        {
            assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
        }
        command.get_subcommands().for_each(assert_fits);
    }

    #[test]
    fn lines_after_options_fit_in_100_columns() {
        assert_fits(&Cli::command());
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
