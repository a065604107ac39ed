//! Policies that hosts follow, from two publishers through a registry or a file to a host.

use std::fs;
use std::path::PathBuf;

use crate::registry::Server;
use crate::support::User;

/// Two publishers who sign a policy, in one home.
pub struct Publishers {
    pub user: User,
}

impl Publishers {
    pub fn new() -> Publishers {
        let user = User::new();
        for name in ["alice", "bob", "carol", "online"] {
            user.qyv(&["keys", "generate", name]).expect(0);
        }
        Publishers { user }
    }

    /// Writes a document with the four keys, and rules for what `releaser` signs.
    pub fn document(&self, serial: u64, update: &str, more: &str) -> String {
        let mut text = format!("version: 1\nname: fleet\nserial: {serial}\nupdate: {{ {update} }}\n{more}keys:\n");
        for name in ["alice", "bob", "carol", "online"] {
            let pem = self.user.qyv(&["keys", "export", name]).expect(0).out;
            let pem: String = pem.lines().map(|line| format!("      {line}\n")).collect();
            text += &format!("  {name}:\n    pem: |\n{pem}");
        }
        text += "rules:\n  - scope: \"file:\"\n    require: [{ role: release, keys: [alice] }]\n";
        let file = format!("{serial}.yaml");
        self.user.write(&file, text);
        file
    }

    pub fn add(&self, serial: u64, update: &str, keys: &[&str]) {
        let file = self.document(serial, update, "");
        for (index, key) in keys.iter().enumerate() {
            let mut args = vec!["trust", "sign", "fleet.jsonl", "--key", key];
            if index == 0 {
                args.extend(["--document", &file]);
            }
            self.user.qyv(&args).expect(0);
        }
    }

    /// Where a document was written.
    pub fn path(&self, serial: u64) -> PathBuf {
        self.user.path(&format!("{serial}.yaml"))
    }

    pub fn give(&self, host: &User, file: &str) {
        fs::copy(self.user.path(file), host.path(file)).unwrap();
    }
}

pub fn serial(host: &User) -> u64 {
    let shown = host.qyv(&["trust", "show", "--format", "json"]).expect(0);
    shown.json()["serial"].as_u64().unwrap()
}

pub const TWO: &str = "keys: [alice, bob], threshold: 2";

// [SIGN-042] [SIGN-044]
#[test]
fn host_follows_what_enough_keys_have_signed_from_a_file() {
    let publishers = Publishers::new();
    let host = User::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    publishers.give(&host, "1.yaml");
    host.qyv(&["trust", "follow", "1.yaml"]).expect(0);
    publishers.add(2, TWO, &["alice", "bob"]);
    // Carol takes Bob's place: Alice and Bob hand over, Carol takes part.
    publishers.add(3, "keys: [alice, carol], threshold: 2", &["alice", "bob", "carol"]);
    publishers.give(&host, "fleet.jsonl");
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    assert_eq!(serial(&host), 3);
    let again = host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    assert!(again.out.contains("unchanged"), "{}", again.out);
    // Bob counts no more.
    publishers.add(4, "keys: [alice, carol], threshold: 2", &["alice"]);
    publishers.give(&host, "fleet.jsonl");
    let refused = host.qyv(&["trust", "import", "fleet.jsonl"]).expect(13);
    assert!(
        refused.err.contains("signed by 1 of the keys of serial 3"),
        "{}",
        refused.err
    );
    assert_eq!(serial(&host), 3);
    let unknown = publishers.user.qyv(&["trust", "sign", "fleet.jsonl", "--key", "bob"]);
    assert!(unknown.expect(2).err.contains("would not count"));
}

// [SIGN-042]
#[test]
fn host_keeps_what_followed_when_a_later_document_does_not() {
    let publishers = Publishers::new();
    let host = User::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    publishers.add(2, TWO, &["alice", "bob"]);
    publishers.add(3, TWO, &["alice"]);
    publishers.give(&host, "1.yaml");
    publishers.give(&host, "fleet.jsonl");
    host.qyv(&["trust", "follow", "1.yaml"]).expect(0);
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(13);
    assert_eq!(serial(&host), 2);
}

// [SIGN-042]
#[test]
fn older_chain_or_another_document_of_the_same_serial_is_refused() {
    let publishers = Publishers::new();
    let host = User::new();
    publishers.add(1, TWO, &["alice", "bob"]);
    publishers.give(&host, "fleet.jsonl");
    fs::rename(host.path("fleet.jsonl"), host.path("old.jsonl")).unwrap();
    publishers.add(2, TWO, &["alice", "bob"]);
    publishers.give(&host, "2.yaml");
    host.qyv(&["trust", "follow", "2.yaml"]).expect(0);
    let old = host.qyv(&["trust", "import", "old.jsonl"]).expect(15);
    assert!(old.err.contains("neither the document of serial 2"), "{}", old.err);
    // The same keys sign two documents of one serial.
    fs::remove_file(publishers.user.path("fleet.jsonl")).unwrap();
    let other = publishers.document(2, TWO, "floors: { app: 1.0.0 }\n");
    let sign = ["trust", "sign", "fleet.jsonl", "--document", &other, "--key", "alice"];
    publishers.user.qyv(&sign).expect(0);
    publishers.give(&host, "fleet.jsonl");
    let forked = host.qyv(&["trust", "import", "fleet.jsonl"]).expect(15);
    assert!(forked.err.contains("two documents have the serial 2"), "{}", forked.err);
    assert_eq!(serial(&host), 2);
}

// [SIGN-041] [SIGN-044]
#[test]
fn host_follows_a_registry() {
    for server in Server::both() {
        let publishers = Publishers::new();
        let host = User::new();
        let repository = server.name("policy");
        let update = format!("{TWO}, from: {repository}");
        publishers.add(1, &update, &["alice", "bob"]);
        let push = ["trust", "push", "fleet.jsonl"];
        let pushed = publishers.user.qyv(&push).expect(0);
        let named = pushed.out.trim();
        host.qyv(&["trust", "follow", named]).expect(0);
        let pull = ["trust", "pull"];
        host.qyv(&pull).expect(0);
        publishers.add(2, &update, &["alice"]);
        let early = publishers.user.qyv(&push).expect(13);
        assert!(early.err.contains("and needs 2"), "{}", early.err);
        host.qyv(&pull).expect(0);
        assert_eq!(serial(&host), 1);
        publishers
            .user
            .qyv(&["trust", "sign", "fleet.jsonl", "--key", "bob"])
            .expect(0);
        publishers.user.qyv(&push).expect(0);
        publishers.user.qyv(&push).expect(0);
        host.qyv(&pull).expect(0);
        assert_eq!(serial(&host), 2);
        // From the registry to a host without a network.
        host.qyv(&["trust", "export", "-o", "out.jsonl", &repository, "--from", "1"])
            .expect(0);
        let island = User::new();
        publishers.give(&island, "1.yaml");
        fs::copy(host.path("out.jsonl"), island.path("out.jsonl")).unwrap();
        island.qyv(&["trust", "follow", "1.yaml"]).expect(0);
        island.qyv(&["trust", "import", "out.jsonl"]).expect(0);
        assert_eq!(serial(&island), 2);
        let precious = host.write("precious", "no chain\n");
        host.qyv(&["trust", "export", "-o", "precious", &repository, "--from", "1"])
            .expect(16);
        assert_eq!(fs::read_to_string(precious).unwrap(), "no chain\n");
        // A serial that is published stays what it is.
        let two = fs::read_to_string(publishers.user.path("2.yaml")).unwrap();
        publishers.user.write("2.yaml", two + "floors: { app: 1.0.0 }\n");
        let sign = ["trust", "sign", "other.jsonl", "--document", "2.yaml", "--key"];
        for key in ["alice", "bob"] {
            publishers.user.qyv(&[&sign[..], &[key]].concat()).expect(0);
        }
        let fork = ["trust", "push", "other.jsonl"];
        let forked = publishers.user.qyv(&fork).expect(15);
        assert!(
            forked.err.contains("another document has the serial 2"),
            "{}",
            forked.err
        );
        // Nor is one published that no host would follow.
        for (serial, update, key, code) in [(4, TWO, "bob", 15), (3, "keys: [carol]", "carol", 11)] {
            let file = publishers.document(serial, update, "");
            let sign = ["trust", "sign", "lone.jsonl", "--document", &file, "--key", key];
            publishers.user.qyv(&sign).expect(0);
            if serial == 4 {
                publishers
                    .user
                    .qyv(&["trust", "sign", "lone.jsonl", "--key", "alice"])
                    .expect(0);
            }
            publishers
                .user
                .qyv(&["trust", "push", "lone.jsonl", &repository])
                .expect(code);
            fs::remove_file(publishers.user.path("lone.jsonl")).unwrap();
        }
        // What is exported from a serial on has the signatures that lead to it.
        publishers.add(
            3,
            &format!("keys: [carol], from: {repository}"),
            &["alice", "bob", "carol"],
        );
        publishers.user.qyv(&push).expect(0);
        host.qyv(&["trust", "export", "-o", "three.jsonl", &repository, "--from", "3"])
            .expect(0);
        fs::copy(host.path("three.jsonl"), island.path("three.jsonl")).unwrap();
        island.qyv(&["trust", "import", "three.jsonl"]).expect(0);
        assert_eq!(serial(&island), 3);
        // An empty repository is older than what this host has.
        let elsewhere = server.name("empty");
        host.qyv(&["trust", "pull", &elsewhere]).expect(15);
        assert_eq!(serial(&host), 2);
    }
}

// [SIGN-043]
#[test]
fn policy_that_has_lapsed_judges_nothing_until_its_successor_comes() {
    let publishers = Publishers::new();
    let host = User::new();
    let fresh = "keys: [alice], freshness: [online], max_lag: 1h";
    publishers.add(1, fresh, &["alice"]);
    publishers.user.built("app", "");
    publishers.give(&host, "1.yaml");
    publishers.give(&host, "fleet.jsonl");
    let mine = publishers.user.qyv(&["sign", "app.qyvbin", "--key", "alice"]);
    mine.expect(0);
    publishers.give(&host, "app.qyvbin");
    host.qyv(&["trust", "follow", "1.yaml"]).expect(0);
    let lapsed = host.qyv(&["verify", "app.qyvbin"]).expect(19);
    assert!(lapsed.err.contains("nobody has said yet"), "{}", lapsed.err);
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(19);
    let other = publishers
        .user
        .qyv(&["trust", "sign", "fleet.jsonl", "--fresh", "--key", "bob"]);
    assert!(other.expect(2).err.contains("would not count"));
    publishers
        .user
        .qyv(&["trust", "sign", "fleet.jsonl", "--fresh", "--key", "online"])
        .expect(0);
    publishers.give(&host, "fleet.jsonl");
    host.qyv(&["trust", "import", "fleet.jsonl"]).expect(0);
    host.qyv(&["verify", "app.qyvbin"]).expect(0);
    // The statement is about that document alone.
    let file = publishers.document(2, fresh, "expires: 2020-01-01\n");
    let sign = ["trust", "sign", "fleet.jsonl", "--document", &file, "--key", "alice"];
    publishers.user.qyv(&sign).expect(0);
    publishers.give(&host, "fleet.jsonl");
    let expired = host.qyv(&["trust", "import", "fleet.jsonl"]).expect(19);
    assert!(expired.err.contains("expired at 2020-01-01"), "{}", expired.err);
    // It is in force all the same: what it revokes must count.
    assert_eq!(serial(&host), 2);
    host.qyv(&["verify", "app.qyvbin"]).expect(19);
}

// [SIGN-045]
#[test]
fn policy_that_is_followed_is_not_changed_by_commands() {
    let publishers = Publishers::new();
    publishers.document(1, TWO, "");
    let host = User::new();
    host.built("app", "");
    publishers.give(&host, "1.yaml");
    let kept = fs::read(host.home().join("trust.yaml")).unwrap();
    host.qyv(&["trust", "follow", "1.yaml"]).expect(2);
    assert_eq!(fs::read(host.home().join("trust.yaml")).unwrap(), kept);
    host.qyv(&["trust", "follow", "1.yaml", "--replace"]).expect(0);
    assert_eq!(fs::read(host.home().join("trust.yaml.before")).unwrap(), kept);
    publishers.document(2, TWO, "");
    publishers.give(&host, "2.yaml");
    host.qyv(&["trust", "follow", "2.yaml", "--replace"]).expect(0);
    assert_eq!(fs::read(host.home().join("trust.yaml.before")).unwrap(), kept);
    let followed = fs::read(host.home().join("trust.yaml")).unwrap();
    for args in [
        &["trust", "add", "file:", "--key", "default"][..],
        &["trust", "remove", "file:"],
    ] {
        let refused = host.qyv(args).expect(2);
        assert!(refused.err.contains("follows the policy `fleet`"), "{}", refused.err);
    }
    assert_eq!(fs::read(host.home().join("trust.yaml")).unwrap(), followed);
    // A document on its way is edited as any policy is.
    host.qyv(&["trust", "revoke", "carol", "--policy", "1.yaml"]).expect(0);
    let bad = host.write("plain.yaml", "version: 1\n");
    let refused = host.qyv(&["trust", "follow", bad.to_str().unwrap()]).expect(2);
    assert!(refused.err.contains("has no `update`"), "{}", refused.err);
}
