//! `qyv serve` when what it serves is replaced.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::registry;
use crate::service::{Server, service, until};
use crate::support::User;

/// The suite's service, which tells this word.
#[track_caller]
fn build(user: &User, word: &str) -> String {
    service(
        user,
        "app",
        &format!("env: {{ WORD: {word} }}\npermissions: {{ fs: write }}\n"),
    )
}

fn word(server: &Server) -> String {
    let answer = server.get("/environment");
    assert_eq!(answer.status, 200);
    answer.body.rsplit("WORD=").next().unwrap().trim_end().to_string()
}

/// Waits until it has said so often that something else answers.
#[track_caller]
fn reloads(server: &Server, times: usize) {
    server.says_often("reloaded: app:1.0.0 sha256:", times);
}

// [SERVE-012]
#[test]
fn reloads_under_load_lose_no_request() {
    let user = User::new();
    let app = build(&user, "0");
    let server = Server::start(&user, &["--watch=20ms", "--admin", "0"], &app);
    let (answered, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for n in 0..4 {
            let (server, answered, is_over) = (&server, &answered, &is_over);
            scope.spawn(move || {
                let mut client = server.connect();
                let mut last = 0;
                loop {
                    // Asked before the request: the last one begins after the last reload.
                    let is_last = is_over.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) >= 1000;
                    // Half of them keep their connections.
                    if n % 2 == 0 {
                        client = server.connect();
                    }
                    client.send("GET /environment HTTP/1.1\r\nHost: a\r\n\r\n");
                    let answer = client.answer();
                    let word: u32 = answer.body.rsplit("WORD=").next().unwrap().trim_end().parse().unwrap();
                    assert!(answer.status == 200 && word >= last, "{word} after {last}");
                    last = word;
                    answered.fetch_add(1, Ordering::Relaxed);
                    if is_last {
                        break;
                    }
                }
                // What answers in the end is the last.
                assert_eq!(last, 5);
            });
        }
        for number in 1..=5 {
            build(&user, &number.to_string());
            reloads(&server, number);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(word(&server), "5");
    let (_, page) = server.told("/metrics");
    assert!(
        page.contains("qyvol_serve_reloads_total{app=\"app\",result=\"replaced\"} 5\n"),
        "{page}"
    );
    assert!(
        page.contains("class=\"5xx\"} 0\n") && page.contains("class=\"4xx\"} 0\n"),
        "{page}"
    );
    let (_, err) = server.end();
    assert!(!err.contains("warning"), "{err}");
}

/// What stderr says if something can't answer.
const KEPT: &str = "not reloaded, the previous one keeps answering: ";

/// A service whose first instruction fails.
const TRAPS: &str = r#"(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $out))
  (core module $module
    (func (export "handle") (param i32 i32))
    (func $start unreachable)
    (start $start))
  (core instance $instance (instantiate $module))
  (func $handle (param "request" (own $request)) (param "response-out" (own $out))
    (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

// [SERVE-012]
#[test]
fn failed_replacement_leaves_the_current_application() {
    let (user, stranger) = (User::new(), User::new());
    let app = build(&user, "good");
    let path = user.path(&app);
    let good = fs::read(&path).unwrap();
    let server = Server::start(&user, &["--admin", "0"], &app);
    let mut times = 0;
    let mut refused = |bytes: Option<&[u8]>, why: &str| {
        match bytes {
            Some(bytes) => {
                fs::write(user.path("new"), bytes).unwrap();
                fs::rename(user.path("new"), &path).unwrap();
            }
            None => fs::remove_file(&path).unwrap(),
        }
        server.signal(Signal::HUP);
        times += 1;
        server.says_often(KEPT, times);
        let err = server.stderr();
        let last = err.rsplit(KEPT).next().unwrap();
        assert!(last.contains(why), "{why}: {err}");
        assert_eq!(word(&server), "good");
    };
    refused(Some(b"broken"), "isn't a .qyvbin");
    refused(Some(&good[..good.len() / 2]), "");
    user.qyv(&["build", "app", "--no-sign", "-o", "unsigned.qyvbin", "-q"])
        .expect(0);
    refused(Some(&fs::read(user.path("unsigned.qyvbin")).unwrap()), "");
    build(&stranger, "strange");
    refused(Some(&fs::read(stranger.path(&app)).unwrap()), "");
    user.built("command", "");
    refused(
        Some(&fs::read(user.path("command.qyvbin")).unwrap()),
        "is not an HTTP service",
    );
    user.write("app/app.wasm", wat::parse_str(TRAPS).unwrap());
    user.qyv(&["build", "app", "-o", "traps.qyvbin", "-q"]).expect(0);
    refused(
        Some(&fs::read(user.path("traps.qyvbin")).unwrap()),
        "does not start: it trapped",
    );
    refused(None, "No such file");
    let (_, page) = server.told("/metrics");
    assert!(page.contains("result=\"failed\"} 7\n"), "{page}");
    // What is as it was is not replaced, and what is good is.
    fs::write(&path, &good).unwrap();
    server.signal(Signal::HUP);
    build(&user, "better");
    server.signal(Signal::HUP);
    reloads(&server, 1);
    assert_eq!(word(&server), "better");
    server.end();
    // It does not begin with what can't answer either.
    let done = user
        .qyv(&["serve", "--listen", "127.0.0.1:0", "traps.qyvbin"])
        .expect(125);
    assert!(
        done.err.contains("does not start: it trapped") && !done.err.contains("listening"),
        "{}",
        done.err
    );
}

// [SERVE-012]
#[test]
fn replaced_application_releases_its_resources_after_its_last_request() {
    let user = User::new();
    let app = build(&user, "first");
    let server = Server::start(&user, &[], &app);
    assert_eq!(server.get("/write?/file").body, "Ok(())\n");
    let mut held = server.connect();
    held.hold();
    let files = || fs::read_dir(format!("/proc/{}/fd", server.id())).unwrap().count();
    let before = files();
    for (number, name) in ["second", "third", "fourth"].into_iter().enumerate() {
        build(&user, name);
        server.signal(Signal::HUP);
        reloads(&server, number + 1);
        // Its files are its own, as after a fresh start.
        assert_eq!(word(&server), name);
        assert!(server.get("/read?/file").body.starts_with("Err"));
    }
    // What began with the first ends with it.
    held.send("5\r\nstill\r\n");
    assert_eq!(held.chunk().as_deref(), Some("still"));
    held.release();
    drop(held);
    until(|| match files() {
        open if open < before => Ok(()),
        open => Err(format!("{before} files were open, and {open} are")),
    });
    let (_, err) = server.end();
    assert!(!err.contains("warning"), "{err}");
}

// [SERVE-012]
#[test]
fn moved_tag_is_followed_in_the_store_and_on_its_registry() {
    let user = User::new();
    let hub = registry::Server::hub(&[]);
    let name = hub.name("team/app:stable");
    let app = build(&user, "first");
    user.qyv(&["push", &app, &name, "-q"]).expect(0);
    let host = User::new();
    host.write("p.pub", user.qyv(&["keys", "export"]).expect(0).out);
    let scope = hub.name("**");
    host.qyv(&["trust", "add", &scope, "--key", "p.pub", "--identity", "repository"])
        .expect(0);
    let asks = Server::start(&host, &["--pull", "always", "--watch=50ms"], &name);
    let asks_not = Server::start(&host, &["--pull", "never", "--watch=50ms"], &name);
    assert_eq!(
        (word(&asks), word(&asks_not)),
        ("first".to_string(), "first".to_string())
    );
    build(&user, "second");
    // The rule denies what could be older.
    user.qyv(&["build", "app", "-o", &app, "-q", "--sequence", "2000000000002"])
        .expect(0);
    user.qyv(&["push", &app, &name, "-q"]).expect(0);
    // The one fetches it, and the other finds it in the store then.
    for server in [&asks, &asks_not] {
        reloads(server, 1);
        assert_eq!(word(server), "second");
    }
    // Without the registry, what is here goes on.
    drop(hub);
    asks.says("not reloaded, the previous one keeps answering: ");
    assert_eq!(word(&asks), "second");
    asks.end();
    asks_not.end();
}
