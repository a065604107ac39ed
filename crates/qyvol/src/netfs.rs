//! `netfs`: files on another machine as an application's file system.
//!
//! Files are fetched into a private directory in memory when the guest asks for them;
//! what the guest writes there is sent when it syncs and when it has ended. Connections
//! go only to the host of `fs.source`, and only if the rule of the trust policy and
//! `--no-net` allow them.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qyvol_netfs::{
    Config, Credentials, Directories, ErrorKind, FsError, Host, Limits, NetFs, Protocol, ResolveError, RetryPolicy,
    Secret,
};
use qyvol_runtime::{Backing, Change, Intent};
use qyvol_sandbox::{Endpoint, Event, Net, NetGuard, NetUse, Observer};
use qyvol_types::yaml::{self, Reader};
use qyvol_types::{AppManifest, escape};
use rustix::fs::{Mode, OFlags};

use crate::Error;
use crate::memfs::MemFs;
use crate::text_file::read_open_file;

/// The S3 region of a source that names none.
const DEFAULT_REGION: &str = "us-east-1";
/// Bytes of content held at once, unless `resources.storage` says otherwise.
pub(crate) const DEFAULT_BYTES: u64 = 1 << 30;
/// Maximum number of notices that are kept for the end of the run.
const MAX_NOTICES: usize = 64;

/// The protocol and URL in `fs.source`, or why there is none that can be used.
pub(crate) fn source(app: &AppManifest) -> Result<(Protocol, String), String> {
    let Some(source) = &app.fs.source else {
        return Err("its file system is netfs, which needs a URL in `fs.source`".to_string());
    };
    let shown = escape(source);
    let (scheme, rest) = source
        .split_once("://")
        .ok_or_else(|| format!("its `fs.source` {shown} is not a URL"))?;
    let (protocol, url) = match scheme {
        "http" | "https" => (Protocol::Http, source.clone()),
        "dav" => (Protocol::WebDav, format!("http://{rest}")),
        "davs" => (Protocol::WebDav, format!("https://{rest}")),
        "s3" => s3(rest).map_err(|why| format!("its `fs.source` {shown} {why}"))?,
        _ => {
            return Err(format!(
                "its `fs.source` {shown} does not start with https://, http://, davs://, dav:// or s3://"
            ));
        }
    };
    let config = config(protocol.clone(), url.clone(), false, DEFAULT_BYTES);
    let endpoint = config.endpoint().map_err(|e| format!("its `fs.source` {shown}: {e}"))?;
    Endpoint::parse(&endpoint_text(&endpoint)).map_err(|why| format!("its `fs.source` {shown}: {why}"))?;
    Ok((protocol, url))
}

/// `BUCKET/PREFIX?region=R&endpoint=URL`.
fn s3(rest: &str) -> Result<(Protocol, String), String> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut region, mut endpoint) = (DEFAULT_REGION, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("region", value)) => region = value,
            Some(("endpoint", value)) => endpoint = Some(value),
            _ => return Err("can have only `region` and `endpoint` after its `?`".to_string()),
        }
    }
    let url = match endpoint {
        Some(endpoint) => format!("{}/{place}", endpoint.trim_end_matches('/')),
        None => format!("s3://{place}"),
    };
    let region = region.to_string();
    Ok((Protocol::S3 { region }, url))
}

fn endpoint_text((host, port): &(String, u16)) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn config(protocol: Protocol, url: String, writable: bool, bytes: u64) -> Config {
    Config {
        protocol,
        url,
        writable,
        certificates: Vec::new(),
        allow_plain_credentials: false,
        limits: Limits {
            bytes,
            file_bytes: bytes,
            retry: RetryPolicy {
                // The application waits for each file, and a cached copy may be enough.
                retries: 2,
                ..RetryPolicy::default()
            },
            ..Limits::default()
        },
    }
}

/// Reads the file of `--fs-credentials`: `user` and `password`, or `token`, or
/// `access-key`, `secret-key` and, if there is one, `session-token`.
pub fn read_fs_credentials(path: &Path) -> Result<Credentials, Error> {
    let file = File::open(path).map_err(Error::file("read the credentials in", path))?;
    credentials(&read_open_file(file, path)?).map_err(|why| Error::FsCredentials {
        path: path.to_path_buf(),
        why,
    })
}

fn credentials(text: &str) -> Result<Credentials, String> {
    const KEYS: [&str; 6] = ["user", "password", "token", "access-key", "secret-key", "session-token"];
    let as_text = |problems: yaml::Problems| problems.to_string();
    let root = yaml::parse(text).map_err(as_text)?;
    if !matches!(root.value, yaml::Value::Mapping(_)) {
        return Err("it must be YAML, with `user: NAME` and `password: …` on a line each".to_string());
    }
    let mut reader = Reader::new(text);
    let read = reader.fields(&root, "the file", &KEYS).map(|fields| {
        KEYS.map(|key| {
            let node = fields.get(key)?;
            reader.text(node, key).map(str::to_string)
        })
    });
    match reader.finish(read).map_err(as_text)? {
        [Some(user), Some(password), None, None, None, None] => Ok(Credentials::Basic {
            user,
            password: Secret::new(password),
        }),
        [None, None, Some(token), None, None, None] => Ok(Credentials::Bearer(Secret::new(token))),
        [None, None, None, Some(access_key), Some(secret_key), session_token] => Ok(Credentials::S3 {
            access_key,
            secret_key: Secret::new(secret_key),
            session_token: session_token.map(Secret::new),
        }),
        _ => Err(
            "it must have user and password, or token, or access-key and secret-key (and session-token)".to_string(),
        ),
    }
}

/// The parts of a mount.
pub(crate) struct Parts<'a> {
    pub(crate) app: &'a AppManifest,
    pub(crate) writable: bool,
    pub(crate) credentials: Credentials,
    /// Limits on the network: every one of these must allow a connection.
    pub(crate) net: Vec<Net>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// The time at which the run started.
    pub(crate) now: SystemTime,
    /// The directory of files that are kept from run to run.
    pub(crate) cache: Option<PathBuf>,
    /// Maximum bytes of content held at once.
    pub(crate) bytes: u64,
    /// A name of its root that something else is mounted over.
    pub(crate) covered: Option<&'a str>,
}

/// A mounted tree, and its notices for the end of the run.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    tree: Arc<NetFs>,
    peer: Arc<Peer>,
}

impl Mounted {
    /// Mounts it in `memory`; no connection is opened. Returns the directory that the
    /// guest sees.
    pub(crate) fn new(parts: Parts<'_>, memory: &MemFs) -> Result<(Mounted, PathBuf), Error> {
        let failed = |why: String| Error::NotPermitted {
            target: parts.app.name.clone(),
            why,
        };
        let (protocol, url) = source(parts.app).map_err(failed)?;
        let config = config(protocol, url, parts.writable, parts.bytes);
        let endpoint = config.endpoint().map_err(|e| failed(e.to_string()))?;
        let own = Endpoint::parse(&endpoint_text(&endpoint)).map_err(failed)?;
        let mut layers = parts.net;
        layers.push(Net::to(vec![own]));
        let peer = Arc::new(Peer {
            guard: Mutex::new(NetGuard::new(layers)),
            observer: parts.observer,
            began: (parts.now, Instant::now()),
            notices: Mutex::default(),
        });
        let (root, staging) = (directory(memory, "root")?, directory(memory, "staging")?);
        let directories = Directories {
            root,
            staging,
            cache: parts.cache,
        };
        let host = Arc::clone(&peer) as Arc<dyn Host>;
        let mut tree = NetFs::new(&config, parts.credentials, host, directories).map_err(|e| failed(e.to_string()))?;
        if let Some(name) = parts.covered {
            tree = tree
                .covered(name)
                .map_err(Error::file("make, for the assets, the directory", name))?;
        }
        let mounted = Mounted {
            tree: Arc::new(tree),
            peer,
        };
        Ok((mounted, memory.root().join("root")))
    }

    /// Sends what the guest wrote. Returns what could not be sent.
    pub(crate) fn finish(&self) -> Option<String> {
        self.tree.flush().err().map(|error| error.to_string())
    }

    /// What the user should know about problems during the run.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.peer.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn directory(memory: &MemFs, name: &str) -> Result<OwnedFd, Error> {
    memory.make_directory(name)?;
    let path = memory.root().join(name);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| Error::file("open", path)(e.into()))
}

impl Backing for Mounted {
    fn ensure(&self, path: &str, intent: Intent) -> io::Result<()> {
        let intent = match intent {
            Intent::Directory => qyvol_netfs::Intent::Directory,
            Intent::List => qyvol_netfs::Intent::List,
            Intent::Read => qyvol_netfs::Intent::Read,
            Intent::Write => qyvol_netfs::Intent::Write,
            Intent::Create | Intent::Truncate => qyvol_netfs::Intent::Create,
            Intent::Remove => qyvol_netfs::Intent::Remove,
            Intent::Rename => qyvol_netfs::Intent::Rename,
            // Every other call only reads the path.
            _ => qyvol_netfs::Intent::Stat,
        };
        self.tree.ensure(path, intent).map_err(|error| self.os_error(&error))
    }

    fn changed(&self, change: Change<'_>) {
        match change {
            Change::Removed(path) => self.tree.removed(path),
            Change::Renamed(from, to) => self.tree.renamed(from, to),
            Change::MadeDirectory(path) => self.tree.made_directory(path),
            _ => {}
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.tree.flush().map_err(|error| match error.failures.first() {
            Some(first) => self.os_error(&first.error),
            None => io::ErrorKind::Other.into(),
        })
    }
}

impl Mounted {
    /// The failure as an error of the operating system. That is enough for the guest, but not
    /// for the operator, so the failure is kept as a notice too.
    fn os_error(&self, error: &FsError) -> io::Error {
        let errno = match error.kind() {
            ErrorKind::NotFound => rustix::io::Errno::NOENT,
            ErrorKind::Access => rustix::io::Errno::ACCESS,
            ErrorKind::NotADirectory => rustix::io::Errno::NOTDIR,
            ErrorKind::ReadOnly => rustix::io::Errno::PERM,
            ErrorKind::NoSpace => rustix::io::Errno::NOSPC,
            ErrorKind::TooLarge => rustix::io::Errno::FBIG,
            ErrorKind::InvalidPath => rustix::io::Errno::INVAL,
            ErrorKind::Link => rustix::io::Errno::LOOP,
            ErrorKind::CrossDevice => rustix::io::Errno::XDEV,
            ErrorKind::Conflict => rustix::io::Errno::STALE,
            ErrorKind::TimedOut => rustix::io::Errno::TIMEDOUT,
            ErrorKind::Unreachable => rustix::io::Errno::HOSTUNREACH,
            _ => rustix::io::Errno::IO,
        };
        let is_the_servers = !matches!(
            error.kind(),
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ReadOnly | ErrorKind::InvalidPath
        );
        if is_the_servers {
            self.peer.notice(&error.to_string());
        }
        errno.into()
    }
}

/// What the run provides to its file system.
struct Peer {
    guard: Mutex<NetGuard>,
    observer: Option<Arc<dyn Observer>>,
    began: (SystemTime, Instant),
    notices: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Peer")
    }
}

impl Peer {
    fn allowed(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        if !guard.allows_lookup(name) {
            return Err(ResolveError::Denied);
        }
        let answers = (name, port).to_socket_addrs().map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ResolveError::Unavailable,
            _ => ResolveError::NotFound,
        })?;
        let mut reached = Vec::new();
        for answer in answers {
            if guard.accept_answer(name, answer.ip()) && guard.allows(answer, NetUse::TcpConnect) {
                reached.push(answer);
            }
        }
        match reached.is_empty() {
            true => Err(ResolveError::Denied),
            false => Ok(reached),
        }
    }
}

impl Host for Peer {
    fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let resolved = self.allowed(name, port);
        if let Some(observer) = &self.observer {
            observer.observed(Event {
                permission: "fs",
                action: "connect",
                object: endpoint_text(&(name.to_string(), port)),
                allowed: !matches!(resolved, Err(ResolveError::Denied)),
            });
        }
        resolved
    }

    fn now(&self) -> SystemTime {
        let (at, since) = self.began;
        at.checked_add(since.elapsed()).unwrap_or(UNIX_EPOCH)
    }

    fn wait(&self, duration: Duration) -> bool {
        thread::sleep(duration);
        true
    }

    fn notice(&self, message: &str) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        if notices.len() < MAX_NOTICES && !notices.iter().any(|known| known == message) {
            notices.push(message.to_string());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn app(source: Option<&str>) -> AppManifest {
        let source = source.map_or(String::new(), |source| format!(", source: \"{source}\""));
        let text = format!("name: a\nentrypoint: a.wasm\npermissions: {{ fs: read }}\nfs: {{ type: netfs{source} }}\n");
        qyvol_sandbox::parse_app_manifest(&text).unwrap()
    }

    #[test]
    fn source_says_how_and_where() {
        for (text, url) in [
            ("https://data.example/a/", "https://data.example/a/"),
            ("davs://files.example:8443/x", "https://files.example:8443/x"),
            ("s3://bucket/a/b?region=eu-west-1", "s3://bucket/a/b"),
            (
                "s3://b/p?endpoint=http://127.0.0.1:9000/&region=x",
                "http://127.0.0.1:9000/b/p",
            ),
        ] {
            assert_eq!(source(&app(Some(text))).unwrap().1, url);
        }
        for text in [
            "ftp://a.example/",
            "data",
            "s3://b?profile=x",
            "https://u:p@a.example/",
            "https:///x",
        ] {
            source(&app(Some(text))).unwrap_err();
        }
        source(&app(None)).unwrap_err();
    }

    #[test]
    fn credentials_are_of_one_kind() {
        for text in [
            "user: a\npassword: b\n",
            "token: a\n",
            "access-key: a\nsecret-key: b\n",
            "access-key: a\nsecret-key: b\nsession-token: c\n",
        ] {
            credentials(text).unwrap();
        }
        for text in [
            "user: a\n",
            "token: a\nuser: b\n",
            "access-key: a\npassword: b\n",
            "{}",
            "key: a\n",
        ] {
            credentials(text).unwrap_err();
        }
    }
}
