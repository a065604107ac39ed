//! The registries that are measured, each a process of its own on a loopback
//! port, with nothing in it at first.
//!
//! The peer is Debian's docker-registry with the cache of its package's
//! configuration. Its logging is off; the hub logs each request, as it does for its users.

use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::measure::peak_of;
use super::{Bench, fresh, remove};

const PEER: &str = "docker-registry";

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Docker,
    Hub,
}

pub(super) const BOTH: [Kind; 2] = [Kind::Docker, Kind::Hub];

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Docker => PEER,
            Kind::Hub => "hub",
        }
    }
}

/// A registry, until this value goes; its data goes with it.
pub(super) struct Server {
    pub(super) address: String,
    kind: Kind,
    qyv: PathBuf,
    directory: PathBuf,
    child: Option<Child>,
}

impl Server {
    pub(super) fn start(bench: &Bench, kind: Kind) -> Result<Server, String> {
        // It can't always report its port, so it is given a free one.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let mut server = Server {
            address: free.map_err(|e| format!("finding a port: {e}"))?.to_string(),
            kind,
            qyv: bench.qyv.clone(),
            directory: bench.scratch.join("registry").join(kind.name()),
            child: None,
        };
        server.renew()?;
        Ok(server)
    }

    /// The same address with nothing in the registry.
    pub(super) fn renew(&mut self) -> Result<(), String> {
        self.stop();
        fresh(&self.directory)?;
        let mut command = match self.kind {
            Kind::Docker => self.docker()?,
            Kind::Hub => self.hub(),
        };
        let log = self.directory.join("log");
        let file = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = file.map_err(|e| format!("making {}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.spawn().map_err(|e| match (self.kind, e.kind()) {
            (Kind::Docker, io::ErrorKind::NotFound) => {
                format!("{PEER} is missing: install the Debian package {PEER}")
            }
            _ => format!("starting {}: {e}", self.kind.name()),
        })?;
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&self.address).is_err() {
            if Instant::now() > end {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{} does not listen: {}", self.kind.name(), said.trim()));
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn docker(&self) -> Result<Command, String> {
        let config = self.directory.join("config.yml");
        let data = self.directory.join("data");
        let text = format!(
            "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\nstorage:\n  cache: {{ blobdescriptor: inmemory }}\n  filesystem: {{ rootdirectory: {} }}\nhttp: {{ addr: \"{}\" }}\n",
            data.display(),
            self.address
        );
        fs::write(&config, text).map_err(|e| format!("writing {}: {e}", config.display()))?;
        let mut command = Command::new(PEER);
        command.arg("serve").arg(config);
        Ok(command)
    }

    fn hub(&self) -> Command {
        let mut command = Command::new(&self.qyv);
        command
            .args(["hub", "serve", "--listen", &self.address, "--data"])
            .arg(self.directory.join("data"))
            .env("QYVOL_HOME", &self.directory);
        command
    }

    /// Its peak memory, in bytes.
    pub(super) fn peak(&self) -> Result<u64, String> {
        let peak = self.child.as_ref().and_then(|child| peak_of(child.id()));
        peak.ok_or_else(|| format!("{} is gone", self.kind.name()))
    }

    /// The name of an image in it.
    pub(super) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = remove(&self.directory);
    }
}
