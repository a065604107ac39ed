//! The command line of the registry commands.

#[cfg(feature = "hub")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[cfg(feature = "hub")]
use clap::Subcommand;
use clap::{Args, ValueEnum};
use qyvol::types::parse_duration;
#[cfg(feature = "hub")]
use qyvol_hub::{Network, Scope};

#[cfg(feature = "import")]
use crate::cli_sign::ClaimArgs;
use crate::complete::{images, targets};

/// When an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullWhen {
    /// Every time
    Always,
    /// If the store does not have it
    Missing,
    /// Never: no connection is opened
    Never,
}

/// How registries are reached.
#[derive(Clone, Debug, Default, Args)]
pub struct RegistryArgs {
    /// Use plain HTTP for this host, as is the default for loopback addresses (repeatable)
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Registry options")]
    pub plain_http: Vec<String>,
    /// Use HTTPS for this loopback host (repeatable)
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Registry options")]
    pub tls: Vec<String>,
    /// Trust the certificates in this PEM file too
    #[arg(long, value_name = "FILE", help_heading = "Registry options")]
    pub ca: Option<PathBuf>,
    /// How many times to retry after a temporary failure
    #[arg(long, value_name = "N", default_value_t = 4, help_heading = "Registry options")]
    pub retries: u32,
    /// Give up on a registry that sends nothing for this long, such as 30s or 5m [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Registry options")]
    pub timeout: Option<Duration>,
}

/// The longest timeout that can be set.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

fn duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).map(Duration::from_millis);
    time.filter(|time| *time <= MAX_TIMEOUT)
        .ok_or_else(|| "expected a whole number of ms, s, m or h, at most 1h, such as 30s".to_string())
}

#[derive(Debug, Args)]
#[command(
    after_help = "Blobs that the registry has are not sent; those that another of its repositories has are mounted.\nSignatures are sent too. With the image, push publishes its component compressed, and as patches\nfrom earlier images, where that saves a third: hosts then fetch fewer bytes. The image stays the\nsame. Exit codes: 69 failed, and trying again won't help; 75 it may."
)]
pub struct PushArgs {
    /// A .qyvbin, or the name of a stored image
    #[arg(add = targets())]
    pub source: String,
    /// Where it goes, as HOST/NAME[:TAG]; several names are allowed [default: the source's own name]
    #[arg(value_name = "REF")]
    pub names: Vec<String>,
    /// Only say what would be sent
    #[arg(long)]
    pub dry_run: bool,
    /// Publish a patch from the component of this image, a .qyvbin or a stored name (repeatable, at most 8) [default: the two latest stored images of the repository]
    #[arg(long, value_name = "IMAGE", conflicts_with = "no_encodings", add = targets())]
    pub patch_from: Vec<String>,
    /// Don't publish smaller representations of the component
    #[arg(long)]
    pub no_encodings: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "For images that were pushed without them, or by another tool; whoever may push may do it. Patches\nthat are replaced, and those from components that the repository does not have any more, are\nremoved where the registry lets you delete. Exit codes: 69 failed, and trying again won't help;\n75 it may."
)]
pub struct EncodeArgs {
    /// An image, as HOST/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF", add = images())]
    pub name: String,
    /// Make a patch from the component of this image: a .qyvbin, a stored name or one in a registry (repeatable, at most 8) [default: the two latest stored images of the repository, or else its two tags before REF]
    #[arg(long, value_name = "IMAGE", add = targets())]
    pub patch_from: Vec<String>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A tag is resolved once; everything after that is fetched by digest. Trust is decided by\n`qyv run` and `qyv verify`, or here with --verify. What an interrupted pull\nfetched stays in the store, and the next pull resumes from it (`qyv prune` removes it).\nExit codes: 69 failed, and trying again won't help; 75 it may; 10-19 refused by trust."
)]
pub struct PullArgs {
    /// An image, as HOST/NAME[:TAG][@DIGEST]
    #[arg(value_name = "REF", add = images())]
    pub name: String,
    /// Write this file instead of the store: the same bytes as the built file, unless signatures were added since
    #[arg(short, long, value_name = "FILE.qyvbin")]
    pub output: Option<PathBuf>,
    /// Replace the output even if it is not a .qyvbin
    #[arg(short, long, requires = "output")]
    pub force: bool,
    /// Refuse what the trust policy does not accept, before storing any of it
    #[arg(long)]
    pub verify: bool,
    /// Only say what would be fetched
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[cfg(feature = "import")]
#[derive(Debug, Args)]
#[command(
    after_help = "Takes the artifacts of wkg, wash, Spin and ORAS, container images that hold one .wasm file, and\nindexes with a WebAssembly platform. The component does not change; the image is built,\nsigned, stored and written like one from `qyv build`. Without --manifest the image is granted\nnothing; what its imports ask for is printed. Its name is the last part of REF, its version the\ntag, or, for `latest` or a digest alone, the version that the source states. A name from REF never\nreplaces another image or file without --replace. The source's digest is recorded in the\nimage. The source's own signatures are counted and not checked, and say nothing about the image:\nyours is what hosts check. Exit codes: 1 it is not a usable program, 16 it has no\nWebAssembly or is ambiguous, 17 over a limit, 69 failed, and trying again won't help; 75 it may."
)]
pub struct ImportArgs {
    /// An artifact, as HOST/NAME[:TAG][@DIGEST] (Docker Hub is docker.io), or a .wasm file
    #[arg(value_name = "REF|FILE.wasm")]
    pub source: String,
    /// Name and version of the image [default: from REF]
    #[arg(long, value_name = "NAME:VERSION", conflicts_with = "manifest")]
    pub name: Option<String>,
    /// Use this manifest; its entrypoint only names the component, and is not read
    #[arg(long, value_name = "FILE.qyv")]
    pub manifest: Option<PathBuf>,
    /// The layer to use if there are several components: its digest, title or Spin component id
    #[arg(long, value_name = "DIGEST|TITLE|ID")]
    pub layer: Option<String>,
    /// Output file [default: the image's or the manifest's name, in the current directory]
    #[arg(short, long, value_name = "FILE.qyvbin")]
    pub output: Option<PathBuf>,
    /// Replace the output even if it is not a .qyvbin; never one of the files that are read
    #[arg(short, long)]
    pub force: bool,
    /// Let a name from REF replace an existing file, and move in the store
    #[arg(long)]
    pub replace: bool,
    /// One more name for the image in the store (repeatable)
    #[arg(short, long = "tag", value_name = "NAME:TAG")]
    pub tags: Vec<String>,
    /// The key that signs: a name of `qyv keys list`, or a key's file
    #[arg(long, value_name = "KEY", conflicts_with = "no_sign")]
    pub key: Option<String>,
    /// Don't sign
    #[arg(long)]
    pub no_sign: bool,
    #[command(flatten)]
    pub claims: ClaimArgs,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub struct CopyArgs {
    /// An image, as HOST/NAME[:TAG][@DIGEST]
    pub from: String,
    /// Where it goes, as HOST/NAME[:TAG]
    #[arg(required = true)]
    pub to: Vec<String>,
    /// Only say what would be copied
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub struct TagsArgs {
    /// A repository, as HOST/NAME
    #[arg(value_name = "REPOSITORY")]
    pub name: String,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Registries list what these credentials may see, or refuse to list anything (Docker Hub does).")]
pub struct CatalogArgs {
    /// The registry, as HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    pub host: String,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Credentials are looked for in this order: QYVOL_REGISTRY with QYVOL_REGISTRY_USER and\nQYVOL_REGISTRY_PASSWORD, or QYVOL_REGISTRY_TOKEN (for CI); the file that this command writes;\nREGISTRY_AUTH_FILE; Docker's and ORAS's config.json; Podman's auth.json. Credential helpers that\nthese files name (credsStore, credHelpers) are asked."
)]
pub struct LoginArgs {
    /// The registry, as HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    pub host: String,
    /// The name; asked for if it is not given
    #[arg(short, long, value_name = "NAME")]
    pub username: Option<String>,
    /// Read the password or token from stdin instead of asking
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The registry, as HOST[:PORT]
    #[arg(value_name = "REGISTRY")]
    pub host: String,
}

#[cfg(feature = "hub")]
#[derive(Debug, Subcommand)]
pub enum HubCommand {
    /// Serve a registry from this machine
    Serve(HubServeArgs),
    /// Change who may use the registry
    User {
        #[command(subcommand)]
        command: HubUserCommand,
    },
}

#[cfg(feature = "hub")]
#[derive(Debug, Subcommand)]
pub enum HubUserCommand {
    /// Add a user; the password is asked for twice, or read from a pipe
    Add(HubUserAddArgs),
    /// Remove a user
    #[command(visible_alias = "remove")]
    Rm(HubUserArgs),
    /// List the users and what they may do
    #[command(visible_alias = "ls")]
    List(HubUsersArgs),
}

#[cfg(feature = "hub")]
#[derive(Debug, Args)]
#[command(
    after_help = "A running hub picks up the change by itself.\n\n  qyv hub user add ana --users users.json --allow 'team/*=read,write' --allow base=read"
)]
pub struct HubUserAddArgs {
    #[command(flatten)]
    pub user: HubUserArgs,
    /// What the user may do: a repository, `NAME/*` for all below it or `*` for all, and the
    /// actions read, write and delete (repeatable)
    #[arg(long, value_name = "REPOSITORY=ACTIONS", required_unless_present = "replace")]
    pub allow: Vec<Scope>,
    /// Change the password of an existing user and, with --allow, the rights
    #[arg(long)]
    pub replace: bool,
}

#[cfg(feature = "hub")]
#[derive(Debug, Args)]
pub struct HubUserArgs {
    /// The user
    #[arg(value_name = "NAME")]
    pub name: String,
    #[command(flatten)]
    pub file: HubUsersArgs,
}

#[cfg(feature = "hub")]
#[derive(Debug, Args)]
pub struct HubUsersArgs {
    /// The users file, which `hub serve --users` reads
    #[arg(long, value_name = "FILE")]
    pub users: PathBuf,
}

#[cfg(feature = "hub")]
#[derive(Debug, Args)]
#[command(
    after_help = "The address that was bound is printed on stdout, so port 0 works. The log is JSON lines on stderr.\n`hub user add` writes the users file (JSON); it and the certificate are reloaded when they change:\n  {\"anonymous_read\": false, \"token\": true, \"users\": [{\"name\": \"ana\", \"password\": \"$argon2id$…\",\n   \"scopes\": [{\"repository\": \"team/*\", \"actions\": [\"read\", \"write\", \"delete\"]}]}]}"
)]
pub struct HubServeArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// The data directory [default: `hub` next to the store]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The users and their rights; without it anyone may do anything, and only a loopback address is allowed
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// Let everybody who can reach the address do everything
    #[arg(long, conflicts_with = "users")]
    pub open: bool,
    /// The certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The URL that clients use, if it differs from the one in their requests
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// A proxy in front of it, whose X-Forwarded-For, -Proto and -Host are trusted: an address
    /// or a network (repeatable)
    #[arg(long, value_name = "ADDRESS[/PREFIX]")]
    pub trusted_proxy: Vec<Network>,
    /// The largest blob that is accepted, in bytes
    #[arg(long, value_name = "BYTES")]
    pub max_blob: Option<u64>,
    /// Serve the registry's API alone, without pages for browsers
    #[arg(long)]
    pub no_pages: bool,
    /// Remove unreferenced content and exit; a running hub does so by itself
    #[arg(long)]
    pub collect_garbage: bool,
}
