//! What a guest is given of the network, the file system, its operator and its host's
//! resources: as its manifest, its operator and the policy say, one by one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use serde_json::Value;

use crate::needs::lacks;
use crate::support::{CommandOutput, User, third_party};

/// A server on the loopback that answers each request with `200`, and counts them.
struct Server {
    port: u16,
    served: Arc<AtomicUsize>,
}

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                answer(stream);
            }
        });
        Server { port, served }
    }

    fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/", self.port)
    }
}

fn answer(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
}

/// A component that fetches each URL of its arguments: `examples/fetch`.
fn fetcher(user: &User, name: &str, more: &str) -> String {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fetch/fetch.component.wasm");
    user.write(&format!("{name}/app.wasm"), fs::read(example).unwrap());
    let manifest = format!("name: {name}\nversion: 1.0.0\nentrypoint: app.wasm\n{more}");
    user.write(&format!("{name}/app.qyv"), manifest);
    let archive = format!("{name}.qyvbin");
    user.qyv(&["build", name, "-o", &archive, "-q"]).expect(0);
    archive
}

/// What became of one URL.
fn fetched(user: &User, options: &[&str], app: &str, url: &str) -> String {
    let args = [&["run", "-q"], options, &[app, url]].concat();
    let done = user.qyv(&args);
    let line = done.out.trim_end();
    line.strip_prefix(&format!("{url}: ")).unwrap_or(line).to_string()
}

const OK: &str = "HTTP/1.0 200 OK";
const DENIED: &str = "connecting: access-denied";

// [RUN-050]
#[test]
fn guest_connects_to_what_its_manifest_lists_and_to_nothing_else() {
    let (user, listed, other) = (User::new(), Server::start(), Server::start());
    let app = fetcher(
        &user,
        "listed",
        &format!(
            "permissions: {{ net: {{ connect: [\"127.0.0.1:{}\"] }} }}\n",
            listed.port
        ),
    );
    assert_eq!(fetched(&user, &[], &app, &listed.url("127.0.0.1")), OK);
    for url in [other.url("127.0.0.1"), listed.url("127.0.0.2"), listed.url("[::1]")] {
        assert_eq!(fetched(&user, &[], &app, &url), DENIED, "{url}");
    }
    // Other ways to write the listed address are names, which no rule has.
    for host in [
        "localhost",
        "2130706433",
        "0x7f000001",
        "127.1",
        "0177.0.0.1",
        "listed.example",
    ] {
        let url = listed.url(host);
        let said = fetched(&user, &[], &app, &url);
        assert_eq!(said, format!("looking {host} up: access-denied"), "{url}");
    }
    assert_eq!(
        (
            listed.served.load(Ordering::SeqCst),
            other.served.load(Ordering::SeqCst)
        ),
        (1, 0)
    );
}

// [RUN-050]
#[test]
fn name_is_looked_up_only_if_it_is_listed_and_reached_at_its_port() {
    let (user, listed, other) = (User::new(), Server::start(), Server::start());
    let app = fetcher(
        &user,
        "named",
        &format!(
            "permissions: {{ net: {{ connect: [\"localhost:{}\"] }} }}\n",
            listed.port
        ),
    );
    assert_eq!(fetched(&user, &[], &app, &listed.url("localhost")), OK);
    assert_eq!(fetched(&user, &[], &app, &listed.url("LOCALHOST")), OK);
    assert_eq!(fetched(&user, &[], &app, &other.url("localhost")), DENIED);
    let none = fetcher(&user, "none", "");
    assert_eq!(
        fetched(&user, &[], &none, &listed.url("localhost")),
        "looking localhost up: access-denied"
    );
    assert_eq!(other.served.load(Ordering::SeqCst), 0);
}

// [RUN-051]
#[test]
fn operator_adds_to_the_network_and_takes_it_away() {
    let (user, server) = (User::new(), Server::start());
    let url = server.url("127.0.0.1");
    let none = fetcher(&user, "none", "");
    let endpoint = format!("127.0.0.1:{}", server.port);
    assert_eq!(fetched(&user, &["--allow-net", &endpoint], &none, &url), OK);
    let said = user.qyv(&["run", "--allow-net", &endpoint, &none, &url]).expect(0).err;
    assert!(
        said.contains(&format!("granted: connections to {endpoint}, beyond its manifest")),
        "{said}"
    );
    let all = fetcher(&user, "all", "permissions: { net: true }\n");
    assert_eq!(fetched(&user, &[], &all, &url), OK);
    assert_eq!(
        fetched(&user, &["--no-net"], &all, &url),
        "looking 127.0.0.1 up: access-denied"
    );
    user.qyv(&["run", "--allow-net", "127.0.0.1", &none]).expect(125);
}

/// Allows what the rule for local files accepts no more than this.
pub fn with_ceiling(user: &User, ceiling: &str) {
    let path = user.home().join("trust.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let rule = text.find("- scope: ").unwrap();
    let end = rule + text[rule..].find('\n').unwrap();
    let indent = " ".repeat(rule - text[..rule].rfind('\n').unwrap() + 1);
    let lines: Vec<String> = ceiling.lines().map(|line| format!("\n{indent}{line}")).collect();
    fs::write(path, format!("{}{}{}", &text[..end], lines.concat(), &text[end..])).unwrap();
}

// [RUN-052]
#[test]
fn nothing_exceeds_what_the_rule_of_the_policy_allows() {
    let (user, server) = (User::new(), Server::start());
    let url = server.url("127.0.0.1");
    let all = fetcher(&user, "all", "permissions: { net: true }\n");
    let probe = user.built("probe", "permissions: { fs: full }\nresources: { memory: 200MiB }\n");
    let policy = user.home().join("trust.yaml");
    let before = fs::read_to_string(&policy).unwrap();

    with_ceiling(
        &user,
        "allow: { fs: read, args: any }\nlimits: { memory: 4MiB, output: 100 }",
    );
    let endpoint = format!("127.0.0.1:{}", server.port);
    user.qyv(&["run", "--allow-net", &endpoint, &all, &url]).expect(1);
    assert_eq!(server.served.load(Ordering::SeqCst), 0);
    user.qyv(&["run", &probe, "--", "write", "/f", "x"]).expect(1);
    let refused = user.qyv(&["run", "--dir", ".", &probe, "--", "ls", "."]).expect(125);
    assert!(refused.err.contains("`fs: full`"), "{}", refused.err);
    // A flag raises a limit up to the rule's.
    user.qyv(&["run", "--limit", "output=1000", &probe, "--", "flood", "500"])
        .expect(124);
    let small = user.qyv(&["run", "--limit", "memory=1GiB", &probe, "--", "alloc", "8"]);
    assert_ne!(small.code, 0, "{small:?}");

    fs::write(&policy, &before).unwrap();
    with_ceiling(
        &user,
        "allow: { net: { connect: [\"127.0.0.1:*\"] }, env: fixed, args: any }",
    );
    assert_eq!(fetched(&user, &[], &all, &url), OK);
    assert_eq!(fetched(&user, &[], &all, &server.url("127.0.0.2")), DENIED);
    let refused = user.qyv(&["run", "-e", "A=1", &all]).expect(125);
    assert!(refused.err.contains("the rule of the trust policy"), "{}", refused.err);

    // What a rule bounds is shown, and a bound that was emptied is not one of none.
    let shown = user.qyv(&["trust", "show"]).expect(0).out;
    assert!(shown.contains("allow fs:none, net:connect 127.0.0.1:*"), "{shown}");
    for empty in ["allow:", "limits:", "allow: { net: }", "limits: { memory: }"] {
        fs::write(&policy, &before).unwrap();
        with_ceiling(&user, empty);
        let refused = user.qyv(&["run", &all]).expect(126).err;
        assert!(refused.contains("has no value"), "{empty}: {refused}");
    }

    fs::write(&policy, &before).unwrap();
    with_ceiling(&user, "allow: { net: { connect: [\"127.0.0.1\"] } }");
    user.qyv(&["run", &all]).expect(126);
}

// [RUN-053]
#[test]
fn directories_of_a_granular_permission_are_all_that_there_is() {
    let user = User::new();
    for (name, kind) in [("mem", "memfs"), ("disk", "diskfs")] {
        let app = user.built(
            name,
            &format!("permissions: {{ fs: {{ read: [/etc/app], write: [/data] }} }}\nfs: {{ type: {kind} }}\n"),
        );
        let does = |args: &[&str]| user.qyv(&[&["run", "-q", app.as_str(), "--"], args].concat()).code;
        assert_eq!(does(&["write", "/data/f", "x"]), 0);
        assert_eq!(does(&["ls", "/etc/app"]), 0);
        for denied in [
            &["write", "/etc/app/f", "x"][..],
            &["write", "/f", "x"],
            &["write", "/etc/f", "x"],
            &["write", "/data/../f", "x"],
            &["ls", "/"],
            &["ls", "/data/.."],
            &["mkdir", "/etc/app/d"],
        ] {
            assert_eq!(does(denied), 1, "{name}: {denied:?}");
        }
    }
    assert_eq!(
        user.qyv(&["run", "-q", "disk.qyvbin", "cat", "/data/f"]).expect(0).out,
        "x"
    );
    user.qyv(&["run", "-q", "disk.qyvbin", "rename", "/data/f", "/etc/app/f"])
        .expect(1);
    user.qyv(&["run", "-q", "--fs", "read", "disk.qyvbin", "rm", "/data/f"])
        .expect(1);
    user.qyv(&["run", "-q", "--fs", "none", "disk.qyvbin", "cat", "/data/f"])
        .expect(1);
    assert_eq!(
        user.qyv(&["run", "-q", "disk.qyvbin", "cat", "/data/f"]).expect(0).out,
        "x"
    );
}

// [RUN-054]
#[test]
fn guest_gets_of_its_operator_what_its_manifest_takes() {
    let user = User::new();
    let app = user.built(
        "app",
        "permissions: { env: [LOG_*], args: fixed }\nargs: [env]\nenv: { A: own }\n",
    );
    let run = |args: &[&str]| user.qyv(&[&["run", "-q"], args].concat());
    assert_eq!(
        run(&["-e", "LOG_LEVEL=debug", &app]).expect(0).out,
        "A=own\nLOG_LEVEL=debug\n"
    );
    let refused = run(&["-e", "PATH=/", &app]).expect(125);
    assert!(
        refused.err.contains("`permissions.env`") && refused.err.contains("PATH"),
        "{}",
        refused.err
    );
    let refused = run(&[&app, "more"]).expect(125);
    assert!(refused.err.contains("`permissions.args`"), "{}", refused.err);

    let quiet = user.built("quiet", "permissions: { stdio: [stdout] }\n");
    let done = user.qyv_with_input(&["run", "-q", &quiet, "stdin"], "input").expect(0);
    assert_eq!(done.out, "");
    assert_eq!(user.qyv(&["run", "-q", &quiet, "stderr", "x"]).expect(0).err, "");
    assert_eq!(user.qyv(&["run", "-q", &quiet, "args"]).expect(0).out, "quiet\nargs\n");
}

// [RUN-055]
#[test]
fn each_limit_ends_the_guest_or_fails_its_call() {
    let user = User::new();
    user.write("app/public/a.txt", "a");
    for (kind, app) in [
        ("module", user.built("app", "assets: [public]\n")),
        ("component", {
            user.component_app("two", "assets: [public]\n");
            user.write("two/public/a.txt", "a");
            user.qyv(&["build", "two", "-o", "two.qyvbin", "-q"]).expect(0);
            "two.qyvbin".to_string()
        }),
    ] {
        let run = |limit: &str, args: &[&str]| -> CommandOutput {
            let report = user.path("report.json");
            let _ = fs::remove_file(&report);
            user.qyv(&[&["run", "-q", "--limit", limit, "--report", "report.json", &app], args].concat())
        };
        let ended_by = || {
            let report: Value = serde_json::from_slice(&fs::read(user.path("report.json")).unwrap()).unwrap();
            report["limit"]
                .as_str()
                .or(report["endedBy"].as_str())
                .unwrap_or_default()
                .to_string()
        };
        let done = run("output=1000", &["flood", "5000"]).expect(124);
        assert_eq!((done.out.len(), ended_by().as_str()), (1000, "output"), "{kind}");
        run("output=5000", &["flood", "5000"]).expect(0);
        let done = run("cpu=100ms", &["spin"]).expect(124);
        assert!(done.err.contains("processor time"), "{}", done.err);
        assert_eq!(ended_by(), "cpu", "{kind}");
        run("timeout=100ms", &["sleep"]).expect(124);
        assert_eq!(ended_by(), "timeout", "{kind}");
        let opened = run("files=5", &["open-many", "/assets/public/a.txt", "20"])
            .expect(0)
            .out;
        let opened: u32 = opened.split(' ').next().unwrap().parse().unwrap();
        assert!((1..6).contains(&opened), "{kind}: {opened}");
        run("files=5", &["open-and-close", "/assets/public/a.txt", "100"]).expect(0);
        run("nothing=5", &["args"]).expect(125);
        run("files=none", &["args"]).expect(125);
    }
    let (server, app) = (Server::start(), fetcher(&user, "net", "permissions: { net: true }\n"));
    let url = server.url("127.0.0.1");
    // The example keeps its sockets open to the end.
    let done = user
        .qyv(&["run", "-q", "--limit", "sockets=2", &app, &url, &url, &url])
        .expect(1);
    assert!(done.out.ends_with("connecting: new-socket-limit\n"), "{}", done.out);
    assert_eq!(server.served.load(Ordering::SeqCst), 2);
}

// [RUN-030]
#[test]
fn files_in_memory_take_no_more_than_the_operator_lets_the_guest_have() {
    let user = User::new();
    let app = user.built(
        "app",
        "permissions: { fs: write }\nresources: { storage: 100GB, memory: 64MiB }\n",
    );
    let fills = |limits: &[&str]| {
        let args = [&["run", "-q"], limits, &[app.as_str(), "fill", "/f", "2000000"]].concat();
        user.qyv(&args).code
    };
    assert_eq!(fills(&[]), 0);
    assert_eq!(fills(&["--limit", "memory=1MiB"]), 1);
    assert_eq!(fills(&["--limit", "memory=1MiB", "--limit", "storage=4MiB"]), 0);
    assert_eq!(fills(&["--limit", "storage=1MiB"]), 1);
}

// [RUN-056]
#[test]
fn audit_has_a_line_for_all_that_is_given_used_and_denied() {
    let (user, server) = (User::new(), Server::start());
    let app = fetcher(
        &user,
        "app",
        &format!(
            "permissions: {{ net: {{ connect: [\"localhost:{}\"] }} }}\n",
            server.port
        ),
    );
    let good = server.url("localhost");
    for _ in 0..2 {
        user.qyv(&["run", "-q", "--audit", "audit.jsonl", &app, &good, "http://\u{1b}[2J/"])
            .expect(1);
    }
    let text = fs::read_to_string(user.path("audit.jsonl")).unwrap();
    assert!(text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() % 2, 0, "it is appended to");
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events[0], "granted");
    assert_eq!(lines[0]["limits"], serde_json::json!({"memory": 2_u64 << 30}));
    assert_eq!(events[lines.len() / 2 - 1], "ended");
    // Most hosts have an address of IPv6 by this name too, and the server none.
    let server = format!("127.0.0.1:{}", server.port);
    let connects = |line: &&Value| line["action"] == "connect" && line["event"] == "used" && line["object"] == server;
    assert_eq!(lines.iter().filter(connects).count(), 2);
    let denied: Vec<&Value> = lines.iter().filter(|line| line["event"] == "denied").collect();
    assert_eq!((denied.len(), &denied[0]["object"]), (2, &Value::from("\\u{1b}[2J")));
    user.write("victim", "");
    symlink("victim", user.path("link")).unwrap();
    for wrong in ["no-such-directory/audit", "link", "."] {
        user.qyv(&["run", "--audit", wrong, &app]).expect(125);
    }
    let told = user.qyv(&["run", "-v", &app, "http://192.0.2.1/"]).expect(1).err;
    assert!(told.contains("denied: net connect 192.0.2.1:80"), "{told}");
}

// [RUN-056]
#[test]
fn audit_is_written_into_nothing_else_and_its_loss_ends_the_run() {
    let user = User::new();
    let app = fetcher(&user, "app", "permissions: { net: { connect: [\"a.example:1\"] } }\n");
    let image = fs::read(user.path(&app)).unwrap();
    for wrong in [app.as_str(), "app/app.qyv"] {
        let refused = user.qyv(&["run", "--audit", wrong, &app]).expect(125);
        assert!(refused.err.contains("left as it is"), "{}", refused.err);
    }
    assert_eq!(fs::read(user.path(&app)).unwrap(), image);
    // What a run without room left there.
    let half = "{\"event\":\"ended\",\"time\":\"2";
    let audit = user.write("audit.jsonl", half);
    fs::set_permissions(&audit, fs::Permissions::from_mode(0o600)).unwrap();
    user.qyv(&["run", "-q", "--audit", "audit.jsonl", &app]);
    let text = fs::read_to_string(&audit).unwrap();
    assert!(text.starts_with(&format!("{half}\n{{\"event\":\"granted\"")), "{text}");

    if lacks(&["mounts"]) {
        return;
    }
    let urls: Vec<String> = (1..100).map(|n| format!("http://192.0.2.{n}/")).collect();
    fs::create_dir(user.path("small")).unwrap();
    let script = "mount -t tmpfs -o size=4k,mode=0700 none small && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_qyv")])
        .args(["run", "-q", "--audit", "small/audit.jsonl", &app])
        .args(urls)
        .env_clear()
        .env("QYVOL_HOME", user.home())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir(user.path(""));
    let done = third_party("util-linux", &mut command).expect(125);
    assert!(done.err.contains("can't write the audit file"), "{}", done.err);
}

// [RUN-056]
#[test]
fn audit_that_somebody_else_could_change_is_refused() {
    let user = User::new();
    let app = user.built("app", "");
    let refused = |args: &[&str], why: &str| {
        let done = user.qyv(&[&["run", "-q"], args, &[&app, "args"]].concat()).expect(125);
        assert!(done.err.contains(why), "{}", done.err);
    };
    fs::create_dir_all(user.path("share/below")).unwrap();
    symlink("share", user.path("link")).unwrap();
    for audit in ["share/audit.jsonl", "link/below/audit.jsonl"] {
        refused(
            &["--audit", audit, "--dir", "share::/data"],
            "the guest could change it",
        );
        assert!(!user.path(audit).exists());
    }
    let run = [
        "run",
        "-q",
        "--audit",
        "share/audit.jsonl",
        "--dir",
        "share::/data:ro",
        &app,
        "args",
    ];
    user.qyv(&run).expect(0);
    let audit = user.path("share/audit.jsonl");
    fs::hard_link(&audit, user.path("other")).unwrap();
    refused(&["--audit", "share/audit.jsonl"], "another name");
    fs::remove_file(user.path("other")).unwrap();
    fs::set_permissions(&audit, fs::Permissions::from_mode(0o660)).unwrap();
    refused(&["--audit", "share/audit.jsonl"], "other users can change it");
}
