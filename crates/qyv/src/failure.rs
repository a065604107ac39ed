//! From an error to what the user is told: message, details, hints, exit code.
//! Hints live here alone.

use std::path::Path;

use qyvol::Error;
use qyvol::image::ImageError;
use qyvol::remote_store::{Class, Operation, RemoteError, TlsFailure};
use qyvol::store::StoreError;
use qyvol::types::yaml::Problems;

use crate::trust_hints::trust_hints;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
    pub details: Vec<String>,
    pub hints: Vec<String>,
}

/// Exit code of a failure.
pub const FAILED: u8 = 1;
/// Exit code of wrong usage.
pub const USAGE: u8 = 2;
/// A registry failed, and will again (sysexits' `EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// A registry failed, and may not another time (`EX_TEMPFAIL`).
const TEMPORARY: u8 = 75;

/// Exit codes of a refusal by trust (`spec/signing.md`).
pub const TRUST_CODES: std::ops::RangeInclusive<u8> = 10..=19;

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            code: FAILED,
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
        }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            code: USAGE,
            ..Failure::new(message)
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// The code that `run` exits with: it must not be taken for the guest's.
    pub fn before_guest(mut self) -> Failure {
        self.code = if TRUST_CODES.contains(&self.code) { 126 } else { 125 };
        self
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// A failure passes through the facade whole, where a verb makes its client.
impl std::error::Error for Failure {}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::Client(Box::new(failure))
    }
}

/// The message of an error and of what caused it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Transparent errors repeat their cause's words.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let error = match error {
            Error::Client(source) => match source.downcast::<Failure>() {
                Ok(failure) => return *failure,
                Err(source) => Error::Client(source),
            },
            error => error,
        };
        let mut failure = Failure::new(chain(&error));
        match &error {
            Error::Yaml { path, problems } => {
                failure.details = problem_details(path, problems);
                failure
                    .hints
                    .push("`qyv help manifest` describes the manifest's keys".to_string());
            }
            Error::PolicyYaml { path, problems } => {
                failure.details = problem_details(path, problems);
                failure.code = 19;
            }
            Error::Trust { target, source } => {
                failure.code = source.exit_code();
                failure.details = source.report().lines();
                failure.hints = trust_hints(target, source);
            }
            Error::Policy { .. } => failure.code = 19,
            Error::HostsYaml { path, problems } => {
                failure.details = problem_details(path, problems);
                failure.code = USAGE;
            }
            Error::Hosts { .. } => failure.code = USAGE,
            Error::State { .. } => failure.code = 15,
            Error::NoKey { .. } => failure
                .hints
                .push("`qyv keys list` shows the keys; a key in a file is named by its path, with a `/` or ending in .pub, .pem or .key".to_string()),
            Error::OutputIsInput { .. } => failure.hints.push("name another file with -o".to_string()),
            Error::OutputExists { .. } => failure
                .hints
                .push("name another file with -o, or replace this one with --force".to_string()),
            Error::KeyMode { path, own, .. } => {
                let path = qyvol::types::escape(&path.to_string_lossy()).to_string();
                if *own {
                    failure.hints.push(format!("`chmod 600 {path}` lets only you read it"));
                }
                failure.hints.push(format!(
                    "in a pipeline, make a private copy and use that: `install -m 600 {path} ~/release.key`"
                ));
            }
            Error::LastCopy { key } => {
                failure
                    .hints
                    .push(format!("`qyv keys export {key} --private` prints it, encrypted"));
                failure.hints.push(format!("`qyv keys rm {key} --yes` removes it"));
            }
            Error::NoSigner => {
                failure.hints.push(
                    "set QYVOL_KEY to a key's PEM or QYVOL_KEY_FILE to its file: check that this job may see that secret"
                        .to_string(),
                );
                failure
                    .hints
                    .push("`qyv build --no-sign` builds without a signature".to_string());
            }
            Error::NoImage { name, others } => {
                if name.in_registry().is_some() {
                    failure.hints.push(format!("`qyv pull {name}` fetches it"));
                }
                failure.hints.extend(path_hint(&name.to_string()));
                let names: Vec<String> = others.iter().map(ToString::to_string).collect();
                failure.hints.push(match names.as_slice() {
                    [] => "`qyv images` lists what is there; `qyv load FILE.qyvbin` brings an image in".to_string(),
                    names => format!("the store has {}", names.join(", ")),
                });
            }
            Error::Foreign { target, .. } => {
                failure.code = 16;
                if cfg!(feature = "import") {
                    let target = qyvol::types::escape(target);
                    failure.hints.push(format!("`qyv import {target}` makes an image of it"));
                }
            }
            Error::AlreadyImage { name } => {
                failure.code = USAGE;
                failure.hints.push(format!("`qyv pull {name}` fetches it as it is, with its signatures"));
            }
            Error::Layers { layers, .. } => {
                failure.code = USAGE;
                failure.details = layers.iter().map(|layer| format!("  {layer}")).collect();
                failure
                    .hints
                    .push("--layer takes one of them, by its digest or its title".to_string());
            }
            Error::Platforms { platforms, .. } => {
                failure.code = 16;
                failure.details = platforms.iter().map(|platform| format!("  {platform}")).collect();
                failure
                    .hints
                    .push("if one of them holds a .wasm file: HOST/NAME@DIGEST names it".to_string());
            }
            Error::Target { target, .. } => {
                failure.code = USAGE;
                failure.hints.push(
                    "a path ends in .qyvbin, .qyv or .wasm, or begins with /, ./ or ../; a name is such as hello:1.0.0"
                        .to_string(),
                );
                failure.hints.extend(path_hint(target));
            }
            Error::Ambiguous { digests, .. } => {
                failure.code = USAGE;
                failure.details = digests.iter().map(|digest| format!("  {digest}")).collect();
            }
            Error::NotArchive { found, .. } => {
                failure.code = 16;
                failure.hints.extend(match *found {
                    "WebAssembly found" => Some("write a .qyv manifest for it, and `qyv build` packs it".to_string()),
                    "text found" => Some("the name of a manifest under development ends in .qyv".to_string()),
                    _ => None,
                });
            }
            Error::Usage(_) => failure.code = USAGE,
            Error::Image { source, .. } => image_hints(source, &mut failure),
            Error::Malformed { .. } => failure.code = 16,
            Error::Store(store) => store_hints(store, &mut failure),
            Error::File { source, .. } => failure.hints.extend(io_hint(source)),
            Error::Copy(error) => store_hints(error.store_error(), &mut failure),
            Error::NotPermitted { .. } | Error::Runtime { .. } | Error::Key { .. } => {}
            _ => {}
        }
        if let Some(remote) = error.remote() {
            failure.code = match remote.class() {
                Class::Usage => USAGE,
                Class::Local => FAILED,
                Class::Temporary => TEMPORARY,
                Class::Permanent => UNAVAILABLE,
            };
            failure.hints = remote_hints(remote);
        }
        failure
    }
}

/// What to do about a registry's failure, by what it is.
fn remote_hints(error: &RemoteError) -> Vec<String> {
    let hint = match error {
        RemoteError::Denied {
            host,
            authenticated: false,
            ..
        } => format!("`qyv login {host}` stores credentials for it"),
        RemoteError::Denied { host, .. } => {
            format!("the credentials for {host} don't allow this: `qyv login {host}` stores others")
        }
        RemoteError::NotFound {
            host,
            operation: Operation::ListTags(_),
        } => format!("`qyv catalog {host}` lists its repositories"),
        RemoteError::NotFound {
            host,
            operation: Operation::ReadManifest(_),
        } => format!("`qyv tags {host}/REPOSITORY` lists the tags of a repository"),
        RemoteError::Tls { host, failure, .. } => tls_hint(host, *failure),
        RemoteError::NotHttp { host, .. } => {
            format!(
                "if {host} expects TLS: add --tls {host} (loopback address), or leave out --plain-http {host} (any other)"
            )
        }
        RemoteError::Status {
            status: 400 | 405,
            operation: Operation::DeleteTag(_),
            ..
        } => "this registry does not delete tags: HOST/NAME@DIGEST deletes the image, with all of its tags".to_string(),
        RemoteError::Status { status: 507, host, .. } => {
            format!("{host} has no space left: whoever operates it must free some")
        }
        RemoteError::Unreachable { temporary: false, .. } => {
            "check the registry's name, and that this host may reach it".to_string()
        }
        RemoteError::Unreachable { .. } => {
            let again = "try again later: what has been transferred is not transferred again".to_string();
            return vec![again, "or check the registry's name and port".to_string()];
        }
        error if error.is_temporary() => {
            "try again later: what has been transferred is not transferred again".to_string()
        }
        _ => return Vec::new(),
    };
    vec![hint]
}

fn tls_hint(host: &str, failure: TlsFailure) -> String {
    match failure {
        TlsFailure::UnknownIssuer => format!(
            "if your own authority issued the certificate: --ca FILE, or permanently `ca: FILE` for {host} in hosts.yaml, beside trust.yaml"
        ),
        TlsFailure::CaUsedAsServer => "a server must not present the certificate of an authority: make its own with `openssl req -x509 -addext basicConstraints=CA:FALSE`".to_string(),
        TlsFailure::NotTls => format!("if {host} speaks plain HTTP: --plain-http {host}"),
        _ => "check the names and dates in the server's certificate, and this host's clock".to_string(),
    }
}

/// A name that was not found may be that of a file, which is spelled otherwise.
fn path_hint(name: &str) -> Option<String> {
    let default = name.strip_suffix(":latest");
    let path = [Some(name), default]
        .into_iter()
        .flatten()
        .map(|name| Path::new(".").join(name))
        .find(|path| path.is_file())?;
    let path = path.to_string_lossy();
    Some(format!(
        "there is a file with that name here: write {}",
        qyvol::types::escape(&path)
    ))
}

fn problem_details(path: &Path, problems: &Problems) -> Vec<String> {
    let mut lines = Vec::new();
    for problem in &problems.0 {
        let place = problem.place;
        let file = qyvol::types::escape(&path.to_string_lossy()).to_string();
        lines.push(format!("{file}:{}:{}: {}", place.line, place.column, problem.message));
        lines.extend(problem.snippet().lines().map(str::to_string));
        if let Some(help) = &problem.help {
            lines.push(format!("   = {help}"));
        }
    }
    lines
}

fn is_damaged(error: &ImageError) -> bool {
    match error {
        ImageError::Format(_) | ImageError::Digest { .. } | ImageError::Manifest(_) => true,
        ImageError::Read(source) => source.kind() == std::io::ErrorKind::InvalidData,
        ImageError::Store(source) => source.is_content(),
        _ => false,
    }
}

fn image_hints(error: &ImageError, failure: &mut Failure) {
    match error {
        // Content that fails its checks, some of it while it is read.
        error if is_damaged(error) => {
            failure.code = 16;
            failure
                .hints
                .push("the file was damaged or altered after it was built: get it again".to_string());
        }
        ImageError::Limit { .. } => failure.code = 17,
        ImageError::File { source, .. } | ImageError::Read(source) | ImageError::Write(source) => {
            failure.hints.extend(io_hint(source));
        }
        ImageError::Wasm(_) => {
            failure
                .hints
                .push("`qyv inspect FILE.wasm` shows what a WebAssembly file is".to_string());
        }
        _ => {}
    }
}

fn store_hints(error: &StoreError, failure: &mut Failure) {
    match error {
        StoreError::WrongDigest { .. } | StoreError::WrongSize { .. } => {
            failure.code = 16;
            failure
                .hints
                .push("`qyv check` says what is damaged and how to repair it".to_string());
        }
        StoreError::Manifest { .. } => failure.code = 16,
        StoreError::TooLarge { .. } => failure.code = 17,
        StoreError::NotFound { .. } | StoreError::Damaged { .. } => {
            failure
                .hints
                .push("`qyv check` says what is damaged and how to repair it".to_string());
        }
        StoreError::NameTaken { name, .. } => {
            failure.hints.push("`qyv load --replace` moves it".to_string());
            failure.hints.push(format!(
                "to keep the old image under another name, first: `qyv tag {name} OTHER`"
            ));
        }
        StoreError::NoRoom { .. } | StoreError::DiskFull { .. } => {
            failure
                .hints
                .push("`qyv prune` removes what no name needs, and frees its space".to_string());
        }
        StoreError::Denied { .. } | StoreError::OtherOwner { .. } | StoreError::ReadOnly { .. } => {
            failure
                .hints
                .push("set QYVOL_HOME to a directory of your own to use another store".to_string());
        }
        StoreError::Read { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => failure.code = 16,
        _ => {}
    }
}

fn io_hint(error: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Some("free some space, or name another output with -o".to_string())
        }
        ErrorKind::ReadOnlyFilesystem => Some("that file system is read-only: name another place".to_string()),
        _ => None,
    }
}
