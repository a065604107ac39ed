//! How registries are reached: options, proxies and credentials from the environment.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use qyvol::remote_store::{
    Client, Credential, CredentialFiles, Credentials, Notify, Options, RetryPolicy, Secret, StaticCredential,
};
use qyvol::{Home, hosts_files, load_hosts, read_certificates};

use crate::cli::RegistryArgs;
use crate::failure::Failure;
use crate::ui::Ui;
use crate::variables;

const REGISTRY: &str = "QYVOL_REGISTRY";
const USER: &str = "QYVOL_REGISTRY_USER";
const PASSWORD: &str = "QYVOL_REGISTRY_PASSWORD";
const TOKEN: &str = "QYVOL_REGISTRY_TOKEN";

/// A variable that is not our own: an empty one counts as not set.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|v| !v.is_empty())
}

fn first_of(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| variable(name))
}

/// The file that `login` writes: in Docker's form, among our configuration.
pub fn credentials_file(home: &Home) -> PathBuf {
    home.config.join("registry.json")
}

/// Shows the messages of a client and of its credentials.
fn notify(ui: &Ui) -> Notify {
    let ui = ui.clone();
    Box::new(move |message| ui.warn(message))
}

/// A client with the credentials of this user.
pub fn client(home: &Home, ui: &Ui, args: &RegistryArgs) -> Result<Arc<Client>, Failure> {
    let credentials = CredentialFiles::new(given()?, files(home), notify(ui));
    client_with(home, ui, args, Box::new(credentials))
}

/// A client with given credentials.
pub fn client_with(
    home: &Home,
    ui: &Ui,
    args: &RegistryArgs,
    credentials: Box<dyn Credentials>,
) -> Result<Arc<Client>, Failure> {
    Ok(Client::new(options(home, args)?, credentials, notify(ui)))
}

fn options(home: &Home, args: &RegistryArgs) -> Result<Options, Failure> {
    let every = first_of(&["ALL_PROXY", "all_proxy"]);
    let no_proxy = first_of(&["NO_PROXY", "no_proxy"]).unwrap_or_default();
    let hosts = no_proxy.split(',').map(str::trim).filter(|host| !host.is_empty());
    let lower = |hosts: &[String]| hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    Ok(Options {
        plain_http: lower(&args.plain_http),
        tls: lower(&args.tls),
        ca: args.ca.as_deref().map(read_certificates).transpose()?,
        https_proxy: first_of(&["HTTPS_PROXY", "https_proxy"]).or_else(|| every.clone()),
        // Upper case could be a request header of a CGI program (httpoxy).
        http_proxy: first_of(&["http_proxy"]).or(every),
        no_proxy: hosts.map(str::to_string).collect(),
        retry: RetryPolicy {
            retries: args.retries,
            ..RetryPolicy::default()
        },
        timeout: args.timeout,
        hosts: load_hosts(home)?,
    })
}

/// Credentials of the environment, for one registry that it names: a password for every host
/// that a command names would leak to any of them.
fn given() -> Result<Option<StaticCredential>, Failure> {
    let credential = match (
        variables::text(USER)?,
        variables::text(PASSWORD)?,
        variables::text(TOKEN)?,
    ) {
        (_, _, Some(token)) => Credential::Token(Secret::new(token)),
        (Some(user), Some(password), None) => Credential::Password {
            user,
            password: Secret::new(password),
        },
        (None, None, None) => return Ok(None),
        _ => {
            return Err(Failure::usage(format!(
                "{USER} and {PASSWORD} belong together: one is not set"
            )));
        }
    };
    match variables::text(REGISTRY)? {
        Some(registry) => Ok(Some(StaticCredential {
            registry: registry.to_ascii_lowercase(),
            credential,
        })),
        None => Err(Failure::usage(format!(
            "credentials are set without a registry: set {REGISTRY} to its host"
        ))),
    }
}

/// The files that a client reads, which must not be a command's output.
pub fn inputs(home: &Home, args: &RegistryArgs) -> Vec<PathBuf> {
    let mut inputs = files(home);
    inputs.extend(args.ca.clone());
    inputs.extend(hosts_files(home));
    inputs
}

/// The files of credentials, ours first.
fn files(home: &Home) -> Vec<PathBuf> {
    let mut files = vec![credentials_file(home)];
    files.extend(variable("REGISTRY_AUTH_FILE").map(PathBuf::from));
    let user = env::home_dir().filter(|home| home.is_absolute());
    match variable("DOCKER_CONFIG") {
        Some(directory) => files.push(PathBuf::from(directory).join("config.json")),
        None => files.extend(user.as_ref().map(|home| home.join(".docker/config.json"))),
    }
    files.extend(variable("XDG_RUNTIME_DIR").map(|run| PathBuf::from(run).join("containers/auth.json")));
    let config = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| user.map(|home| home.join(".config")));
    files.extend(config.map(|config| config.join("containers/auth.json")));
    files
}
