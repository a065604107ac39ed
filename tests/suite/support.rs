//! A user with a home and a directory, and the files they work on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The prebuilt test guest: one action per command.
pub const PROBE: &[u8] = include_bytes!("../guests/probe.component.wasm");
/// The same as a core module.
pub const PROBE_MODULE: &[u8] = include_bytes!("../guests/probe.module.wasm");

/// A certificate that vouches for no server that these tests reach.
const AUTHORITIES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../registry/tests/hub/tls/certificate.pem"
);

/// A user.
pub struct User {
    directory: tempfile::TempDir,
}

/// A command's exit code and output.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl CommandOutput {
    pub fn from(output: &Output) -> CommandOutput {
        CommandOutput {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the command exited with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> CommandOutput {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

impl User {
    pub fn new() -> User {
        User {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Writes a script that can be executed. Another process writes it: where this one
    /// had it open, a child that a test beside it starts would have it open too, and it
    /// could not be executed.
    #[track_caller]
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, "");
        let mut writer = Command::new("sh");
        writer.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]);
        assert!(writer.arg(&path).arg(text).status().unwrap().success());
        path
    }

    /// `qyv` with this user's environment and nothing of the caller's. The certificate is
    /// in the place of the host's authorities, which a bare machine may lack.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qyv"));
        command
            .env_clear()
            .env("QYVOL_HOME", self.home())
            .env("SSL_CERT_FILE", AUTHORITIES)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    /// A third party's program with `qyv` inside, in this user's environment.
    #[track_caller]
    pub fn inside(&self, package: &str, command: &mut Command) -> CommandOutput {
        command
            .env_clear()
            .env("QYVOL_HOME", self.home())
            .env("PATH", "/usr/bin:/bin")
            .current_dir(self.path(""));
        third_party(package, command)
    }

    pub fn qyv(&self, args: &[&str]) -> CommandOutput {
        CommandOutput::from(&self.command().args(args).output().unwrap())
    }

    /// The same with something to read.
    pub fn qyv_with_input(&self, args: &[&str], input: &str) -> CommandOutput {
        let mut command = self.command();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.args(args).spawn().unwrap();
        // A command that refuses before it reads leaves a broken pipe.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        CommandOutput::from(&child.wait_with_output().unwrap())
    }

    /// An application of the probe: its manifest is `more` after the name. It
    /// is the core module, because a component of preview 2 has no exit codes
    /// but 0 and 1.
    pub fn app(&self, name: &str, more: &str) -> PathBuf {
        self.write(&format!("{name}/probe.wasm"), PROBE_MODULE);
        let text = format!("name: {name}\nversion: 1.0.0\nentrypoint: probe.wasm\n{more}");
        self.write(&format!("{name}/{name}.qyv"), text)
    }

    /// The same with the component.
    pub fn component_app(&self, name: &str, more: &str) -> PathBuf {
        let manifest = self.app(name, more);
        self.write(&format!("{name}/probe.wasm"), PROBE);
        manifest
    }

    /// The application built to `NAME.qyvbin`; returns that file's name.
    #[track_caller]
    pub fn built(&self, name: &str, more: &str) -> String {
        self.app(name, more);
        let file = format!("{name}.qyvbin");
        self.qyv(&["build", name, "-o", &file]).expect(0);
        file
    }

    /// What the store has beside its own key and locks: nothing, for a user
    /// whose commands were all refused.
    pub fn stored(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let store = self.home().join("store/v1");
        for part in ["blobs", "refs", "trees", "code", "referrers", "tmp", "quarantine"] {
            collect(&store.join(part), &mut found);
        }
        found
    }
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
pub fn certificate(user: &User) -> (PathBuf, PathBuf) {
    let config = "[req]\ndistinguished_name = dn\nx509_extensions = ext\n[dn]\n[ext]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
    let config = user.write("openssl.cnf", config);
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
    ]);
    openssl.args(["-subj", "/CN=server", "-config"]).arg(config);
    openssl
        .arg("-keyout")
        .arg(user.path("key.pem"))
        .arg("-out")
        .arg(user.path("cert.pem"));
    third_party("openssl", &mut openssl).expect(0);
    (user.path("cert.pem"), user.path("key.pem"))
}

/// Runs a third party's program; `package` is what to install where it is
/// missing.
#[track_caller]
pub fn third_party(package: &str, command: &mut Command) -> CommandOutput {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) => CommandOutput::from(&output),
        Err(error) => panic!("can't run {name}: {error}: install the Debian package {package}"),
    }
}

/// A generator of numbers that is the same in every run.
pub struct Prng(pub u64);

impl Prng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
