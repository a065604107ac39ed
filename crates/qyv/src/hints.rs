//! What to do next, by error: each hint is true in every situation that prints
//! it. Those for what trust refuses are in [`crate::trust_hints`].

use std::io;
use std::path::Path;

use qyvol::Error;
use qyvol::image::ImageError;
use qyvol::remote_store::{Operation, RemoteError, TlsFailure};
use qyvol::runtime::OverlayError;
use qyvol::store::StoreError;
use qyvol::types::escape;

use crate::trust_hints::trust_hints;

const CHECK: &str = "`qyv check` says what is damaged in the store and how to repair it";

/// What to do about an error.
pub fn hints(error: &Error) -> Vec<String> {
    if let Some(remote) = error.remote() {
        return remote_hints(remote);
    }
    match error {
        Error::Trust { target, source } => trust_hints(target, source),
        Error::Yaml { path, .. } if path.file_name().is_some_and(|name| name == "qyv.lock") => one(
            "`qyv build` and `qyv update` write this file: restore it, or remove it and run `qyv update` to resolve the dependencies anew",
        ),
        Error::BuildStart { program, source, .. } if source.kind() == io::ErrorKind::NotFound => {
            let from = crate::toolchain::source_of(program);
            from.map(|from| format!("how to get it: {from}")).into_iter().collect()
        }
        Error::Yaml { .. } => one("`qyv help manifest` describes the manifest's keys"),
        Error::Lock { .. } => {
            one("if that is intended, `qyv update` resolves the dependencies anew and rewrites qyv.lock")
        }
        Error::NoKey { .. } => one(
            "`qyv keys list` shows the keys; a key in a file is named by its path, with a `/` or ending in .pub, .pem or .key",
        ),
        Error::OutputIsInput { .. } => one("name another file with -o"),
        Error::OutputExists { .. } => one("name another file with -o, or replace this one with --force"),
        Error::OutputKept { .. } => {
            one("--replace replaces it; name another file with -o, or the image with --name NAME:VERSION")
        }
        Error::KeyMode { path, own, .. } => {
            let path = escape(&path.to_string_lossy()).to_string();
            let copy =
                format!("in a pipeline, make a private copy and use that: `install -m 600 {path} ~/release.key`");
            let chmod = own.then(|| format!("`chmod 600 {path}` lets only you read it"));
            chmod.into_iter().chain([copy]).collect()
        }
        Error::LastCopy { key } => vec![
            format!("`qyv keys export {key} --private` prints it, encrypted"),
            format!("`qyv keys rm {key} --yes` removes it"),
        ],
        Error::Followed { .. } => {
            vec!["its publisher edits the document and signs it: `qyv help trust sign` says how".to_string()]
        }
        Error::NoSigner => vec![
            "set QYVOL_KEY to a key's PEM or QYVOL_KEY_FILE to its file: check that this job may see that secret"
                .to_string(),
            "when building, --no-sign leaves the signature out".to_string(),
        ],
        Error::NoImage { name, others } => {
            let mut hints = Vec::new();
            if name.in_registry().is_some() {
                hints.push(format!("`qyv pull {name}` fetches it"));
            }
            hints.extend(path_hint(&name.to_string()));
            let names: Vec<String> = others.iter().map(ToString::to_string).collect();
            hints.push(match names.as_slice() {
                [] => "`qyv images` lists the stored images; `qyv load FILE.qyvbin` adds one".to_string(),
                names => format!("the store has {}", names.join(", ")),
            });
            hints
        }
        Error::NoDependency { name, .. } => {
            let fetch = match name.in_registry() {
                Some(_) => format!("`qyv pull {name}` fetches it"),
                None => {
                    "`qyv build` with its manifest adds it to the store, and so does `qyv load FILE.qyvbin`".to_string()
                }
            };
            let locked = "qyv.lock names this digest: `qyv update` takes the image that has the name now";
            let locked = name.to_string().contains('@').then(|| locked.to_string());
            [fetch].into_iter().chain(locked).collect()
        }
        Error::InvalidTarget { target, .. } => {
            let spelling =
                "a path ends in .qyvbin, .qyv or .wasm, or begins with /, ./ or ../; a name looks like hello:1.0.0";
            [spelling.to_string()].into_iter().chain(path_hint(target)).collect()
        }
        Error::NotArchive { path, .. } if path.extension().is_some_and(|ending| ending == "qyv") => {
            let path = escape(&path.to_string_lossy()).to_string();
            vec![format!("it is a manifest: `qyv build {path}` makes a .qyvbin of it")]
        }
        Error::NotArchive { found, .. } => match *found {
            "WebAssembly found" => one("write a .qyv manifest for it, and `qyv build` packs it"),
            "text found" => one("if it is a manifest, its file name must end in .qyv"),
            _ => Vec::new(),
        },
        Error::Foreign { target, .. } if cfg!(feature = "import") => {
            vec![format!("`qyv import {}` makes an image of it", escape(target))]
        }
        Error::AlreadyImage { name } => vec![format!("`qyv pull {name}` fetches it as it is, with its signatures")],
        Error::Layers { are_files: true, .. } => {
            one("take the file out of it with another tool: `qyv import ./FILE.wasm --name NAME:VERSION`")
        }
        Error::Layers { .. } => one("--layer selects one of them, by its digest, title or Spin component id"),
        Error::Platforms { is_several: true, .. } => one("HOST/NAME@DIGEST selects one of them"),
        Error::Platforms { .. } => one("if one of them holds a .wasm file: HOST/NAME@DIGEST names it"),
        Error::Image { source, .. } => image_hints(source),
        Error::Stored { source, .. } | Error::Store(source) => store_hints(source),
        Error::Copy(error) => store_hints(error.store_error()),
        Error::File { source, .. } => io_hints(source),
        Error::Overlay(error) => overlay_hints(error),
        Error::IsService { target } => vec![format!("`qyv serve {}` answers requests with it", escape(target))],
        Error::NotAService { target } => {
            let target = escape(target);
            vec![format!(
                "`qyv run {target}` runs a command, `qyv call {target} FUNCTION` calls a function; those that the manifest names under `functions` can be served"
            )]
        }
        Error::HasFunctions { target } => {
            let target = escape(target);
            vec![
                format!("`qyv call {target} FUNCTION ARGS...` calls one"),
                format!("`qyv inspect --wit {target}` shows them"),
            ]
        }
        Error::NoFunctions { target, .. } => vec![format!(
            "`qyv run {0}` runs a command, `qyv serve {0}` an HTTP service",
            escape(target)
        )],
        Error::Function { target, .. } => vec![format!("`qyv inspect --wit {}` shows its functions", escape(target))],
        Error::SameName { .. } => one("give each a `name` of its own in the applications file"),
        Error::Serve { source, .. } if source.kind() == io::ErrorKind::AddrInUse => one(
            "something else listens there: name another address with --listen or --admin, or port 0 for any free one",
        ),
        _ => Vec::new(),
    }
}

fn overlay_hints(error: &OverlayError) -> Vec<String> {
    let elsewhere = "its author can build it with assets elsewhere (`assets_root: /assets`), which every host gives";
    let here = match error {
        OverlayError::Owner => {
            "run it as their owner, or set QYVOL_HOME to a directory of your own to use another store"
        }
        OverlayError::Namespace(_) | OverlayError::Memory(_) => {
            "allow user namespaces: the sysctl user.max_user_namespaces, and what a container or security module forbids (unshare, mount)"
        }
        _ => "a newer kernel, with overlayfs, can do it",
    };
    let read = "`--fs read` runs it without: it then reads its assets and can't write";
    [here, read, elsewhere].map(str::to_string).to_vec()
}

fn one(hint: &str) -> Vec<String> {
    vec![hint.to_string()]
}

/// What to do about a registry's failure, by what it is.
fn remote_hints(error: &RemoteError) -> Vec<String> {
    let hint = match error {
        RemoteError::Denied {
            host,
            authenticated: false,
            ..
        } => format!("`qyv login {host}` stores credentials for it"),
        RemoteError::Denied { operation: Operation::Ping, .. } => "check the user name, and the password or token".to_string(),
        RemoteError::Denied { host, .. } => {
            format!("`qyv login {host}` stores other credentials; QYVOL_REGISTRY_USER, _PASSWORD and _TOKEN override them")
        }
        RemoteError::NotFound {
            host,
            operation: Operation::ListTags(_),
        } => format!("`qyv catalog {host}` lists its repositories, if it allows that"),
        RemoteError::NotFound {
            host,
            operation: Operation::ReadManifest(_),
        } => format!("`qyv tags {host}/REPOSITORY` lists the tags of a repository"),
        RemoteError::Tls { host, failure, .. } => tls_hint(host, *failure),
        RemoteError::NotHttp { host, .. } => {
            format!(
                "if {host} expects TLS: add --tls {host} (loopback address), or remove --plain-http {host} or `plain-http` in hosts.yaml (any other)"
            )
        }
        RemoteError::Status {
            status: 400 | 405,
            operation: Operation::DeleteTag(_),
            ..
        } => "this registry does not delete tags; if it deletes images, HOST/NAME@DIGEST deletes one with all of its tags".to_string(),
        RemoteError::Status { status: 507, host, .. } => {
            format!("{host} has no space left: its operator must free some")
        }
        RemoteError::Unreachable { temporary: false, .. } => {
            "check the registry's name, and that this machine can reach it".to_string()
        }
        RemoteError::Unreachable { .. } => {
            let again = "try again later; blobs that arrived are not sent again, and a pull without -o continues where it stopped".to_string();
            return vec![again, "or check the registry's name and port, and the proxy settings".to_string()];
        }
        error if error.is_temporary() => {
            "try again later; blobs that arrived are not sent again, and a pull without -o continues where it stopped".to_string()
        }
        _ => return Vec::new(),
    };
    vec![hint]
}

fn tls_hint(host: &str, failure: TlsFailure) -> String {
    match failure {
        TlsFailure::UnknownIssuer => format!(
            "if your own authority issued the certificate: --ca FILE, or permanently `ca: FILE` for {host} in hosts.yaml, next to trust.yaml"
        ),
        TlsFailure::CaUsedAsServer => "a server must not present a CA certificate: make it one with `openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=HOST -addext subjectAltName=DNS:HOST -addext basicConstraints=critical,CA:FALSE`".to_string(),
        TlsFailure::NotTls => format!("if {host} speaks plain HTTP: --plain-http {host}"),
        _ => "check the names and dates in the server's certificate, and this host's clock".to_string(),
    }
}

/// A name that was not found may be meant as a file, which is spelled differently.
fn path_hint(name: &str) -> Option<String> {
    let default = name.strip_suffix(":latest");
    let names = [Some(name), default];
    let mut paths = names.into_iter().flatten().map(|name| Path::new(".").join(name));
    let path = paths.find(|path| path.exists())?;
    let shown = escape(&path.to_string_lossy()).to_string();
    Some(match path.is_dir() {
        true => format!("there is a directory with that name here: `{shown}/` names the application in it"),
        false => format!("there is a file with that name here: write {shown}"),
    })
}

fn image_hints(error: &ImageError) -> Vec<String> {
    match error {
        ImageError::Format(_) | ImageError::Digest { .. } | ImageError::Manifest(_) => one(DAMAGED),
        ImageError::Read(source) if source.kind() == io::ErrorKind::InvalidData => one(DAMAGED),
        ImageError::Store(StoreError::Read { source, .. }) if source.kind() == io::ErrorKind::InvalidData => {
            one(DAMAGED)
        }
        ImageError::Store(source) if source.is_content_error() => one(DAMAGED),
        ImageError::Layout(_) => one(
            "`qyv load` takes what skopeo and oras write as an OCI image layout: a directory, or a tar that is not compressed",
        ),
        ImageError::File { source, .. } | ImageError::Read(source) | ImageError::Write(source) => io_hints(source),
        _ => Vec::new(),
    }
}

const DAMAGED: &str = "it was damaged or altered after it was built: get it again";

fn store_hints(error: &StoreError) -> Vec<String> {
    match error {
        StoreError::WrongDigest { .. }
        | StoreError::WrongSize { .. }
        | StoreError::NotFound { .. }
        | StoreError::Damaged { .. } => one(CHECK),
        StoreError::NameTaken { name, .. } => vec![
            "`qyv load --replace` moves it".to_string(),
            format!("to keep the old image under another name, first: `qyv tag {name} OTHER`"),
        ],
        StoreError::InsufficientSpace { .. } | StoreError::DiskFull { .. } => {
            one("free space on that file system; `qyv prune` removes what no name in the store needs")
        }
        StoreError::Denied { .. } | StoreError::WrongOwner { .. } | StoreError::ReadOnly { .. } => one(
            "set QYVOL_HOME to a directory of your own to use another store; keys and trust policy are then looked for there too",
        ),
        _ => Vec::new(),
    }
}

fn io_hints(error: &io::Error) -> Vec<String> {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => one("free some space on that file system"),
        io::ErrorKind::AlreadyExists => one("use another name, or move away what is there"),
        io::ErrorKind::ReadOnlyFilesystem => one("use a path on a file system that can be written"),
        _ => Vec::new(),
    }
}
