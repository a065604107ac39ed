//! Registries: Debian's docker-registry, which has no referrers API, and the
//! hub, which has. What holds, holds with both.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::needs::lacks;
use crate::support::{CommandOutput, User};

/// A registry that runs as long as this value lives.
pub struct Server {
    pub address: String,
    child: Child,
    log: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Debian's docker-registry; `more` goes into its configuration.
    pub fn docker(more: &str) -> Server {
        let end = Instant::now() + Duration::from_secs(300);
        loop {
            let mut server = Server::start_docker(more);
            while server.child.try_wait().unwrap().is_none() {
                if TcpStream::connect(&server.address).is_ok() {
                    return server;
                }
                assert!(Instant::now() < end, "docker-registry does not listen");
                std::thread::yield_now();
            }
            // Another process may have taken the port meanwhile.
            let log = fs::read_to_string(&server.log).unwrap();
            assert!(
                log.contains("address already in use"),
                "docker-registry has ended: {log}"
            );
        }
    }

    fn start_docker(more: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        // It can't say which port it took: one that is free is named to it.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let root = directory.path().join("data").display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {root} }}, delete: {{ enabled: true }} }}\nhttp: {{ addr: \"{address}\" }}\n{more}"
        );
        fs::write(directory.path().join("config.yml"), config).unwrap();
        let log = directory.path().join("log");
        let file = fs::File::create(&log).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("can't run docker-registry: {e}: install the Debian package docker-registry"));
        Server {
            address,
            child,
            log,
            _directory: directory,
        }
    }

    /// The hub of the binary under test.
    pub fn hub(args: &[&str]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_qyv"))
            .args(["hub", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(directory.path().join("data"))
            .args(args)
            .env_clear()
            .env("QYVOL_HOME", directory.path())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().rsplit('/').next().unwrap_or_default().to_string();
        assert!(!address.is_empty(), "{}", fs::read_to_string(&log).unwrap());
        Server {
            address,
            child,
            log,
            _directory: directory,
        }
    }

    pub fn both() -> Vec<Server> {
        let mut servers = vec![Server::hub(&[])];
        if !lacks(&["docker-registry"]) {
            servers.push(Server::docker(""));
        }
        servers
    }

    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Requests whose line in the log has every one of the words.
    pub fn requests(&self, words: &[&str]) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines()
            .filter(|line| words.iter().all(|w| line.contains(w)))
            .count()
    }
}

/// Another host that trusts the user's key for everything from the registry.
fn host(user: &User, server: &Server) -> User {
    let host = User::new();
    let pem = user.qyv(&["keys", "export", "default"]).expect(0).out;
    let pem: String = pem.lines().map(|l| format!("      {l}\n")).collect();
    let policy = format!(
        "version: 1\nkeys:\n  k:\n    pem: |\n{pem}rules:\n  - scope: {}/**\n    require: [{{ role: release, keys: [k] }}]\n    identity: any\n",
        server.address
    );
    fs::create_dir_all(host.home()).unwrap();
    fs::write(host.home().join("trust.yaml"), policy).unwrap();
    host
}

/// In a network namespace without even a loopback, where those can be made.
fn offline(user: &User, args: &[&str]) -> CommandOutput {
    if lacks(&["namespaces"]) {
        return user.qyv(args);
    }
    let mut command = Command::new("unshare");
    command.args(["-rn", env!("CARGO_BIN_EXE_qyv")]).args(args);
    user.inside("util-linux", &mut command)
}

// [REG-001] [REG-002] [REG-003]
#[test]
fn image_arrives_with_its_digest_its_signatures_and_its_very_bytes() {
    for server in Server::both() {
        let user = User::new();
        user.write("app/a.txt", "asset");
        let file = user.built("app", "assets: [a.txt]\n");
        let name = server.name("team/app:1.0.0");
        let latest = server.name("team/app");
        let done = user.qyv(&["push", &file, &name, &latest, "--format", "json"]).expect(0);
        let digest = done.json()["digest"].as_str().unwrap().to_string();
        let host = host(&user, &server);
        let pulled = host.qyv(&["pull", &name, "--verify", "--format", "json"]).expect(0);
        assert_eq!(pulled.json()["digest"], digest.as_str());
        assert_eq!(pulled.json()["signatures"], 1);
        host.qyv(&["verify", &name]).expect(0);
        host.qyv(&["run", &name, "cat", "/assets/a.txt"]).expect(0);
        // What is there is run without a network, and verified and inspected.
        offline(&host, &["run", "--pull", "never", &name, "exit", "7"]).expect(7);
        offline(&host, &["run", &name, "exit", "7"]).expect(7);
        offline(&host, &["verify", &name]).expect(0);
        let stored = offline(&host, &["inspect", &name]).expect(0).out;
        assert_eq!(user.qyv(&["inspect", "--remote", &name]).expect(0).out, stored);
        offline(&host, &["run", "--pull", "never", &server.name("team/app:2")]).expect(125);
        // The file that is written is the file that was pushed.
        host.qyv(&["pull", &latest, "-o", "back.qyvbin"]).expect(0);
        assert_eq!(
            fs::read(host.path("back.qyvbin")).unwrap(),
            fs::read(user.path(&file)).unwrap()
        );
        // By digest, whatever becomes of the tag.
        let pinned = server.name(&format!("team/app@{digest}"));
        host.qyv(&["pull", &pinned]).expect(0);
        assert_eq!(user.qyv(&["tags", &latest]).expect(0).out.lines().count(), 2);
        user.qyv(&["check"]).expect(0);
        host.qyv(&["check"]).expect(0);
    }
}

// [REG-004]
#[test]
fn pushing_again_sends_no_blob() {
    for server in Server::both() {
        let user = User::new();
        let file = user.built("app", "");
        let name = server.name("app:1");
        user.qyv(&["push", &file, &name]).expect(0);
        let (puts, posts) = (server.requests(&["PUT", "/blobs/"]), server.requests(&["POST"]));
        assert!(puts >= 3 && posts >= 3, "{puts} {posts}");
        let again = user.qyv(&["push", &file, &name]).expect(0);
        assert!(again.err.contains("its content was there already"), "{}", again.err);
        let after = (server.requests(&["PUT", "/blobs/"]), server.requests(&["POST"]));
        assert_eq!(after, (puts, posts));
        // Another signature is all that goes along when one is added.
        user.qyv(&["sign", &file, "--role", "approve"]).expect(0);
        user.qyv(&["push", &file, &name]).expect(0);
        assert_eq!(server.requests(&["PUT", "/blobs/"]), puts + 1);
        let host = host(&user, &server);
        let pulled = host.qyv(&["pull", &name, "--format", "json"]).expect(0).json();
        assert_eq!(pulled["signatures"], 2);
        let again = host.qyv(&["pull", &name]).expect(0);
        assert!(again.err.contains("its content was there already"), "{}", again.err);
    }
}

#[test]
fn image_that_the_policy_refuses_is_not_stored() {
    for server in Server::both() {
        let user = User::new();
        let file = user.built("app", "");
        user.qyv(&["build", "app", "-o", "bare.qyvbin", "--no-sign"]).expect(0);
        let (signed, bare) = (server.name("app:1"), server.name("bare:1"));
        user.qyv(&["push", &file, &signed]).expect(0);
        user.qyv(&["push", "bare.qyvbin", &bare]).expect(0);
        let stranger = User::new();
        stranger.qyv(&["pull", "--verify", &signed]).expect(11);
        stranger.qyv(&["run", &signed]).expect(126);
        assert!(stranger.stored().is_empty(), "{:?}", stranger.stored());
        let host = host(&user, &server);
        host.qyv(&["pull", "--verify", &bare]).expect(10);
        host.qyv(&["run", "--pull", "always", &bare]).expect(126);
        assert!(host.stored().is_empty(), "{:?}", host.stored());
        // Fetched by the run itself, and again when asked to.
        host.qyv(&["run", &signed, "exit", "5"]).expect(5);
        host.qyv(&["run", "--pull", "always", &signed, "exit", "6"]).expect(6);
    }
}

// [REG-006]
// [RUN-002]
#[test]
fn verdict_on_a_name_is_the_same_before_and_after_a_pull() {
    let user = User::new();
    let app = user.built("app", "args: [env]\n");
    let server = Server::hub(&[]);
    let pem = user.qyv(&["keys", "export"]).expect(0).out;
    // Spelled without a tag it is `latest`, which is not the version that was
    // signed, whatever the store holds.
    let name = server.name("app");
    user.qyv(&["push", &app, &name]).expect(0);
    for spelling in [name.clone(), format!("{name}:latest")] {
        let host = User::new();
        host.write("k.pub", &pem);
        let verdicts = |host: &User| {
            let run = host.qyv(&["run", "--key", "k.pub", &spelling]).code;
            let always = host.qyv(&["run", "--key", "k.pub", "--pull", "always", &spelling]).code;
            [run, always]
        };
        assert_eq!(verdicts(&host), [126, 126], "{spelling}");
        host.qyv(&["pull", &spelling]).expect(0);
        assert_eq!(verdicts(&host), [126, 126], "{spelling}, pulled");
        host.qyv(&["verify", "--key", "k.pub", &spelling]).expect(18);
    }
}

#[test]
fn concurrent_signers_keep_each_others_signatures() {
    for server in Server::both() {
        let user = User::new();
        let file = user.built("app", "");
        let name = server.name("app:1");
        user.qyv(&["push", &file, &name]).expect(0);
        let roles = ["a", "b", "c", "d", "e"];
        std::thread::scope(|scope| {
            for role in roles {
                let (user, file, name) = (&user, &file, &name);
                scope.spawn(move || {
                    let copy = format!("{role}.qyvbin");
                    fs::copy(user.path(file), user.path(&copy)).unwrap();
                    user.qyv(&["sign", &copy, "--role", role]).expect(0);
                    user.qyv(&["push", &copy, name]).expect(0);
                });
            }
        });
        let pulled = user.qyv(&["pull", &name, "--format", "json"]).expect(0).json();
        assert_eq!(pulled["signatures"], 1 + roles.len());
    }
}

// [REG-005]
#[test]
fn copy_between_registries_keeps_every_byte_and_mounts_where_it_can() {
    if lacks(&["docker-registry"]) {
        return;
    }
    let (docker, hub) = (Server::docker(""), Server::hub(&[]));
    let user = User::new();
    user.write("app/a.txt", "asset");
    let file = user.built("app", "assets: [a.txt]\n");
    let from = docker.name("app:1");
    user.qyv(&["push", &file, &from]).expect(0);
    for (here, there) in [
        (from.clone(), hub.name("b/app:1")),
        (hub.name("b/app:1"), docker.name("c/app:2")),
    ] {
        user.qyv(&["copy", &here, &there]).expect(0);
        user.qyv(&["pull", &there, "-o", "back.qyvbin"]).expect(0);
        assert_eq!(
            fs::read(user.path("back.qyvbin")).unwrap(),
            fs::read(user.path(&file)).unwrap()
        );
    }
    for server in [docker, hub] {
        let first = server.name("x/app:1");
        user.qyv(&["push", &file, &first]).expect(0);
        let before = server.requests(&["PUT", "/y/app/blobs/"]);
        user.qyv(&["copy", &first, &server.name("y/app:1")]).expect(0);
        // All is mounted: layers, signatures and smaller representations.
        assert_eq!(server.requests(&["PUT", "/y/app/blobs/"]), before);
        // The same from the store, which knows where it got the image.
        user.qyv(&["pull", &first]).expect(0);
        user.qyv(&["push", &first, &server.name("z/app:1"), "--no-encodings"])
            .expect(0);
        assert_eq!(server.requests(&["PUT", "/z/app/blobs/"]), 0);
    }
}

#[test]
fn dry_run_says_what_would_move_and_moves_nothing() {
    for server in Server::both() {
        let user = User::new();
        let file = user.built("app", "");
        let name = server.name("app:1");
        let plan = user
            .qyv(&["push", "--dry-run", &file, &name, "--format", "json"])
            .expect(0)
            .json();
        assert!(
            plan["parts"].as_array().unwrap().iter().all(|p| p["present"] == false),
            "{plan}"
        );
        assert_eq!(server.requests(&["POST"]) + server.requests(&["PUT"]), 0);
        user.qyv(&["push", &file, &name]).expect(0);
        let other = User::new();
        let plan = other.qyv(&["pull", "--dry-run", &name]).expect(0);
        assert!(plan.out.contains("to copy"), "{plan:?}");
        assert!(other.stored().is_empty());
        let plan = user.qyv(&["push", "--dry-run", &file, &name]).expect(0);
        assert!(!plan.out.contains("to copy"), "{plan:?}");
    }
}

#[test]
fn tag_is_removed_and_a_missing_one_is_reported() {
    if lacks(&["docker-registry"]) {
        return;
    }
    let server = Server::hub(&[]);
    let user = User::new();
    let file = user.built("app", "");
    let (one, two) = (server.name("app:1"), server.name("app:2"));
    user.qyv(&["push", &file, &one, &two]).expect(0);
    user.qyv(&["rm", "--remote", &one]).expect(0);
    assert_eq!(user.qyv(&["tags", &server.name("app")]).expect(0).out, "2\n");
    user.qyv(&["rm", "--remote", &one]).expect(69);
    // One that is not there keeps the others.
    user.qyv(&["rm", "--remote", &two, &one]).expect(69);
    assert_eq!(user.qyv(&["tags", &server.name("app")]).expect(0).out, "2\n");
    let done = user.qyv(&["pull", &one]).expect(69);
    assert!(done.err.contains("qyv tags"), "{}", done.err);
    user.qyv(&["tags", &server.name("nothing")]).expect(69);
    // By digest it goes with all of its tags, where tags alone don't.
    for server in [Server::docker(""), Server::hub(&[])] {
        let name = server.name("gone:1");
        let digest = user.qyv(&["push", &file, &name]).expect(0).out;
        let pinned = server.name(&format!("gone@{}", digest.trim()));
        assert_eq!(
            user.qyv(&["rm", "--remote", &pinned]).expect(0).out,
            format!("{pinned}\n")
        );
        user.qyv(&["pull", &name]).expect(69);
    }
    // Nobody listens on the port of a server that is gone: it may come back.
    let gone = server.name("app:2");
    drop(server);
    let done = user.qyv(&["pull", &gone, "--retries", "1"]).expect(75);
    assert!(done.err.contains("retrying in"), "{}", done.err);
    assert!(done.err.contains("can't reach"), "{}", done.err);
    user.qyv(&["pull", "app:2"]).expect(2);
    user.qyv(&["push", &file, "app:2"]).expect(2);
}
