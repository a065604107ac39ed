//! The permission matrix: each case of `tests/matrix`, run by the guests in every
//! language and every version of WASI. `cargo xtask docs` writes
//! `spec/permission-matrix.md` from the same cases.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde::Deserialize;

use crate::needs::lacks;
use crate::support::{CommandOutput, User};

/// A language, a version of WASI, and its program.
pub struct Guest {
    pub language: &'static str,
    pub version: u8,
    pub program: &'static [u8],
}

macro_rules! guest {
    ($language:literal, $version:literal) => {
        Guest {
            language: $language,
            version: $version,
            program: include_bytes!(concat!("../guests/matrix/", $language, $version, ".wasm")),
        }
    };
}

pub const GUESTS: [Guest; 6] = [
    guest!("rust", 1),
    guest!("c", 1),
    guest!("rust", 2),
    guest!("c", 2),
    guest!("rust", 3),
    guest!("c", 3),
];

impl Guest {
    /// An archive of this program, with these lines in its manifest.
    pub fn archive(&self, user: &User, manifest: &str) -> Result<String, CommandOutput> {
        let name = format!("{}{}", self.language, self.version);
        user.write(&format!("{name}/app.wasm"), self.program);
        user.write(&format!("{name}/public/a.txt"), "asset");
        user.write(&format!("{name}/public/b.txt"), "other");
        let manifest = format!("name: app\nversion: 1.0.0\nentrypoint: app.wasm\n{manifest}");
        user.write(&format!("{name}/app.qyv"), manifest);
        let archive = format!("{name}.qyvbin");
        let _ = fs::remove_file(user.path(&archive));
        let built = user.qyv(&["build", &name, "-o", &archive, "-q"]);
        if built.code == 0 { Ok(archive) } else { Err(built) }
    }
}

macro_rules! requester {
    ($language:literal, $version:literal, $program:literal) => {
        Guest {
            language: $language,
            version: $version,
            program: include_bytes!(concat!("../guests/http/", $program, ".wasm")),
        }
    };
}

/// Those that send requests by `wasi:http`.
const HTTP: [Guest; 4] = [
    requester!("rust", 2, "http.component"),
    requester!("c", 2, "c2"),
    requester!("rust", 3, "rust3"),
    requester!("c", 3, "c3"),
];

#[derive(Deserialize)]
struct Table {
    /// `http` for [`HTTP`]; otherwise [`GUESTS`].
    program: Option<String>,
    groups: Vec<Group>,
}

/// Cases with one manifest.
#[derive(Deserialize)]
struct Group {
    title: String,
    permissions: String,
    #[serde(default)]
    manifest: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    steps: String,
    #[serde(default)]
    options: Vec<String>,
    gets: Gets,
}

/// The result of a case: the same in every version, or by version. A version that is
/// left out has no such call.
#[derive(Deserialize)]
#[serde(untagged)]
enum Gets {
    Same(String),
    By(BTreeMap<String, String>),
}

impl Gets {
    fn by(&self, version: u8) -> Option<&str> {
        match self {
            Gets::Same(word) => Some(word),
            Gets::By(words) => words.get(&format!("wasi{version}")).map(String::as_str),
        }
    }
}

/// Replaces `{255}`, `{empty}` and the names of ports.
fn filled(text: &str, ports: &[(&str, u16)]) -> String {
    let mut text = text.replace("{empty}", "");
    for (name, port) in ports {
        text = text.replace(&format!("{{{name}}}"), &port.to_string());
    }
    for length in [255, 256, 300, 5000] {
        text = text.replace(&format!("{{{length}}}"), &"a".repeat(length));
    }
    text
}

/// Servers on the loopback interface, for as long as this lives. They ignore what they
/// are sent.
struct Servers {
    ports: Vec<(&'static str, u16)>,
}

impl Servers {
    fn start() -> Servers {
        let mut ports = Vec::new();
        for name in ["tcp", "tcp2"] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            ports.push((name, listener.local_addr().unwrap().port()));
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    thread::spawn(move || stream.read(&mut [0; 16]));
                }
            });
        }
        for name in ["ok", "other"] {
            ports.push((name, answering(|_| "200 OK\r\n".to_string())));
        }
        let to_its_path = |path: &str| format!("302 Found\r\nLocation: http:/{path}/\r\n");
        ports.push(("redirect", answering(to_its_path)));
        for name in ["udp", "udp2"] {
            let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            ports.push((name, socket.local_addr().unwrap().port()));
            thread::spawn(move || {
                let mut bytes = [0; 16];
                while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
                    let _ = socket.send_to(&bytes[..length], peer);
                }
            });
        }
        ports.extend(["free", "free2"].into_iter().zip(free_ports()));
        Servers { ports }
    }
}

/// A server that answers each request with what `head` makes of its path, and its port.
fn answering(head: impl Fn(&str) -> String + Send + 'static) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            let first = stream.read_line(&mut line).map(|_| line.clone());
            while stream.read_line(&mut line).is_ok_and(|n| n > 2) {}
            if let Ok(Some(path)) = first.as_deref().map(|line| line.split(' ').nth(1)) {
                let answer = format!("HTTP/1.1 {}Content-Length: 0\r\nConnection: close\r\n\r\n", head(path));
                let _ = stream.get_mut().write_all(answer.as_bytes());
            }
        }
    });
    port
}

/// Free ports of the loopback interface for the guests to listen on. They are below the
/// ephemeral ports of the system, so that no other test is given one.
fn free_ports() -> impl Iterator<Item = u16> {
    let first = 10_000 + (std::process::id() % 10_000) as u16;
    let is_free =
        |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok();
    (first..).filter(is_free)
}

/// Makes the directory `shared`, next to files that a guest must not reach through it.
fn share(user: &User) {
    let shared = user.path("shared");
    let _ = fs::remove_dir_all(&shared);
    let secret = user.write("secret", "secret");
    let inside = user.write("shared/inside", "inside");
    fs::hard_link(&secret, shared.join("hard")).unwrap();
    let link = |to: &Path, name: &str| symlink(to, shared.join(name)).unwrap();
    link(Path::new("../secret"), "up");
    link(&secret, "absolute");
    link(Path::new("inside"), "inner");
    link(&inside, "inner-absolute");
    link(Path::new("/proc/self/environ"), "process");
    link(Path::new("/proc/self/fd"), "descriptors");
    link(Path::new("itself"), "itself");
    link(Path::new("pong"), "ping");
    link(Path::new("ping"), "pong");
    link(Path::new(".."), "above");
    for n in 0..40 {
        link(Path::new(&format!("chain{}", n + 1)), &format!("chain{n}"));
    }
    link(Path::new("inside"), "chain40");
}

/// What a guest printed, without the URL that is before each result of those that
/// send requests.
fn words(printed: &str) -> String {
    match printed.contains("://") {
        true => printed
            .split_once(": ")
            .map_or(printed, |(_, words)| words)
            .trim_end()
            .to_string(),
        false => printed.trim_end().to_string(),
    }
}

/// The result of a run, in a few words.
fn outcome(done: &CommandOutput) -> String {
    let mut words = match done.code {
        0 => words(&done.out),
        134 => "trap".to_string(),
        125 => "refused".to_string(),
        code => format!("exit {code}"),
    };
    if done.code == 0 && !done.err.is_empty() {
        words = format!("{words} stderr:{}", done.err.trim_end());
    }
    words.trim().to_string()
}

impl Group {
    fn run(&self, guests: &[Guest], user: &User, servers: &Servers, wrong: &mut Vec<String>) {
        let fill = |text: &str| filled(text, &servers.ports);
        let manifest = format!("permissions: {}\n{}\n", fill(&self.permissions), fill(&self.manifest));
        for guest in guests {
            let archive = guest.archive(user, &manifest);
            for case in &self.cases {
                let Some(expected) = case.gets.by(guest.version) else {
                    continue;
                };
                let got = match &archive {
                    Ok(archive) => self.run_case(case, archive, user, &fill),
                    Err(_) => "refused".to_string(),
                };
                if got != expected {
                    let (Group { title, .. }, Case { steps, .. }) = (self, case);
                    let Guest { language, version, .. } = guest;
                    wrong.push(format!("{title}\t{steps}\t{language}{version}\t{got}\t{expected}"));
                }
            }
        }
    }

    fn run_case(&self, case: &Case, archive: &str, user: &User, fill: &dyn Fn(&str) -> String) -> String {
        let options: Vec<String> = self.options.iter().chain(&case.options).map(|o| fill(o)).collect();
        if options.iter().any(|option| option == "--dir") {
            share(user);
        }
        let mut command = match self.hosts.is_empty() {
            true => user.command(),
            false => with_hosts(user, &self.hosts),
        };
        command
            .env("OUTSIDE", "host")
            .args(["run", "-q"])
            .args(options)
            .arg(archive);
        if !case.steps.is_empty() {
            command.args(case.steps.split(' ').map(fill));
        }
        command.stdin(Stdio::from(fs::File::open(user.write("input", "input")).unwrap()));
        outcome(&CommandOutput::from(&command.output().unwrap()))
    }
}

/// `qyv` with these lines in `/etc/hosts`, and name lookup in that file only.
fn with_hosts(user: &User, lines: &[String]) -> Command {
    const MOUNTS: &str = r#"mount --bind hosts /etc/hosts || exit 99
        test ! -e /etc/nsswitch.conf || mount --bind order /etc/nsswitch.conf || exit 99
        exec "$0" "$@""#;
    user.write("hosts", lines.join("\n") + "\n");
    user.write("order", "hosts: files\n");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", MOUNTS]);
    command.arg(env!("CARGO_BIN_EXE_qyv"));
    let qyv = user.command();
    command.current_dir(user.path("")).env_clear();
    command.envs(qyv.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn try_all(table: &str) {
    let table: Table = serde_yaml::from_str(table).unwrap();
    let (user, servers) = (User::new(), Servers::start());
    user.write("variables", "OWN=file\n");
    let guests = match table.program.as_deref() {
        Some("http") => &HTTP[..],
        _ => &GUESTS,
    };
    let mut wrong = Vec::new();
    for group in &table.groups {
        if group.hosts.is_empty() || !lacks(&["namespaces"]) {
            group.run(guests, &user, &servers, &mut wrong);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ: group, steps, guest, what came of it, what was expected\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

// [RUN-024] [RUN-051] [RUN-053]
#[test]
fn files_are_given_as_the_matrix_says() {
    try_all(include_str!("../matrix/files.yaml"));
}

// [RUN-024] [RUN-050] [RUN-051]
#[test]
fn network_is_given_as_the_matrix_says() {
    try_all(include_str!("../matrix/network.yaml"));
}

// [RUN-050] [RUN-057]
#[test]
fn requests_go_where_the_matrix_says() {
    try_all(include_str!("../matrix/http.yaml"));
}

// [RUN-050]
#[test]
fn name_with_a_thousand_addresses_gives_a_guest_sixty_four() {
    if lacks(&["namespaces"]) {
        return;
    }
    let user = User::new();
    let mut lines: Vec<String> = (0..1000)
        .map(|n| format!("9.9.{}.{} many.example", n / 250, n % 250 + 1))
        .collect();
    // Before and after all of them, what the name must not lead to.
    lines.insert(0, "10.0.0.1 many.example".to_string());
    lines.push("127.0.0.1 many.example".to_string());
    for permissions in ["{ net: true }", "{ net: { connect: [\"many.example:1\"] } }"] {
        for guest in GUESTS
            .iter()
            .filter(|guest| guest.language == "rust" && guest.version > 1)
        {
            let app = guest.archive(&user, &format!("permissions: {permissions}\n")).unwrap();
            let mut command = with_hosts(&user, &lines);
            command.args(["run", "-q", &app, "answers", "many.example"]);
            let printed = CommandOutput::from(&command.output().unwrap()).expect(0).out;
            let answers: Vec<&str> = printed.trim_end().split(',').collect();
            assert_eq!(answers.len(), 64, "{permissions} {}: {printed}", guest.version);
            let is_public = |answer: &&str| answer.starts_with("9.9.");
            assert!(
                permissions.contains("true") || answers.iter().all(is_public),
                "{printed}"
            );
        }
    }
}

// [RUN-024] [RUN-041] [RUN-054]
#[test]
fn what_the_operator_gives_is_given_as_the_matrix_says() {
    try_all(include_str!("../matrix/operator.yaml"));
}
