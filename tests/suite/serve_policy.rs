//! `qyv serve` when the policy changes by which its application was judged.

use std::fs;

use rustix::process::Signal;

use crate::fleet::Publishers;
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
    server.says("not reloaded, what answered before still does: ");
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
