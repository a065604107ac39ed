//! `qyv serve` when the policy changes by which its application was judged.

use std::fs;

use rustix::process::Signal;

use crate::fleet::Publishers;
use crate::registry;
use crate::service::{Server, service};
use crate::support::User;

// [SERVE-020]
#[test]
fn application_that_is_revoked_answers_no_further_request() {
    let user = User::new();
    let app = service(&user, "app", "");
    let policy = user.home().join("trust.yaml");
    let before = fs::read(&policy).unwrap();
    for (option, is_told) in [(Some("--watch=20ms"), false), (None, true)] {
        let options: Vec<&str> = option.into_iter().collect();
        let server = Server::start(&user, &options, &app);
        let look = || {
            if is_told {
                server.signal(Signal::HUP);
            }
        };
        let mut held = server.connect();
        held.hold();
        user.qyv(&["trust", "revoke", "default"]).expect(0);
        look();
        server.says("revoked, further requests are refused: ");
        let refused = server.get("/hello");
        assert_eq!(refused.status, 503, "{refused:?}");
        // What began before goes on.
        held.release();
        fs::write(&policy, &before).unwrap();
        look();
        server.says("reloaded: app:1.0.0 sha256:");
        assert_eq!(server.get("/hello").body, "hello\n");
        server.end();
    }
}

// [SIGN-072] [SERVE-020]
#[test]
fn what_a_host_revokes_answers_no_further_request() {
    let user = User::new();
    let app = service(&user, "app", "");
    let shown = user.qyv(&["inspect", &app, "--format", "json"]).expect(0).json();
    let digest = shown["digest"].as_str().unwrap();
    let revoked = user.home().join("trust.yaml.revoked");
    let server = Server::start(&user, &["--watch=20ms"], &app);
    fs::write(&revoked, format!("version: 1\nimages: [\"{digest}\"]\n")).unwrap();
    server.says(REVOKED);
    assert_eq!(server.get("/hello").status, 503);
    fs::remove_file(&revoked).unwrap();
    server.says(RELOADED);
    assert_eq!(server.get("/hello").body, "hello\n");
    server.end();
}

/// What stderr says once what answers is revoked, and if it answers on.
const REVOKED: &str = "revoked, further requests are refused: ";
const KEPT: &str = "not reloaded, the previous one keeps answering: ";
const RELOADED: &str = "reloaded: app:1.0.0 sha256:";

// [SERVE-020]
#[test]
fn key_that_is_revoked_counts_among_several_that_a_rule_asks_for() {
    let user = User::new();
    let app = service(&user, "app", "");
    user.qyv(&["keys", "generate", "second"]).expect(0);
    user.qyv(&["trust", "add", "file:", "--key", "second"]).expect(0);
    let policy = user.home().join("trust.yaml");
    let one = fs::read_to_string(&policy).unwrap();
    let two = one.replace("threshold: 1", "threshold: 2");
    assert_ne!(one, two);
    let server = Server::start(&user, &[], &app);
    // A rule that asks for more than was signed ends nothing.
    fs::write(&policy, &two).unwrap();
    server.signal(Signal::HUP);
    server.says(KEPT);
    assert_eq!(server.get("/hello").body, "hello\n");
    server.end();
    user.qyv(&["sign", &app, "--key", "second"]).expect(0);
    let server = Server::start(&user, &[], &app);
    user.qyv(&["trust", "revoke", "second"]).expect(0);
    server.signal(Signal::HUP);
    server.says(REVOKED);
    assert!(server.stderr().contains("too few trusted keys"), "{}", server.stderr());
    assert_eq!(server.get("/hello").status, 503);
    fs::write(&policy, &two).unwrap();
    server.signal(Signal::HUP);
    server.says(RELOADED);
    assert_eq!(server.get("/hello").body, "hello\n");
    server.end();
}

// [SERVE-020]
#[test]
fn file_that_was_touched_keeps_nothing_that_is_revoked_answering() {
    let user = User::new();
    let app = service(&user, "app", "");
    let server = Server::start(&user, &[], &app);
    let path = user.path(&app);
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    user.qyv(&["trust", "revoke", "default"]).expect(0);
    server.signal(Signal::HUP);
    server.says(REVOKED);
    assert_eq!(server.get("/hello").status, 503);
    // Nor does one that leads to nothing.
    fs::remove_file(&path).unwrap();
    server.signal(Signal::HUP);
    server.says("not reloaded, further requests are still refused: ");
    assert_eq!(server.get("/hello").status, 503);
    server.end();
}

// [SERVE-020]
#[test]
fn image_that_is_revoked_answers_no_further_request_wherever_its_name_leads() {
    let (user, stranger, host) = (User::new(), User::new(), User::new());
    let hub = registry::Server::hub(&[]);
    let name = hub.name("team/app:stable");
    let push = |user: &User, more: &str| {
        let app = service(user, "app", more);
        user.qyv(&["push", &app, &name, "-q"]).expect(0);
    };
    push(&user, "");
    host.write("p.pub", user.qyv(&["keys", "export"]).expect(0).out);
    let scope = hub.name("**");
    host.qyv(&["trust", "add", &scope, "--key", "p.pub", "--identity", "repository"])
        .expect(0);
    let policy = host.home().join("trust.yaml");
    let before = fs::read(&policy).unwrap();
    let server = Server::start(&host, &["--pull", "always"], &name);
    let revoked_and_back = |times: usize| {
        host.qyv(&["trust", "revoke", "p.pub"]).expect(0);
        server.signal(Signal::HUP);
        server.says_often(REVOKED, times);
        assert_eq!(server.get("/hello").status, 503);
        fs::write(&policy, &before).unwrap();
        server.signal(Signal::HUP);
        server.says_often(RELOADED, times);
        assert_eq!(server.get("/hello").body, "hello\n");
    };
    // To an image that is refused.
    push(&stranger, "env: { WORD: other }\n");
    server.signal(Signal::HUP);
    server.says(KEPT);
    assert_eq!(server.get("/hello").body, "hello\n");
    revoked_and_back(1);
    // To a registry that is not reached.
    drop(hub);
    revoked_and_back(2);
    server.end();
}

// [SERVE-020] [SIGN-043]
#[test]
fn policy_that_lapses_ends_nothing_and_its_successor_is_noticed() {
    let publishers = Publishers::new();
    let host = User::new();
    let signed = |word: &str| {
        let archive = service(&publishers.user, "app", &format!("env: {{ WORD: {word} }}\n"));
        publishers.user.qyv(&["sign", &archive, "--key", "alice"]).expect(0);
        publishers.give(&host, &archive);
        archive
    };
    let document = |serial: u64, more: &str| {
        let file = publishers.document(serial, "keys: [alice]", more);
        let sign = ["trust", "sign", "fleet.jsonl", "--document", &file, "--key", "alice"];
        publishers.user.qyv(&sign).expect(0);
        publishers.give(&host, "fleet.jsonl");
        file
    };
    let first = document(1, "");
    publishers.give(&host, &first);
    host.qyv(&["trust", "follow", &first]).expect(0);
    let app = signed("first");
    let server = Server::start(&host, &["--watch=20ms"], &app);
    let answers = |word: &str| assert!(server.get("/environment").body.ends_with(&format!("WORD={word}\n")));
    document(2, "expires: 2020-01-01\n");
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(19);
    server.says("not reloaded, the previous one keeps answering: ");
    answers("first");
    // Nothing new is accepted meanwhile.
    signed("second");
    server.signal(Signal::HUP);
    answers("first");
    document(3, "");
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    server.says("reloaded: app:1.0.0 sha256:");
    answers("second");
    server.end();
}
