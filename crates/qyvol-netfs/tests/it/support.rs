//! A mount, and a guest that asks before it does.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use qyvol_netfs::{
    Config, Credentials, Directories, ErrorKind, FsError, Host, Intent, Limits, NetFs, Protocol, ResolveError,
    RetryPolicy, Secret,
};

use crate::server::Server;

/// How long a server may be silent here, where it answers.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// The same where it does not.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(200);
/// Attempts after the first.
pub(crate) const RETRIES: u32 = 2;
/// A password that must be in no message.
pub(crate) const PASSWORD: &str = "s3cret-word";

/// What a run lends: it resolves as the system does, and waits for nothing.
#[derive(Default)]
pub(crate) struct TestHost {
    /// `name:port` of every question.
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) waits: Mutex<Vec<Duration>>,
    pub(crate) notices: Mutex<Vec<String>>,
    /// Answers instead of the system's.
    pub(crate) answer: Mutex<Option<Result<Vec<SocketAddr>, ResolveError>>>,
    /// Seconds to add to the clock.
    pub(crate) ahead: AtomicU64,
}

impl Host for TestHost {
    fn resolve(&self, name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        self.asked.lock().unwrap().push(format!("{name}:{port}"));
        if let Some(answer) = self.answer.lock().unwrap().clone() {
            return answer;
        }
        (name, port)
            .to_socket_addrs()
            .map(Iterator::collect)
            .map_err(|_| ResolveError::NotFound)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead.load(Ordering::SeqCst))
    }

    fn wait(&self, duration: Duration) -> bool {
        self.waits.lock().unwrap().push(duration);
        true
    }

    fn notice(&self, message: &str) {
        self.notices.lock().unwrap().push(message.to_string());
    }
}

/// A mount to be made.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) credentials: Credentials,
    pub(crate) cache: Option<PathBuf>,
}

impl Setup {
    pub(crate) fn new(protocol: Protocol, url: &str) -> Setup {
        Setup {
            config: Config {
                protocol,
                url: url.to_string(),
                writable: true,
                certificates: Vec::new(),
                allow_plain_credentials: false,
                limits: Limits {
                    timeout: TIMEOUT,
                    refresh: Duration::from_secs(3600),
                    outage: Duration::ZERO,
                    retry: RetryPolicy {
                        retries: RETRIES,
                        backoff: Duration::from_millis(1),
                        max_wait: Duration::from_secs(2),
                    },
                    ..Limits::default()
                },
            },
            credentials: Credentials::None,
            cache: None,
        }
    }

    pub(crate) fn http(server: &Server) -> Setup {
        Setup::new(Protocol::Http, &server.url("/data"))
    }

    pub(crate) fn webdav(server: &Server) -> Setup {
        Setup::new(Protocol::WebDav, &server.url("/data"))
    }

    /// A bucket `b`, with an access key.
    pub(crate) fn s3(server: &Server, prefix: &str) -> Setup {
        let protocol = Protocol::S3 {
            region: "us-east-1".to_string(),
        };
        Setup {
            credentials: s3_key(),
            ..Setup::new(protocol, &server.url(&format!("/b/{prefix}")))
        }
    }

    pub(crate) fn cache(mut self, directory: &Path) -> Setup {
        self.cache = Some(directory.to_path_buf());
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Setup {
        change(&mut self.config.limits);
        self
    }

    /// Gives up on a silent server soon, and at the first attempt.
    pub(crate) fn impatient(self) -> Setup {
        self.limits(|limits| {
            limits.timeout = SHORT_TIMEOUT;
            limits.retry.retries = 0;
        })
    }

    /// Asks the server again every time.
    pub(crate) fn always_asking(self) -> Setup {
        self.limits(|limits| limits.refresh = Duration::ZERO)
    }

    pub(crate) fn mount(&self) -> Guest {
        let host = Arc::new(TestHost::default());
        let (fs, directory) = self.make(host.clone());
        Guest { fs, host, directory }
    }

    /// The same with a host of its own, and the directory that all is in.
    pub(crate) fn make(&self, host: Arc<dyn Host>) -> (NetFs, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            fs::create_dir(directory.path().join(name)).unwrap();
            OwnedFd::from(File::open(directory.path().join(name)).unwrap())
        };
        let directories = Directories {
            root: open("root"),
            staging: open("staging"),
            cache: self.cache.clone(),
        };
        let fs = NetFs::new(&self.config, self.credentials.clone(), host, directories).unwrap();
        (fs, directory)
    }
}

pub(crate) fn s3_key() -> Credentials {
    Credentials::S3 {
        access_key: "AKIDEXAMPLE".to_string(),
        secret_key: Secret::new(PASSWORD),
        session_token: None,
    }
}

pub(crate) fn basic() -> Credentials {
    Credentials::Basic {
        user: "ana".to_string(),
        password: Secret::new(PASSWORD),
    }
}

/// A guest: every call first makes sure, then does.
pub(crate) struct Guest {
    pub(crate) fs: NetFs,
    pub(crate) host: Arc<TestHost>,
    directory: tempfile::TempDir,
}

impl Guest {
    /// A path in the private directory.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    /// The directory that the private one is in.
    pub(crate) fn outside(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn read(&self, path: &str) -> Result<String, FsError> {
        self.fs.ensure(path, Intent::Read)?;
        Ok(String::from_utf8_lossy(&fs::read(self.place(path)).unwrap()).into_owned())
    }

    /// The length, or none for a directory.
    pub(crate) fn stat(&self, path: &str) -> Result<Option<u64>, FsError> {
        self.fs.ensure(path, Intent::Stat)?;
        let metadata = fs::metadata(self.place(path)).unwrap();
        Ok((!metadata.is_dir()).then_some(metadata.len()))
    }

    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, FsError> {
        self.fs.ensure(path, Intent::List)?;
        let entries = fs::read_dir(self.place(path)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        Ok(names)
    }

    /// Opens with `O_CREAT | O_TRUNC` and writes.
    pub(crate) fn write(&self, path: &str, content: &str) -> Result<(), FsError> {
        self.fs.ensure(path, Intent::Create)?;
        fs::write(self.place(path), content).unwrap();
        Ok(())
    }

    pub(crate) fn append(&self, path: &str, content: &str) -> Result<(), FsError> {
        use std::io::Write;
        self.fs.ensure(path, Intent::Write)?;
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(self.place(path))
            .unwrap();
        file.write_all(content.as_bytes()).unwrap();
        Ok(())
    }

    pub(crate) fn remove(&self, path: &str) -> Result<io::Result<()>, FsError> {
        self.fs.ensure(path, Intent::Remove)?;
        let place = self.place(path);
        let removed = if place.is_dir() {
            fs::remove_dir(place)
        } else {
            fs::remove_file(place)
        };
        if removed.is_ok() {
            self.fs.removed(path);
        }
        Ok(removed)
    }

    pub(crate) fn make_directory(&self, path: &str) -> Result<io::Result<()>, FsError> {
        self.fs.ensure(path, Intent::Create)?;
        let made = fs::create_dir(self.place(path));
        if made.is_ok() {
            self.fs.made_directory(path);
        }
        Ok(made)
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<io::Result<()>, FsError> {
        self.fs.ensure(from, Intent::Rename)?;
        self.fs.ensure(to, Intent::Create)?;
        let renamed = fs::rename(self.place(from), self.place(to));
        if renamed.is_ok() {
            self.fs.renamed(from, to);
        }
        Ok(renamed)
    }

    pub(crate) fn notices(&self) -> Vec<String> {
        std::mem::take(&mut *self.host.notices.lock().unwrap())
    }
}

/// The kind of an error.
pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T, FsError>) -> ErrorKind {
    result.unwrap_err().kind()
}

/// Bytes that no compression or repetition makes smaller, as text.
pub(crate) fn noise(length: usize) -> String {
    let mut state = 0x9e37_79b9_u32;
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(b'a' + u8::try_from(state % 26).unwrap())
    };
    (0..length).map(letter).collect()
}
