//! The options of `run`, `serve` and `compile`, and those that `call` shares with them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::cli::{PullWhen, RegistryArgs};
use crate::complete::{keys, run_targets, targets};

#[derive(Debug, Args)]
#[command(
    override_usage = "qyv run [OPTIONS] <TARGET> [ARGS]...",
    after_help = "Options of qyv come before TARGET; everything after it goes to the guest, and a first `--` is\ndropped. If the manifest has `processes`, the first argument names one, which is restarted as the\nmanifest says. The guest's exit code is passed through. 124: a limit ended the guest; 125: qyv\nitself failed; 126: refused by trust; 134: the guest trapped. A guest may exit with these codes too:\n--report says who ended the run. If a variable is set more than once, the last value\ncounts: the manifest's, then --env-file, --env, --secret."
)]
pub struct RunArgs {
    /// A .qyvbin, the name or digest of an image, or a .qyv or DIR/ under development; then the guest's arguments
    // One list, because clap reads its own options between two positional arguments.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, add = run_targets(), value_names = ["TARGET", "ARGS"])]
    pub target_and_args: Vec<String>,
    #[command(flatten)]
    pub guest: GuestArgs,
    /// Let the guest start this host program, named by its absolute path, if the manifest asks for it (repeatable)
    #[arg(long, value_name = "PROGRAM")]
    pub allow_exec: Vec<String>,
    /// Limit the guest's access to its own file system
    #[arg(long, value_name = "ACCESS", value_parser = ["none", "read"])]
    pub fs: Option<String>,
    /// Read the credentials for netfs from this file: user and password, token, or access-key and secret-key
    #[arg(long, value_name = "FILE")]
    pub fs_credentials: Option<PathBuf>,
    /// Make the run repeatable: clocks and random numbers are the same in every run, stdin is read before the guest starts, and there is no network and no host program
    #[arg(long, conflicts_with_all = ["allow_net", "allow_exec"])]
    pub deterministic: bool,
    /// Seed of the random numbers of a deterministic run [default: 0]
    #[arg(long, value_name = "N", requires = "deterministic")]
    pub seed: Option<u64>,
    /// Create a file that shows which functions of the guest run, sampled every millisecond, also if it traps or a limit ends it; profiler.firefox.com opens it
    #[arg(long, value_name = "FILE", conflicts_with = "debug_info")]
    pub profile: Option<PathBuf>,
    /// If the guest traps, create a core dump: a file with its stack and all of its memory, secrets too, that only this user can read
    #[arg(long, value_name = "FILE")]
    pub coredump: Option<PathBuf>,
    /// Run code that is not optimised, so that gdb and lldb see the guest's source; traps name its files and lines, as far as the component has DWARF
    #[arg(long)]
    pub debug_info: bool,
    /// Print how long the steps took, and the memory, processor time and output of the guest;
    /// with --format json, the document of --report, on one line of stderr
    #[arg(long)]
    pub stats: bool,
    /// Create a JSON file that says who ended the run (the guest, a limit, trust, or qyv), with the figures of --stats
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// End with the process that started this one, which has this number
    // For `qyv dev`, which may be ended by force.
    #[arg(long, value_name = "PID", hide = true)]
    pub end_with: Option<i32>,
}

/// The common options of `run`, `serve` and `call`: what a guest is given, and how its image is
/// found and judged.
#[derive(Debug, Default, Args)]
pub struct GuestArgs {
    /// Set an environment variable for the guest; NAME alone takes its value from qyv's environment (repeatable)
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Set the variables in this file, one NAME=VALUE or NAME on each line; lines that start with # are comments (repeatable)
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Set a variable to the content of a file, without a final newline (repeatable)
    #[arg(long = "secret", value_name = "NAME=FILE")]
    pub secrets: Vec<String>,
    /// Grant a directory of this host (repeatable)
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    pub dirs: Vec<String>,
    /// Allow connections to HOST:PORT in addition to what the manifest asks for (repeatable)
    #[arg(long, value_name = "HOST:PORT")]
    pub allow_net: Vec<String>,
    /// Give the guest no network, whatever its manifest asks for
    #[arg(long, conflicts_with = "allow_net")]
    pub no_net: bool,
    /// Set a limit in place of the manifest's: memory, timeout, cpu, fuel, storage, output, files or sockets (repeatable)
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    pub limits: Vec<String>,
    /// Append lines of JSON to this file: what the guest is granted, its uses of the network and of host programs, and what it is denied
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Trust this public key alone, instead of the policy: a file or a name of the keyring
    #[arg(long, add = keys(), value_name = "FILE|NAME")]
    pub key: Option<String>,
    /// When to contact the registry in the target's name [default: missing]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pull: Option<PullWhen>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without a handler of wasi:http, the functions that the manifest names are called by POST /NAME,\nwith JSON.\n\nEach request has an instance of its own, unless the manifest says `serve: { reuse: N }`, with the\nlimits and permissions of the manifest; files that the manifest grants are shared by all requests.\n\nSIGINT and SIGTERM end it once the requests that have arrived are answered; a second one ends it at\nonce. SIGHUP reopens the access log, reads a certificate that has changed, and checks the target at\nonce, as --watch does: a file, a name in the store, or with --pull always a name in its registry. A\ntarget that trust refuses, or that does not start, changes nothing.\n\nExit codes: 0 ended by a signal; 125: qyv itself failed; 126: refused by trust."
)]
pub struct ServeArgs {
    /// A .qyvbin, the name or digest of an image, or a .qyv or DIR/ under development
    #[arg(add = run_targets(), required_unless_present = "apps")]
    pub target: Option<String>,
    /// Serve the applications in this file, each under its own host or path
    #[arg(long, value_name = "FILE", conflicts_with = "target")]
    pub apps: Option<PathBuf>,
    /// Address and port to listen on; port 0 is any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Serve TLS, with the certificate and its chain in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM), which nobody else may read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Accept only clients with a certificate that chains to one in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// How long a request may take, unless the manifest says less
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub request_timeout: humantime::Duration,
    /// Requests that are answered at once; a further one waits for a second, and is then refused (503)
    #[arg(long, value_name = "N", default_value = "128", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_requests: u32,
    /// Size limit of a request's body
    #[arg(long, value_name = "SIZE", default_value = "16MiB")]
    pub max_body: String,
    /// Check this often whether the target has changed; if trust accepts the new one and it
    /// starts, it answers from then on
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    pub watch: Option<humantime::Duration>,
    /// Append a line of JSON for each request to this file, or write it to stdout (-)
    #[arg(long, value_name = "FILE|-")]
    pub access_log: Option<PathBuf>,
    /// Answer /healthz and /metrics on this address; a port alone is one of 127.0.0.1
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = admin_address)]
    pub admin: Option<SocketAddr>,
    #[command(flatten)]
    pub guest: GuestArgs,
}

#[derive(Debug, Args)]
pub struct CompileArgs {
    /// A .qyvbin, or the name or digest of an image
    #[arg(add = targets())]
    pub target: String,
    /// CPU time limit of the compiler, in seconds [default: 60 plus 30 per MiB of the component]
    #[arg(long, value_name = "N")]
    pub max_seconds: Option<u64>,
    /// Memory limit of the compiler [default: 1GiB plus 32 times the size of the component]
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<String>,
    /// Trust this public key alone, instead of the policy: a file or a name of the keyring
    #[arg(long, add = keys(), value_name = "FILE|NAME")]
    pub key: Option<String>,
    /// When to contact the registry in the target's name [default: missing]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub pull: Option<PullWhen>,
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// An address for the operator: with a port alone, one of this host's.
fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let loopback = text.parse::<u16>().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    loopback
        .or_else(|_| text.parse())
        .map_err(|_| "expected a port, or an address and a port such as 127.0.0.1:9090".to_string())
}
